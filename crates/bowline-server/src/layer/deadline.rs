//! Ends a call at its deadline.
//!
//! A server that goes on after its caller gave up works for nobody, and does it when it has least to spare. The handler's
//! future is dropped; what it started notices by its context. A stream is bounded where it is read, by the same context.

use std::pin::Pin;
use std::task::{Context as Task, Poll};

use bowline_core::{Error, Instant};
use bowline_rpc::Scope;
use tokio::time::{Sleep, sleep_until};

use super::{Inner, Request, Response, ready_when_inner_is};

/// Answers DEADLINE_EXCEEDED in time.
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
}

impl<S> Deadline<S> {
    /// Bounds `inner` by the deadline of each call's context.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: Inner> tower::Service<Request> for Deadline<S> {
    type Response = Response;
    type Error = Error;
    type Future = DeadlineFuture<S::Future>;

    ready_when_inner_is!();

    fn call(&mut self, request: Request) -> Self::Future {
        let deadline = request.extensions().get::<Scope>().and_then(|scope| scope.cx.deadline());
        // What comes too late is not even begun.
        let late = deadline.is_some_and(|deadline| deadline <= Instant::now());
        let future = (!late).then(|| self.inner.call(request));
        DeadlineFuture { future, deadline, sleep: None }
    }
}

pin_project_lite::pin_project! {
    /// The future of [`Deadline`].
    #[derive(Debug)]
    pub struct DeadlineFuture<F> {
        #[pin]
        future: Option<F>,
        deadline: Option<Instant>,
        // Set up only once the call has to wait for something: most end in their first polls.
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for DeadlineFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Ready(Err(too_late())) };
        if let Poll::Ready(answer) = future.poll(task) {
            return Poll::Ready(answer);
        }
        let Some(deadline) = *this.deadline else { return Poll::Pending };
        if this.sleep.is_none() {
            this.sleep.set(Some(sleep_until(deadline)));
        }
        match this.sleep.as_pin_mut().map(|sleep| sleep.poll(task)) {
            Some(Poll::Ready(())) => {
                this.future.set(None);
                Poll::Ready(Err(too_late()))
            }
            _ => Poll::Pending,
        }
    }
}

fn too_late() -> Error {
    Error::deadline_exceeded("the deadline passed before there was an answer")
}
