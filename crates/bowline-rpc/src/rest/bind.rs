//! From path, query and body to the request's message.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use bowline_core::{Error, Result};
use buffa_descriptor::DescriptorPool;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::fields::{Field, Fields, Part, slot};
use super::lines::lines;
use super::media;
use super::raw::chunks;
use super::template::Template;
use super::{Encoding, Merged, RestInput};
use crate::{Body, HttpRule, MethodDef};

/// How one REST rule of one method binds, worked out when the service is mounted.
#[derive(Clone)]
pub(crate) struct Binding {
    fields: Fields,
    variables: Vec<Field>,
    body: BodyRule,
    pub(super) reply: ReplyRule,
    client_streams: bool,
    server_streams: bool,
}

#[derive(Clone, Debug)]
enum BodyRule {
    None,
    All { raw: bool },
    Field(Part),
}

/// What is sent of a reply.
#[derive(Clone, Debug)]
pub(super) enum ReplyRule {
    Whole,
    /// The field of this JSON name.
    Field(Box<str>),
    /// The bytes of a `google.api.HttpBody`: the reply itself, or its field of this number.
    Raw(Option<u32>),
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
        let (fields, output) = (Fields::new(pool, def.input)?, Fields::new(pool, def.output)?);
        let unknown = |message: &str, name: &str| {
            Error::internal(format!("{}: {message} has no field `{name}`", def.path))
        };
        let template = Template::parse(rule.pattern)?;
        let find = |path: &str| fields.find(path).ok_or_else(|| unknown(def.input, path));
        let variables = template.variables.iter().map(|v| find(&v.field)).collect::<Result<_>>()?;
        let body = match rule.body {
            "" => BodyRule::None,
            "*" => BodyRule::All { raw: fields.raw() },
            name => BodyRule::Field(fields.part(name).ok_or_else(|| unknown(def.input, name))?),
        };
        let reply = match rule.response_body {
            "" if output.raw() => ReplyRule::Raw(None),
            "" => ReplyRule::Whole,
            name => {
                let part = output.part(name).ok_or_else(|| unknown(def.output, name))?;
                if part.raw { ReplyRule::Raw(Some(part.number)) } else { ReplyRule::Field(part.name.json) }
            }
        };
        let (client_streams, server_streams) = (def.kind.client_streams(), def.kind.server_streams());
        Ok(Self { fields, variables, body, reply, client_streams, server_streams })
    }

    /// The binding at the method's RPC path: messages as JSON, whatever they are.
    ///
    /// # Errors
    /// If the pool does not have the messages.
    pub(crate) fn at_rpc_path(pool: &Arc<DescriptorPool>, def: &MethodDef) -> Result<Self> {
        let rule = HttpRule { verb: "POST", pattern: def.path, body: "*", response_body: "" };
        let binding = Self::new(pool, def, &rule)?;
        Ok(Self { body: BodyRule::All { raw: false }, reply: ReplyRule::Whole, ..binding })
    }

    /// Whether a request stream is bytes as they come.
    pub(crate) fn takes_chunks(&self) -> bool {
        self.client_streams && matches!(self.body, BodyRule::All { raw: true })
    }

    /// How the handler's answer is to be encoded.
    pub(super) fn encoding(&self, headers: &HeaderMap) -> Encoding {
        match self.reply {
            ReplyRule::Raw(_) => Encoding::Proto,
            // A part of a message and a line have one form only.
            ReplyRule::Field(_) => Encoding::Json,
            ReplyRule::Whole if self.server_streams => Encoding::Json,
            ReplyRule::Whole => media::encoding(headers),
        }
    }

    /// Reads the request's message. `limit` bounds the body, or each message of a stream.
    pub(crate) async fn input(
        &self,
        headers: &HeaderMap,
        variables: &[String],
        query: Option<&str>,
        body: &mut Body,
        limit: usize,
    ) -> Result<RestInput, Refused> {
        let content = self.content(headers, body)?;
        if self.client_streams || matches!(self.body, BodyRule::All { .. }) {
            no_query(query)?;
        }
        if self.client_streams {
            let body = std::mem::take(body);
            return Ok(match content {
                Content::Raw => RestInput::Chunks(chunks(body, content_type(headers).to_owned(), limit)),
                Content::Json | Content::Proto => RestInput::Lines(lines(body, limit)),
            });
        }
        let BodyRule::None = self.body else {
            let bytes = body.collect(limit).await.map_err(too_large)?;
            return Ok(self.with_body(content, headers, bytes, variables, query)?);
        };
        let mut message = Map::new();
        self.fill(&mut message, self.given(variables, query)?)?;
        Ok(RestInput::Value(message))
    }

    fn content(&self, headers: &HeaderMap, body: &Body) -> Result<Content, Refused> {
        let raw = match &self.body {
            BodyRule::None => false,
            BodyRule::All { raw } => *raw,
            BodyRule::Field(part) => part.raw,
        };
        if raw {
            return Ok(Content::Raw);
        }
        let all = matches!(self.body, BodyRule::All { .. });
        let Some(media) = headers.get(CONTENT_TYPE).map(|value| value.as_bytes()) else {
            return Ok(Content::Json);
        };
        let ignored = matches!(self.body, BodyRule::None) || http_body::Body::is_end_stream(body);
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
        match (&self.body, content) {
            (BodyRule::All { .. }, Content::Json) if variables.is_empty() => Ok(RestInput::Json(bytes)),
            (BodyRule::All { .. }, Content::Proto) if variables.is_empty() => {
                Ok(RestInput::Proto(bytes, None))
            }
            (BodyRule::All { .. }, Content::Proto) => {
                let (this, variables) = (self.clone(), variables.to_vec());
                let merge = move |value| {
                    let given = this.given(&variables, None)?;
                    let (mut whole, mut added) = (object(value)?, Map::new());
                    this.fill(&mut added, given.clone())?;
                    this.fill(&mut whole, given)?;
                    Ok(Merged { whole, added })
                };
                Ok(RestInput::Proto(bytes, Some(Box::new(merge))))
            }
            (BodyRule::All { .. }, content) => {
                let mut message = object(body_value(content, headers, &bytes)?)?;
                self.fill(&mut message, self.given(variables, None)?)?;
                Ok(RestInput::Value(message))
            }
            (BodyRule::Field(part), content) => {
                let mut message = Map::new();
                if !bytes.is_empty() {
                    message.insert(part.name.json.to_string(), body_value(content, headers, &bytes)?);
                }
                self.fill(&mut message, self.given(variables, query)?)?;
                Ok(RestInput::Value(message))
            }
            (BodyRule::None, _) => Err(Error::internal("a body was read for a rule without one")),
        }
    }

    /// What path and query say: each field once, the path's first.
    fn given<'a>(&'a self, variables: &[String], query: Option<&str>) -> Result<Vec<Given<'a>>> {
        let mut given = Vec::with_capacity(variables.len());
        for (field, text) in self.variables.iter().zip(variables) {
            let Some(value) = self.fields.value(field, text)? else { continue };
            given.push(Given { field: Cow::Borrowed(field), value, place: "path" });
        }
        for (key, text) in query.into_iter().flat_map(pairs) {
            let (key, text) = (unquery(key)?, unquery(text)?);
            // A message cannot be written as text, and an unknown key is none of our business: both are ignored.
            let Some(field) = self.fields.find(&key) else { continue };
            let Some(value) = self.fields.value(&field, &text)? else { continue };
            match given.iter_mut().find(|known| known.field.path == field.path) {
                Some(known) if known.place == "path" => {
                    if !self.fields.same(&field, &known.value, &value) {
                        return Err(conflict(&field, (&known.value, known.place), (&value, "query")));
                    }
                }
                Some(Given { value: Value::Array(values), .. }) if field.repeated => values.push(value),
                Some(known) => known.value = value,
                None => {
                    let value = if field.repeated { Value::Array(vec![value]) } else { value };
                    given.push(Given { field: Cow::Owned(field), value, place: "query" });
                }
            }
        }
        Ok(given)
    }

    /// Puts what path and query say beside what the body says, which must not be something else.
    fn fill(&self, message: &mut Map<String, Value>, given: Vec<Given<'_>>) -> Result<()> {
        for Given { field, value, place } in given {
            let slot = slot(message, &field.path)?;
            if !slot.is_null() && !self.fields.same(&field, slot, &value) {
                return Err(conflict(&field, (slot, "body"), (&value, place)));
            }
            *slot = value;
        }
        Ok(())
    }
}

/// A field and its value as path or query say them.
#[derive(Clone)]
struct Given<'a> {
    field: Cow<'a, Field>,
    value: Value,
    /// Where it stands, for messages.
    place: &'static str,
}

fn conflict(field: &Field, first: (&Value, &str), second: (&Value, &str)) -> Error {
    Error::invalid_argument(format!(
        "`{}` is {} in the {} and {} in the {}; send it once",
        field.name(),
        first.0,
        first.1,
        second.0,
        second.1
    ))
    .with_reason("CONFLICTING_PARAMETER")
}

fn no_query(query: Option<&str>) -> Result<()> {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(()) };
    Err(Error::invalid_argument(format!(
        "the body is the whole request, so the query `{query}` is refused; put its values into the body"
    ))
    .with_reason("UNEXPECTED_QUERY"))
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
            let data = base64::engine::general_purpose::STANDARD.encode(bytes);
            Ok(serde_json::json!({ "contentType": content_type(headers), "data": data }))
        }
        Content::Json | Content::Proto if bytes.is_empty() => Ok(Value::Object(Map::new())),
        Content::Json | Content::Proto => serde_json::from_slice(bytes).map_err(|e| {
            Error::invalid_argument(format!("the body is no JSON: {e}")).with_reason("INVALID_JSON")
        }),
    }
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn object(value: Value) -> Result<Map<String, Value>> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(Error::invalid_argument("the body must be a JSON object").with_reason("INVALID_JSON")),
    }
}

fn too_large(error: Error) -> Refused {
    let status = (error.reason() == "BODY_TOO_LARGE").then_some(StatusCode::PAYLOAD_TOO_LARGE);
    Refused { error, status }
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
