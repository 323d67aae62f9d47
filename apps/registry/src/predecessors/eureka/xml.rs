//! XML in the form of Eureka's JSON, so that one model serves both.
//!
//! An element with children is an object; one with text alone is that text; the same element again makes a list. An
//! attribute is a member with `@` before its name, and the text beside attributes is the member `$`.

use bowline_core::{Error, Result};
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion, escape};
use serde_json::{Map, Value};

use super::super::params::invalid;

/// The deepest nesting that is read.
const DEPTH: usize = 16;

/// Writes a document. Members whose names are none in XML are left out.
pub(super) fn write(root: &str, document: &Value) -> String {
    let mut out = String::new();
    element(&mut out, root, document);
    out
}

fn element(out: &mut String, name: &str, value: &Value) {
    let push = |out: &mut String, parts: [&str; 3]| out.extend(parts);
    if !is_name(name) {
        return;
    }
    match value {
        Value::Array(values) => values.iter().for_each(|value| element(out, name, value)),
        Value::Object(members) => {
            push(out, ["<", name, ""]);
            for (attribute, value) in members {
                if let Some(attribute) = attribute.strip_prefix('@').filter(|attribute| is_name(attribute)) {
                    push(out, [" ", attribute, "=\""]);
                    push(out, [&escape::escape(text(value)), "\"", ""]);
                }
            }
            push(out, [">", "", ""]);
            // What a `dataCenterInfo` is has to be known before the rest of it is read.
            let named = members.get_key_value("name");
            let rest = members.iter().filter(|(member, _)| *member != "name" && !member.starts_with('@'));
            for (member, value) in named.into_iter().chain(rest) {
                if member == "$" {
                    push(out, [&escape::escape(text(value)), "", ""]);
                } else {
                    element(out, member, value);
                }
            }
            push(out, ["</", name, ">"]);
        }
        Value::Null => {}
        scalar => {
            push(out, ["<", name, ">"]);
            push(out, [&escape::escape(text(scalar)), "</", name]);
            push(out, [">", "", ""]);
        }
    }
}

/// A scalar as text, without what XML 1.0 cannot hold.
fn text(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars().filter(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r')).collect()
}

fn is_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// An element that is being read.
#[derive(Default)]
struct Open {
    name: String,
    members: Map<String, Value>,
    text: String,
}

impl Open {
    fn close(mut self) -> (String, Value) {
        let text = self.text.trim();
        if self.members.is_empty() {
            return (self.name, Value::String(text.to_owned()));
        }
        if !text.is_empty() {
            self.members.insert("$".into(), Value::String(text.to_owned()));
        }
        (self.name, Value::Object(self.members))
    }

    fn add(&mut self, name: String, value: Value) {
        match self.members.get_mut(&name) {
            None => _ = self.members.insert(name, value),
            Some(Value::Array(values)) => values.push(value),
            Some(one) => *one = Value::Array(vec![one.take(), value]),
        }
    }
}

/// Reads a document whose root has this name.
///
/// # Errors
/// `INVALID_REQUEST` with the place and the fault.
pub(super) fn read(root: &str, body: &[u8]) -> Result<Value> {
    let body = std::str::from_utf8(body).map_err(|e| invalid(format!("the body is no UTF-8: {e}")))?;
    let mut reader = Reader::from_str(body);
    let mut open: Vec<Open> = Vec::new();
    loop {
        let event = reader.read_event();
        let at = reader.buffer_position();
        let wrong = |what: &str| invalid(format!("the body is malformed XML at byte {at}: {what}"));
        let closed = match event.map_err(|e| wrong(&e.to_string()))? {
            Event::Start(start) => {
                if open.len() >= DEPTH {
                    return Err(wrong(&format!("more than {DEPTH} elements within each other")));
                }
                open.push(begin(&start, wrong)?);
                continue;
            }
            Event::Empty(start) => begin(&start, wrong)?,
            Event::End(_) => open.pop().ok_or_else(|| wrong("an end without a start"))?,
            Event::Text(text) => {
                append(&mut open, &text.xml10_content());
                continue;
            }
            Event::CData(data) => {
                append(&mut open, &data.xml10_content());
                continue;
            }
            Event::GeneralRef(reference) => {
                let char = reference.resolve_char_ref().map_err(|e| wrong(&e.to_string()))?;
                match (char, escape::resolve_predefined_entity(&reference.xml10_content())) {
                    (Some(char), _) => append(&mut open, char.encode_utf8(&mut [0; 4])),
                    (None, Some(text)) => append(&mut open, text),
                    (None, None) => return Err(wrong("an entity that XML does not define")),
                }
                continue;
            }
            Event::DocType(_) => return Err(wrong("a document type; leave it out")),
            Event::Eof => return Err(wrong("it ends before its root does")),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => continue,
        };
        let (name, value) = closed.close();
        match open.last_mut() {
            Some(parent) => parent.add(name, value),
            None if name == root => return Ok(value),
            None => return Err(wrong(&format!("the root is `{name}`; it must be `{root}`"))),
        }
    }
}

fn begin(start: &BytesStart<'_>, wrong: impl Fn(&str) -> Error) -> Result<Open> {
    let mut open = Open { name: start.name().as_ref().to_owned(), ..Open::default() };
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|e| wrong(&e.to_string()))?;
        let value = attribute.normalized_value(XmlVersion::Explicit1_0).map_err(|e| wrong(&e.to_string()))?;
        open.members.insert(format!("@{}", attribute.key.as_ref()), Value::String(value.into_owned()));
    }
    Ok(open)
}

fn append(open: &mut [Open], text: &str) {
    if let Some(open) = open.last_mut() {
        open.text.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_document_is_read_as_it_is_written() {
        let document = json!({
            "port": {"@enabled": "true", "$": "80"},
            "metadata": {"a.b": "<&\"ü'>"},
            "item": ["1", "2"],
            "empty": "",
        });
        let text = write("instance", &document);
        assert!(text.contains("<port enabled=\"true\">80</port>"), "{text}");
        assert_eq!(read("instance", text.as_bytes()).unwrap(), document);
    }

    #[test]
    fn names_that_are_none_in_xml_are_left_out() {
        let text =
            write("m", &json!({"a b": "1", "9": "1", "": "1", "x/><y": "1", "ok": "a\u{0}b", "none": null}));
        assert_eq!(text, "<m><ok>ab</ok></m>");
    }

    #[test]
    fn malformed_xml_is_refused_with_its_fault() {
        let deep = "<a>".repeat(17);
        for (text, fault) in [
            ("", "ends before"),
            ("<instance><a></instance>", "a"),
            ("<other/>", "the root is `other`"),
            ("<instance>&lol;</instance>", "entity"),
            ("<!DOCTYPE x [<!ENTITY lol 'lol'>]><instance/>", "document type"),
            (&deep, "more than 16"),
        ] {
            let error = read("instance", text.as_bytes()).unwrap_err();
            assert!(error.is_invalid() && error.message().contains(fault), "{text}: {error}");
        }
        assert!(read("instance", b"\xff").unwrap_err().message().contains("UTF-8"));
    }
}
