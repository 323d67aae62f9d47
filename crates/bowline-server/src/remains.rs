//! What is still to come of a request that is answered already.
//!
//! A server that refuses calls by their heads is faster than what they bring along. Over HTTP/2 its answer ends the stream; what
//! then still arrives for it is an error of the peer's by the book (STREAM_CLOSED, RFC 9113, 5.1). Of these h2 forgives 1 024 in a
//! connection's life, as a protection against peers that provoke them (CVE-2025-8671), and then ends it with ENHANCE_YOUR_CALM,
//! with all that is under way on it: a flood of the least critical would cost the most critical their connection. So a refused
//! request is read to its end first, which nearly always has arrived with its head or a moment later.

use std::pin::Pin;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use bowline_rpc::Body;
use http::Version;
use hyper::body::Body as HttpBody;
use tokio::time::{Sleep, sleep};

/// How long it is waited for. Whoever sends more slowly gets the answer before it has sent all.
const PATIENCE: Duration = Duration::from_millis(100);

/// The most bytes that are read: a stream's first window, 64 KiB. Whoever has more to send waits to be allowed to.
const MOST: usize = 64 * 1024;

/// The rest of a request, as long as it is read.
pub(crate) struct Remains(Option<Box<Rest>>);

struct Rest {
    body: Body,
    bytes: usize,
    until: Option<Pin<Box<Sleep>>>,
}

impl Remains {
    /// What is to be read before a request is refused, if there is something. Over HTTP/1 there is not: there the body is asked
    /// for by reading it (`expect: 100-continue`), and the connection ends with the answer.
    pub(crate) fn of(version: Version, body: Body) -> Self {
        let is_streamed = version == Version::HTTP_2 && !body.is_end_stream();
        Self(is_streamed.then(|| Box::new(Rest { body, bytes: 0, until: None })))
    }

    /// Ready when nothing more comes, or is waited for.
    pub(crate) fn poll(&mut self, task: &mut Task<'_>) -> Poll<()> {
        if let Some(rest) = &mut self.0 {
            ready!(rest.poll(task));
            self.0 = None;
        }
        Poll::Ready(())
    }
}

impl Rest {
    fn poll(&mut self, task: &mut Task<'_>) -> Poll<()> {
        while let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(task) {
            let Some(Ok(frame)) = frame else { return Poll::Ready(()) };
            self.bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
            if self.bytes > MOST {
                return Poll::Ready(());
            }
        }
        let until = self.until.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        ready!(until.as_mut().poll(task));
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use bytes::Bytes;
    use hyper::body::Frame;
    use tokio::time::Instant;

    use super::*;

    /// Parts that are there, and whether more would come.
    struct Parts(VecDeque<usize>, bool);

    impl HttpBody for Parts {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Task<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop_front() {
                Some(length) => Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![0; length]))))),
                None if self.1 => Poll::Pending,
                None => Poll::Ready(None),
            }
        }
    }

    async fn waited(parts: &[usize], more: bool) -> Duration {
        let body = Body::new(Parts(parts.iter().copied().collect(), more));
        let mut remains = Remains::of(Version::HTTP_2, body);
        let began = Instant::now();
        std::future::poll_fn(|task| remains.poll(task)).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_request_is_read_to_its_end_and_neither_for_long_nor_much_of_it() {
        assert_eq!(waited(&[], false).await, Duration::ZERO);
        assert_eq!(waited(&[5, 10], false).await, Duration::ZERO);
        assert_eq!(waited(&[5], true).await, PATIENCE);
        assert_eq!(waited(&[MOST, 1], true).await, Duration::ZERO);
        assert!(Remains::of(Version::HTTP_2, Body::empty()).0.is_none());
        assert!(Remains::of(Version::HTTP_11, Body::full("a")).0.is_none(), "to read it is to ask for it");
    }
}
