//! The server as an application holds it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bowline_core::{Context, Endpoint, Error, Instant, Result};
use bowline_resilience::{Admission, Algorithm, CPU_INTERVAL, CpuMeter, Policies, ServerPolicy};
use bowline_rpc::{Body, Budget, Health, MethodDef, Reflection, Routes, ServiceDef, ServingStatus};
use bowline_telemetry::Metrics;
use http::Request;
use tokio::time::MissedTickBehavior;

use crate::accept::{Connections, Handler};
use crate::connection::InFlightGuard;
use crate::guard::Guards;
use crate::middleware::Middleware;
use crate::pipeline::{Pipeline, PipelineFuture, Policy};
use crate::{Fallback, Limits, ListenAddr, PeerAddr, Tls};

/// How a server listens and what it allows.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where it listens.
    pub listen: ListenAddr,
    /// What is told to the registry instead of the address it is bound to: for a server behind a NAT or on all interfaces.
    pub advertise: Option<Endpoint>,
    /// Its certificate; plain text without.
    pub tls: Option<Tls>,
    /// Bounds on connections and requests.
    pub limits: Limits,
    /// The most time a unary call gets, whatever its caller asks for. 30 s.
    pub unary_timeout: Option<Duration>,
    /// The most time a stream gets. None: a watch may last for days.
    pub stream_timeout: Option<Duration>,
    /// How the limit on requests in flight is found; without one there is none. BBR's, with the processors that there are.
    pub admission: Option<Algorithm>,
    /// What counts for each operation.
    pub policies: Policies<ServerPolicy>,
    /// Whether callers are strangers: then `x-md-*` headers, which say tenant and metadata, are taken off their requests.
    pub edge: bool,
}

impl ServerOptions {
    /// Defaults, at an address.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if it is no address.
    pub fn at(listen: &str) -> Result<Self> {
        Ok(Self {
            listen: listen.parse()?,
            advertise: None,
            tls: None,
            limits: Limits::default(),
            unary_timeout: Some(Duration::from_secs(30)),
            stream_timeout: None,
            admission: Some(Algorithm::default()),
            policies: Policies::default(),
            edge: false,
        })
    }
}

/// Serves methods on one port: gRPC, gRPC-Web, Connect and REST.
///
/// `grpc.health.v1.Health` and `grpc.reflection.v1.ServerReflection` are mounted by themselves.
///
/// ```no_run
/// use bowline_core::Context;
/// use bowline_server::{Server, ServerOptions};
///
/// # async fn example() -> bowline_core::Result<()> {
/// let mut server = Server::new("api", ServerOptions::at("127.0.0.1:8000")?);
/// println!("listening at {}", server.bind()?);
/// server.set_ready(true);
/// server.serve().await?;
/// # Ok(()) }
/// ```
pub struct Server {
    name: String,
    options: ServerOptions,
    metrics: Metrics,
    health: Health,
    building: Option<Building>,
    pipeline: Arc<OnceLock<Pipeline>>,
    connections: Option<Arc<Connections>>,
}

struct Building {
    services: Vec<ServiceDef>,
    middleware: Vec<Arc<dyn Middleware>>,
    fallback: Option<Arc<dyn Fallback>>,
    body_limits: Vec<(String, usize)>,
}

impl Server {
    /// A server with nothing mounted but health and reflection. `name` tells it from others in logs and errors.
    pub fn new(name: impl Into<String>, options: ServerOptions) -> Self {
        let building = Building {
            services: Vec::new(),
            middleware: Vec::new(),
            fallback: None,
            body_limits: Vec::new(),
        };
        Self {
            name: name.into(),
            options,
            metrics: Metrics::new(),
            health: Health::new([]),
            building: Some(building),
            pipeline: Arc::default(),
            connections: None,
        }
    }

    /// Measures into `metrics`, instead of a registry of its own.
    #[must_use]
    pub fn metrics(mut self, metrics: &Metrics) -> Self {
        self.metrics = metrics.clone();
        self
    }

    fn build(mut self, change: impl FnOnce(&mut Building)) -> Self {
        if let Some(building) = &mut self.building {
            change(building);
        }
        self
    }

    /// Mounts a service.
    #[must_use]
    pub fn mount(self, service: ServiceDef) -> Self {
        self.health.set(service.name(), ServingStatus::NotServing);
        self.build(|b| b.services.push(service))
    }

    /// Adds user middleware; the first added is the outermost.
    #[must_use]
    pub fn middleware(self, middleware: impl Middleware) -> Self {
        self.build(|b| b.middleware.push(Arc::new(middleware)))
    }

    /// Answers what no mounted method does.
    #[must_use]
    pub fn fallback(self, fallback: impl Fallback) -> Self {
        self.build(|b| b.fallback = Some(Arc::new(fallback)))
    }

    /// Gives one method (`/package.Service/Method`) a limit of its own for the bytes of a message.
    #[must_use]
    pub fn body_limit(self, method: impl Into<String>, bytes: usize) -> Self {
        self.build(|b| b.body_limits.push((method.into(), bytes)))
    }

    /// The server's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The standard health service's state.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Starts to listen and returns where. Not ready until [`Server::set_ready`].
    ///
    /// # Errors
    /// If the address is taken or not ours, a certificate cannot be read, or two methods claim the same path.
    pub fn bind(&mut self) -> Result<Endpoint> {
        let Some(building) = self.building.take() else {
            return Err(Error::failed_precondition(format!("server {} is bound already", self.name)));
        };
        let (pipeline, meter) = self.pipeline(building)?;
        let ServerOptions { listen, tls, limits, .. } = &self.options;
        let connections = Connections::bind(listen, tls.as_ref(), limits, pipeline.clone())
            .map_err(|error| error.context(format!("server {}", self.name)))?;
        if let Some(meter) = meter {
            connections.own(measure(meter));
        }
        // Bound once: see above.
        let _ = self.pipeline.set(pipeline);
        let endpoint = connections.endpoint().clone();
        self.connections = Some(Arc::new(connections));
        Ok(self.options.advertise.clone().unwrap_or(endpoint))
    }

    fn pipeline(&self, building: Building) -> Result<(Pipeline, Option<CpuMeter>)> {
        let Building { services, middleware, fallback, body_limits } = building;
        let limit = |def: &MethodDef| {
            let own = body_limits.iter().find(|(method, _)| method == def.path);
            own.map_or(self.options.limits.body_bytes, |(_, bytes)| *bytes)
        };
        let mut routes = Routes::new(Budget::new(self.options.limits.unfinished_bytes));
        for service in services {
            routes.mount(service, limit)?;
        }
        routes.mount(self.health.service(), limit)?;
        let reflection = Reflection::new(routes.services())?;
        routes.mount(reflection.service(), limit)?;
        if let Some((unknown, _)) =
            body_limits.iter().find(|(method, _)| !routes.iter().any(|route| route.def().path == method))
        {
            return Err(Error::invalid_argument(format!(
                "a body limit names {unknown}, which is not mounted"
            )));
        }
        let ServerOptions { unary_timeout, stream_timeout, edge, .. } = self.options;
        let policy = Policy { edge, header_count: self.options.limits.header_count };
        let policies = self.options.policies.clone();
        let (admission, meter) = self.admission();
        let timeouts = (unary_timeout, stream_timeout);
        let guards = Guards::new(&routes, policies, timeouts, admission, fallback.is_none(), &self.metrics)?;
        Ok((Pipeline::new(routes, policy, guards, fallback, middleware, &self.metrics), meter))
    }

    fn admission(&self) -> (Option<Arc<Admission>>, Option<CpuMeter>) {
        let Some(mut algorithm) = self.options.admission else { return (None, None) };
        let meter = CpuMeter::new()
            .inspect_err(|error| tracing::warn!(%error, "overload is told by waiting times alone"))
            .ok();
        if let Algorithm::Bbr(options) = &mut algorithm {
            options.processors = options.processors.max(meter.as_ref().map_or(1, CpuMeter::processors));
        }
        let cpu = meter.as_ref().map(CpuMeter::load).unwrap_or_default();
        let admission = Admission::new(algorithm, cpu.clone(), Instant::now());
        let (shown, counted) = (Arc::clone(&admission), Arc::clone(&admission));
        let (name, of, its) = (self.name.clone(), self.name.clone(), self.name.clone());
        self.metrics.gauges(
            "bowline_server_admission_limit",
            "Requests in flight that the server does at its best; enforced when there is too much to do",
            "server",
            move || shown.limit().map(|limit| (name.clone(), f64::from(limit))).into_iter().collect(),
        );
        self.metrics.gauges(
            "bowline_server_admission_in_flight",
            "Requests that were let in and have not ended; the most critical may be beyond the limit",
            "server",
            move || vec![(its.clone(), f64::from(counted.in_flight()))],
        );
        self.metrics.gauges(
            "bowline_server_cpu_load",
            "The part of the processors it may use that is used, from 0 to 1",
            "server",
            move || vec![(of.clone(), cpu.get())],
        );
        (Some(admission), meter)
    }

    /// What changes the server's policies while it runs.
    pub fn policies(&self) -> PolicyHandle {
        PolicyHandle(Arc::clone(&self.pipeline))
    }

    fn bound(&self) -> Result<&Arc<Connections>> {
        self.connections
            .as_ref()
            .ok_or_else(|| Error::failed_precondition(format!("server {} is not bound", self.name)))
    }

    /// Waits until the server has drained or was aborted. Accepting goes on in the background from [`Server::bind`] on.
    ///
    /// # Errors
    /// Why it no longer accepts connections, if nobody told it to stop.
    pub fn serve(&self) -> impl Future<Output = Result<()>> + Send + 'static {
        let connections = self.bound().cloned();
        async move { connections?.ended().await }
    }

    /// Sets the health of the server and all its services.
    pub fn set_ready(&self, ready: bool) {
        self.health.set_all(if ready { ServingStatus::Serving } else { ServingStatus::NotServing });
    }

    /// Stops accepting, tells every connection to end (GOAWAY, `connection: close`) and waits for their requests.
    ///
    /// # Errors
    /// If `cx` ends first; then [`Server::abort`] is what is left.
    pub async fn drain(&self, cx: &Context) -> Result<()> {
        self.set_ready(false);
        self.health.close();
        match &self.connections {
            None => Ok(()),
            Some(connections) => connections.drain(cx).await,
        }
    }

    /// Ends every connection; requests in flight are dropped and their contexts cancelled.
    pub fn abort(&self) {
        if let Some(connections) = &self.connections {
            connections.abort();
        }
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.connections.as_ref().map_or(0, |connections| connections.len())
    }
}

/// Changes the policies of a [`Server`].
#[derive(Clone)]
pub struct PolicyHandle(Arc<OnceLock<Pipeline>>);

impl PolicyHandle {
    /// Takes other policies, for requests that come from now on. What changes nothing for an operation leaves its tokens and
    /// places as they are.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if one names what is not mounted; `FAILED_PRECONDITION` before the server is bound.
    pub fn set(&self, policies: Policies<ServerPolicy>) -> Result<()> {
        let not_bound = || Error::failed_precondition("the server is not bound yet");
        self.0.get().ok_or_else(not_bound)?.set_policies(policies)
    }
}

impl std::fmt::Debug for PolicyHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PolicyHandle")
    }
}

/// Measures the processor's load as long as the server listens.
async fn measure(mut meter: CpuMeter) {
    let mut interval = tokio::time::interval(CPU_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = false;
    loop {
        interval.tick().await;
        if let Err(error) = meter.measure(Instant::now())
            && !std::mem::replace(&mut told, true)
        {
            tracing::warn!(%error, "the processor's load is not known");
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({} at {})", self.name, self.options.listen)
    }
}

impl Handler for Pipeline {
    type Future = PipelineFuture;

    fn call(&self, request: Request<Body>, peer: &PeerAddr, in_flight: InFlightGuard) -> PipelineFuture {
        Pipeline::call(self, request, peer, in_flight)
    }
}
