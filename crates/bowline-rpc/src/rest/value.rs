//! The values of a field: read from a path or a query, and compared.

use buffa_descriptor::{DescriptorPool, EnumIndex, ScalarType, SingularKind};
use buffa_types::google::protobuf::{Duration, FieldMask, Timestamp};
use serde::Deserialize;
use serde_json::Value;

/// What a field's values are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Leaf {
    Scalar(ScalarType),
    Enum(EnumIndex),
    Timestamp,
    Duration,
    FieldMask,
    /// Another message: cannot be written as text.
    Message,
}

impl Leaf {
    pub(super) fn of(pool: &DescriptorPool, kind: SingularKind) -> Self {
        let index = match kind {
            SingularKind::Scalar(scalar) => return Self::Scalar(scalar),
            SingularKind::Enum(index) => return Self::Enum(index),
            SingularKind::Message(index) => index,
        };
        match pool.message(index).full_name() {
            "google.protobuf.Timestamp" => Self::Timestamp,
            "google.protobuf.Duration" => Self::Duration,
            "google.protobuf.FieldMask" => Self::FieldMask,
            "google.protobuf.BoolValue" => Self::Scalar(ScalarType::Bool),
            "google.protobuf.StringValue" => Self::Scalar(ScalarType::String),
            "google.protobuf.BytesValue" => Self::Scalar(ScalarType::Bytes),
            "google.protobuf.Int32Value" => Self::Scalar(ScalarType::Int32),
            "google.protobuf.Int64Value" => Self::Scalar(ScalarType::Int64),
            "google.protobuf.UInt32Value" => Self::Scalar(ScalarType::Uint32),
            "google.protobuf.UInt64Value" => Self::Scalar(ScalarType::Uint64),
            "google.protobuf.FloatValue" => Self::Scalar(ScalarType::Float),
            "google.protobuf.DoubleValue" => Self::Scalar(ScalarType::Double),
            _ => Self::Message,
        }
    }

    /// The JSON value that `text` is. `None` if there is no such text.
    ///
    /// # Errors
    /// What it is not, and how to write that.
    pub(super) fn read(self, pool: &DescriptorPool, text: &str) -> Result<Option<Value>, String> {
        let value = match self {
            Self::Scalar(scalar) => scalar_value(scalar, text)?,
            Self::Enum(index) => enum_value(pool, index, text)?,
            Self::Timestamp => checked::<Timestamp>(
                text.into(),
                "google.protobuf.Timestamp; write it as in 2020-01-02T03:04:05Z",
            )?,
            Self::Duration => checked::<Duration>(
                text.into(),
                "google.protobuf.Duration; write seconds and an s, as in 1.5s",
            )?,
            Self::FieldMask => checked::<FieldMask>(
                text.split(',').map(camel).collect::<Vec<_>>().join(",").into(),
                "google.protobuf.FieldMask; write names of fields and commas, as in display_name,page.size",
            )?,
            Self::Message => return Ok(None),
        };
        Ok(Some(value))
    }

    /// Whether two JSON values are the same, however they are written: `7` and `"7"`, a name and a number.
    pub(super) fn same(self, pool: &DescriptorPool, a: &Value, b: &Value) -> bool {
        use ScalarType as S;
        if a == b {
            return true;
        }
        match self {
            Self::Scalar(S::Bool | S::String) | Self::Message => false,
            Self::Scalar(S::Bytes) => both(a, b, bytes),
            Self::Scalar(S::Double) => both(a, b, |value| number(value).map(f64::to_bits)),
            // What a float makes of it counts.
            Self::Scalar(S::Float) => both(a, b, |value| number(value).map(|n| (n as f32).to_bits())),
            Self::Scalar(_) => both(a, b, integer),
            Self::Enum(index) => both(a, b, |value| match value.as_str() {
                Some(name) => Some(pool.enumeration(index).value_by_name(name)?.number().into()),
                None => integer(value),
            }),
            Self::Timestamp => both(a, b, |value| Timestamp::deserialize(value).ok()),
            Self::Duration => both(a, b, |value| Duration::deserialize(value).ok()),
            Self::FieldMask => both(a, b, |value| FieldMask::deserialize(value).ok()),
        }
    }
}

/// Whether both can be read, as the same.
fn both<T: PartialEq>(a: &Value, b: &Value, read: impl Fn(&Value) -> Option<T>) -> bool {
    read(a).is_some_and(|a| read(b) == Some(a))
}

fn integer(value: &Value) -> Option<i128> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    // Proto JSON takes `7.0` and `7e0` for 7.
    let whole = |n: f64| (n.fract() == 0.0 && n.abs() <= 2_f64.powi(64)).then_some(n as i128);
    text.parse().ok().or_else(|| whole(text.parse().ok()?))
}

/// The infinities and NaN are text; the two zeros are one value.
fn number(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
    Some(if number == 0.0 { 0.0 } else { number })
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    buffa::json_helpers::bytes::deserialize(value).ok()
}

fn checked<T: for<'a> Deserialize<'a>>(value: Value, what: &str) -> Result<Value, String> {
    match T::deserialize(&value) {
        Ok(_) => Ok(value),
        Err(_) => Err(what.to_owned()),
    }
}

fn enum_value(pool: &DescriptorPool, index: EnumIndex, text: &str) -> Result<Value, String> {
    let descriptor = pool.enumeration(index);
    match text.parse::<i32>() {
        Ok(number) => Ok(number.into()),
        Err(_) if descriptor.value_by_name(text).is_some() => Ok(text.into()),
        Err(_) => {
            let names: Vec<_> = descriptor.values().iter().map(|v| v.name()).collect();
            Err(format!("{} (one of {})", descriptor.full_name(), names.join(", ")))
        }
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
        S::String => text.into(),
        S::Bytes => {
            Some(Value::from(text)).filter(|v| bytes(v).is_some()).ok_or("bytes; write them in base64")?
        }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_the_same_however_it_is_written() {
        use ScalarType as S;
        let pool = DescriptorPool::default();
        let same = |leaf: Leaf, a: Value, b: Value| leaf.same(&pool, &a, &b);
        for equal in [json!(7), json!("7"), json!(7.0), json!("07"), json!("7.0"), json!(70e-1)] {
            assert!(same(Leaf::Scalar(S::Int64), json!("7"), equal.clone()), "{equal}");
            assert!(same(Leaf::Scalar(S::Uint32), json!(7), equal.clone()), "{equal}");
            assert!(same(Leaf::Scalar(S::Double), json!(7), equal.clone()), "{equal}");
        }
        for other in [json!(8), json!("8"), json!(7.5), json!("x"), json!(true), json!([7])] {
            assert!(!same(Leaf::Scalar(S::Int64), json!("7"), other.clone()), "{other}");
        }
        let close = (json!("9007199254740993"), json!("9007199254740992"));
        assert!(!same(Leaf::Scalar(S::Int64), close.0.clone(), close.1.clone()));
        assert!(!same(Leaf::Scalar(S::String), json!("7"), json!("07")));
        assert!(!same(Leaf::Scalar(S::String), json!("7"), json!(7)));
        assert!(same(Leaf::Scalar(S::Float), json!(0.1), json!(0.1_f32)));
        assert!(same(Leaf::Scalar(S::Double), json!("0"), json!(-0.0)));
        assert!(same(Leaf::Scalar(S::Bytes), json!("+/8="), json!("-_8")));
        assert!(same(Leaf::Duration, json!("1.5s"), json!("1.500s")));
        assert!(same(Leaf::Timestamp, json!("2020-01-02T03:04:05Z"), json!("2020-01-02T04:04:05+01:00")));
        assert!(!same(Leaf::Timestamp, json!("yesterday"), json!("today")));
    }
}
