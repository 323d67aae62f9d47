//! Moves features and defaults from the options the parser left alone to where descriptors have them.

use buffa::{Inline, Message as _, MessageField};
use buffa_codegen::generated::descriptor::field_descriptor_proto::Type;
use buffa_codegen::generated::descriptor::{
    DescriptorProto, EnumDescriptorProto, FeatureSet, FieldDescriptorProto, FileDescriptorProto,
    UninterpretedOption,
};

use super::source::DEFAULT;
use crate::error::{Place, Problems};
use crate::schema::Locations;

/// Field number in `FeatureSet`, name, and the values with their numbers.
type Feature = (u8, &'static str, &'static [(&'static str, u8)]);

const FEATURES: &[Feature] = &[
    (1, "field_presence", &[("EXPLICIT", 1), ("IMPLICIT", 2), ("LEGACY_REQUIRED", 3)]),
    (2, "enum_type", &[("OPEN", 1), ("CLOSED", 2)]),
    (3, "repeated_field_encoding", &[("PACKED", 1), ("EXPANDED", 2)]),
    (4, "utf8_validation", &[("VERIFY", 2), ("NONE", 3)]),
    (5, "message_encoding", &[("LENGTH_PREFIXED", 1), ("DELIMITED", 2)]),
    (6, "json_format", &[("ALLOW", 1), ("LEGACY_BEST_EFFORT", 2)]),
];

/// Goes through every element that can have features.
pub(super) fn apply(file: &mut FileDescriptorProto, locations: &Locations, problems: &mut Problems) {
    let mut walk = Walk { locations, problems, at: Vec::new() };
    if let Some(options) = file.options.as_option_mut() {
        walk.features(&mut options.uninterpreted_option, &mut options.features);
    }
    walk.each(4, &mut file.message_type, Walk::message);
    walk.each(5, &mut file.enum_type, Walk::enumeration);
    walk.each(7, &mut file.extension, Walk::field);
    walk.each(6, &mut file.service, |walk, service| {
        if let Some(options) = service.options.as_option_mut() {
            walk.features(&mut options.uninterpreted_option, &mut options.features);
        }
        walk.each(2, &mut service.method, |walk, method| {
            if let Some(options) = method.options.as_option_mut() {
                walk.features(&mut options.uninterpreted_option, &mut options.features);
            }
        });
    });
}

/// A walk through a file, with the descriptor path of the element it is at.
struct Walk<'a> {
    locations: &'a Locations,
    problems: &'a mut Problems,
    at: Vec<i32>,
}

impl Walk<'_> {
    fn each<T>(&mut self, number: i32, list: &mut [T], mut visit: impl FnMut(&mut Self, &mut T)) {
        for (index, element) in (0..).zip(list) {
            self.at.extend([number, index]);
            visit(self, element);
            self.at.truncate(self.at.len() - 2);
        }
    }

    fn message(&mut self, message: &mut DescriptorProto) {
        if let Some(options) = message.options.as_option_mut() {
            self.features(&mut options.uninterpreted_option, &mut options.features);
        }
        self.each(2, &mut message.field, Walk::field);
        self.each(6, &mut message.extension, Walk::field);
        self.each(3, &mut message.nested_type, Walk::message);
        self.each(4, &mut message.enum_type, Walk::enumeration);
        self.each(8, &mut message.oneof_decl, |walk, oneof| {
            if let Some(options) = oneof.options.as_option_mut() {
                walk.features(&mut options.uninterpreted_option, &mut options.features);
            }
        });
    }

    fn enumeration(&mut self, decl: &mut EnumDescriptorProto) {
        if let Some(options) = decl.options.as_option_mut() {
            self.features(&mut options.uninterpreted_option, &mut options.features);
        }
        self.each(2, &mut decl.value, |walk, value| {
            if let Some(options) = value.options.as_option_mut() {
                walk.features(&mut options.uninterpreted_option, &mut options.features);
            }
        });
    }

    fn field(&mut self, field: &mut FieldDescriptorProto) {
        if field.proto3_optional.unwrap_or_default() {
            let name = field.name.as_deref().unwrap_or_default();
            let text = format!(
                "field {name}: editions have no optional; remove it, a field has presence unless \
                 features.field_presence is IMPLICIT"
            );
            self.problems.add(&self.place(), text);
        }
        let is_bytes = field.r#type == Some(Type::TYPE_BYTES);
        let Some(options) = field.options.as_option_mut() else { return };
        if let Some(at) = options.uninterpreted_option.iter().position(|option| is_named(option, DEFAULT)) {
            field.default_value = Some(default_value(&options.uninterpreted_option.remove(at), is_bytes));
        }
        self.features(&mut options.uninterpreted_option, &mut options.features);
    }

    /// Takes `features...` out of `options` and puts it into `set`.
    fn features(
        &mut self,
        options: &mut Vec<UninterpretedOption>,
        set: &mut MessageField<FeatureSet, Inline<FeatureSet>>,
    ) {
        let mut encoded = Vec::new();
        options.retain(|option| {
            let parts: Vec<&str> = option.name.iter().map(|part| part.name_part.as_str()).collect();
            let [first, rest @ ..] = parts.as_slice() else { return true };
            if *first != "features" || option.name.first().is_some_and(|part| part.is_extension) {
                return true;
            }
            match rest {
                [] => {
                    let aggregate = option.aggregate_value.as_deref().unwrap_or_default();
                    for (name, value) in pairs(aggregate) {
                        self.feature(name, value, &mut encoded);
                    }
                }
                [name] => {
                    self.feature(name, option.identifier_value.as_deref().unwrap_or_default(), &mut encoded)
                }
                // Features of another language's generator.
                _ => {}
            }
            false
        });
        if encoded.is_empty() {
            return;
        }
        if let Ok(found) = FeatureSet::decode_from_slice(&encoded) {
            *set = MessageField::some(found);
        }
    }

    fn feature(&mut self, name: &str, value: &str, encoded: &mut Vec<u8>) {
        let known = |names: Vec<&str>| names.join(", ");
        let Some((number, _, values)) = FEATURES.iter().find(|(_, known, _)| *known == name) else {
            let names = known(FEATURES.iter().map(|(_, name, _)| *name).collect());
            return self
                .problems
                .add(&self.place(), format!("features.{name}: is no feature; there are {names}"));
        };
        let Some((_, value)) = values.iter().find(|(known, _)| *known == value) else {
            let names = known(values.iter().map(|(name, _)| *name).collect());
            let text = format!("features.{name}: {value:?} is none of its values; there are {names}");
            return self.problems.add(&self.place(), text);
        };
        encoded.extend([number << 3, *value]);
    }

    fn place(&self) -> Place {
        self.locations.place(&self.at)
    }
}

fn is_named(option: &UninterpretedOption, name: &str) -> bool {
    matches!(option.name.as_slice(), [part] if part.name_part == name)
}

/// `name: VALUE` pairs of an aggregate.
fn pairs(aggregate: &str) -> Vec<(&str, &str)> {
    let is_word = |sign: char| sign.is_ascii_alphanumeric() || sign == '_';
    let words: Vec<&str> = aggregate.split(|sign| !is_word(sign)).filter(|word| !word.is_empty()).collect();
    words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

/// A default as descriptors spell it.
fn default_value(option: &UninterpretedOption, is_bytes: bool) -> String {
    if let Some(name) = &option.identifier_value {
        return name.clone();
    }
    if let Some(number) = option.positive_int_value {
        return number.to_string();
    }
    if let Some(number) = option.negative_int_value {
        return number.to_string();
    }
    if let Some(number) = option.double_value {
        return number.to_string();
    }
    let bytes = option.string_value.clone().unwrap_or_default();
    if is_bytes {
        return escaped(&bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Bytes as descriptors spell them: octal escapes, which end after three digits.
fn escaped(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        match byte {
            b'\\' | b'"' | b'\'' => out.extend(['\\', char::from(*byte)]),
            0x20..=0x7e => out.push(char::from(*byte)),
            _ => out.push_str(&format!("\\{byte:03o}")),
        }
    }
    out
}
