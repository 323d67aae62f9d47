//! Ends answers that nobody takes.
//!
//! A peer that asks and does not read costs whatever its answer holds, for as long as its connection lives; and it answers
//! pings, so the connection lives on. Over HTTP/1 that shows where the connection writes; see [`crate::watched`]. Over HTTP/2
//! the connection may write all the time, for other streams: there it shows as a body that is not asked for more though it
//! gave something.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use bowline_core::Error;
use bowline_rpc::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Sleep;

/// The most bytes that are given at a time: what is given waits in HTTP/2's buffers, where nobody sees whether it is taken. The
/// size of its frames.
const AT_A_TIME: usize = 16 * 1024;

/// What a body did when it was asked last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// It was not asked.
    No,
    /// It gave something.
    Gave,
    /// It had nothing, and so its reader waits for it.
    HadNothing,
}

thread_local! {
    /// Of the body of the stream that is being polled.
    static ASKED: Cell<Asked> = const { Cell::new(Asked::No) };
}

/// A body of which it is known whether its reader wants more.
pub(crate) struct Given {
    body: Body,
    /// What was given to this and not yet by this.
    rest: Bytes,
    /// Whether it is given in pieces.
    in_pieces: bool,
}

impl Given {
    pub(crate) const fn new(body: Body, in_pieces: bool) -> Self {
        Self { body, rest: Bytes::new(), in_pieces }
    }

    fn piece(&mut self) -> Frame<Bytes> {
        let length = if self.in_pieces { self.rest.len().min(AT_A_TIME) } else { self.rest.len() };
        Frame::data(self.rest.split_to(length))
    }

    fn next(&mut self, task: &mut Task<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.piece())));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(task));
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(match frame.into_data() {
                Ok(data) if data.len() > AT_A_TIME => {
                    self.rest = data;
                    self.piece()
                }
                Ok(data) => Frame::data(data),
                Err(other) => other,
            })),
            end => end,
        })
    }
}

impl HttpBody for Given {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let next = self.next(task);
        ASKED.set(if next.is_ready() { Asked::Gave } else { Asked::HadNothing });
        next
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && HttpBody::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        let (body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

pin_project_lite::pin_project! {
    /// A stream of HTTP/2 that ends once its peer has taken nothing of its body for too long. It is reset then, and what waits
    /// to be sent is dropped with it.
    pub(crate) struct Taken<F> {
        #[pin]
        stream: F,
        within: Duration,
        // Until when something is to be taken, while something is given.
        until: Option<Pin<Box<Sleep>>>,
    }
}

impl<F> Taken<F> {
    pub(crate) const fn new(stream: F, within: Duration) -> Self {
        Self { stream, within, until: None }
    }
}

impl<F: Future<Output = ()>> Future for Taken<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<()> {
        let this = self.project();
        ASKED.set(Asked::No);
        if this.stream.poll(task).is_ready() {
            return Poll::Ready(());
        }
        match ASKED.get() {
            Asked::No => {}
            Asked::HadNothing => *this.until = None,
            Asked::Gave => *this.until = Some(Box::pin(tokio::time::sleep(*this.within))),
        }
        let Some(until) = this.until else { return Poll::Pending };
        ready!(until.as_mut().poll(task));
        tracing::debug!(within = ?*this.within, "a stream is reset: its peer took nothing of the answer");
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_large_is_given_in_pieces_and_all_of_it_and_told_as_large() {
        let sent: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        let mut given = Given::new(Body::full(sent.clone()), true);
        let (mut taken, mut pieces) = (Vec::new(), 0);
        while let Some(frame) = std::future::poll_fn(|task| Pin::new(&mut given).poll_frame(task)).await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data.len() <= AT_A_TIME);
            taken.extend_from_slice(&data);
            pieces += 1;
            let left = sent.len() - taken.len();
            assert_eq!(HttpBody::size_hint(&given).exact(), Some(left as u64));
            assert_eq!(HttpBody::is_end_stream(&given), left == 0);
        }
        assert_eq!((taken, pieces), (sent, 7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_what_it_gave_is_not_taken_and_not_while_it_has_nothing_to_give() {
        let within = Duration::from_secs(60);
        // A stream whose body is asked at once, and never again.
        let asked_once = |asked: Asked| {
            let mut first = true;
            let stream = std::future::poll_fn(move |_| {
                if std::mem::take(&mut first) {
                    ASKED.set(asked);
                }
                Poll::<()>::Pending
            });
            tokio::time::timeout(within * 10, Taken::new(stream, within))
        };
        asked_once(Asked::HadNothing).await.unwrap_err();
        let began = tokio::time::Instant::now();
        asked_once(Asked::Gave).await.unwrap();
        assert_eq!(began.elapsed(), within);
    }
}
