//! A registry and its clients in one process and in virtual time, with a network between them that can break.

#![allow(dead_code, reason = "each test crate uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, outside of test functions")]

pub(crate) mod members;
pub(crate) mod nacos;
pub(crate) mod networks;
pub(crate) mod nodes;
pub(crate) mod real;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline_core::task::Tracker;
use bowline_core::{Canceller, Context, Endpoint, Error, Instance, Operation, Result};
use bowline_discovery::{Snapshot, Watcher};
use bowline_registry::{Config, Node};
use bowline_registry_bowline::api::bowline::registry::v1::GetServiceRequest;
use bowline_registry_bowline::api::bowline::registry::v1::registry::Client;
use bowline_registry_bowline::{BowlineRegistry, Options};
use bowline_rpc::{Body, BoxFuture, Caller, Routes, Transport};

pub(crate) const SEC: Duration = Duration::from_secs(1);
/// The longest any test waits for anything, in virtual time.
const PATIENCE: Duration = Duration::from_secs(300);

/// A running node. Dropping it kills it: nothing is told to anybody.
pub(crate) struct Running {
    pub(crate) node: Node,
    pub(crate) routes: Arc<Routes>,
    tasks: Tracker,
}

impl Running {
    pub(crate) fn start(config: Config) -> Self {
        let node = Node::new(config).unwrap();
        let mut routes = Routes::new(bowline_rpc::Budget::new(1 << 20));
        routes.mount(node.service_def(), |_| bowline_rpc::DEFAULT_BODY_LIMIT).unwrap();
        let tasks = Tracker::new();
        let running = node.clone();
        tasks.spawn(async move { _ = running.run(&Context::background()).await });
        Self { node, routes: Arc::new(routes), tasks }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

/// The way from clients to a node. Clones are the same way.
#[derive(Clone, Default)]
pub(crate) struct Link(Arc<Mutex<Way>>);

#[derive(Default)]
struct Way {
    routes: Option<Arc<Routes>>,
    /// Cancels what goes over the way when it breaks.
    alive: Option<(Context, Canceller)>,
    is_stuck: bool,
    calls: BTreeMap<String, usize>,
}

impl Link {
    pub(crate) fn to(running: &Running) -> Self {
        let link = Self::default();
        link.connect(running);
        link
    }

    /// Requests reach this node from now on.
    pub(crate) fn connect(&self, running: &Running) {
        let mut way = self.0.lock().unwrap();
        way.routes = Some(Arc::clone(&running.routes));
        way.alive = Some(Context::background().with_cancel());
        way.is_stuck = false;
    }

    /// Breaks every stream; requests are refused.
    pub(crate) fn cut(&self) {
        let mut way = self.0.lock().unwrap();
        (way.routes, way.alive) = (None, None);
    }

    /// Requests are lost from now on; what flows, flows.
    pub(crate) fn lose(&self) {
        self.0.lock().unwrap().is_stuck = true;
    }

    /// How often a method was called.
    pub(crate) fn calls(&self, method: &str) -> usize {
        self.0.lock().unwrap().calls.get(method).copied().unwrap_or(0)
    }

    /// The revision of a service: another one with each change of one of its instances.
    pub(crate) async fn revision(&self, service: &str) -> u64 {
        let request = GetServiceRequest { service: service.into(), ..Default::default() };
        self.raw().get_service(&Context::background(), request).await.unwrap().revision
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller::new(self.clone(), "registry").unwrap()
    }

    pub(crate) fn raw(&self) -> Client {
        Client::new(self.caller())
    }

    pub(crate) fn client(&self) -> BowlineRegistry {
        self.client_with(|_| {})
    }

    pub(crate) fn client_with(&self, change: impl FnOnce(&mut Options)) -> BowlineRegistry {
        let mut options = Options::default();
        change(&mut options);
        BowlineRegistry::new([self.caller()], options).unwrap()
    }
}

impl Transport for Link {
    fn send(
        &self,
        cx: Context,
        operation: Operation,
        request: http::Request<Body>,
    ) -> BoxFuture<'static, Result<http::Response<Body>>> {
        let mut way = self.0.lock().unwrap();
        *way.calls.entry(operation.method().to_owned()).or_default() += 1;
        let (routes, is_stuck) = (way.routes.clone(), way.is_stuck);
        let alive = way.alive.as_ref().map(|(alive, _)| alive.clone());
        drop(way);
        Box::pin(async move {
            if is_stuck {
                return Err(cx.done().await);
            }
            let (Some(routes), Some(alive)) = (routes, alive) else {
                return Err(Error::unavailable("connection refused"));
            };
            let alive = cx.remaining().map_or(alive.clone(), |left| alive.with_timeout(left));
            Ok(dispatch(&routes, alive, request).await)
        })
    }
}

/// What a server does, without one.
pub(crate) async fn dispatch(
    routes: &Routes,
    cx: Context,
    request: http::Request<Body>,
) -> http::Response<Body> {
    let (parts, body) = request.into_parts();
    let resolved = match routes.resolve(&parts) {
        Ok(resolved) => resolved,
        Err(unresolved) => return unresolved.response(None, &parts.headers),
    };
    let mut request = http::Request::from_parts(parts, body);
    let scope = resolved.into_scope(cx);
    let route = scope.route.clone().unwrap();
    request.extensions_mut().insert(scope);
    route.call(request).await
}

pub(crate) fn instance(service: &str, id: &str) -> Instance {
    Instance::new(service, id).with_endpoint(Endpoint::http("127.0.0.1", 9000))
}

pub(crate) fn within(time: Duration) -> Context {
    Context::background().with_timeout(time)
}

pub(crate) fn ids(snapshot: &Snapshot) -> Vec<String> {
    snapshot.instances.iter().map(|i| i.id.to_string()).collect()
}

/// Waits until a watcher sees what is wanted.
pub(crate) async fn until(watcher: &Watcher, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let mut watcher = watcher.clone();
    let waiting = async {
        let mut snapshot = watcher.current();
        while !wanted(&snapshot) {
            snapshot = watcher.changed().await;
        }
        snapshot
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(snapshot) => snapshot,
        Err(_) => panic!("never seen; at last there was {:?}", watcher.current()),
    }
}

/// Waits until something is so that nothing announces.
pub(crate) async fn eventually(what: impl Fn() -> bool) {
    let start = tokio::time::Instant::now();
    while !what() {
        assert!(start.elapsed() < PATIENCE, "it never came to be");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
