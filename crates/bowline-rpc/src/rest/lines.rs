//! NDJSON requests: one message a line.

use std::pin::Pin;

use bowline_core::Error;
use bytes::{Bytes, BytesMut};
use http_body::Body as _;

use crate::{Body, Streaming};

/// Splits a body into its lines. Empty lines are skipped; a line over `limit` bytes ends the stream with an error.
pub(crate) fn lines(body: Body, limit: usize) -> Streaming<Bytes> {
    let state = (body, Splitter::default(), false);
    Streaming::new(futures_util::stream::try_unfold(
        state,
        move |(mut body, mut splitter, mut ended)| async move {
            loop {
                if let Some(line) = splitter.next(ended) {
                    if line.trim_ascii().is_empty() {
                        continue;
                    }
                    if line.len() > limit {
                        return Err(too_long(limit));
                    }
                    return Ok(Some((line, (body, splitter, ended))));
                }
                if ended {
                    return Ok(None);
                }
                if splitter.buffer.len() > limit {
                    return Err(too_long(limit));
                }
                match std::future::poll_fn(|task| Pin::new(&mut body).poll_frame(task)).await {
                    None => ended = true,
                    Some(frame) => {
                        if let Ok(data) = frame?.into_data() {
                            splitter.buffer.extend_from_slice(&data);
                        }
                    }
                }
            }
        },
    ))
}

/// Cuts what arrives into lines. Each byte is looked at once, however small the pieces are.
#[derive(Default)]
struct Splitter {
    buffer: BytesMut,
    /// So many bytes at the front of `buffer` are known to hold no line break.
    scanned: usize,
}

impl Splitter {
    /// The next line without its break. What is left over is a line once the body `ended`.
    fn next(&mut self, ended: bool) -> Option<Bytes> {
        let new = self.buffer.get(self.scanned..).unwrap_or_default();
        if let Some(at) = new.iter().position(|b| *b == b'\n') {
            let end = self.scanned + at;
            self.scanned = 0;
            return Some(self.buffer.split_to(end + 1).freeze().slice(..end));
        }
        self.scanned = self.buffer.len();
        if !ended || self.buffer.is_empty() {
            return None;
        }
        self.scanned = 0;
        Some(self.buffer.split().freeze())
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

    /// Were the buffer looked through anew for each byte, this would take hours.
    #[test]
    fn a_long_line_that_comes_byte_by_byte_is_looked_through_once() {
        const LENGTH: usize = 4 << 20;
        let mut splitter = Splitter::default();
        for _ in 0..LENGTH {
            splitter.buffer.extend_from_slice(b"x");
            assert!(splitter.next(false).is_none());
            assert_eq!(splitter.scanned, splitter.buffer.len());
        }
        splitter.buffer.extend_from_slice(b"\ny");
        assert_eq!(splitter.next(false).unwrap().len(), LENGTH);
        assert_eq!(splitter.next(true).unwrap(), "y");
        assert!(splitter.next(true).is_none());
    }
}
