//! Bulkheads: so many calls of an operation at a time, and a short queue.
//!
//! Where a policy gives an operation a bulkhead, its calls wait here for a place, inside of their deadline and outside of
//! everything that costs something. Others pass.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};

use bowline_core::{Criticality, Error, Instant};
use bowline_resilience::{Entry, Full, Slot};
use bowline_rpc::Scope;

use super::{Inner, Request, Response, ready_when_inner_is};
use crate::guard::{Guard, criticality};
use crate::refusal::{Refusal, Why};
use crate::remains::Remains;

/// Gives each call its place.
#[derive(Clone, Debug)]
pub struct Isolate<S> {
    inner: S,
}

impl<S> Isolate<S> {
    /// Around `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: Inner + Clone> tower::Service<Request> for Isolate<S> {
    type Response = Response;
    type Error = Error;
    type Future = IsolateFuture<S, S::Future>;

    ready_when_inner_is!();

    fn call(&mut self, mut request: Request) -> Self::Future {
        let Some(guard) = request.extensions_mut().remove::<Arc<Guard>>() else {
            return IsolateFuture::Passes { future: self.inner.call(request) };
        };
        let criticality = criticality(request.headers());
        let scope = request.extensions().get::<Scope>();
        let streams = scope.is_some_and(|scope| scope.operation.kind().server_streams());
        let entry = guard.bulkhead.as_ref().map(|bulkhead| bulkhead.enter(Instant::now()));
        match entry {
            None => IsolateFuture::Passes { future: self.inner.call(request) },
            Some(Entry::Runs(slot)) => {
                IsolateFuture::Runs { future: self.inner.call(request), slot: Some(slot), streams }
            }
            Some(Entry::Full) => refused(guard.refuse(Why::NoPlace, criticality), request),
            Some(Entry::Waits(wait)) => {
                let next = Some((self.inner.clone(), request));
                IsolateFuture::Waits { waiting: Box::pin(wait.granted()), next, guard, criticality, streams }
            }
        }
    }
}

type Granted = Pin<Box<dyn Future<Output = Result<Slot, Full>> + Send>>;

pin_project_lite::pin_project! {
    /// The future of [`Isolate`].
    #[allow(missing_docs, reason = "the macro takes no docs inside")]
    #[project = Projected]
    pub enum IsolateFuture<S, F> {
        Passes {
            #[pin]
            future: F,
        },
        Runs {
            #[pin]
            future: F,
            slot: Option<Slot>,
            streams: bool,
        },
        Waits {
            waiting: Granted,
            next: Option<(S, Request)>,
            guard: Arc<Guard>,
            criticality: Criticality,
            streams: bool,
        },
        Refused {
            error: Option<Error>,
            remains: Remains,
        },
    }
}

impl<S: Inner<Future = F>, F: Future<Output = Result<Response, Error>>> Future for IsolateFuture<S, F> {
    type Output = Result<Response, Error>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        loop {
            let next = match self.as_mut().project() {
                Projected::Passes { future } => return future.poll(task),
                Projected::Runs { future, slot, streams } => {
                    let answer = ready!(future.poll(task));
                    let slot = slot.take();
                    let streams = *streams;
                    return Poll::Ready(answer.map(|response| {
                        // A stream runs until its end.
                        if streams { response.map(|body| body.on_end(move |_| drop(slot))) } else { response }
                    }));
                }
                Projected::Refused { error, remains } => {
                    ready!(remains.poll(task));
                    return Poll::Ready(Err(error.take().unwrap_or_else(polled_after_the_end)));
                }
                Projected::Waits { waiting, next, guard, criticality, streams } => {
                    let granted = ready!(waiting.as_mut().poll(task));
                    let Some((mut inner, request)) = next.take() else {
                        return Poll::Ready(Err(polled_after_the_end()));
                    };
                    let deadline = request.extensions().get::<Scope>().and_then(|scope| scope.cx.deadline());
                    match granted {
                        Err(Full) => refused(guard.refuse(Why::NoPlace, *criticality), request),
                        // The place is given back with the slot.
                        Ok(_slot) if deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                            refused(guard.refuse(Why::TooLate, *criticality), request)
                        }
                        Ok(slot) => {
                            Self::Runs { future: inner.call(request), slot: Some(slot), streams: *streams }
                        }
                    }
                }
            };
            self.set(next);
        }
    }
}

/// A call that is told so once what it brought along is read.
fn refused<S, F>(refusal: Refusal, request: Request) -> IsolateFuture<S, F> {
    let remains = Remains::of(request.version(), request.into_body());
    IsolateFuture::Refused { error: Some(refusal.error()), remains }
}

fn polled_after_the_end() -> Error {
    Error::internal("polled after the end")
}
