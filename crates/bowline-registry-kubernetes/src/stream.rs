//! The lines of a watch.

use bowline_core::{Error, Result};
use bowline_rpc::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

/// The longest line: an object is at most 1.5 MiB in etcd, and grows a little as JSON.
const LINE: usize = 4 << 20;

pub(crate) struct Lines {
    body: Body,
    buffer: BytesMut,
    /// Up to where there is no end of a line.
    searched: usize,
}

impl Lines {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new(), searched: 0 }
    }

    /// The next line; `None` at the end. Nothing is lost if it is dropped before it is done.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + at + 1).freeze();
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.searched > LINE {
                return Err(Error::resource_exhausted(format!(
                    "a line of the watch is longer than {LINE} bytes"
                )));
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Error::unavailable("the watch broke in the middle of a line")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    #[tokio::test]
    async fn lines_are_told_one_by_one_and_half_a_line_is_an_error() {
        let mut lines = Lines::new(Body::new(Full::new(Bytes::from_static(b"{\"a\":1}\n\n{\"b\""))));
        assert_eq!(lines.next().await.unwrap().unwrap(), "{\"a\":1}\n");
        assert_eq!(lines.next().await.unwrap().unwrap(), "\n");
        assert!(lines.next().await.unwrap_err().message().contains("middle of a line"));
        let mut lines = Lines::new(Body::empty());
        assert_eq!(lines.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_refused_before_it_fills_the_memory() {
        let mut lines = Lines::new(Body::full(vec![b'x'; LINE + 1]));
        assert!(lines.next().await.unwrap_err().message().contains("longer than"));
    }
}
