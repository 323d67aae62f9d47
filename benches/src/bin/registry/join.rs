//! How long a node takes that joins one which has much to tell.

use std::net::TcpListener;
use std::time::Instant;

use serde_json::{Value, json};

use crate::figure;
use crate::memory::{OF_EACH, SERVICES, fill};
use crate::servers::Programs;

fn cluster(name: &str, listen: &str, seed: &str) -> Value {
    json!({"node": name, "zone": "a", "listen": listen, "seeds": [seed], "sync_within": "60s"})
}

fn free() -> String {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").to_string()
}

pub(crate) async fn run(programs: &Programs) {
    let (first_at, second_at) = (free(), free());
    let mut alone = cluster("first", &first_at, &first_at);
    alone["sync_within"] = json!("1s");
    let first = programs.node(alone).await;
    fill(&first).await;
    let begun = Instant::now();
    let second = programs.start_node(cluster("second", &second_at, &first_at));
    let all = format!("\"instances\":{}", SERVICES * OF_EACH);
    second
        .answers("/v1/registry/node", |node| node.contains("\"serving\":true") && node.contains(&all))
        .await;
    let took = begun.elapsed().as_secs_f64();
    figure(
        "a node joins one with 100 000 instances, from its start to serving them",
        "s",
        took,
        None,
        "less",
        "5",
    );
}
