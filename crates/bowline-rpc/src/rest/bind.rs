//! From path, query and body to the request's message.

use std::sync::Arc;

use base64::Engine as _;
use bowline_core::{Error, Result};
use buffa_descriptor::DescriptorPool;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::fields::{Field, Fields, slot};
use super::template::Template;
use super::{RestInput, lines::lines, media};
use crate::{Body, HttpRule, MethodDef};

const HTTP_BODY: &str = "google.api.HttpBody";

/// How one REST rule of one method binds, worked out when the service is mounted.
#[derive(Clone)]
pub(crate) struct Binding {
    fields: Fields,
    variables: Vec<Field>,
    body: BodyRule,
    pub(crate) response_body: Option<Box<str>>,
    pub(crate) raw_reply: bool,
    client_streams: bool,
}

#[derive(Clone, Debug)]
enum BodyRule {
    None,
    All { raw: bool },
    Field { field: Field, raw: bool },
}

/// A request that cannot be bound; with the HTTP status where it is not the code's own.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: Error,
    pub(crate) status: Option<StatusCode>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, status: None }
    }
}

impl Binding {
    /// # Errors
    /// If the rule names fields that the messages do not have. Generated code was checked for that already.
    pub(crate) fn new(pool: &Arc<DescriptorPool>, def: &MethodDef, rule: &HttpRule) -> Result<Self> {
        let fields = Fields::new(pool, def.input)?;
        let find = |path: &str| {
            fields
                .find(path)
                .ok_or_else(|| Error::internal(format!("{}: {} has no field `{path}`", def.path, def.input)))
        };
        let template = Template::parse(rule.pattern)?;
        let variables = template.variables.iter().map(|v| find(&v.field)).collect::<Result<_>>()?;
        let body = match rule.body {
            "" => BodyRule::None,
            "*" => BodyRule::All { raw: def.input == HTTP_BODY },
            name => BodyRule::Field {
                field: find(name)?,
                raw: field_type(pool, def.input, name) == Some(HTTP_BODY.into()),
            },
        };
        let output = Fields::new(pool, def.output)?;
        let response_body = match rule.response_body {
            "" => None,
            name => output.find(name).and_then(|f| f.path.first().cloned()),
        };
        Ok(Self {
            fields,
            variables,
            body,
            response_body,
            raw_reply: def.output == HTTP_BODY,
            client_streams: def.kind.client_streams(),
        })
    }

    /// Reads the request's message. `limit` bounds the body, or each message of a stream.
    pub(crate) async fn input(
        &self,
        headers: &HeaderMap,
        variables: &[String],
        query: Option<&str>,
        body: Body,
        limit: usize,
    ) -> Result<RestInput, Refused> {
        let content = self.content(headers, &body)?;
        if self.client_streams {
            return Ok(RestInput::Lines(lines(body, limit)));
        }
        let BodyRule::None = self.body else {
            let bytes = body.collect(limit).await.map_err(too_large)?;
            return Ok(self.with_body(content, headers, bytes, variables, query)?);
        };
        let mut message = Map::new();
        self.merge(&mut message, variables, query)?;
        Ok(RestInput::Value(message))
    }

    fn content(&self, headers: &HeaderMap, body: &Body) -> Result<Content, Refused> {
        let raw = matches!(self.body, BodyRule::All { raw: true } | BodyRule::Field { raw: true, .. });
        let all = matches!(self.body, BodyRule::All { .. });
        let Some(content_type) = headers.get(CONTENT_TYPE) else { return Ok(Content::Json) };
        let media = content_type.as_bytes();
        let ignored = matches!(self.body, BodyRule::None) || http_body::Body::is_end_stream(body);
        if raw {
            return Ok(Content::Raw);
        }
        if ignored || media::is_json(media) || (self.client_streams && media::is_lines(media)) {
            return Ok(Content::Json);
        }
        if all && !self.client_streams && media::is_proto(media) {
            return Ok(Content::Proto);
        }
        let other = String::from_utf8_lossy(media::essence(media)).into_owned();
        Err(Refused {
            error: Error::invalid_argument(format!(
                "a body of type `{other}` is not understood; send application/json"
            ))
            .with_reason("UNSUPPORTED_MEDIA_TYPE"),
            status: Some(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        })
    }

    fn with_body(
        &self,
        content: Content,
        headers: &HeaderMap,
        bytes: bytes::Bytes,
        variables: &[String],
        query: Option<&str>,
    ) -> Result<RestInput> {
        if let (BodyRule::All { .. }, Some(query)) = (&self.body, query.filter(|q| !q.is_empty())) {
            return Err(Error::invalid_argument(format!(
                "the body is the whole request, so the query `{query}` is refused; put its values into the body"
            ))
            .with_reason("UNEXPECTED_QUERY"));
        }
        match (&self.body, content) {
            (BodyRule::All { .. }, Content::Json) if variables.is_empty() => Ok(RestInput::Json(bytes)),
            (BodyRule::All { .. }, Content::Proto) => {
                if variables.is_empty() {
                    return Ok(RestInput::Proto(bytes, None));
                }
                let (this, variables) = (self.clone(), variables.to_vec());
                Ok(RestInput::Proto(
                    bytes,
                    Some(Box::new(move |value| {
                        let mut message = object(value)?;
                        this.merge(&mut message, &variables, None)?;
                        Ok(message)
                    })),
                ))
            }
            (BodyRule::All { .. }, content) => {
                let mut message = object(body_value(content, headers, &bytes)?)?;
                self.merge(&mut message, variables, None)?;
                Ok(RestInput::Value(message))
            }
            (BodyRule::Field { field, .. }, content) => {
                let mut message = Map::new();
                if !bytes.is_empty() {
                    *slot(&mut message, &field.path)? = body_value(content, headers, &bytes)?;
                }
                self.merge(&mut message, variables, query)?;
                Ok(RestInput::Value(message))
            }
            (BodyRule::None, _) => Err(Error::internal("a body was read for a rule without one")),
        }
    }

    /// Adds what path and query say.
    fn merge(
        &self,
        message: &mut Map<String, Value>,
        variables: &[String],
        query: Option<&str>,
    ) -> Result<()> {
        for (key, text) in query.into_iter().flat_map(pairs) {
            let (key, text) = (unquery(key)?, unquery(text)?);
            // A message cannot be written as text, and an unknown key is none of our business: both are ignored.
            let Some(field) = self.fields.find(&key) else { continue };
            let Some(value) = self.fields.value(&field, &text)? else { continue };
            let slot = slot(message, &field.path)?;
            match (field.repeated, &mut *slot) {
                (true, Value::Array(values)) => values.push(value),
                (true, _) => *slot = Value::Array(vec![value]),
                (false, _) => *slot = value,
            }
        }
        for (field, text) in self.variables.iter().zip(variables) {
            let Some(value) = self.fields.value(field, text)? else { continue };
            let slot = slot(message, &field.path)?;
            if !slot.is_null() && !same(slot, &value) {
                return Err(Error::invalid_argument(format!(
                    "`{}` is {slot} in the request and {value} in the path; send it once",
                    field.path.join(".")
                ))
                .with_reason("CONFLICTING_PARAMETER"));
            }
            *slot = value;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Content {
    Json,
    Proto,
    Raw,
}

fn body_value(content: Content, headers: &HeaderMap, bytes: &[u8]) -> Result<Value> {
    match content {
        Content::Raw => {
            let content_type = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
            let data = base64::engine::general_purpose::STANDARD.encode(bytes);
            Ok(serde_json::json!({ "contentType": content_type, "data": data }))
        }
        Content::Json | Content::Proto if bytes.is_empty() => Ok(Value::Object(Map::new())),
        Content::Json | Content::Proto => serde_json::from_slice(bytes).map_err(|e| {
            Error::invalid_argument(format!("the body is no JSON: {e}")).with_reason("INVALID_JSON")
        }),
    }
}

fn object(value: Value) -> Result<Map<String, Value>> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(Error::invalid_argument("the body must be a JSON object").with_reason("INVALID_JSON")),
    }
}

/// The same scalar, whether as a number or as text.
fn same(a: &Value, b: &Value) -> bool {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    text(a) == text(b)
}

fn too_large(error: Error) -> Refused {
    let status = (error.reason() == "BODY_TOO_LARGE").then_some(StatusCode::PAYLOAD_TOO_LARGE);
    Refused { error, status }
}

fn field_type(pool: &DescriptorPool, message: &str, field: &str) -> Option<String> {
    use buffa_descriptor::{FieldKind, SingularKind};
    match pool.message_by_name(message)?.field_by_name(field)?.kind() {
        FieldKind::Singular(SingularKind::Message(index)) => Some(pool.message(index).full_name().to_owned()),
        _ => None,
    }
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Decodes one side of a query pair, where `+` is a space.
fn unquery(text: &str) -> Result<String> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().map_err(|e| {
        Error::invalid_argument("the query is no UTF-8 after percent-decoding")
            .with_reason("INVALID_QUERY")
            .with_source(e)
    })?;
    Ok(decoded.into_owned())
}
