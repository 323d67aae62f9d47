//! Kubernetes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bowline_client::{Channel, ChannelOptions, ClientTls};
use bowline_core::{Context, MethodKind, Operation};
use bowline_registry_kubernetes::{Access, KubernetesRegistry, Options};
use bowline_rpc::Plain;
use bytes::Bytes;
use http::{Method, Request};
use serde_json::Value;

use crate::{Backend, Client, GRACE, LEASE, LastDeath};

/// An API server over its etcd, without controllers: the tests do what these would.
#[derive(Debug)]
pub struct Kubernetes(bowline_testkit::Kubernetes);

/// A registry that asks the API server at `HOST:PORT` as a user of a kubeconfig, of which this is the user's part in YAML.
pub fn kubernetes_client(
    address: &str,
    ca: &Path,
    user: &str,
    mut options: Options,
) -> Arc<KubernetesRegistry> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'https://{address}', certificate-authority: '{}'}}}}]\n\
         users: [{{name: u, user: {{{user}}}}}]\n",
        ca.display()
    );
    std::fs::write(&path, text).unwrap();
    options.kubeconfig = Some(path);
    let access = Access::find(&options).unwrap();
    let channel = ChannelOptions {
        ping_interval: Duration::from_secs(1),
        ping_timeout: Duration::from_secs(2),
        reconnect: (Duration::from_millis(20), Duration::from_millis(500)),
        ..access.channel_options()
    };
    let channel = Channel::builder(access.server().to_string()).options(channel).build().unwrap();
    Arc::new(KubernetesRegistry::new(channel, &access, options).unwrap())
}

/// How impatient clients of these tests are.
pub fn kubernetes_options(ttl: Duration) -> Options {
    let mut options = Options::default();
    options.ttl = ttl;
    options.grace = GRACE;
    options.attempt_timeout = Duration::from_secs(3);
    options.patience = Duration::from_secs(1);
    options.backoff_max = Duration::from_secs(1);
    options
}

/// The API itself, as its controllers and kubectl see it.
#[derive(Debug)]
pub struct KubernetesApi(Plain);

impl KubernetesApi {
    /// Of this server, as who may do everything.
    pub fn of(server: &bowline_testkit::Kubernetes) -> Self {
        let tls = ClientTls { ca: server.ca(), identity: Some(server.client()), server_name: None };
        let options = ChannelOptions { tls: Some(tls), ..ChannelOptions::default() };
        let channel =
            Channel::builder(format!("https://{}", server.address())).options(options).build().unwrap();
        Self(Plain::new(channel, &server.address(), 16 << 20).unwrap())
    }

    /// Asks; answers with the status and the object.
    pub async fn ask(&self, method: Method, path: &str, kind: &str, body: impl Into<Bytes>) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).header("content-type", kind);
        let request = request.body(body.into()).unwrap();
        let cx = Context::background().with_timeout(Duration::from_secs(30));
        let operation = Operation::new("kubernetes", "test", MethodKind::Unary);
        let answer = self.0.send(&cx, operation, request).await.unwrap();
        (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap_or_default())
    }

    /// What is there, or `null`.
    pub async fn get(&self, path: &str) -> Value {
        let (status, found) = self.ask(Method::GET, path, "application/json", "").await;
        assert!(matches!(status, 200 | 404), "{path}: {found}");
        if status == 200 { found } else { Value::Null }
    }

    /// Creates or changes an object, in YAML or JSON.
    pub async fn apply(&self, path: &str, object: impl ToString) -> Value {
        let path = format!("{path}?fieldManager=test&force=true");
        let kind = "application/apply-patch+yaml";
        let (status, applied) = self.ask(Method::PATCH, &path, kind, object.to_string()).await;
        assert!(matches!(status, 200 | 201), "{path}: {applied}");
        applied
    }

    /// Deletes an object that is there.
    pub async fn delete(&self, path: &str) {
        let (status, answer) = self.ask(Method::DELETE, path, "application/json", "").await;
        assert_eq!(status, 200, "{path}: {answer}");
    }
}

impl Kubernetes {
    fn client_with(&self, address: &str, ttl: Duration) -> Client {
        let user = format!("token: {}", bowline_testkit::Kubernetes::ADMIN);
        let registry = kubernetes_client(address, &self.0.ca(), &user, kubernetes_options(ttl));
        Client { registrar: Arc::clone(&registry) as Arc<_>, discovery: registry }
    }
}

impl Backend for Kubernetes {
    const LAST_DEATH: LastDeath = LastDeath::Kept;

    fn missing() -> Option<&'static str> {
        (!bowline_testkit::has_kubernetes())
            .then_some("there is no API server of Kubernetes; run: cargo xtask tools")
    }

    async fn start() -> Self {
        Self(bowline_testkit::kubernetes().await.unwrap())
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn client_at(&self, address: &str) -> Client {
        self.client_with(address, LEASE)
    }

    /// A registration is two objects in etcd, which writes each to the disk: on a slow one a thousand take longer than a lease of
    /// 3 s, and their renewals would keep it busy for ever.
    fn client_for_a_crowd(&self) -> Client {
        self.client_with(&self.address(), LEASE * 10)
    }

    async fn kill(&mut self) {
        self.0.kill().await.unwrap();
    }

    async fn start_again(&mut self) {
        self.0.start().await.unwrap();
    }

    fn wipe(&mut self) {
        self.0.wipe().unwrap();
    }

    async fn pause(&self) {
        self.0.pause().await.unwrap();
    }

    fn resume(&self) {
        self.0.resume().unwrap();
    }
}
