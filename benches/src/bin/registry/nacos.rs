//! Clients of Nacos' gRPC.

use std::net::SocketAddr;
use std::sync::Mutex;

use bowline_client::{Channel, ChannelOptions};
use bowline_core::Context;
use bowline_registry_nacos::api::wire::{bi_request_stream, request};
use bowline_registry_nacos::api::{
    BATCH_REGISTER, BatchInstanceRequest, BatchInstanceResponse, Body, ClientDetectionResponse,
    ConnectionSetupRequest, HealthCheckRequest, HealthCheckResponse, Instance, InstanceRequest,
    InstanceResponse, NotifySubscriberRequest, NotifySubscriberResponse, Outcome, Payload, REGISTER,
    ServiceInfo, SubscribeServiceRequest, SubscribeServiceResponse, kind, request_id,
};
use bowline_rpc::{Sender, Streaming};

/// A client on a connection of its own, as Nacos wants it.
pub(crate) struct Nacos {
    pub(crate) requests: request::Client,
    said: Sender<Payload>,
    /// Read by who has it alone; the lock makes it one thing with the rest for those who only ask.
    heard: Mutex<Streaming<Payload>>,
}

fn group() -> String {
    "DEFAULT_GROUP".into()
}

impl Nacos {
    pub(crate) async fn connect(at: SocketAddr) -> Self {
        let options = ChannelOptions { connections: 1, ..ChannelOptions::default() };
        let channel = Channel::builder(format!("http://{at}")).options(options).build().expect("a channel");
        let caller = channel.caller().expect("a caller");
        let (stream, requests) =
            (bi_request_stream::Client::new(caller.clone()), request::Client::new(caller));
        let check = bowline_registry_nacos::api::ServerCheckRequest::default();
        let cx = Context::background();
        // Servers answer over HTTP a little earlier than over gRPC.
        while requests.request(&cx, check.payload().expect("a payload")).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let (said, messages) = Streaming::channel(16);
        let setup = ConnectionSetupRequest {
            client_version: "Nacos-Java-Client:v2.5.1".into(),
            ..Default::default()
        };
        said.send(setup.payload().expect("a payload")).await.expect("said");
        let heard = Mutex::new(stream.request_bi_stream(&cx, messages).await.expect("a stream"));
        let client = Self { requests, said, heard };
        // It counts once the server says so.
        loop {
            let answer = client.send(&HealthCheckRequest::default()).await;
            if HealthCheckResponse::of(&answer).is_ok_and(|answer| answer.outcome.success) {
                return client;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn send(&self, request: &impl Body) -> Payload {
        let payload = request.payload().expect("a payload");
        self.requests.request(&Context::background(), payload).await.expect("an answer")
    }

    async fn ask<R: Body>(&self, request: &impl Body) -> R {
        let answer = self.send(request).await;
        R::of(&answer).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }

    pub(crate) async fn register(&self, service: &str, instance: Instance) {
        let (service_name, kind) = (service.to_owned(), REGISTER.to_owned());
        let request =
            InstanceRequest { service_name, group_name: group(), kind, instance, ..Default::default() };
        let answer: InstanceResponse = self.ask(&request).await;
        assert!(answer.outcome.success, "{answer:?}");
    }

    pub(crate) async fn batch(&self, service: &str, instances: Vec<Instance>) {
        let (service_name, kind) = (service.to_owned(), BATCH_REGISTER.to_owned());
        let request =
            BatchInstanceRequest { service_name, group_name: group(), kind, instances, ..Default::default() };
        let answer: BatchInstanceResponse = self.ask(&request).await;
        assert!(answer.outcome.success, "{answer:?}");
    }

    pub(crate) async fn subscribe(&self, service: &str) {
        let service_name = service.to_owned();
        let request = SubscribeServiceRequest {
            subscribe: true,
            service_name,
            group_name: group(),
            ..Default::default()
        };
        let answer: SubscribeServiceResponse = self.ask(&request).await;
        assert!(answer.outcome.success, "{answer:?}");
    }

    /// The next push, answered.
    pub(crate) async fn pushed(&mut self) -> ServiceInfo {
        loop {
            let message = self
                .heard
                .get_mut()
                .expect("the stream")
                .message()
                .await
                .expect("a message")
                .expect("another message");
            if kind(&message) == "ClientDetectionRequest" {
                let answer = ClientDetectionResponse { outcome: Outcome::success(request_id(&message)) };
                self.said.send(answer.payload().expect("a payload")).await.expect("said");
            }
            if kind(&message) != "NotifySubscriberRequest" {
                continue;
            }
            let push = NotifySubscriberRequest::of(&message).expect("a push");
            let answer = NotifySubscriberResponse { outcome: Outcome::success(push.request_id) };
            self.said.send(answer.payload().expect("a payload")).await.expect("said");
            return push.service_info;
        }
    }
}

/// What services register, at one of many addresses.
pub(crate) fn instance(n: usize) -> Instance {
    let metadata = [("commit", "0f3c9a1"), ("region", "eu-central"), ("owner", "checkout")];
    Instance {
        ip: format!("10.{}.{}.{}", 1 + (n >> 16), (n >> 8) & 255, n & 255),
        port: 8080,
        metadata: metadata.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        ..Default::default()
    }
}
