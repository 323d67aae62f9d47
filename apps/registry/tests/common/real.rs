//! A node behind a real server on a port of its own, and plain HTTP.

use std::time::Duration;

use bowline_core::task::Tracker;
use bowline_core::{Context, Endpoint};
use bowline_registry::{Config, Node};
use bowline_server::{Server, ServerOptions};
use bowline_telemetry::Metrics;
use bowline_tests_support::{Answer, Http};
use serde_json::Value;

/// A running node. Dropping it kills it.
pub(crate) struct Real {
    pub(crate) node: Node,
    pub(crate) at: Endpoint,
    pub(crate) metrics: Metrics,
    server: Server,
    tasks: Tracker,
}

impl Real {
    pub(crate) fn start(config: Config) -> Self {
        Self::with_timeout(config, Duration::from_secs(30))
    }

    /// Requests get this much time.
    pub(crate) fn with_timeout(config: Config, timeout: Duration) -> Self {
        Self::of(Node::new(config).unwrap(), timeout)
    }

    pub(crate) fn of(node: Node, timeout: Duration) -> Self {
        let mut options = ServerOptions::at("127.0.0.1:0").unwrap();
        options.unary_timeout = Some(timeout);
        let metrics = Metrics::new();
        let server = Server::new("registry", options).metrics(&metrics);
        let mut server =
            server.mount(node.service_def()).fallback(node.predecessors()).middleware(node.guard());
        let at = server.bind().unwrap();
        server.set_ready(true);
        let tasks = Tracker::new();
        let (serving, leases) = (server.serve(), node.clone());
        tasks.spawn(async move { serving.await.unwrap() });
        tasks.spawn(async move { _ = leases.run(&Context::background()).await });
        Self { node, at, metrics, server, tasks }
    }

    /// One request on a connection of its own.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        Http::connect(&self.at).await.call(method, path, headers, body.to_owned()).await
    }

    /// Registers by the registry's own API, over REST.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let headers = [("content-type", "application/json")];
        let answer = self.call("POST", path, &headers, &body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// A service as the registry's own API tells it.
    pub(crate) async fn service(&self, env: &str, service: &str) -> Value {
        let path = format!("/v1/registry/default/{env}/services/{service}");
        let answer = self.call("GET", &path, &[], "").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.server.abort();
        self.tasks.abort();
    }
}
