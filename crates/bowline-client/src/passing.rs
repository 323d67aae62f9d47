//! Passing on requests of others, as a gateway does.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as Task, Poll};
use std::time::Duration;

use bowline_core::{BoxError, Canceller, Context, Error, Operation, Result};
use bowline_rpc::{Body, BoxFuture};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::Channel;
use crate::attempt::{Answer, Call};
use crate::channel::Beginning;
use crate::govern::Governor;

impl Channel {
    /// Passes a request on that is somebody else's: as [`Transport::send`](bowline_rpc::Transport::send), with so much time
    /// until the answer begins, all attempts together. The server is not told of that time, for to a server a deadline is the end of
    /// the whole answer, and what is called may be a stream: it is told the deadline of `cx` alone.
    ///
    /// An instance that does not answer in this time, or in what `cx` has left, has failed, as far as ejection, throttle and
    /// breaker are concerned; unless what it waited for was the rest of the request, which is the matter of whoever sends it.
    ///
    /// # Errors
    /// `DEADLINE_EXCEEDED` if the answer has not begun by then; otherwise as any call.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use bowline_client::Channel;
    /// use bowline_core::{Context, Operation, Result};
    /// use bowline_rpc::Body;
    /// use http::{Request, Response};
    ///
    /// async fn pass_on(
    ///     channel: &Channel,
    ///     cx: Context,
    ///     operation: Operation,
    ///     request: Request<Body>,
    /// ) -> Result<Response<Body>> {
    ///     channel.send_within(cx, operation, request, Duration::from_secs(30)).await
    /// }
    /// ```
    pub fn send_within(
        &self,
        cx: Context,
        operation: Operation,
        request: Request<Body>,
        time: Duration,
    ) -> BoxFuture<'static, Result<Response<Body>>> {
        let this = self.clone();
        let mut request = Box::new(request);
        Box::pin(async move {
            let Beginning { cx, strict, rules, measuring } = this.begin(cx, &operation, &mut request);
            let governor = Governor { nodes: this.nodes(), rules: &rules };
            let call = Call { strict, ..Call::of(&cx, operation.kind()) };
            match answered(&governor, call, request, time).await {
                Ok(answer) => Ok(answer.watched(measuring)),
                Err(error) => {
                    measuring.end(Some(error.code()));
                    Err(error)
                }
            }
        })
    }
}

/// Waits for the head of the answer.
async fn answered(
    governor: &Governor<'_>,
    call: Call<'_>,
    request: Box<Request<Body>>,
    time: Duration,
) -> Result<Answer> {
    let (bounded, call) = (call.cx.with_timeout(time), call.within(time));
    if request.body().as_full().is_some() {
        let call = Call { cx: &bounded, told: Some(call.cx), ..call };
        // Whoever called us has more time perhaps, but is not to spend it on the same again.
        return bounded.run(governor.send(&call, request)).await.map_err(Error::without_retry)?;
    }
    let (bounded, canceller) = bounded.with_cancel();
    let call = Call { cx: &bounded, told: Some(call.cx), ..call };
    let (request, owing) = watched(*request);
    let mut sending = Box::pin(governor.send(&call, Box::new(request)));
    // Dropped before the request is, whoever drops it: what is noted then is by whom nothing came.
    let _blame = Blame { owing, canceller: &canceller };
    bounded.run(sending.as_mut()).await.map_err(Error::without_retry)?
}

/// Lets a request that ends while the rest of it is waited for end as one that its sender gave up.
struct Blame<'a> {
    owing: Arc<AtomicBool>,
    canceller: &'a Canceller,
}

impl Drop for Blame<'_> {
    fn drop(&mut self) {
        if self.owing.load(Ordering::Relaxed) {
            self.canceller.cancel();
        }
    }
}

/// The request, and whether its sender is who is waited for.
fn watched(request: Request<Body>) -> (Request<Body>, Arc<AtomicBool>) {
    let owing = Arc::new(AtomicBool::new(false));
    let watch = Arc::clone(&owing);
    (request.map(|body| Body::new(Owed { body, owing: watch })), owing)
}

/// A body that tells whether its next part was asked for and has not come. Nobody asks for more than the server takes.
struct Owed {
    body: Body,
    owing: Arc<AtomicBool>,
}

impl HttpBody for Owed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(task);
        self.owing.store(frame.is_pending(), Ordering::Relaxed);
        frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for the next part of a body.
    fn asked(body: &mut Body) -> bool {
        let mut task = Task::from_waker(std::task::Waker::noop());
        Pin::new(body).poll_frame(&mut task).is_ready()
    }

    #[test]
    fn a_sender_owes_what_was_asked_for_and_has_not_come() {
        let (sender, body) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
        let (request, owing) = watched(Request::new(Body::new(Parts(body))));
        let owes = || owing.load(Ordering::Relaxed);
        let mut body = request.into_body();
        assert!(!owes(), "nobody asked yet");
        assert!(!asked(&mut body) && owes());
        sender.send(Bytes::from_static(b"a")).unwrap();
        assert!(asked(&mut body) && !owes());
        assert!(!asked(&mut body) && owes());
        drop(sender);
        assert!(asked(&mut body) && !owes(), "it is complete");
    }

    /// Parts as they come.
    struct Parts(tokio::sync::mpsc::UnboundedReceiver<Bytes>);

    impl HttpBody for Parts {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            task: &mut Task<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.0.poll_recv(task).map(|part| part.map(|part| Ok(Frame::data(part))))
        }
    }

    #[test]
    fn a_request_that_ends_while_its_sender_owes_is_given_up_and_another_one_is_not() {
        for owes in [true, false] {
            let (cx, canceller) = Context::background().with_cancel();
            drop(Blame { owing: Arc::new(AtomicBool::new(owes)), canceller: &canceller });
            assert_eq!(cx.error().is_some_and(|error| error.is_canceled()), owes);
        }
    }
}
