//! Text from a path or a query as the JSON value of a proto field.

use std::sync::Arc;

use bowline_core::{Error, Result};
use buffa_descriptor::{DescriptorPool, FieldKind, MessageIndex, ScalarType, SingularKind};
use serde_json::{Map, Value};

/// A field found by its path.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// The JSON names from the root message to the field.
    pub(crate) path: Box<[Box<str>]>,
    pub(crate) repeated: bool,
    leaf: Leaf,
}

#[derive(Clone, Debug)]
enum Leaf {
    Scalar(ScalarType),
    Enum(buffa_descriptor::EnumIndex),
    /// Timestamp, Duration: their JSON form is a string.
    Text,
    FieldMask,
    /// Another message: cannot be written as text.
    Message,
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

    /// Finds `a.b.c`, each part by its snake or its camel name. `None` if there is no such field.
    pub(crate) fn find(&self, path: &str) -> Option<Field> {
        let mut names = Vec::new();
        let mut message = self.root;
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            let descriptor = self.pool.message(message);
            let field = descriptor.fields().iter().find(|f| f.name() == part || f.json_name() == part)?;
            names.push(field.json_name().into());
            let (kind, repeated) = match field.kind() {
                FieldKind::Singular(kind) => (kind, false),
                FieldKind::List(kind) => (kind, true),
                // A map, or whatever kinds the future brings: not to be written as `key=value`.
                _ => return None,
            };
            if parts.peek().is_none() {
                return Some(Field { path: names.into(), repeated, leaf: self.leaf(kind) });
            }
            match kind {
                SingularKind::Message(next) if !repeated => message = next,
                _ => return None,
            }
        }
        None
    }

    fn leaf(&self, kind: SingularKind) -> Leaf {
        match kind {
            SingularKind::Scalar(scalar) => Leaf::Scalar(scalar),
            SingularKind::Enum(index) => Leaf::Enum(index),
            SingularKind::Message(index) => match self.pool.message(index).full_name() {
                "google.protobuf.Timestamp" | "google.protobuf.Duration" => Leaf::Text,
                "google.protobuf.FieldMask" => Leaf::FieldMask,
                "google.protobuf.BoolValue" => Leaf::Scalar(ScalarType::Bool),
                "google.protobuf.StringValue" => Leaf::Scalar(ScalarType::String),
                "google.protobuf.BytesValue" => Leaf::Scalar(ScalarType::Bytes),
                "google.protobuf.Int32Value" => Leaf::Scalar(ScalarType::Int32),
                "google.protobuf.Int64Value" => Leaf::Scalar(ScalarType::Int64),
                "google.protobuf.UInt32Value" => Leaf::Scalar(ScalarType::Uint32),
                "google.protobuf.UInt64Value" => Leaf::Scalar(ScalarType::Uint64),
                "google.protobuf.FloatValue" => Leaf::Scalar(ScalarType::Float),
                "google.protobuf.DoubleValue" => Leaf::Scalar(ScalarType::Double),
                _ => Leaf::Message,
            },
        }
    }

    /// The JSON value that `text` is for `field`. `None` if the field cannot be written as text.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the text is no value of the field's type.
    pub(crate) fn value(&self, field: &Field, text: &str) -> Result<Option<Value>> {
        let wrong = |what: &str| {
            Error::invalid_argument(format!("`{}`: `{text}` is no {what}", field.path.join(".")))
                .with_reason("INVALID_PARAMETER")
        };
        Ok(Some(match &field.leaf {
            Leaf::Scalar(scalar) => return scalar_value(*scalar, text).map(Some).map_err(wrong),
            Leaf::Text => text.into(),
            Leaf::FieldMask => text.split(',').map(camel).collect::<Vec<_>>().join(",").into(),
            Leaf::Enum(index) => {
                let descriptor = self.pool.enumeration(*index);
                match text.parse::<i32>() {
                    Ok(number) => number.into(),
                    Err(_) if descriptor.value_by_name(text).is_some() => text.into(),
                    Err(_) => {
                        let names: Vec<_> = descriptor.values().iter().map(|v| v.name()).collect();
                        return Err(wrong(&format!(
                            "{} (one of {})",
                            descriptor.full_name(),
                            names.join(", ")
                        )));
                    }
                }
            }
            Leaf::Message => return Ok(None),
        }))
    }
}

fn scalar_value(scalar: ScalarType, text: &str) -> Result<Value, &'static str> {
    use ScalarType as S;
    Ok(match scalar {
        S::Bool => match text {
            "true" | "1" => true.into(),
            "false" | "0" => false.into(),
            _ => return Err("bool (true or false)"),
        },
        S::String | S::Bytes => text.into(),
        S::Double | S::Float => match text {
            "NaN" | "Infinity" | "-Infinity" => text.into(),
            _ => text.parse::<f64>().ok().filter(|n| n.is_finite()).ok_or("number")?.into(),
        },
        S::Int32 | S::Sint32 | S::Sfixed32 => text.parse::<i32>().map_err(|_| "32-bit integer")?.into(),
        S::Uint32 | S::Fixed32 => text.parse::<u32>().map_err(|_| "unsigned 32-bit integer")?.into(),
        S::Int64 | S::Sint64 | S::Sfixed64 => {
            text.parse::<i64>().map_err(|_| "64-bit integer")?.to_string().into()
        }
        S::Uint64 | S::Fixed64 => {
            text.parse::<u64>().map_err(|_| "unsigned 64-bit integer")?.to_string().into()
        }
    })
}

/// `display_name` as `displayName`: how canonical JSON writes the paths of a field mask.
fn camel(path: &str) -> String {
    let mut result = String::with_capacity(path.len());
    let mut upper = false;
    for c in path.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                result.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => result.push(c),
        }
    }
    result
}

/// Where in `root` the field at `path` is, with the objects on the way made if they are missing.
///
/// # Errors
/// `INVALID_ARGUMENT` if the body has something else than an object on the way.
pub(crate) fn slot<'a>(root: &'a mut Map<String, Value>, path: &[Box<str>]) -> Result<&'a mut Value> {
    let mut object = root;
    let Some((last, parents)) = path.split_last() else {
        return Err(Error::internal("a field has no path"));
    };
    for name in parents {
        let next = object.entry(name.to_string()).or_insert(Value::Null);
        if next.is_null() {
            *next = Value::Object(Map::new());
        }
        object = next.as_object_mut().ok_or_else(|| {
            Error::invalid_argument(format!("`{name}` must be an object")).with_reason("INVALID_JSON")
        })?;
    }
    Ok(object.entry(last.to_string()).or_insert(Value::Null))
}
