//! A service, as its clients hold it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bowline_balance::{Ask, InFlight, P2c, Request as Route};
use bowline_core::task::Tracker;
use bowline_core::{Code, Context, Error, Instant, Operation, Result, Scheme, SystemRng};
use bowline_discovery::{Resolver, Target};
use bowline_rpc::headers::grpc_status;
use bowline_rpc::{Body, BoxFuture, Caller, End, Protocol, Transport};
use bowline_telemetry::{CallMetrics, InFlight as Measured, Metrics, OperationMetrics, Side};
use http::uri::Scheme as UriScheme;
use http::{Request, Response};

use crate::ChannelOptions;
use crate::connect::Connector;
use crate::connection::Failure;
use crate::headers::{write_context, write_deadline};
use crate::node::{Node, Place, Shared};
use crate::nodes::Nodes;

/// How often one call is sent at most. Each time but the last it was provably not begun.
const ATTEMPTS: usize = 8;

/// The way to a service. A clone is the same channel; the last one to go ends its connections.
///
/// ```no_run
/// use bowline_client::Channel;
///
/// # fn example() -> bowline_core::Result<()> {
/// let channel = Channel::builder("static:///127.0.0.1:9001,127.0.0.1:9002").build()?;
/// let caller = channel.caller()?; // what generated clients take
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Channel(Arc<Inner>);

struct Inner {
    target: Target,
    nodes: Nodes,
    shared: Arc<Shared>,
    metrics: Measures,
    /// What follows the target lives as long as the channel.
    _resolver: Arc<Resolver>,
}

/// Metrics per operation, found by path.
struct Measures {
    calls: CallMetrics,
    operations: RwLock<HashMap<String, Arc<OperationMetrics>>>,
}

impl Measures {
    fn of(&self, operation: &Operation) -> Arc<OperationMetrics> {
        let known = self.operations.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(metrics) = known.get(operation.path()) {
            return Arc::clone(metrics);
        }
        drop(known);
        let mut known = self.operations.write().unwrap_or_else(PoisonError::into_inner);
        let new = || self.calls.operation(operation);
        Arc::clone(known.entry(operation.path().to_owned()).or_insert_with(new))
    }
}

/// Makes a [`Channel`].
#[derive(Debug)]
pub struct ChannelBuilder {
    target: String,
    options: ChannelOptions,
    resolver: Option<Arc<Resolver>>,
    calls: Option<CallMetrics>,
}

impl ChannelBuilder {
    /// Bounds and habits.
    #[must_use]
    pub fn options(mut self, options: ChannelOptions) -> Self {
        self.options = options;
        self
    }

    /// Finds instances. Without one, `discovery:///` targets are refused.
    #[must_use]
    pub fn resolver(mut self, resolver: Arc<Resolver>) -> Self {
        self.resolver = Some(resolver);
        self
    }

    /// Measures into families that other channels share.
    #[must_use]
    pub fn calls(mut self, calls: CallMetrics) -> Self {
        self.calls = Some(calls);
        self
    }

    /// The channel. It connects when the first call needs it.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the target is malformed; what is wrong with the TLS files.
    pub fn build(self) -> Result<Channel> {
        let target: Target = self.target.parse()?;
        let resolver = self.resolver.unwrap_or_else(|| Arc::new(Resolver::new()));
        let watcher = resolver.watch(&target)?;
        let connector = Connector::new(&self.options)?;
        let shared = Arc::new(Shared { options: self.options, connector, tasks: Tracker::new() });
        let nodes = Nodes::follow(watcher, &shared);
        let calls = self.calls.unwrap_or_else(|| CallMetrics::new(&Metrics::new(), Side::Client));
        let metrics = Measures { calls, operations: RwLock::default() };
        Ok(Channel(Arc::new(Inner { target, nodes, shared, metrics, _resolver: resolver })))
    }
}

/// Makes channels to targets that are learnt while the process runs.
pub type ChannelFactory = Arc<dyn Fn(&str) -> Result<Channel> + Send + Sync>;

impl Channel {
    /// A channel to `discovery:///name`, `dns:///host:port`, `static:///a:1,b:2`, `unix:/path`, `memory:name` or
    /// `http(s)://host:port`.
    pub fn builder(target: impl Into<String>) -> ChannelBuilder {
        ChannelBuilder {
            target: target.into(),
            options: ChannelOptions::default(),
            resolver: None,
            calls: None,
        }
    }

    /// What generated clients take.
    ///
    /// # Errors
    /// If the target's name cannot be sent as a request's authority.
    pub fn caller(&self) -> Result<Caller> {
        Caller::new(self.clone(), &self.authority())
    }

    /// What servers see as `:authority`: the service's name, or the host of a single endpoint.
    fn authority(&self) -> String {
        match &self.0.target {
            Target::Discovery(name) => name.to_string(),
            Target::Static(endpoints) if endpoints.len() == 1 => endpoints[0].authority(),
            Target::Static(_) => "static".into(),
            Target::Dns(name) => name.to_string(),
        }
    }

    async fn call(
        self,
        cx: Context,
        operation: Operation,
        request: Box<Request<Body>>,
    ) -> Result<Response<Body>> {
        let started = Instant::now();
        let measured = Some(self.0.metrics.of(&operation).start());
        let measuring = Measuring { measured, cx: cx.clone(), started };
        match self.attempts(&cx, request).await {
            Ok(answer) => Ok(answer.watched(measuring)),
            Err(error) => {
                measuring.end(Some(error.code()));
                Err(error)
            }
        }
    }

    /// Sends the request until a server has it for certain, or there is nowhere left to send it.
    async fn attempts(&self, cx: &Context, request: Box<Request<Body>>) -> Result<Answer> {
        let nodes = match self.0.nodes.current() {
            Some(nodes) => nodes,
            None => Box::pin(self.0.nodes.get(cx, &self.0.shared)).await?,
        };
        let mut tried: Vec<usize> = Vec::new();
        let mut next = Some(request);
        let mut last = None;
        for _ in 0..ATTEMPTS.max(nodes.len() + 1) {
            let Some(mut request) = next.take() else { break };
            let ask = Ask::new(Instant::now(), &SystemRng).without(&tried);
            let Some(index) = nodes.pick(&P2c, &Route::base(), &ask)? else { break };
            let node = &nodes[index];
            // Making a connection is rare and its future large: it must not be part of every call's.
            let place = match node.link.ready() {
                Some(place) => Ok(place),
                None => Box::pin(node.link.place()).await,
            };
            let mut place = match place {
                Ok(place) => place,
                Err(error) => {
                    // Nothing was sent. Once every instance was tried and none can be reached, it is told.
                    tried.push(index);
                    let all_tried = (0..nodes.len()).all(|i| tried.contains(&i));
                    if all_tried {
                        return Err(error);
                    }
                    (next, last) = (Some(request), Some(error));
                    continue;
                }
            };
            let copy = copy_of(&request);
            prepare(&mut request, cx, node);
            let (load, sent_at) = (node.link.load.begin(), Instant::now());
            match place.send(request).await {
                Ok(response) => return Ok(Answer { response, place, load, sent_at }),
                Err(Failure::Unsent(request, error)) => (next, last) = (Some(request), Some(error)),
                Err(Failure::Refused(error)) => (next, last) = (copy, Some(error)),
                Err(Failure::Broken(error)) => {
                    let now = Instant::now();
                    load.failed(now - sent_at, now);
                    return Err(error.context(format!("calling {}", node.instance.id)));
                }
            }
            tried.push(index);
        }
        Err(last.unwrap_or_else(|| Error::unavailable("there is no instance to send the request to")))
    }
}

/// Writes what the context says, with the time that is left, and for whom.
fn prepare(request: &mut Request<Body>, cx: &Context, node: &Node) {
    write_context(request.headers_mut(), cx);
    if let Some(remaining) = cx.remaining() {
        let protocol = Protocol::detect(request.headers());
        write_deadline(request.headers_mut(), protocol, remaining);
    }
    if node.link.endpoint.scheme() == Scheme::Https && request.uri().scheme() != Some(&UriScheme::HTTPS) {
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(UriScheme::HTTPS);
        if let Ok(uri) = parts.try_into() {
            *request.uri_mut() = uri;
        }
    }
}

/// The request once more, if its body is in memory: for a server that refuses it after it was sent.
fn copy_of(request: &Request<Body>) -> Option<Box<Request<Body>>> {
    let body = request.body().as_full()?;
    let mut copy = Request::new(Body::full(body));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(Box::new(copy))
}

/// Measures a call. Dropped without a word it was given up: because its time was over, or because nobody waits any more.
struct Measuring {
    measured: Option<Measured>,
    cx: Context,
    started: Instant,
}

impl Measuring {
    fn end(mut self, code: Option<Code>) {
        self.record(code);
    }

    fn given_up(&self) -> Code {
        self.cx.error().map_or(Code::Canceled, |error| error.code())
    }

    fn record(&mut self, code: Option<Code>) {
        if let Some(measured) = self.measured.take() {
            measured.end(code, self.started.elapsed());
        }
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        if self.measured.is_some() {
            let code = self.given_up();
            self.record(Some(code));
        }
    }
}

/// A response whose body is still to come.
struct Answer {
    response: Response<Body>,
    place: Place,
    load: InFlight,
    sent_at: Instant,
}

impl Answer {
    /// The response, with everything that waits for its end tied to the end of its body.
    fn watched(self, measuring: Measuring) -> Response<Body> {
        let Self { response, place, load, sent_at } = self;
        let head = grpc_status(response.headers()).unwrap_or_else(|| Code::from_http(response.status()));
        response.map(|body| {
            body.on_end(move |end| {
                let code = match end {
                    End::Complete(trailers) => trailers.and_then(grpc_status).unwrap_or(head),
                    End::Failed(error) => Some(error.code()),
                    End::Dropped => Some(measuring.given_up()),
                };
                let now = Instant::now();
                match code {
                    Some(Code::Unavailable | Code::Internal | Code::Unknown | Code::DataLoss) => {
                        load.failed(now - sent_at, now);
                    }
                    // Nothing was learnt of the instance's speed.
                    Some(Code::Canceled) => drop(load),
                    _ => load.answered(now - sent_at, now),
                }
                measuring.end(code);
                drop(place);
            })
        })
    }
}

impl Transport for Channel {
    fn send(
        &self,
        cx: Context,
        operation: Operation,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>>> {
        // The future holds the request by pointer: it is moved once.
        Box::pin(self.clone().call(cx, operation, Box::new(request)))
    }

    fn default_timeout(&self) -> Option<Duration> {
        Some(self.0.shared.options.default_timeout)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.tasks.abort();
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Channel({})", self.0.target)
    }
}
