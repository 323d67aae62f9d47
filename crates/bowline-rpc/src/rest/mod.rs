//! REST bindings from `google.api.http`.
//!
//! What a request binds to, point by point:
//!
//! - **Path templates.** Literals beat variables, `*` beats `**`; a verb (`:cancel`) is literal, and literals are compared
//!   decoded. `{v=**}` takes at least one segment that is not empty, unless it is the whole template. `%2F` decodes to `/` in a
//!   variable of one segment and stays `%2F` in one of several, so that it can be told from a separator. `+` is a plus in a
//!   path and a space in a query.
//! - **Precedence.** A field given by path, query and body must have the same value everywhere, or the call fails with
//!   `INVALID_ARGUMENT`. Snake and camel names are the same field; values are compared by the field's type.
//! - **Queries** bind scalar, enum (name or number), wrapper, `Timestamp`, `Duration` and `FieldMask` fields, repeated ones
//!   by repeating the key, nested ones with dots (`page.size=10`). Snake and camel names both work. Unknown keys are ignored.
//!   The last of several values for a field that is not repeated counts.
//! - **Bodies.** `body: "*"` fills everything and refuses query parameters. `body: "field"` fills one field; the rest comes
//!   from the query. Without `body`, a body is ignored. JSON (`application/json`) and protobuf (`application/protobuf`,
//!   `application/x-protobuf`; with `body: "*"` only) are understood; another content type is answered with 415. No body at
//!   all is an empty message. A `google.api.HttpBody` takes any content type and its bytes as they are. Protobuf keeps its
//!   unknown fields.
//! - **Replies** are canonical proto JSON (64-bit integers are strings), or protobuf when `Accept` prefers it;
//!   `response_body: "field"` sends that field alone, of every message of a stream; a `google.api.HttpBody` is sent as it is.
//! - **Streams.** A reply stream is NDJSON (`application/x-ndjson`), a message a line; or server-sent events when `Accept`
//!   prefers `text/event-stream`, a message an event. An error after the first byte is the last element:
//!   `{"@error": {code, reason, message, metadata}}` as a line, or an event named `error`. The end of an event stream is an
//!   event named `end`, since a browser would reconnect otherwise. A request stream is NDJSON and the whole request: it has
//!   no path variables and no query. Streams of `google.api.HttpBody` are bytes, either way; an error after the first chunk of
//!   a reply breaks the body off.
//! - **Every method** is also `POST /package.Service/Method` with JSON messages, where a request does not say that it is
//!   Connect's.

mod bind;
mod fields;
mod lines;
pub(crate) mod media;
mod raw;
mod reply;
mod template;
mod tree;
mod value;

use bowline_core::Result;
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::Streaming;

pub(crate) use bind::Binding;
pub(crate) use reply::respond;
pub(crate) use tree::{Found, Target, Tree};

/// A REST request after routing.
#[derive(Clone, Debug)]
pub(crate) struct RestCall {
    /// Which of the method's bindings.
    pub(crate) binding: usize,
    /// The variables' values, in the order of the template.
    pub(crate) variables: Vec<String>,
}

/// Adds what the path says to the JSON of a message that came as protobuf.
type Merge = Box<dyn FnOnce(Value) -> Result<Merged> + Send>;

/// A message with what was added, and that alone.
pub(crate) struct Merged {
    pub(crate) whole: Map<String, Value>,
    pub(crate) added: Map<String, Value>,
}

/// A request's message, ready to be read as its type.
pub(crate) enum RestInput {
    /// The body is the message.
    Json(Bytes),
    /// Put together from path, query and body.
    Value(Map<String, Value>),
    /// The body is the message, in protobuf, to be merged with what the path says.
    Proto(Bytes, Option<Merge>),
    /// One message a line.
    Lines(Streaming<Bytes>),
    /// Messages in protobuf.
    Chunks(Streaming<Bytes>),
}

/// What a handler answered.
pub(crate) enum RestReply {
    /// One message, encoded.
    Message(Bytes),
    /// Messages, each encoded.
    Stream(Streaming<Bytes>),
}

/// How a reply is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Proto,
}
