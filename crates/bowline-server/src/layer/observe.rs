//! Measures, logs and renders.
//!
//! The outermost layer, so that everything a call can end with passes here once: this is where an error is handled, and so
//! the one place where it is logged. Server faults are warnings or errors, callers' faults and successes are for debugging.
//! A stream ends when its body does.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use bowline_core::{Code, Context, Error, Instant, Operation, current};
use bowline_rpc::headers::{DEGRADED, REQUEST_ID, grpc_status};
use bowline_rpc::{End, Outcome, Protocol, Scope};
use bowline_telemetry::InFlight;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

use super::{Inner, Request, Response, ready_when_inner_is};
use crate::pipeline::{Observed, content_type};

/// Why an answer is less than what was asked for, if the server itself did not say: what it asked others for was.
const DEPENDENCY: &str = "dependency";

/// Measures each call, logs how it ended, and renders an error.
#[derive(Clone, Debug)]
pub struct Observe<S> {
    inner: S,
    observed: Arc<Observed>,
}

impl<S> Observe<S> {
    pub(crate) fn new(inner: S, observed: Arc<Observed>) -> Self {
        Self { inner, observed }
    }
}

impl<S: Inner> tower::Service<Request> for Observe<S> {
    type Response = Response;
    type Error = Error;
    type Future = ObserveFuture<S::Future>;

    ready_when_inner_is!();

    fn call(&mut self, request: Request) -> Self::Future {
        let call = request.extensions().get::<Scope>().map(|scope| Call {
            cx: scope.cx.clone(),
            operation: scope.operation.clone(),
            protocol: scope.protocol,
            outcome: scope.outcome.clone(),
            content_type: content_type(scope.protocol, request.headers()),
            in_flight: Some(self.observed.operation(scope).start()),
            started: scope.started,
        });
        let future = match &call {
            Some(call) => current::enter(&call.cx, || self.inner.call(request)),
            None => self.inner.call(request),
        };
        ObserveFuture { future, call }
    }
}

pin_project_lite::pin_project! {
    /// The future of [`Observe`].
    pub struct ObserveFuture<F> {
        #[pin]
        future: F,
        call: Option<Call>,
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for ObserveFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(call) = this.call else { return this.future.poll(task) };
        let answer = ready!(current::enter(&call.cx, || this.future.poll(task)));
        let Some(call) = this.call.take() else { return Poll::Ready(answer) };
        Poll::Ready(Ok(call.answered(answer)))
    }
}

/// What is measured of one call.
struct Call {
    cx: Context,
    operation: Operation,
    protocol: Protocol,
    outcome: Outcome,
    /// How the caller wrote its request, and so reads an error; where the protocol leaves a choice.
    content_type: Option<HeaderValue>,
    in_flight: Option<InFlight>,
    started: Instant,
}

impl Call {
    fn answered(mut self, answer: Result<Response, Error>) -> Response {
        let mut response = match answer {
            Ok(response) => response,
            Err(error) => {
                let asked = self.content_type.take().map(|value| (CONTENT_TYPE, value));
                let asked = HeaderMap::from_iter(asked);
                let response = self.protocol.error_response(&error, self.cx.request_id(), &asked);
                self.outcome.fail(error);
                response
            }
        };
        if let (Protocol::Rest, Some(id)) = (self.protocol, self.cx.request_id()) {
            response.headers_mut().insert(REQUEST_ID, id.to_header());
        }
        // What failed is no answer, be it less or more.
        let is_answer = self.outcome.code().is_none();
        if is_answer && self.cx.is_degraded() && !response.headers().contains_key(DEGRADED) {
            if let Some(in_flight) = &self.in_flight {
                in_flight.degraded(DEPENDENCY);
            }
            response.headers_mut().insert(DEGRADED, HeaderValue::from_static(DEPENDENCY));
        }
        if !self.outcome.is_known() {
            let status = status_of(&response);
            if status.is_none() && self.operation.kind().server_streams() {
                return response.map(|body| body.on_end(move |end| self.body_ended(&end)));
            }
            note(&self.outcome, status);
        }
        self.end();
        response
    }

    fn body_ended(mut self, end: &End<'_>) {
        if !self.outcome.is_known() {
            note(
                &self.outcome,
                match end {
                    End::Complete(trailers) => trailers.and_then(grpc_status).flatten(),
                    End::Failed(error) => Some(error.code()),
                    End::Dropped => Some(Code::Canceled),
                },
            );
        }
        self.end();
    }

    fn end(&mut self) {
        let Some(in_flight) = self.in_flight.take() else { return };
        let took = self.started.elapsed();
        in_flight.end(self.outcome.code(), took);
        current::enter(&self.cx, || log(&self.operation, self.protocol, &self.outcome, took));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Nobody waits for the answer any more; or the call was refused when its turn came.
        if !self.outcome.is_known() {
            self.outcome.fail_with(Code::Canceled);
        }
        self.end();
    }
}

fn note(outcome: &Outcome, code: Option<Code>) {
    match code {
        None => outcome.succeed(),
        Some(code) => outcome.fail_with(code),
    }
}

/// The outcome as the response's head tells it, for what the protocol's own code answered.
fn status_of(response: &Response) -> Option<Code> {
    grpc_status(response.headers()).unwrap_or_else(|| Code::from_http(response.status()))
}

fn log(operation: &Operation, protocol: Protocol, outcome: &Outcome, took: Duration) {
    let (operation, protocol) = (operation.path(), protocol.as_str());
    let took_ms = took.as_secs_f64() * 1000.0;
    let Some(code) = outcome.code() else {
        tracing::debug!(operation, protocol, took_ms, "call answered");
        return;
    };
    let reason = outcome.error().map_or(code.as_str(), Error::reason);
    let error = outcome.error().map(|error| format!("{error:?}")).unwrap_or_default();
    match code {
        Code::Internal | Code::Unknown | Code::DataLoss => {
            tracing::error!(operation, protocol, code = code.as_str(), reason, error, took_ms, "call failed");
        }
        Code::Unavailable | Code::DeadlineExceeded => {
            tracing::warn!(operation, protocol, code = code.as_str(), reason, error, took_ms, "call failed");
        }
        _ => {
            tracing::debug!(operation, protocol, code = code.as_str(), reason, error, took_ms, "call refused")
        }
    }
}
