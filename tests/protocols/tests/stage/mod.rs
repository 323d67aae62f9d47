//! Several instances of the test service behind one channel, each of which can be made to fail.

#![allow(dead_code, reason = "each test takes its part")]

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use bowline::discovery::{Discovery, Publisher, Resolver, Watcher};
use bowline_client::{Balance, Channel, ChannelBuilder, ChannelOptions, ClientPolicies, Ejection};
use bowline_core::{Context, Error, Instance, Result, Tenant};
use bowline_rpc::{Body, BoxFuture, ServiceDef};
use bowline_server::{Middleware, Next, Server, ServerOptions};
use bowline_telemetry::{CallMetrics, Metrics, Side};
use bowline_tests_protocols::TestService;
use bowline_tests_protocols::api::testing::v1::{Everything, testing};

const WELL: u8 = 0;
const FAILING: u8 = 1;
const HANGING: u8 = 2;
const REFUSING: u8 = 3;

/// What requests to an instance meet.
#[derive(Clone, Default)]
pub(crate) struct Mood {
    now: Arc<AtomicU8>,
    asked: Arc<AtomicUsize>,
    tenants: Arc<Mutex<Vec<String>>>,
}

impl Middleware for Mood {
    fn call<'a>(
        &'a self,
        cx: &'a Context,
        request: http::Request<Body>,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<http::Response<Body>>> {
        // Its health service says that all is well, whatever becomes of requests.
        if request.uri().path().starts_with("/grpc.health") {
            return Box::pin(next.run(request));
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.tenants.lock().unwrap().push(cx.tenant().to_string());
        match self.now.load(Ordering::SeqCst) {
            FAILING => Box::pin(async { Err(Error::internal("it is broken")) }),
            HANGING => Box::pin(std::future::pending()),
            REFUSING => Box::pin(async {
                Err(bowline_resilience::reason::overloaded("it is full", Duration::from_secs(1)))
            }),
            _ => Box::pin(next.run(request)),
        }
    }
}

/// A running instance. Dropped, nobody listens any more.
pub(crate) struct Stand {
    pub(crate) instance: Instance,
    pub(crate) mood: Mood,
    server: Server,
}

impl Stand {
    /// One that is well, at a free port.
    pub(crate) fn start(id: &str) -> Self {
        Self::serving(id, testing::server(TestService::default()))
    }

    /// One that answers with a service of the test's own.
    pub(crate) fn serving(id: &str, service: ServiceDef) -> Self {
        let mood = Mood::default();
        let mut server = Server::new(id, ServerOptions::at("127.0.0.1:0").unwrap())
            .mount(service)
            .middleware(mood.clone());
        let endpoint = server.bind().unwrap();
        server.set_ready(true);
        Self { instance: Instance::new("test", id).with_endpoint(endpoint), mood, server }
    }

    /// Several, named by their numbers.
    pub(crate) fn several(count: usize) -> Vec<Self> {
        (0..count).map(|n| Self::start(&format!("i{n}"))).collect()
    }

    pub(crate) fn of(mut self, tenant: &str) -> Self {
        self.instance.tenant = Tenant::new(tenant).unwrap();
        self
    }

    pub(crate) fn zone(mut self, zone: &str) -> Self {
        self.instance.zone = zone.into();
        self
    }

    pub(crate) fn cluster(mut self, cluster: &str) -> Self {
        self.instance.cluster = cluster.into();
        self
    }

    pub(crate) fn fail(&self) {
        self.mood.now.store(FAILING, Ordering::SeqCst);
    }

    /// Refuses at once, as one with too much to do does.
    pub(crate) fn refuse(&self) {
        self.mood.now.store(REFUSING, Ordering::SeqCst);
    }

    pub(crate) fn hang(&self) {
        self.mood.now.store(HANGING, Ordering::SeqCst);
    }

    pub(crate) fn recover(&self) {
        self.mood.now.store(WELL, Ordering::SeqCst);
    }

    /// Ends it in good order: whoever is connected is told.
    pub(crate) async fn stop(self) {
        self.server.drain(&cx()).await.unwrap();
    }

    /// How many requests it got.
    pub(crate) fn asked(&self) -> usize {
        self.mood.asked.load(Ordering::SeqCst)
    }

    /// Whose requests it got.
    pub(crate) fn tenants(&self) -> Vec<String> {
        self.mood.tenants.lock().unwrap().clone()
    }
}

/// A registry of one service.
struct One(Publisher);

impl Discovery for One {
    fn watch(&self, _: &str) -> Watcher {
        self.0.watch()
    }
}

/// A channel to instances that the test publishes.
pub(crate) struct Stage {
    pub(crate) publisher: Publisher,
    pub(crate) metrics: Metrics,
    pub(crate) channel: Channel,
    pub(crate) policies: ClientPolicies,
    pub(crate) client: testing::Client,
}

impl Stage {
    pub(crate) fn new(balance: Balance, stands: &[Stand]) -> Self {
        Self::with(balance, stands, |builder| builder)
    }

    pub(crate) fn with(
        balance: Balance,
        stands: &[Stand],
        more: impl FnOnce(ChannelBuilder) -> ChannelBuilder,
    ) -> Self {
        let (publisher, _) = Publisher::pair("test");
        let (metrics, policies) = (Metrics::new(), ClientPolicies::default());
        publisher.publish(stands.iter().map(|stand| stand.instance.clone()));
        let resolver = Resolver::new().with_registry(Arc::new(One(publisher.clone())));
        let builder = Channel::builder("discovery:///test")
            .options(ChannelOptions { balance, policies: policies.clone(), ..ChannelOptions::default() })
            .resolver(Arc::new(resolver))
            .calls(CallMetrics::new(&metrics, Side::Client));
        let channel = more(builder).build().unwrap();
        let client = testing::Client::new(channel.caller().unwrap());
        Self { publisher, metrics, channel, policies, client }
    }

    pub(crate) async fn ask(&self, cx: &Context) -> Result<Everything> {
        self.client.echo(cx, Everything::default()).await
    }

    /// Asks so often; how many of them failed.
    pub(crate) async fn ask_times(&self, times: usize, cx: &Context) -> usize {
        let mut failed = 0;
        for _ in 0..times {
            failed += usize::from(self.ask(cx).await.is_err());
        }
        failed
    }

    /// A line of the page of metrics, by its beginning.
    pub(crate) fn measured(&self, name: &str) -> Option<f64> {
        let page = self.metrics.encode().unwrap();
        page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// How many instances are in that state.
    pub(crate) fn in_state(&self, state: &str) -> f64 {
        let name = format!("bowline_client_instances{{target=\"discovery:///test\",state=\"{state}\"}}");
        self.measured(&name).unwrap_or(0.0)
    }

    /// How many copies ended so.
    pub(crate) fn mirrored(&self, result: &str) -> f64 {
        let name =
            format!("bowline_client_mirrored_total{{target=\"discovery:///test\",result=\"{result}\"}}");
        self.measured(&name).unwrap_or(0.0)
    }
}

pub(crate) fn cx() -> Context {
    Context::background().with_timeout(Duration::from_secs(10))
}

/// One of a tenant's requests.
pub(crate) fn cx_of(tenant: &str) -> Context {
    cx().with_tenant(Tenant::new(tenant).unwrap())
}

/// The rules of ejection at a pace for tests.
pub(crate) fn quickly(base: Duration) -> Option<Ejection> {
    Some(Ejection { interval: Duration::from_millis(50), base, ..Ejection::default() })
}

/// How many tasks run.
pub(crate) fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}
