//! A service, as its clients hold it.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bowline_balance::Canary;
use bowline_core::task::Tracker;
use bowline_core::{Context, Error, Instant, MethodKind, Operation, Result, SystemRng};
use bowline_discovery::{Resolver, Target};
use bowline_rpc::headers::{CALLER, DEGRADED, grpc_status};
use bowline_rpc::{Body, BoxFuture, Caller, Message, Transport};
use bowline_telemetry::{CallMetrics, Metrics, Rejections, Side};
use http::{HeaderValue, Request, Response};
use tokio::sync::watch;

use crate::ChannelOptions;
use crate::answers::{self, Answers, Fallback, Whole, degraded};
use crate::attempt::Call;
use crate::connect::Connector;
use crate::govern::Governor;
use crate::headers::write_context;
use crate::measuring::Measuring;
use crate::mirror::Mirrors;
use crate::node::Shared;
use crate::nodes::Nodes;
use crate::rules::{Operations, Rules};
use crate::signals::Signals;
use crate::timed::Timed;

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
    nodes: Arc<Nodes>,
    canary: Option<Canary>,
    mirrors: Option<Mirrors>,
    operations: Operations,
    answers: Answers,
    /// What follows the target lives as long as the channel.
    _resolver: Arc<Resolver>,
    _lease: Option<Lease>,
}

/// Makes a [`Channel`].
#[derive(Debug)]
pub struct ChannelBuilder {
    target: String,
    options: ChannelOptions,
    resolver: Option<Arc<Resolver>>,
    calls: Option<CallMetrics>,
    rejections: Option<Rejections>,
    fallbacks: Fallbacks,
    slot: Option<(watch::Receiver<Option<u32>>, Lease)>,
}

/// What stands in for answers, by method.
#[derive(Default)]
struct Fallbacks(HashMap<String, Fallback>);

impl std::fmt::Debug for Fallbacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What keeps a slot.
struct Lease(#[expect(dead_code, reason = "held, not read")] Box<dyn Any + Send + Sync>);

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lease")
    }
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

    /// Counts what is not sent into a family that other channels share.
    #[must_use]
    pub fn rejections(mut self, rejections: Rejections) -> Self {
        self.rejections = Some(rejections);
        self
    }

    /// Answers in the place of a unary method (`/package.Service/Method`) that failed: with what `fallback` makes of the
    /// failure, if it makes anything of it. The caller gets it as an answer; it is counted, and marked with
    /// `x-bowline-degraded`.
    ///
    /// ```no_run
    /// use bowline_client::Channel;
    /// use bowline_rpc::proto::grpc::health::v1::HealthCheckResponse;
    ///
    /// let channel = Channel::builder("discovery:///catalog")
    ///     .fallback("/grpc.health.v1.Health/Check", |_, error| {
    ///         error.is_temporary().then(HealthCheckResponse::default)
    ///     });
    /// ```
    #[must_use]
    pub fn fallback<M: Message>(
        mut self,
        method: impl Into<String>,
        fallback: impl Fn(&Context, &Error) -> Option<M> + Send + Sync + 'static,
    ) -> Self {
        let answer = move |cx: &Context, error: &Error| bowline_rpc::answer_with(&fallback(cx, error)?).ok();
        self.fallbacks.0.insert(method.into(), Arc::new(answer));
        self
    }

    /// This client's slot among those who call the service, which decides about its [subset](crate::Balance::subset): from the
    /// registry, which may give another one later. Until there is one, the client's name decides. `lease`, which keeps the
    /// slot, is kept as long as the channel.
    #[must_use]
    pub fn slot(mut self, slot: watch::Receiver<Option<u32>>, lease: impl Send + Sync + 'static) -> Self {
        self.slot = Some((slot, Lease(Box::new(lease))));
        self
    }

    /// The channel. It connects when the first call needs it.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the target is malformed or an option makes no sense; what is wrong with the TLS files.
    pub fn build(self) -> Result<Channel> {
        let target: Target = self.target.parse()?;
        let mut options = self.options;
        options.balance.check()?;
        options.balance = options.balance.named();
        let policies = options.policies.clone();
        let caller = options.caller.as_deref().map(caller_header).transpose()?;
        let (canary, mirrors) =
            (options.balance.canary.clone(), options.balance.mirror.as_ref().map(Mirrors::new));
        let resolver = self.resolver.unwrap_or_else(|| Arc::new(Resolver::new()));
        let watcher = resolver.watch(&target)?;
        let calls = self.calls.unwrap_or_else(|| CallMetrics::new(&Metrics::new(), Side::Client));
        let shared = Arc::new(Shared {
            connector: Connector::new(&options)?,
            options,
            tasks: Tracker::new(),
            signals: Signals::default(),
            metrics: calls.channel(&target.to_string()),
            authority: authority(&target),
            caller,
        });
        let (slot, lease) = self.slot.unzip();
        let nodes = Arc::new(Nodes::follow(watcher, shared, slot));
        let operations = Operations::new(calls, self.rejections, policies);
        let answers = Answers::new(self.fallbacks.0);
        let inner =
            Inner { target, nodes, canary, mirrors, operations, answers, _resolver: resolver, _lease: lease };
        Ok(Channel(Arc::new(inner)))
    }
}

/// What servers see as `:authority`: the service's name, or the host of a single endpoint.
fn authority(target: &Target) -> String {
    match target {
        Target::Discovery(name) => name.to_string(),
        Target::Static(endpoints) if endpoints.len() == 1 => endpoints[0].authority(),
        Target::Static(_) => "static".into(),
        Target::Dns(name) => name.to_string(),
    }
}

fn caller_header(name: &str) -> Result<HeaderValue> {
    HeaderValue::try_from(name).map_err(|e| {
        Error::invalid_argument(format!("`{name}` cannot be sent in a header as the caller's name"))
            .with_source(e)
    })
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
            rejections: None,
            fallbacks: Fallbacks::default(),
            slot: None,
        }
    }

    /// What generated clients take.
    ///
    /// # Errors
    /// If the target's name cannot be sent as a request's authority.
    pub fn caller(&self) -> Result<Caller> {
        Caller::new(self.clone(), &self.0.nodes.shared.authority)
    }

    async fn call(
        self,
        cx: Context,
        operation: Operation,
        mut request: Box<Request<Body>>,
    ) -> Result<Response<Body>> {
        let Beginning { cx, strict, rules, measuring } = self.begin(cx, &operation, &mut request);
        let kind = operation.kind();
        if kind == MethodKind::Unary && self.wants_whole(&rules, &operation) {
            let whole = self.whole(cx.clone(), strict, operation, rules, request, measuring);
            return Box::pin(whole).await.inspect(|answer| note_degraded(&cx, answer));
        }
        let answer = self.governed(&cx, kind, strict, &rules, request, measuring).await;
        answer.inspect(|answer| note_degraded(&cx, answer))
    }

    pub(crate) fn nodes(&self) -> &Nodes {
        &self.0.nodes
    }

    /// What is done for a call before any of it waits.
    pub(crate) fn begin(&self, cx: Context, operation: &Operation, request: &mut Request<Body>) -> Beginning {
        let started = Instant::now();
        let Inner { nodes, canary, mirrors, operations, .. } = &*self.0;
        let rules = operations.of(operation);
        let measured = Some(rules.metrics.start());
        let strict = nodes.shared.options.balance.strict;
        let (cx, strict) = match canary.as_ref().and_then(|canary| taken(canary, &cx)) {
            // It is served by the base where there is no canary: it asked for nothing else.
            Some(cx) => (cx, false),
            None => (cx, strict),
        };
        let measuring = Measuring { measured, cx: cx.clone(), started };
        write_context(request.headers_mut(), &cx);
        if let Some(name) = &nodes.shared.caller {
            request.headers_mut().insert(CALLER, name.clone());
        }
        if let Some(mirrors) = mirrors {
            mirrors.copy(nodes, &cx, operation.kind(), request);
        }
        Beginning { cx, strict, rules, measuring }
    }

    /// A call as it goes without anything that stands in for its answer.
    async fn governed(
        &self,
        cx: &Context,
        kind: MethodKind,
        strict: bool,
        rules: &Rules,
        request: Box<Request<Body>>,
        measuring: Measuring,
    ) -> Result<Response<Body>> {
        let nodes = &self.0.nodes;
        let call = Call { strict, ..Call::of(cx, kind) };
        let governor = Governor { nodes, rules };
        let sent = match rules.timeout().filter(|_| kind == MethodKind::Unary) {
            None => governor.send(&call, request).await,
            Some(timeout) => return Box::pin(in_time(governor, call, request, timeout, measuring)).await,
        };
        match sent {
            Ok(answer) => Ok(answer.watched(measuring)),
            Err(error) => {
                measuring.end(Some(error.code()));
                Err(error)
            }
        }
    }

    fn wants_whole(&self, rules: &Rules, operation: &Operation) -> bool {
        let fallbacks = &self.0.answers.fallbacks;
        rules.is_shared()
            || rules.last_good().is_some()
            || (!fallbacks.is_empty() && fallbacks.contains_key(operation.path()))
    }

    /// A call whose answer is shared, or is kept, or has something that stands in for it.
    async fn whole(
        self,
        cx: Context,
        strict: bool,
        operation: Operation,
        rules: Arc<Rules>,
        request: Box<Request<Body>>,
        measuring: Measuring,
    ) -> Result<Response<Body>> {
        let kind = MethodKind::Unary;
        let Some(key) = answers::key(&operation, strict, &request) else {
            return self.governed(&cx, kind, strict, &rules, request, measuring).await;
        };
        let answers = &self.0.answers;
        let reads = rules.is_read(&request);
        let unmeasured = |cx: &Context| Measuring { measured: None, cx: cx.clone(), started: Instant::now() };
        let answer = if rules.is_shared() && reads {
            // It is nobody's in particular: whoever asked first may give up before the others.
            let timeout = rules.timeout().unwrap_or(self.0.nodes.shared.options.default_timeout);
            let (channel, rules, cx) =
                (self.clone(), Arc::clone(&rules), measuring.cx.detached().with_timeout(timeout));
            let call = || -> BoxFuture<'static, Result<Whole>> {
                Box::pin(async move {
                    let measuring = unmeasured(&cx);
                    let call = channel.governed(&cx, kind, strict, &rules, request, measuring);
                    cx.run(async { Whole::read(call.await?).await }).await.flatten()
                })
            };
            measuring.cx.run(answers.one_for_all(&key, call)).await.flatten()
        } else {
            let call = self.governed(&cx, kind, strict, &rules, request, unmeasured(&cx));
            cx.run(async { Whole::read(call.await?).await.map(Arc::new) }).await.flatten()
        };
        measuring.end(answer.as_ref().map_or_else(|error| Some(error.code()), |whole| whole.code()));
        if let Some(age) = rules.last_good()
            && reads
            && let Some(kept) = answers.keep_or_replace(&key, &answer, age)
        {
            rules.metrics.degraded(LAST_GOOD);
            return Ok(degraded(kept.response(), LAST_GOOD));
        }
        let failure = answer.as_ref().map_or_else(|error| Some(error.again()), |whole| whole.failure());
        let fallback = answers.fallbacks.get(operation.path());
        if let (Some(failure), Some(fallback)) = (failure, fallback)
            && let Some(instead) = fallback(&cx, &failure)
        {
            rules.metrics.degraded(FALLBACK);
            return Ok(degraded(instead, FALLBACK));
        }
        answer.map(|whole| whole.response())
    }
}

/// Whoever asked for what is degraded gives a degraded answer.
fn note_degraded(cx: &Context, answer: &Response<Body>) {
    if answer.headers().contains_key(DEGRADED) && grpc_status(answer.headers()).flatten().is_none() {
        cx.mark_degraded();
    }
}

/// A call that nothing has waited for yet.
pub(crate) struct Beginning {
    pub(crate) cx: Context,
    pub(crate) strict: bool,
    pub(crate) rules: Arc<Rules>,
    pub(crate) measuring: Measuring,
}

const LAST_GOOD: &str = "last-good";
const FALLBACK: &str = "fallback";

/// A call that has no more time than its operation's policy gives it, until the last byte of its answer.
async fn in_time(
    governor: Governor<'_>,
    call: Call<'_>,
    request: Box<Request<Body>>,
    timeout: Duration,
    measuring: Measuring,
) -> Result<Response<Body>> {
    let (cx, call) = (call.cx.with_timeout(timeout), call.within(timeout));
    // Whoever called us has more time perhaps, but is not to spend it on the same again.
    let sent = cx.run(governor.send(&Call { cx: &cx, ..call }, request)).await.map_err(Error::without_retry);
    let sent = sent.flatten();
    match (sent, cx.deadline()) {
        (Ok(answer), Some(deadline)) => {
            Ok(answer.watched(measuring).map(|body| Body::new(Timed::new(body, deadline))))
        }
        (Ok(answer), None) => Ok(answer.watched(measuring)),
        (Err(error), _) => {
            measuring.end(Some(error.code()));
            Err(error)
        }
    }
}

/// The context of a request that becomes the canary's.
fn taken(canary: &Canary, cx: &Context) -> Option<Context> {
    if !cx.tenant().is_base() {
        return None;
    }
    // What was set for this call comes before what came in.
    let is_set = canary.key.as_ref().is_some_and(|key| cx.outgoing().get(key).is_some());
    let metadata = if is_set { cx.outgoing() } else { cx.metadata() };
    canary.takes(metadata, &SystemRng).then(|| cx.with_tenant(canary.tenant.clone()))
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
        Some(self.0.nodes.shared.options.default_timeout)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.nodes.shared.tasks.abort();
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Channel({})", self.0.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_future_of_a_call_is_small() {
        let channel = Channel::builder("memory:nobody").build().unwrap();
        let operation = Operation::new("a.B", "C", MethodKind::Unary);
        let call = channel.call(Context::background(), operation, Box::default());
        let size = std::mem::size_of_val(&call);
        // It is on the heap for each call: what is rare in it is boxed apart.
        assert!(size <= 1344, "{size} bytes");
    }
}
