//! What an instance takes.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::nacos::{self, Nacos};
use crate::servers::{Programs, Server};
use crate::{figure, native};

pub(crate) const SERVICES: usize = 100;
pub(crate) const OF_EACH: usize = 1_000;

/// Fills a node.
pub(crate) async fn fill(server: &Server) {
    let clients: Arc<Vec<_>> = Arc::new((0..8).map(|_| native::client(server.http)).collect());
    let mut tasks = JoinSet::new();
    for service in 0..SERVICES {
        let clients = Arc::clone(&clients);
        tasks.spawn(async move {
            for n in 0..OF_EACH {
                let instance =
                    native::instance(&format!("service-{service}"), &format!("instance-{n}"), "1.2.3");
                native::register(&clients[service % 8], instance, 600).await;
            }
        });
    }
    tasks.join_all().await;
}

pub(crate) async fn run(programs: &Programs) {
    let per_instance = |before: f64, after: f64| (after - before) / (SERVICES * OF_EACH) as f64;
    let rnacos = programs.rnacos().await;
    let before = rnacos.memory();
    // As many as it takes: a connection says all it has of a service at once.
    let client = Nacos::connect(rnacos.grpc).await;
    for service in 0..SERVICES {
        let instances = (0..OF_EACH).map(|n| nacos::instance(service * OF_EACH + n)).collect();
        client.batch(&format!("service-{service}"), instances).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let peer = per_instance(before, rnacos.memory());
    drop((client, rnacos));
    let server = programs.ours().await;
    let before = server.memory();
    fill(&server).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ours = per_instance(before, server.memory());
    figure("memory of one of 100 000 instances", "bytes", ours, Some(peer), "less", "2048");
}
