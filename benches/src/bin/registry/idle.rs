//! What clients cost that have nothing to say: each is registered, follows a service, and keeps both alive.

use std::time::Duration;

use bowline_core::Context;
use bowline_registry_bowline::api::bowline::registry::v1::{KeepAliveRequest, Subscription, WatchRequest};
use bowline_registry_nacos::api::HealthCheckRequest;
use bowline_rpc::Streaming;
use tokio::task::JoinSet;

use crate::nacos::{self, Nacos};
use crate::servers::{Programs, Server};
use crate::{figure, native};

const CLIENTS: usize = 1_000;
const TIME: Duration = Duration::from_secs(30);
/// How often ours renews by default: a third of 30 s.
const RENEW: Duration = Duration::from_secs(10);
/// How often Nacos' clients ask whether their connection is well.
const HEALTH: Duration = Duration::from_secs(5);

/// The server's processor time in a second, per client, in µs.
async fn measured(server: &Server) -> f64 {
    // What they said when they came is over.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let cpu = server.cpu();
    tokio::time::sleep(TIME).await;
    (server.cpu() - cpu).as_secs_f64() * 1e6 / TIME.as_secs_f64() / CLIENTS as f64
}

pub(crate) async fn run(programs: &Programs) {
    let server = programs.rnacos().await;
    let mut tasks = JoinSet::new();
    for n in 0..CLIENTS {
        let client = Nacos::connect(server.grpc).await;
        client.register(&format!("s{}", n % 50), nacos::instance(n)).await;
        client.subscribe(&format!("t{}", n % 50)).await;
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(HEALTH).await;
                client.send(&HealthCheckRequest::default()).await;
            }
        });
    }
    let peer = measured(&server).await;
    drop((tasks, server));
    let server = programs.ours().await;
    let mut tasks = JoinSet::new();
    for n in 0..CLIENTS {
        let (client, cx) = (native::client(server.http), Context::background());
        let instance = native::instance(&format!("s{}", n % 50), &format!("i{n}"), "1.2.3");
        let lease = native::register(&client, instance, 30).await;
        let services = vec![Subscription { service: format!("t{}", n % 50), ..Default::default() }];
        let mut watch =
            client.watch(&cx, WatchRequest { services, ..Default::default() }).await.expect("a watch");
        let (sender, requests) = Streaming::channel(1);
        let mut answers = client.keep_alive(&cx, requests).await.expect("a stream");
        tasks.spawn(async move { while let Ok(Some(_)) = watch.message().await {} });
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(RENEW).await;
                sender
                    .send(KeepAliveRequest { lease_ids: vec![lease], ..Default::default() })
                    .await
                    .expect("asked");
                answers.message().await.expect("an answer");
            }
        });
    }
    let ours = measured(&server).await;
    drop((tasks, server));
    figure("an idle client", "µs of a core per second", ours, Some(peer), "less", "-");
}
