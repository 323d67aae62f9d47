//! gRPC with messages that are bytes: the framing and the status, and nothing of types.

use std::collections::VecDeque;
use std::pin::Pin;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bowline_core::{Code, Context, Error, Operation, Result};
use buffa::Message as _;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use connectrpc::{ConnectError, ErrorDetail};
use futures_util::StreamExt;
use http::header::{CONTENT_TYPE, HeaderValue, TE};
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame};

use crate::caller::Caller;
use crate::headers::grpc_status;
use crate::proto::google::rpc::Status;
use crate::{Body, DEFAULT_BODY_LIMIT, Streaming, wire};

/// The flag and the length in front of a message.
const PREFIX: usize = 5;

impl Caller {
    /// Calls a method with messages that are encoded already.
    ///
    /// # Errors
    /// What the server answered before its first message, or why it could not be reached.
    pub async fn raw(
        &self,
        cx: &Context,
        operation: Operation,
        requests: Streaming<Bytes>,
    ) -> Result<Streaming<Bytes>> {
        let frames = requests.map(|item| item.map(|message| Frame::data(framed(&message))));
        let mut request = Request::new(Body::new(http_body_util::StreamBody::new(frames)));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri(operation.path())?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
        let response = cx.run(self.transport().send(cx.clone(), operation, request)).await??;
        if let Some(status) = status(response.headers()) {
            status?;
        }
        if response.status() != http::StatusCode::OK {
            let code = Code::from_http(response.status()).unwrap_or(Code::Unknown);
            return Err(Error::new(code, format!("the server answered with HTTP {}", response.status())));
        }
        Ok(messages(cx.clone(), response))
    }
}

fn framed(message: &Bytes) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

fn messages(cx: Context, response: Response<Body>) -> Streaming<Bytes> {
    let state = (cx, response.into_body(), BytesMut::new(), VecDeque::new());
    Streaming::new(futures_util::stream::try_unfold(
        state,
        |(cx, mut body, mut buffer, mut ready)| async move {
            loop {
                if let Some(message) = ready.pop_front() {
                    return Ok(Some((message, (cx, body, buffer, ready))));
                }
                let frame = cx.run(std::future::poll_fn(|task| Pin::new(&mut body).poll_frame(task))).await?;
                let Some(frame) = frame.transpose()? else {
                    return Err(Error::unavailable("the answer broke off before its status"));
                };
                match frame.into_data() {
                    Ok(data) => {
                        buffer.extend_from_slice(&data);
                        take_messages(&mut buffer, &mut ready)?;
                    }
                    Err(frame) => {
                        if let Some(status) = frame.trailers_ref().and_then(status) {
                            status?;
                            return Ok(None);
                        }
                    }
                }
            }
        },
    ))
}

fn take_messages(buffer: &mut BytesMut, ready: &mut VecDeque<Bytes>) -> Result<()> {
    while buffer.len() >= PREFIX {
        let length = (&buffer[1..PREFIX]).get_u32() as usize;
        if buffer[0] != 0 {
            return Err(Error::unimplemented("the answer is compressed, which was not asked for"));
        }
        if length > DEFAULT_BODY_LIMIT {
            return Err(Error::resource_exhausted(format!(
                "a message of {length} bytes is over the limit of {DEFAULT_BODY_LIMIT}"
            )));
        }
        if buffer.len() < PREFIX + length {
            return Ok(());
        }
        buffer.advance(PREFIX);
        ready.push_back(buffer.split_to(length).freeze());
    }
    Ok(())
}

/// The status in headers or trailers: `None` where there is none.
fn status(headers: &HeaderMap) -> Option<Result<()>> {
    let Some(code) = grpc_status(headers)? else { return Some(Ok(())) };
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let message = text("grpc-message").unwrap_or_default();
    let message = percent_encoding::percent_decode_str(message).decode_utf8_lossy();
    let mut error = ConnectError::new(wire::code_to_connect(code), message);
    let details = text("grpc-status-details-bin").and_then(|details| {
        let bytes = STANDARD_NO_PAD.decode(details.trim_end_matches('=')).ok()?;
        Status::decode_from_slice(&bytes).ok()
    });
    for detail in details.into_iter().flat_map(|status| status.details) {
        error = error.with_detail(ErrorDetail {
            type_url: detail.type_url,
            value: Some(STANDARD_NO_PAD.encode(&detail.value)),
            debug: None,
        });
    }
    Some(Err(wire::from_connect(error)))
}
