//! A node behind real servers that speaks Nacos' gRPC, and a client of it that does what it is told.

use std::time::Duration;

use bowline::app::Server;
use bowline_client::{Channel, ChannelOptions};
use bowline_core::task::Tracker;
use bowline_core::{Context, Result};
use bowline_registry::{Config, Nacos, NacosConfig};
use bowline_registry_nacos::api::wire::{bi_request_stream, request};
use bowline_registry_nacos::api::{
    BATCH_REGISTER, BatchInstanceRequest, BatchInstanceResponse, Body, ConnectionSetupRequest, DEREGISTER,
    ErrorResponse, Instance, InstanceRequest, InstanceResponse, NotifySubscriberRequest,
    NotifySubscriberResponse, Outcome, Payload, REGISTER, ServerCheckRequest, ServerCheckResponse,
    ServiceInfo, SetupAckRequest, SubscribeServiceRequest, SubscribeServiceResponse, kind, with_header,
};
use bowline_rpc::{Sender, Streaming};

use super::real::Real;

/// The longest a test waits for a message.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node that listens for HTTP and for Nacos' gRPC. Dropping it kills it.
pub(crate) struct RealNacos {
    pub(crate) real: Real,
    pub(crate) nacos: Nacos,
    tasks: Tracker,
}

impl RealNacos {
    pub(crate) async fn start(change: impl FnOnce(&mut NacosConfig)) -> Self {
        Self::with(Config::default(), change).await
    }

    pub(crate) async fn with(config: Config, change: impl FnOnce(&mut NacosConfig)) -> Self {
        let real = Real::start(config);
        let mut config = NacosConfig::at("127.0.0.1:0".parse().unwrap());
        change(&mut config);
        let mut nacos = Nacos::new(&real.node, config).unwrap();
        nacos.bind(&Context::background()).await.unwrap();
        nacos.set_ready(true);
        let (tasks, serving) = (Tracker::new(), nacos.serve());
        tasks.spawn(async move { serving.await.unwrap() });
        Self { real, nacos, tasks }
    }

    pub(crate) async fn client(&self) -> NacosClient {
        let mut client = self.stranger();
        client.set_up().await;
        client
    }

    /// A client that has not introduced itself.
    pub(crate) fn stranger(&self) -> NacosClient {
        let options = ChannelOptions { connections: 1, ..ChannelOptions::default() };
        let channel = Channel::builder(self.nacos.endpoint().unwrap().to_string()).options(options);
        let channel = channel.build().unwrap();
        let caller = channel.caller().unwrap();
        let (stream, requests) =
            (bi_request_stream::Client::new(caller.clone()), request::Client::new(caller));
        NacosClient { requests, stream, said: None, heard: None, token: None }
    }
}

impl Drop for RealNacos {
    fn drop(&mut self) {
        self.nacos.abort();
        self.tasks.abort();
    }
}

/// A client on one connection. It answers pushes when it is told to.
pub(crate) struct NacosClient {
    requests: request::Client,
    stream: bi_request_stream::Client,
    said: Option<Sender<Payload>>,
    heard: Option<Streaming<Payload>>,
    /// What it logged in with.
    pub(crate) token: Option<String>,
}

impl NacosClient {
    /// Sends a request and returns the answer, whatever it is.
    pub(crate) async fn send<B: Body>(&self, request: &B) -> Payload {
        let cx = Context::background().with_timeout(PATIENCE);
        let mut payload = request.payload().unwrap();
        if let Some(token) = &self.token {
            payload = with_header(payload, "accessToken", token);
        }
        self.requests.request(&cx, payload).await.unwrap()
    }

    /// Sends a request that is done.
    pub(crate) async fn ask<R: Body>(&self, request: &impl Body) -> R {
        let answer = self.send(request).await;
        R::of(&answer).unwrap_or_else(|e| panic!("{e}: {answer:?}"))
    }

    /// Sends a request that is refused; the code and the message.
    pub(crate) async fn refused(&self, request: &impl Body) -> (i32, String) {
        let Outcome { error_code, message, success, .. } = self.ask::<ErrorResponse>(request).await.outcome;
        assert!(!success);
        (error_code, message)
    }

    /// Introduces itself as Java's client does.
    pub(crate) async fn set_up(&mut self) {
        let check: ServerCheckResponse = self.ask(&ServerCheckRequest::default()).await;
        assert!(check.support_ability_negotiation && !check.connection_id.is_empty(), "{check:?}");
        let ability_table = Some([("fuzzyWatch".to_owned(), true)].into());
        self.say(&ConnectionSetupRequest { ability_table, ..Default::default() }).await;
        let ack = SetupAckRequest::of(&self.hear().await.unwrap().unwrap()).unwrap();
        assert_eq!(ack.ability_table.get("fuzzyWatch"), Some(&false));
    }

    /// Opens the stream, once, and says something on it.
    pub(crate) async fn say(&mut self, said: &impl Body) {
        if self.said.is_none() {
            let (sender, stream) = Streaming::channel(16);
            let cx = Context::background();
            let heard = self.stream.request_bi_stream(&cx, stream);
            self.heard = Some(tokio::time::timeout(PATIENCE, heard).await.unwrap().unwrap());
            self.said = Some(sender);
        }
        self.said.as_ref().unwrap().send(said.payload().unwrap()).await.unwrap();
    }

    /// The next message of the stream.
    pub(crate) async fn hear(&mut self) -> Result<Option<Payload>> {
        tokio::time::timeout(PATIENCE, self.heard.as_mut().unwrap().message()).await.unwrap()
    }

    /// Waits for a push, and answers it.
    pub(crate) async fn pushed(&mut self) -> ServiceInfo {
        let push = self.hear().await.unwrap().unwrap();
        assert_eq!(kind(&push), "NotifySubscriberRequest");
        let push = NotifySubscriberRequest::of(&push).unwrap();
        self.say(&NotifySubscriberResponse { outcome: Outcome::success(push.request_id) }).await;
        push.service_info
    }

    /// Answers pushes until one says what is wanted.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&ServiceInfo) -> bool) -> ServiceInfo {
        loop {
            let pushed = self.pushed().await;
            if wanted(&pushed) {
                return pushed;
            }
        }
    }

    pub(crate) async fn register(&self, service: &str, instance: Instance) {
        let request = InstanceRequest { kind: REGISTER.into(), instance, ..of(service) };
        let _: InstanceResponse = self.ask(&request).await;
    }

    pub(crate) async fn deregister(&self, service: &str, instance: Instance) {
        let request = InstanceRequest { kind: DEREGISTER.into(), instance, ..of(service) };
        let _: InstanceResponse = self.ask(&request).await;
    }

    pub(crate) async fn batch(&self, service: &str, instances: Vec<Instance>) {
        let request = BatchInstanceRequest {
            kind: BATCH_REGISTER.into(),
            instances,
            service_name: service.into(),
            ..Default::default()
        };
        let _: BatchInstanceResponse = self.ask(&request).await;
    }

    pub(crate) async fn subscribe(&self, service: &str, subscribe: bool) -> ServiceInfo {
        let service_name = service.to_owned();
        let request = SubscribeServiceRequest { subscribe, service_name, ..Default::default() };
        self.ask::<SubscribeServiceResponse>(&request).await.service_info
    }
}

/// A request about a service.
pub(crate) fn of(service: &str) -> InstanceRequest {
    InstanceRequest { service_name: service.into(), group_name: "DEFAULT_GROUP".into(), ..Default::default() }
}

pub(crate) fn at(port: u16) -> Instance {
    Instance { ip: "10.0.0.1".into(), port, ..Default::default() }
}

pub(crate) fn ports(info: &ServiceInfo) -> Vec<u16> {
    info.hosts.iter().map(|host| host.port).collect()
}
