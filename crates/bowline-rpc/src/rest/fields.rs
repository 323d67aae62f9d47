//! The fields of a message, found by name, and their places in its JSON.

use std::sync::Arc;

use bowline_core::{Error, Result};
use buffa_descriptor::{DescriptorPool, FieldDescriptor, FieldKind, MessageIndex, SingularKind};
use serde_json::{Map, Value};

use super::value::Leaf;

const HTTP_BODY: &str = "google.api.HttpBody";

/// What a field is called. Proto JSON reads both names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) json: Box<str>,
    proto: Box<str>,
}

impl Name {
    fn of(field: &FieldDescriptor) -> Self {
        Self { json: field.json_name().into(), proto: field.name().into() }
    }

    /// The key under which `object` has the field, or shall have it.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if it has the field twice: which one a reader takes is anybody's guess.
    fn key(&self, object: &Map<String, Value>) -> Result<&str> {
        let has = |name: &str| object.contains_key(name);
        match (has(&self.json), self.proto != self.json && has(&self.proto)) {
            (true, true) => Err(Error::invalid_argument(format!(
                "the body has a field twice, as `{}` and as `{}`; send it once",
                self.json, self.proto
            ))
            .with_reason("INVALID_JSON")),
            (false, true) => Ok(&self.proto),
            (_, false) => Ok(&self.json),
        }
    }
}

/// A field found by its path.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// From the root message to the field.
    pub(crate) path: Box<[Name]>,
    pub(crate) repeated: bool,
    leaf: Leaf,
}

impl Field {
    /// `page.displayName`, for messages.
    pub(crate) fn name(&self) -> String {
        self.path.iter().map(|name| &*name.json).collect::<Vec<_>>().join(".")
    }
}

/// A field of the root message, of any type.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) name: Name,
    pub(crate) number: u32,
    /// Whether it is one `google.api.HttpBody`.
    pub(crate) raw: bool,
}

/// The fields of one message, for look-up by path.
#[derive(Clone)]
pub(crate) struct Fields {
    pool: Arc<DescriptorPool>,
    root: MessageIndex,
}

impl Fields {
    /// # Errors
    /// If the pool has no such message.
    pub(crate) fn new(pool: &Arc<DescriptorPool>, message: &str) -> Result<Self> {
        let root = pool
            .message_index(message)
            .ok_or_else(|| Error::internal(format!("the descriptors have no message {message}")))?;
        Ok(Self { pool: Arc::clone(pool), root })
    }

    /// Whether the message itself is a `google.api.HttpBody`.
    pub(crate) fn raw(&self) -> bool {
        self.pool.message(self.root).full_name() == HTTP_BODY
    }

    /// Finds a field of the message itself.
    pub(crate) fn part(&self, name: &str) -> Option<Part> {
        let field = self.field(self.root, name)?;
        let raw = match field.kind() {
            FieldKind::Singular(SingularKind::Message(index)) => {
                self.pool.message(index).full_name() == HTTP_BODY
            }
            _ => false,
        };
        Some(Part { name: Name::of(field), number: field.number(), raw })
    }

    /// Finds `a.b.c`, each part by its snake or its camel name. `None` if there is no such field.
    pub(crate) fn find(&self, path: &str) -> Option<Field> {
        let mut names = Vec::new();
        let mut message = self.root;
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            let field = self.field(message, part)?;
            names.push(Name::of(field));
            let (kind, repeated) = match field.kind() {
                FieldKind::Singular(kind) => (kind, false),
                FieldKind::List(kind) => (kind, true),
                // A map, or whatever kinds the future brings: not to be written as `key=value`.
                _ => return None,
            };
            if parts.peek().is_none() {
                return Some(Field { path: names.into(), repeated, leaf: Leaf::of(&self.pool, kind) });
            }
            match kind {
                SingularKind::Message(next) if !repeated => message = next,
                _ => return None,
            }
        }
        None
    }

    fn field(&self, message: MessageIndex, name: &str) -> Option<&FieldDescriptor> {
        let fields = self.pool.message(message).fields();
        fields.iter().find(|field| field.name() == name || field.json_name() == name)
    }

    /// The JSON value that `text` is for `field`. `None` if the field cannot be written as text.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the text is no value of the field's type.
    pub(crate) fn value(&self, field: &Field, text: &str) -> Result<Option<Value>> {
        field.leaf.read(&self.pool, text).map_err(|what| {
            Error::invalid_argument(format!("`{}`: `{text}` is no {what}", field.name()))
                .with_reason("INVALID_PARAMETER")
        })
    }

    /// Whether two JSON values of `field` are the same, however they are written.
    pub(crate) fn same(&self, field: &Field, a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Array(a), Value::Array(b)) if field.repeated => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| field.leaf.same(&self.pool, a, b))
            }
            _ => field.leaf.same(&self.pool, a, b),
        }
    }
}

/// Where in `root` the field at `path` is, with the objects on the way made if they are missing.
///
/// # Errors
/// `INVALID_ARGUMENT` if the body has something else than an object on the way, or a field under both of its names.
pub(crate) fn slot<'a>(root: &'a mut Map<String, Value>, path: &[Name]) -> Result<&'a mut Value> {
    let mut object = root;
    let Some((last, parents)) = path.split_last() else {
        return Err(Error::internal("a field has no path"));
    };
    for name in parents {
        let next = object.entry(name.key(object)?).or_insert(Value::Null);
        if next.is_null() {
            *next = Value::Object(Map::new());
        }
        object = next.as_object_mut().ok_or_else(|| {
            Error::invalid_argument(format!("`{}` must be an object", name.json)).with_reason("INVALID_JSON")
        })?;
    }
    Ok(object.entry(last.key(object)?).or_insert(Value::Null))
}
