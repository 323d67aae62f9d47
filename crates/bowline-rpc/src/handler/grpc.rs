//! gRPC's unary calls, the short way.
//!
//! What services say to each other all day: one message each way, in protobuf, not compressed. It needs none of what the
//! other protocols do, and is answered here; whatever else a caller asks for is connectrpc's.

use bowline_core::{Context, Error, Result};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Response};

use super::Message;
use crate::envelope::{self, Messages};
use crate::headers::{GRPC_ACCEPT_ENCODING, GRPC_ENCODING};
use crate::protocol::grpc_error;
use crate::scope::{Outcome, Scope};
use crate::{Body, Protocol};

/// Whether a request asks for no more than one message each way in protobuf.
pub(crate) fn is_plain(method: &Method, protocol: Protocol, headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    protocol == Protocol::Grpc
        && method == Method::POST
        && matches!(kind, Some(b"application/grpc" | b"application/grpc+proto"))
        && !headers.contains_key(GRPC_ENCODING)
        && !headers.contains_key(GRPC_ACCEPT_ENCODING)
}

/// Answers such a request, whose message has at most `limit` bytes.
pub(crate) async fn respond<Req, Res, Fut>(
    handler: &(impl Fn(Context, Req) -> Fut + Sync),
    scope: Scope,
    body: Body,
    limit: usize,
) -> Response<Body>
where
    Req: Message,
    Res: Message,
    Fut: Future<Output = Result<Res>> + Send,
{
    let Scope { cx, outcome, .. } = scope;
    let request = match only(body, limit).await {
        Ok(request) => request,
        Err(error) => return failed(&cx, &outcome, error),
    };
    match handler(cx.clone(), request).await.and_then(|reply| envelope::encode(&reply)) {
        Ok(envelope) => {
            outcome.succeed();
            let mut response = Response::new(Body::success(envelope));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            response
        }
        Err(error) => failed(&cx, &outcome, error),
    }
}

fn failed(cx: &Context, outcome: &Outcome, error: Error) -> Response<Body> {
    let response = grpc_error(&error, cx.request_id());
    outcome.fail(error);
    response
}

/// The one message of a body.
async fn only<T: Message>(mut body: Body, limit: usize) -> Result<T> {
    let mut messages = Messages::new(limit);
    // What is larger is not read at all: the limit and an envelope.
    messages.push(body.collect(limit.saturating_add(5)).await?);
    let message = messages.next()?.ok_or_else(|| {
        Error::invalid_argument("the request holds no complete message").with_reason("INCOMPLETE_MESSAGE")
    })?;
    if !messages.is_empty() {
        return Err(Error::unimplemented("a unary call takes one message, not several"));
    }
    T::decode_from_slice(&message).map_err(|e| {
        Error::invalid_argument(format!("the message is not what the method takes: {e}"))
            .with_reason("INVALID_MESSAGE")
            .with_source(e)
    })
}
