//! From nodes to a type.
//!
//! A serde deserializer that knows where every value came from. It compares the keys of each struct with the fields the
//! struct declares, so that unknown keys are found with or without `deny_unknown_fields`, and all of them at once.

mod access;

use std::cell::RefCell;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use crate::env;
use crate::node::{Entry, Node, Plain, Scalar, Style, Value};
use crate::problem::{Origin, Problem};
use crate::redact::is_sensitive;
use access::{Enum, List, Map};

/// Reads a `T`, or says everything that is wrong.
pub(crate) fn read<T: DeserializeOwned>(root: &Node) -> Result<T, Vec<Problem>> {
    let unknown = RefCell::new(Vec::new());
    let de = De { node: root, path: String::new(), unknown: &unknown };
    let result = de.read(PhantomData::<T>);
    let mut problems = unknown.into_inner();
    match result {
        Ok(value) if problems.is_empty() => return Ok(value),
        Ok(_) => {}
        Err(problem) => problems.push(problem),
    }
    Err(problems)
}

/// `server` and `addr` make `server.addr`.
pub(crate) fn join(path: &str, key: &str) -> String {
    let key = if key.contains('.') { format!("\"{key}\"") } else { key.to_owned() };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// Adds the place to a failure, and drops the value from it where the key says that it is secret.
fn locate(problem: Problem, node: &Node, path: &str) -> Problem {
    let last = path.rsplit('.').next().unwrap_or("");
    let hide = matches!(node.value, Value::Scalar(_)) && is_sensitive(last);
    let problem = if hide { problem.without_value() } else { problem };
    problem.at(&node.origin, path)
}

/// One node on its way to a type.
struct De<'a> {
    node: &'a Node,
    path: String,
    unknown: &'a RefCell<Vec<Problem>>,
}

impl<'a> De<'a> {
    fn located<T>(self, read: impl FnOnce(&Self) -> Result<T, Problem>) -> Result<T, Problem> {
        read(&self).map_err(|problem| locate(problem, self.node, &self.path))
    }

    fn child(&self, node: &'a Node, path: String) -> Self {
        De { node, path, unknown: self.unknown }
    }

    /// Reads a child. A type can fail on its own after the value was read, so the place is added here too.
    fn read<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Problem> {
        let (node, path) = (self.node, self.path.clone());
        seed.deserialize(self).map_err(|problem| locate(problem, node, &path))
    }

    fn scalar(&self) -> Option<&'a Scalar> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    fn any<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Problem> {
        match &self.node.value {
            Value::Scalar(scalar) => visit(scalar.resolve(), visitor),
            Value::List(list) => visitor.visit_seq(List::new(self, list)),
            Value::Map(entries) => visitor.visit_map(Map::new(self, entries)),
        }
    }

    /// Text is asked for: numbers and booleans are taken as they are written (`version: 1.10` is `1.10`).
    fn text<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Problem> {
        match self.scalar() {
            Some(scalar) if scalar.style == Style::Plain && scalar.resolve() == Plain::Null => {
                self.any(visitor)
            }
            Some(scalar) => visitor.visit_str(&scalar.text),
            None => self.any(visitor),
        }
    }

    /// The entries a struct with these fields understands. Those it does not are noted and left out.
    fn known(&self, entries: &'a [Entry], fields: &'static [&'static str]) -> Vec<(&'a str, &'a Node)> {
        let mut known = Vec::with_capacity(entries.len());
        for entry in entries {
            let given = entry.key.as_str();
            let field = match &entry.origin {
                Origin::File { .. } => fields.iter().position(|field| *field == given),
                Origin::Env(_) => env::find(fields.iter().copied(), given),
            };
            match field.and_then(|at| fields.get(at)) {
                Some(field) => known.push((*field, &entry.node)),
                None => {
                    let path = join(&self.path, given);
                    let problem = Problem::unknown_key(given, fields).at(&entry.origin, &path);
                    self.unknown.borrow_mut().push(problem);
                }
            }
        }
        known
    }
}

fn visit<'de, V: Visitor<'de>>(plain: Plain<'_>, visitor: V) -> Result<V::Value, Problem> {
    match plain {
        Plain::Null => visitor.visit_unit(),
        Plain::Bool(value) => visitor.visit_bool(value),
        Plain::Int(value) => match (u64::try_from(value), i64::try_from(value)) {
            (Ok(value), _) => visitor.visit_u64(value),
            (_, Ok(value)) => visitor.visit_i64(value),
            _ => visitor.visit_i128(value),
        },
        Plain::Float(value) => visitor.visit_f64(value),
        Plain::Text(text) => visitor.visit_str(text),
    }
}

impl<'de> Deserializer<'de> for De<'_> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.located(|de| de.any(visitor))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.located(|de| de.text(visitor))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.deserialize_str(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.located(|de| match de.scalar().map(Scalar::resolve) {
            // `ratio: 1` is a number with a fraction of nothing.
            Some(Plain::Int(value)) => visitor.visit_f64(value as f64),
            _ => de.any(visitor),
        })
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        if self.node.is_null() {
            return self.located(|_| visitor.visit_none());
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.located(|de| match &de.node.value {
            Value::Map(entries) => visitor.visit_map(Map::of_struct(de, de.known(entries, fields))),
            // `server:` with everything below it commented out is a struct of defaults.
            Value::Scalar(_) if de.node.is_null() => visitor.visit_map(Map::of_struct(de, Vec::new())),
            _ => de.any(visitor),
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.located(|de| match &de.node.value {
            Value::Scalar(_) if de.node.is_null() => visitor.visit_map(Map::of_struct(de, Vec::new())),
            _ => de.any(visitor),
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.located(|de| match &de.node.value {
            Value::Scalar(scalar) => {
                let from_env = matches!(de.node.origin, Origin::Env(_));
                let found = env::find(variants.iter().copied(), &scalar.text).filter(|_| from_env);
                let name = found.and_then(|at| variants.get(at)).copied().unwrap_or(&scalar.text);
                visitor.visit_enum(name.into_deserializer())
            }
            Value::Map(entries) => match &entries[..] {
                [entry] => visitor.visit_enum(Enum::new(de, entry, variants)),
                _ => Err(Problem::new(format!("exactly one key is expected here, found {}", entries.len()))),
            },
            Value::List(_) => Err(serde::de::Error::invalid_type(Unexpected::Seq, &visitor)),
        })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 bytes byte_buf unit unit_struct seq tuple tuple_struct
    }
}
