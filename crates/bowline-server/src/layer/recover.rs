//! Contains panics.
//!
//! A panic is a bug, and a bug in one request must not take the connection's other requests with it. The caller gets INTERNAL
//! with the request's id; the log gets the message.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context as Task, Poll};

use bowline_core::{Error, task};

use super::{Inner, Request, Response, ready_when_inner_is};

/// Turns a panic into an error.
#[derive(Clone, Debug)]
pub struct Recover<S> {
    inner: S,
}

impl<S> Recover<S> {
    /// Contains the panics of `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: Inner> tower::Service<Request> for Recover<S> {
    type Response = Response;
    type Error = Error;
    type Future = RecoverFuture<S::Future>;

    ready_when_inner_is!();

    fn call(&mut self, request: Request) -> Self::Future {
        match catch_unwind(AssertUnwindSafe(|| self.inner.call(request))) {
            Ok(future) => RecoverFuture::Running { future },
            Err(payload) => RecoverFuture::Panicked { error: Some(task::panicked(&*payload)) },
        }
    }
}

pin_project_lite::pin_project! {
    /// The future of [`Recover`].
    #[allow(missing_docs, reason = "the macro takes no docs inside")]
    #[project = Projected]
    #[derive(Debug)]
    pub enum RecoverFuture<F> {
        Running {
            #[pin]
            future: F,
        },
        Panicked {
            error: Option<Error>,
        },
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for RecoverFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Self::Output> {
        match self.project() {
            Projected::Running { future } => catch_unwind(AssertUnwindSafe(|| future.poll(cx)))
                .unwrap_or_else(|payload| Poll::Ready(Err(task::panicked(&*payload)))),
            Projected::Panicked { error } => {
                Poll::Ready(Err(error.take().unwrap_or_else(|| Error::internal("polled after the end"))))
            }
        }
    }
}
