//! The layers in their order, from a connection's request to its response.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Task, Poll, ready};

use bowline_core::{Canceller, Code, Error, Instant, Result};
use bowline_resilience::{Ended, Permit, Policies, ServerPolicy};
use bowline_rpc::headers::REQUEST_ID;
use bowline_rpc::{Body, BoxFuture, CallFuture, Outcome, Protocol, Routes, Scope};
use bowline_telemetry::{CallMetrics, Counter, Metrics, OperationMetrics, Side};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tower::Service;

use crate::connection::InFlightGuard;
use crate::fallback::Fallback;
use crate::guard::{Guard, Guards, criticality};
use crate::layer::deadline::Deadline;
use crate::layer::isolate::Isolate;
use crate::layer::observe::Observe;
use crate::layer::recover::Recover;
use crate::middleware::{Middleware, Next};
use crate::refusal::{Refusal, Why};
use crate::remains::Remains;
use crate::{PeerAddr, request};

/// What counts for all requests alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Whether callers are strangers.
    pub(crate) edge: bool,
    /// The most headers of a request. HTTP/1.1 is refused by hyper before it gets here; HTTP/2 has no such limit there.
    pub(crate) header_count: usize,
}

/// Where metrics are kept: per method, and per operation of the fallback.
pub(crate) struct Observed {
    calls: CallMetrics,
    routes: Vec<Arc<OperationMetrics>>,
    others: Mutex<HashMap<String, Arc<OperationMetrics>>>,
    refused: Counter,
}

impl Observed {
    pub(crate) fn new(metrics: &Metrics, routes: &Routes) -> Self {
        let calls = CallMetrics::new(metrics, Side::Server);
        let routes = routes.iter().map(|route| calls.operation(route.operation())).collect();
        let refused = metrics.counter("bowline_server_unresolved", "Requests that led to no operation");
        Self { calls, routes, others: Mutex::default(), refused }
    }

    pub(crate) fn operation(&self, scope: &Scope) -> Arc<OperationMetrics> {
        let of_route = scope.route.as_ref().and_then(|route| self.routes.get(route.index()));
        if let Some(metrics) = of_route {
            return Arc::clone(metrics);
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        match others.get(scope.operation.path()) {
            Some(metrics) => Arc::clone(metrics),
            None => {
                let metrics = self.calls.operation(&scope.operation);
                others.insert(scope.operation.path().to_owned(), Arc::clone(&metrics));
                metrics
            }
        }
    }
}

impl std::fmt::Debug for Observed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observed")
    }
}

/// Where a call ends up: a method, or the fallback.
pub(crate) struct Endpoint {
    pub(crate) fallback: Option<Arc<dyn Fallback>>,
}

pub(crate) enum EndpointFuture {
    Route(CallFuture),
    Fallback(BoxFuture<'static, Result<Response<Body>>>),
    Nowhere,
}

impl Endpoint {
    pub(crate) fn call(&self, mut request: Request<Body>) -> EndpointFuture {
        let route = request.extensions().get::<Scope>().and_then(|scope| scope.route.clone());
        if let Some(route) = route {
            return EndpointFuture::Route(route.call(request));
        }
        match (&self.fallback, request.extensions_mut().remove::<Scope>()) {
            (Some(fallback), Some(scope)) => EndpointFuture::Fallback(fallback.call(scope, request)),
            _ => EndpointFuture::Nowhere,
        }
    }
}

impl Future for EndpointFuture {
    type Output = Result<Response<Body>>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Route(future) => Pin::new(future).poll(task).map(Ok),
            Self::Fallback(future) => future.as_mut().poll(task),
            Self::Nowhere => {
                Poll::Ready(Err(Error::internal("a request without scope reached the endpoint")))
            }
        }
    }
}

/// The innermost service: user middleware, then the endpoint.
#[derive(Clone)]
pub(crate) struct Dispatch(Arc<Inside>);

struct Inside {
    middleware: Vec<Arc<dyn Middleware>>,
    endpoint: Endpoint,
}

pub(crate) enum DispatchFuture {
    Endpoint(EndpointFuture),
    Middleware(BoxFuture<'static, Result<Response<Body>>>),
}

impl Service<Request<Body>> for Dispatch {
    type Response = Response<Body>;
    type Error = Error;
    type Future = DispatchFuture;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> DispatchFuture {
        if self.0.middleware.is_empty() {
            return DispatchFuture::Endpoint(self.0.endpoint.call(request));
        }
        let inside = Arc::clone(&self.0);
        DispatchFuture::Middleware(Box::pin(async move {
            let cx = request.extensions().get::<Scope>().map(|scope| scope.cx.clone());
            let cx = cx.ok_or_else(|| Error::internal("a request without scope reached the middleware"))?;
            Next { cx: &cx, rest: &inside.middleware, endpoint: &inside.endpoint }.run(request).await
        }))
    }
}

impl Future for DispatchFuture {
    type Output = Result<Response<Body>>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Endpoint(future) => Pin::new(future).poll(task),
            Self::Middleware(future) => future.as_mut().poll(task),
        }
    }
}

type Stack = Observe<Recover<Deadline<Isolate<Dispatch>>>>;

/// Everything between a connection and the methods.
#[derive(Clone)]
pub(crate) struct Pipeline(Arc<Outside>);

struct Outside {
    routes: Routes,
    policy: Policy,
    guards: Guards,
    fallback: Option<Arc<dyn Fallback>>,
    /// Whether anybody could ask whom a request comes from.
    tells_peer: bool,
    observed: Arc<Observed>,
    stack: Stack,
}

impl Pipeline {
    pub(crate) fn new(
        routes: Routes,
        policy: Policy,
        guards: Guards,
        fallback: Option<Arc<dyn Fallback>>,
        middleware: Vec<Arc<dyn Middleware>>,
        metrics: &Metrics,
    ) -> Self {
        let observed = Arc::new(Observed::new(metrics, &routes));
        let tells_peer = fallback.is_some() || !middleware.is_empty();
        let endpoint = Endpoint { fallback: fallback.clone() };
        let dispatch = Dispatch(Arc::new(Inside { middleware, endpoint }));
        let stack = Observe::new(Recover::new(Deadline::new(Isolate::new(dispatch))), Arc::clone(&observed));
        Self(Arc::new(Outside { routes, policy, guards, fallback, tells_peer, observed, stack }))
    }

    /// Takes other policies, for requests that come from now on.
    pub(crate) fn set_policies(&self, policies: Policies<ServerPolicy>) -> Result<()> {
        self.0.guards.set(policies)
    }

    /// Answers one request of a connection.
    pub(crate) fn call(
        &self,
        request: Request<Body>,
        peer: &PeerAddr,
        in_flight: InFlightGuard,
    ) -> PipelineFuture {
        let (mut parts, body) = request.into_parts();
        let policy = &self.0.policy;
        if parts.headers.len() > policy.header_count {
            self.0.observed.refused.inc();
            return PipelineFuture::refused(
                too_many_headers(&parts.headers, policy.header_count),
                Remains::of(parts.version, body),
            );
        }
        let resolved = match self.0.routes.resolve(&parts) {
            Ok(resolved) => Ok((resolved.route.operation().clone(), resolved.protocol, Some(resolved))),
            Err(nowhere) => match self.0.fallback.as_ref().and_then(|fallback| fallback.resolve(&parts)) {
                Some(operation) => Ok((operation, Protocol::detect(&parts.headers), None)),
                None => Err(nowhere),
            },
        };
        let (operation, protocol, resolved) = match resolved {
            Ok(found) => found,
            Err(nowhere) => {
                self.0.observed.refused.inc();
                tracing::debug!(path = parts.uri.path(), method = %parts.method, error = %nowhere.error(), "not found");
                return PipelineFuture::refused(
                    nowhere.response(None, &parts.headers),
                    Remains::of(parts.version, body),
                );
            }
        };
        if policy.edge {
            request::strip_metadata(&mut parts.headers);
        }
        let route = resolved.as_ref().map(|resolved| resolved.route.index());
        let guard = self.0.guards.of(route, &operation);
        let now = Instant::now();
        let permit = match guard.admit(&parts.headers, peer, now) {
            Ok(permit) => permit,
            Err(refusal) => {
                tracing::debug!(operation = operation.path(), reason = refusal.reason(), "call refused");
                let response = guard.answer(refusal, protocol, &parts.headers);
                return PipelineFuture::refused(response, Remains::of(parts.version, body));
            }
        };
        let (cx, canceller, verdict) =
            request::context(&mut parts.headers, protocol, &operation, guard.timeout);
        if let Err(error) = verdict {
            self.0.observed.refused.inc();
            let response = protocol.error_response(&error, cx.request_id(), &parts.headers);
            return PipelineFuture::refused(response, Remains::of(parts.version, body));
        }
        let scope = match resolved {
            Some(resolved) => resolved.into_scope(cx),
            None => Scope::unrouted(cx, protocol, operation),
        };
        if guard.bulkhead.is_some() {
            parts.extensions.insert(Arc::clone(&guard));
        }
        parts.extensions.insert(scope);
        if self.0.tells_peer {
            parts.extensions.insert(peer.clone());
        }
        let held = Held { _canceller: canceller, _in_flight: in_flight, guard, permit };
        let queues = held.permit.as_ref().is_some_and(Permit::queues);
        let next = Some((Request::from_parts(parts, body), held));
        PipelineFuture::Waiting { next, stack: self.0.stack.clone(), queues }
    }
}

fn too_many_headers(headers: &HeaderMap, limit: usize) -> Response<Body> {
    let error = Error::resource_exhausted(format!("the request has more than {limit} headers"))
        .with_reason("TOO_MANY_HEADERS");
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    Protocol::detect(headers).error_response_with(&error, status, None, headers)
}

/// How the caller wrote its request, and so reads an error; where the protocol leaves a choice.
pub(crate) fn content_type(protocol: Protocol, headers: &HeaderMap) -> Option<HeaderValue> {
    let leaves_a_choice = matches!(protocol, Protocol::GrpcWeb | Protocol::Connect);
    leaves_a_choice.then(|| headers.get(CONTENT_TYPE).cloned()).flatten()
}

/// What lives as long as the call: until the answer, or the end of its stream. Dropping it cancels the context, which is how
/// a caller that went away reaches everything done on its behalf.
struct Held {
    _canceller: Canceller,
    _in_flight: InFlightGuard,
    guard: Arc<Guard>,
    permit: Option<Permit>,
}

impl Held {
    /// Before the first step: whether the call has waited for too long.
    fn begin(&mut self, deadline: Option<Instant>, headers: &HeaderMap) -> Result<(), Refusal> {
        let now = Instant::now();
        // The limit hears of the wait also where it was longer than the caller's patience.
        let begun = self.permit.as_mut().map_or(Ok(()), |permit| permit.begun(now));
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(self.guard.refuse(Why::TooLate, criticality(headers)));
        }
        if begun.is_err() {
            return Err(self.guard.refuse(Why::Overloaded, criticality(headers)));
        }
        if self.guard.streams {
            self.permit = None;
        }
        Ok(())
    }

    /// The answer is there, or the head of it: what the limit learns from it.
    fn end(&mut self, outcome: &Outcome) {
        let Some(permit) = self.permit.take() else { return };
        let ended = match outcome.code() {
            Some(
                Code::Internal | Code::Unknown | Code::DataLoss | Code::Unavailable | Code::DeadlineExceeded,
            ) => Ended::Failed,
            // It says nothing of how long the work takes.
            Some(Code::Canceled | Code::ResourceExhausted) => return,
            _ => Ended::Served,
        };
        permit.end(ended, Instant::now());
    }
}

pin_project_lite::pin_project! {
    /// A request on its way through the pipeline.
    #[project = Projected]
    pub(crate) enum PipelineFuture {
        // Nothing was done for it yet.
        Waiting {
            next: Option<(Request<Body>, Held)>,
            stack: Stack,
            // Whether it is to go behind all that can run now.
            queues: bool,
        },
        Running {
            #[pin]
            future: <Stack as Service<Request<Body>>>::Future,
            outcome: Outcome,
            held: Option<Held>,
            // Whether the answer is a stream.
            streams: bool,
        },
        Refused {
            response: Option<Response<Body>>,
            remains: Remains,
        },
    }
}

impl PipelineFuture {
    fn refused(response: Response<Body>, remains: Remains) -> Self {
        Self::Refused { response: Some(response), remains }
    }
}

impl Future for PipelineFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        if let Projected::Waiting { queues, .. } = self.as_mut().project()
            && std::mem::take(queues)
        {
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Projected::Waiting { next, stack, .. } = self.as_mut().project()
            && let Some((request, mut held)) = next.take()
            && let Some(Scope { cx, protocol, operation, outcome, .. }) = request.extensions().get()
        {
            let next = match held.begin(cx.deadline(), request.headers()) {
                Ok(()) => {
                    let (outcome, streams) = (outcome.clone(), operation.kind().server_streams());
                    Self::Running { future: stack.call(request), outcome, held: Some(held), streams }
                }
                Err(refusal) => {
                    tracing::debug!(operation = operation.path(), reason = refusal.reason(), "call refused");
                    let mut response = held.guard.answer(refusal, *protocol, request.headers());
                    if let (Protocol::Rest, Some(id)) = (protocol, cx.request_id()) {
                        response.headers_mut().insert(REQUEST_ID, id.to_header());
                    }
                    Self::refused(response, Remains::of(request.version(), request.into_body()))
                }
            };
            self.set(next);
        }
        let response = match self.as_mut().project() {
            Projected::Waiting { .. } => Response::default(),
            Projected::Refused { response, remains } => {
                ready!(remains.poll(task));
                response.take().unwrap_or_default()
            }
            Projected::Running { future, outcome, held, streams } => {
                // The outermost layer renders every error.
                let response = ready!(future.poll(task)).unwrap_or_default();
                let mut held = held.take();
                if let Some(held) = &mut held {
                    held.end(outcome);
                }
                if *streams { response.map(|body| body.on_end(move |_| drop(held))) } else { response }
            }
        };
        Poll::Ready(Ok(response))
    }
}
