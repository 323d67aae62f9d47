//! A configuration before it has a type: a tree that remembers where each part was written.

use crate::problem::Origin;

/// A part of a configuration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) origin: Origin,
    pub(crate) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the order of the file, each key once.
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) origin: Origin,
    pub(crate) node: Node,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) style: Style,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// As YAML resolves it: `8080` is a number, `true` a boolean.
    Plain,
    /// Text, whatever it looks like.
    Quoted,
    /// Whatever is asked for: an environment variable has no quotes to tell `8080` from `"8080"`.
    Loose,
}

/// What a plain scalar means by YAML's core schema (YAML 1.2.2, section 10.3.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Plain<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(&'a str),
}

impl Node {
    pub(crate) fn new(origin: Origin, value: Value) -> Self {
        Self { origin, value }
    }

    pub(crate) fn scalar(origin: Origin, text: impl Into<String>, style: Style) -> Self {
        Self::new(origin, Value::Scalar(Scalar { text: text.into(), style }))
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.resolve() == Plain::Null)
    }

    /// Lays `over` on top: maps are merged key by key, everything else is replaced.
    pub(crate) fn merge(&mut self, over: Self) {
        match (&mut self.value, over.value) {
            (Value::Map(entries), Value::Map(new)) => {
                for entry in new {
                    match entries.iter_mut().find(|e| e.key == entry.key) {
                        Some(old) => old.node.merge(entry.node),
                        None => entries.push(entry),
                    }
                }
            }
            (value, new) => {
                *value = new;
                self.origin = over.origin;
            }
        }
    }
}

impl Scalar {
    /// What it means where nothing particular is asked for.
    pub(crate) fn resolve(&self) -> Plain<'_> {
        if self.style == Style::Quoted {
            return Plain::Text(&self.text);
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Plain::Null,
            "true" | "True" | "TRUE" => Plain::Bool(true),
            "false" | "False" | "FALSE" => Plain::Bool(false),
            text => match (integer(text), float(text)) {
                (Some(int), _) => Plain::Int(int),
                (None, Some(float)) => Plain::Float(float),
                (None, None) => Plain::Text(text),
            },
        }
    }
}

fn integer(text: &str) -> Option<i128> {
    if let Some(hex) = text.strip_prefix("0x") {
        return digits(hex, 16);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal, 8);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let number = digits(unsigned, 10)?;
    Some(if text.starts_with('-') { -number } else { number })
}

fn digits(text: &str, radix: u32) -> Option<i128> {
    // `from_str_radix` takes a sign, which is not one here.
    let valid = !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    if valid { i128::from_str_radix(text, radix).ok() } else { None }
}

fn float(text: &str) -> Option<f64> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let number = match unsigned {
        ".inf" | ".Inf" | ".INF" => f64::INFINITY,
        ".nan" | ".NaN" | ".NAN" => f64::NAN,
        // Rust reads words (`infinity`) that YAML takes for text.
        _ if unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') => unsigned.parse().ok()?,
        _ => return None,
    };
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> String {
        let scalar = Scalar { text: text.into(), style: Style::Plain };
        format!("{:?}", scalar.resolve())
    }

    #[test]
    fn plain_scalars_mean_what_the_core_schema_says() {
        for (text, meaning) in [
            ("~", "Null"),
            ("", "Null"),
            ("true", "Bool(true)"),
            ("yes", "Text(\"yes\")"),
            ("no", "Text(\"no\")"),
            ("-12", "Int(-12)"),
            ("0x1F", "Int(31)"),
            ("0o17", "Int(15)"),
            ("1e3", "Float(1000.0)"),
            ("-.inf", "Float(-inf)"),
            ("1.2.3", "Text(\"1.2.3\")"),
            ("inf", "Text(\"inf\")"),
            ("--1", "Text(\"--1\")"),
            ("0x-1", "Text(\"0x-1\")"),
            ("10s", "Text(\"10s\")"),
        ] {
            assert_eq!(resolve(text), meaning, "{text}");
        }
    }
}
