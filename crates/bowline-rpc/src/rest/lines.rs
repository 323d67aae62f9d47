//! NDJSON requests: one message a line.

use std::pin::Pin;

use bowline_core::Error;
use bytes::{Bytes, BytesMut};
use http_body::Body as _;

use crate::{Body, Streaming};

/// Splits a body into its lines. Empty lines are skipped; a line over `limit` bytes ends the stream with an error.
pub(crate) fn lines(body: Body, limit: usize) -> Streaming<Bytes> {
    let state = (body, BytesMut::new(), false);
    Streaming::new(futures_util::stream::try_unfold(
        state,
        move |(mut body, mut buffer, mut ended)| async move {
            loop {
                if let Some(line) = take_line(&mut buffer, ended) {
                    if line.trim_ascii().is_empty() {
                        continue;
                    }
                    if line.len() > limit {
                        return Err(too_long(limit));
                    }
                    return Ok(Some((line, (body, buffer, ended))));
                }
                if ended {
                    return Ok(None);
                }
                if buffer.len() > limit {
                    return Err(too_long(limit));
                }
                match std::future::poll_fn(|task| Pin::new(&mut body).poll_frame(task)).await {
                    None => ended = true,
                    Some(frame) => {
                        if let Ok(data) = frame?.into_data() {
                            buffer.extend_from_slice(&data);
                        }
                    }
                }
            }
        },
    ))
}

fn take_line(buffer: &mut BytesMut, ended: bool) -> Option<Bytes> {
    match buffer.iter().position(|b| *b == b'\n') {
        Some(end) => {
            let line = buffer.split_to(end + 1).freeze();
            Some(line.slice(..end))
        }
        None if ended && !buffer.is_empty() => Some(buffer.split().freeze()),
        None => None,
    }
}

fn too_long(limit: usize) -> Error {
    Error::resource_exhausted(format!("a message is longer than the limit of {limit} bytes"))
        .with_reason("MESSAGE_TOO_LARGE")
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    async fn split(text: &'static str, limit: usize) -> bowline_core::Result<Vec<Bytes>> {
        lines(Body::full(text), limit).try_collect().await
    }

    #[tokio::test]
    async fn lines_are_messages() {
        assert_eq!(split("{}\n\n {\"a\":1}\r\n{}", 99).await.unwrap(), ["{}", " {\"a\":1}\r", "{}"]);
        assert!(split("", 9).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_line_over_the_limit_ends_the_stream() {
        assert_eq!(split("123456", 5).await.unwrap_err().reason(), "MESSAGE_TOO_LARGE");
    }
}
