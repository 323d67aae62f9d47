//! From the handler's reply to the HTTP response.

use bowline_core::{Context, Error, Result};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response};
use http_body::Frame;
use serde_json::value::RawValue;

use super::bind::{Binding, Refused, ReplyRule};
use super::{Encoding, RestCall, RestReply, media, raw};
use crate::handler::Handler;
use crate::protocol::rest_error;
use crate::scope::Scope;
use crate::{Body, Protocol, Streaming, wire};

/// Calls `handler` with what `request` binds to and writes what it answers.
pub(crate) async fn respond(
    binding: &Binding,
    handler: &dyn Handler,
    scope: &Scope,
    call: &RestCall,
    request: &mut http::Request<Body>,
    limit: usize,
) -> Response<Body> {
    let mut body = std::mem::take(request.body_mut());
    let headers = request.headers();
    let encoding = binding.encoding(headers);
    let input = binding.input(headers, &call.variables, request.uri().query(), &mut body, limit).await;
    let reply = match input {
        Ok(input) => handler.call_rest(scope.cx.clone(), input, encoding).await,
        Err(Refused { error, status: Some(status) }) => {
            let response = rest_error(&error, status, scope.cx.request_id());
            scope.outcome.fail(error);
            return response;
        }
        Err(Refused { error, status: None }) => Err(error),
    };
    let response = match reply {
        Ok(RestReply::Message(bytes)) => {
            message(&binding.reply, encoding, bytes).inspect(|_| scope.outcome.succeed())
        }
        Ok(RestReply::Stream(messages)) => {
            let events = media::events(headers);
            match binding.reply.clone() {
                ReplyRule::Whole => Ok(stream(scope, messages, events)),
                ReplyRule::Field(name) => {
                    Ok(stream(scope, messages.try_map(move |json| pick(&json, &name)), events))
                }
                ReplyRule::Raw(field) => raw::stream(scope, messages, field).await,
            }
        }
        Err(error) => Err(error),
    };
    response.unwrap_or_else(|error| {
        let response = Protocol::Rest.error_response(&error, scope.cx.request_id(), headers);
        scope.outcome.fail(error);
        response
    })
}

fn message(rule: &ReplyRule, encoding: Encoding, bytes: Bytes) -> Result<Response<Body>> {
    let bytes = match rule {
        ReplyRule::Whole => bytes,
        ReplyRule::Field(name) => pick(&bytes, name)?,
        ReplyRule::Raw(field) => return raw::message(&bytes, *field),
    };
    let content_type = match encoding {
        Encoding::Json => HeaderValue::from_static("application/json"),
        Encoding::Proto => HeaderValue::from_static("application/protobuf"),
    };
    let mut response = Response::new(Body::full(bytes));
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    Ok(response)
}

/// One field of a JSON object, as it was written; `null` where it was left out.
fn pick(json: &Bytes, field: &str) -> Result<Bytes> {
    let fields: std::collections::HashMap<&str, &RawValue> = serde_json::from_slice(json)
        .map_err(|e| Error::internal("the reply is no JSON object").with_source(e))?;
    Ok(fields.get(field).map_or(Bytes::from_static(b"null"), |value| json.slice_ref(value.get().as_bytes())))
}

fn stream(scope: &Scope, messages: Streaming<Bytes>, events: bool) -> Response<Body> {
    let cx = scope.cx.clone();
    let outcome = scope.outcome.clone();
    let items = crate::handler::outgoing(cx.clone(), outcome.clone(), messages, Ok).map(Some);
    // One more element marks the clean end of an event stream.
    let end = futures_util::stream::iter(events.then_some(None));
    let mut failed = false;
    let frames = items.chain(end).filter_map(move |item| {
        let chunk = match item {
            Some(Ok(message)) => Some(element(events, None, &message)),
            Some(Err(error)) => {
                failed = true;
                Some(failure(events, &cx, error, &outcome))
            }
            None if failed => None,
            None => Some(element(events, Some("end"), b"{}")),
        };
        std::future::ready(chunk.map(|chunk| Ok::<_, Error>(Frame::data(chunk))))
    });
    let mut response = Response::new(Body::new(http_body_util::StreamBody::new(frames)));
    let (content_type, cache) = if events {
        (HeaderValue::from_static("text/event-stream"), Some(HeaderValue::from_static("no-cache")))
    } else {
        (HeaderValue::from_static("application/x-ndjson"), None)
    };
    set(response.headers_mut(), content_type, cache);
    response
}

fn set(headers: &mut HeaderMap, content_type: HeaderValue, cache: Option<HeaderValue>) {
    headers.insert(CONTENT_TYPE, content_type);
    if let Some(cache) = cache {
        headers.insert(CACHE_CONTROL, cache);
    }
}

fn failure(events: bool, cx: &Context, error: Error, outcome: &crate::scope::Outcome) -> Bytes {
    let json = wire::error_json(&error, error.code().http_status(), cx.request_id());
    outcome.fail(error);
    if events {
        return element(true, Some("error"), &json);
    }
    let mut line = BytesMut::with_capacity(json.len() + 12);
    line.put_slice(b"{\"@error\":");
    line.put_slice(&json);
    line.put_slice(b"}\n");
    line.freeze()
}

/// One element of a stream. JSON has no raw line breaks, so a message is always one line.
fn element(events: bool, event: Option<&str>, json: &[u8]) -> Bytes {
    let mut chunk = BytesMut::with_capacity(json.len() + 24);
    if events {
        if let Some(event) = event {
            chunk.put_slice(b"event: ");
            chunk.put_slice(event.as_bytes());
            chunk.put_slice(b"\n");
        }
        chunk.put_slice(b"data: ");
    }
    chunk.put_slice(json);
    chunk.put_slice(if events { b"\n\n" } else { b"\n" });
    chunk.freeze()
}
