//! Bytes as they are: `google.api.HttpBody`.

use std::pin::Pin;

use bowline_core::{Error, Result};
use buffa::{Message as _, UnknownFieldData, UnknownFields};
use bytes::Bytes;
use futures_util::StreamExt;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body::{Body as _, Frame};

use crate::proto::google::api::HttpBody;
use crate::scope::Scope;
use crate::{Body, Streaming};

/// A request's body as encoded messages: a chunk each, as it arrives but of at most `limit` bytes. The first one has the
/// content type.
pub(super) fn chunks(body: Body, content_type: String, limit: usize) -> Streaming<Bytes> {
    let state = (body, content_type, Bytes::new());
    Streaming::new(futures_util::stream::try_unfold(
        state,
        move |(mut body, content_type, mut data)| async move {
            while data.is_empty() {
                match std::future::poll_fn(|task| Pin::new(&mut body).poll_frame(task)).await {
                    None => return Ok(None),
                    Some(frame) => data = frame?.into_data().unwrap_or_default(),
                }
            }
            let chunk = data.split_to(data.len().min(limit.max(1)));
            let message = HttpBody { content_type, data: chunk.into(), ..Default::default() };
            Ok(Some((message.encode_to_bytes(), (body, String::new(), data))))
        },
    ))
}

/// What an encoded reply holds: the reply itself, or its field of this number.
fn body_of(reply: &[u8], field: Option<u32>) -> Result<HttpBody> {
    let read = || match field {
        None => HttpBody::decode_from_slice(reply),
        Some(number) => {
            let mut body = HttpBody::default();
            for field in UnknownFields::decode_from_slice(reply)?.iter().filter(|f| f.number == number) {
                match &field.data {
                    UnknownFieldData::LengthDelimited(data) => body.merge_from_slice(data)?,
                    UnknownFieldData::Group(fields) => {
                        let mut data = Vec::new();
                        fields.write_to(&mut data);
                        body.merge_from_slice(&data)?;
                    }
                    _ => {}
                }
            }
            Ok(body)
        }
    };
    read().map_err(|e| Error::internal("the reply is no google.api.HttpBody").with_source(e))
}

fn content_type(body: &HttpBody) -> Result<HeaderValue> {
    match body.content_type.as_str() {
        "" => Ok(HeaderValue::from_static("application/octet-stream")),
        text => HeaderValue::from_str(text).map_err(|e| {
            Error::internal("the content type of the google.api.HttpBody is no header's value").with_source(e)
        }),
    }
}

/// One reply.
pub(super) fn message(reply: &[u8], field: Option<u32>) -> Result<Response<Body>> {
    let body = body_of(reply, field)?;
    let content_type = content_type(&body)?;
    let mut response = Response::new(Body::full(body.data));
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    Ok(response)
}

/// A stream of replies. The response begins with the first of them, which has the content type. Bytes have no room for a
/// typed last element: an error after the first breaks the body off, which resets the stream.
pub(super) async fn stream(
    scope: &Scope,
    messages: Streaming<Bytes>,
    field: Option<u32>,
) -> Result<Response<Body>> {
    let outcome = scope.outcome.clone();
    let bodies =
        crate::handler::outgoing(scope.cx.clone(), outcome.clone(), messages, move |reply: Bytes| {
            body_of(&reply, field)
        });
    let mut bodies = Box::pin(bodies.fuse());
    let first = bodies.next().await.transpose()?;
    let content_type = content_type(first.as_ref().unwrap_or(&HttpBody::default()))?;
    let frames = futures_util::stream::iter(first.map(Ok)).chain(bodies).filter_map(move |body| {
        let frame = match body {
            Ok(body) if body.data.is_empty() => None,
            Ok(body) => Some(Ok(Frame::data(body.data.into()))),
            Err(error) => {
                let broken = Error::new(error.code(), "the reply broke off");
                outcome.fail(error);
                Some(Err(broken))
            }
        };
        std::future::ready(frame)
    });
    let mut response = Response::new(Body::new(http_body_util::StreamBody::new(frames)));
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn a_chunk_is_no_larger_than_a_message_may_be() {
        let chunks: Vec<_> = chunks(Body::full("12345"), "text/plain".into(), 2).try_collect().await.unwrap();
        let chunks = chunks.iter().map(|chunk| body_of(chunk, None).unwrap());
        let chunks: Vec<_> = chunks.map(|c| (c.content_type, c.data)).collect();
        assert_eq!(
            chunks,
            [
                ("text/plain".into(), b"12".to_vec()),
                (String::new(), b"34".to_vec()),
                (String::new(), b"5".to_vec())
            ]
        );
        let none: Vec<Bytes> =
            super::chunks(Body::empty(), "text/plain".into(), 2).try_collect().await.unwrap();
        assert!(none.is_empty());
    }
}
