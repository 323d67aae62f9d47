//! What a gRPC server answers: messages, then a status.

use std::pin::Pin;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bowline_core::{Code, Error, Result};
use buffa::Message as _;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body::Body as _;

use crate::envelope::Messages;
use crate::headers::{GRPC_MESSAGE, GRPC_STATUS_DETAILS, grpc_status, pushback};
use crate::proto::google::rpc::Status;
use crate::{Body, DEFAULT_BODY_LIMIT, wire};

/// An answer that is being read.
pub(crate) struct Answer {
    body: Body,
    messages: Messages,
    /// The status has said that all went well: nothing follows.
    is_over: bool,
}

impl Answer {
    /// Reads the head.
    ///
    /// # Errors
    /// What the server answered, if it is an error without messages, or no gRPC at all.
    pub(crate) async fn new(response: Response<Body>) -> Result<Self> {
        let (parts, body) = response.into_parts();
        let mut answer = Self { body, messages: Messages::new(DEFAULT_BODY_LIMIT), is_over: false };
        if let Some(status) = status(&parts.headers) {
            let Err(error) = status else { return Ok(Self { is_over: true, ..answer }) };
            // Some servers add trailers, and the details are only there.
            let ended = answer.body.is_end_stream();
            return Err(if ended { error } else { answer.next().await.err().unwrap_or(error) });
        }
        if parts.status != StatusCode::OK {
            return Err(Error::new(
                of_foreign(parts.status),
                format!("the server answered with HTTP {}", parts.status),
            ));
        }
        let speaks_grpc = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/grpc");
        if !parts.headers.get(CONTENT_TYPE).is_some_and(speaks_grpc) {
            return Err(Error::new(Code::Unknown, "the server answered with something else than gRPC"));
        }
        Ok(answer)
    }

    /// The next message; `None` once the server said that all went well.
    ///
    /// # Errors
    /// What the server said instead; `UNAVAILABLE` if it said nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        while !self.is_over {
            if let Some(message) = self.messages.next()? {
                return Ok(Some(message));
            }
            let frame = std::future::poll_fn(|task| Pin::new(&mut self.body).poll_frame(task)).await;
            let Some(frame) = frame.transpose()? else {
                return Err(broken_off());
            };
            match frame.into_data() {
                Ok(data) => self.messages.push(data),
                Err(frame) => {
                    if let Some(status) = frame.trailers_ref().and_then(status) {
                        status?;
                        if !self.messages.is_empty() {
                            return Err(wrong("the answer ended within a message"));
                        }
                        self.is_over = true;
                    }
                }
            }
        }
        Ok(None)
    }

    /// The message of an answer that has one.
    ///
    /// # Errors
    /// As [`Answer::next`]; `INTERNAL` if there is none, or a second one.
    pub(crate) async fn only(mut self) -> Result<Bytes> {
        let message = self.next().await?.ok_or_else(|| wrong("the server answered without a message"))?;
        match self.next().await? {
            None => Ok(message),
            Some(_) => Err(wrong("the server answered with more than one message")),
        }
    }
}

/// gRPC's "HTTP to gRPC Status Code Mapping": for an answer that some other server or proxy gave in a gRPC server's place.
fn of_foreign(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

fn wrong(what: &'static str) -> Error {
    Error::internal(what).into_remote()
}

fn broken_off() -> Error {
    Error::unavailable("the answer broke off before its status")
}

/// The status in headers or trailers: `None` where there is none.
pub(crate) fn status(headers: &HeaderMap) -> Option<Result<()>> {
    let Some(code) = grpc_status(headers)? else { return Some(Ok(())) };
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let message = text(GRPC_MESSAGE).unwrap_or_default();
    let message = percent_encoding::percent_decode_str(message).decode_utf8_lossy();
    let details = text(GRPC_STATUS_DETAILS).and_then(|details| {
        let bytes = STANDARD_NO_PAD.decode(details.trim_end_matches('=')).ok()?;
        Status::decode_from_slice(&bytes).ok()
    });
    let details = details.into_iter().flat_map(|status| status.details);
    let error = wire::received(code, message.into_owned(), details);
    Some(Err(match pushback(headers) {
        Some(None) => error.without_retry(),
        Some(Some(delay)) => error.with_retry_after(delay),
        None => error,
    }))
}
