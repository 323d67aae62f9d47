//! The options bowline gives a meaning to, read from the unknown fields of descriptor options.
//!
//! They are extensions, and the descriptor types know no extension; so the bytes are still there as
//! unknown fields, whichever copy of the `.proto` file defined them.

use buffa::{UnknownFieldData, UnknownFields};

use crate::wire::{self, Value};

/// `google.api.http` in `google.protobuf.MethodOptions`.
const HTTP: u32 = 72_295_728;
/// `bowline.api.default_code` in `EnumOptions`, `bowline.api.error` in `EnumValueOptions`.
const ERRORS: u32 = 51_108;

/// One REST binding of a method, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Binding {
    /// `GET`, ...; empty when the rule names no path.
    pub(crate) verb: String,
    /// The path template.
    pub(crate) pattern: String,
    /// Empty, `*`, or a field of the request.
    pub(crate) body: String,
    /// Empty, or a field of the response.
    pub(crate) response_body: String,
    /// Whether it stands in the `additional_bindings` of an additional binding.
    pub(crate) nested: bool,
}

/// `bowline.api.ErrorSpec`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorSpec {
    pub(crate) code: Option<i32>,
    pub(crate) message: String,
}

/// The bindings of a method, `additional_bindings` after the rule that has them.
pub(crate) fn http(unknown: &UnknownFields) -> Vec<Binding> {
    let Some(bytes) = message(unknown, HTTP) else { return Vec::new() };
    let mut out = Vec::new();
    read_rule(&bytes, 0, &mut out);
    out
}

/// `bowline.api.default_code` of an enum.
pub(crate) fn default_code(unknown: &UnknownFields) -> Option<i32> {
    unknown.iter().filter(|f| f.number == ERRORS).find_map(|f| match f.data {
        UnknownFieldData::Varint(code) => i32::try_from(code).ok(),
        _ => None,
    })
}

/// `bowline.api.error` of an enum value.
pub(crate) fn error_spec(unknown: &UnknownFields) -> Option<ErrorSpec> {
    let bytes = message(unknown, ERRORS)?;
    let mut spec = ErrorSpec::default();
    for (number, value) in wire::fields(&bytes)? {
        match (number, value) {
            (1, Value::Varint(code)) => spec.code = i32::try_from(code).ok(),
            (2, value) => spec.message = wire::text(value),
            _ => {}
        }
    }
    Some(spec)
}

/// All occurrences of a message-typed extension put together, which is how protobuf merges them.
fn message(unknown: &UnknownFields, number: u32) -> Option<Vec<u8>> {
    let mut found = None;
    for field in unknown.iter().filter(|f| f.number == number) {
        if let UnknownFieldData::LengthDelimited(bytes) = &field.data {
            found.get_or_insert_with(Vec::new).extend_from_slice(bytes);
        }
    }
    found
}

/// Reads one `google.api.HttpRule`; the numbers are its fields'.
fn read_rule(bytes: &[u8], depth: usize, out: &mut Vec<Binding>) {
    let mut rule = Binding { nested: depth > 1, ..Binding::default() };
    let mut additional = Vec::new();
    for (number, value) in wire::fields(bytes).unwrap_or_default() {
        let mut at = |verb: &str| {
            rule.verb = verb.to_owned();
            rule.pattern = wire::text(value);
        };
        match (number, value) {
            (2, _) => at("GET"),
            (3, _) => at("PUT"),
            (4, _) => at("POST"),
            (5, _) => at("DELETE"),
            (6, _) => at("PATCH"),
            (7, _) => rule.body = wire::text(value),
            (8, Value::Bytes(custom)) => (rule.verb, rule.pattern) = read_custom(custom),
            (11, Value::Bytes(nested)) => additional.push(nested),
            (12, _) => rule.response_body = wire::text(value),
            _ => {}
        }
    }
    out.push(rule);
    for nested in additional {
        read_rule(nested, depth + 1, out);
    }
}

/// Reads a `google.api.CustomHttpPattern`: the verb and the path.
fn read_custom(bytes: &[u8]) -> (String, String) {
    let (mut verb, mut path) = (String::new(), String::new());
    for (number, value) in wire::fields(bytes).unwrap_or_default() {
        match number {
            1 => verb = wire::text(value).to_ascii_uppercase(),
            2 => path = wire::text(value),
            _ => {}
        }
    }
    (verb, path)
}
