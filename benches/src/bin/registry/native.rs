//! Clients of `bowline.registry.v1`.

use std::net::SocketAddr;

use bowline_client::{Channel, ChannelOptions};
use bowline_core::Context;
use bowline_registry_bowline::api::bowline::registry::v1::registry::Client;
use bowline_registry_bowline::api::bowline::registry::v1::{Instance, RegisterRequest};

/// A client on a connection of its own.
pub(crate) fn client(at: SocketAddr) -> Client {
    let options = ChannelOptions { connections: 1, ..ChannelOptions::default() };
    let channel = Channel::builder(format!("http://{at}")).options(options).build().expect("a channel");
    Client::new(channel.caller().expect("a caller"))
}

/// What services register.
pub(crate) fn instance(service: &str, id: &str, version: &str) -> Instance {
    let metadata = [("commit", "0f3c9a1"), ("region", "eu-central"), ("owner", "checkout")];
    Instance {
        id: id.into(),
        service: service.into(),
        version: version.into(),
        zone: "zone-a".into(),
        endpoints: vec!["http://10.20.30.40:8080".into()],
        metadata: metadata.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect(),
        ..Default::default()
    }
}

/// What asks for an instance to be registered.
pub(crate) fn request(instance: Instance, ttl: u64) -> RegisterRequest {
    RegisterRequest {
        instance: instance.into(),
        holder: "bench".into(),
        ttl: Some(std::time::Duration::from_secs(ttl).into()).into(),
        ..Default::default()
    }
}

/// Registers and returns the lease.
pub(crate) async fn register(client: &Client, instance: Instance, ttl: u64) -> u64 {
    client.register(&Context::background(), request(instance, ttl)).await.expect("registered").lease_id
}
