//! Every server starts, keeps its address and data over a kill, hangs when paused, and is gone when dropped.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, not marked as tests"
)]

use std::time::Duration;

use bowline_core::Result;
use bowline_testkit::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Asks over a new connection. `None` if nobody listens or nobody answers in a second.
async fn ask(address: &str, question: &str) -> Option<String> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(question.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    };
    tokio::time::timeout(Duration::from_secs(1), asking).await.ok().flatten()
}

async fn answers_again(address: &str, question: &str) -> String {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            if let Some(answer) = ask(address, question).await {
                return answer;
            }
        }
    });
    waited.await.unwrap()
}

async fn lives(server: Result<Server>, question: &str, answer: &str) {
    let mut server = server.unwrap();
    let address = server.address();
    assert!(answers_again(&address, question).await.contains(answer));
    assert!(server.wipe().unwrap_err().message().contains("kill it before"));

    server.pause().await.unwrap();
    assert_eq!(ask(&address, question).await, None, "a paused server answers");
    server.resume().unwrap();
    assert!(answers_again(&address, question).await.contains(answer));

    server.kill().await.unwrap();
    assert_eq!(ask(&address, question).await, None, "a killed server answers");
    assert!(server.pause().await.unwrap_err().message().contains("does not run"));
    server.start().await.unwrap();
    assert_eq!(server.address(), address);
    assert!(answers_again(&address, question).await.contains(answer));

    server.kill().await.unwrap();
    server.wipe().unwrap();
    server.start().await.unwrap();
    drop(server);
    assert!(TcpStream::connect(&address).await.is_err(), "it lives longer than its owner");
}

#[tokio::test]
async fn etcd_is_killed_paused_and_started_again_at_its_address() {
    lives(bowline_testkit::etcd().await, "GET /health HTTP/1.0\r\n\r\n", "\"health\":\"true\"").await;
}

#[tokio::test]
async fn zookeeper_is_killed_paused_and_started_again_at_its_address() {
    lives(bowline_testkit::zookeeper().await, "srvr", "Mode: standalone").await;
}

#[tokio::test]
async fn consul_is_killed_paused_and_started_again_at_its_address() {
    if !bowline_testkit::has_consul() {
        println!("skipped: there is no Consul; run: cargo xtask tools");
        return;
    }
    lives(bowline_testkit::consul().await, "GET /v1/status/leader HTTP/1.0\r\n\r\n", "127.0.0.1:").await;
}

#[tokio::test]
async fn eureka_is_killed_paused_and_started_again_at_its_address() {
    if !bowline_testkit::has_eureka() {
        println!("skipped: there is no server of Eureka; run: cargo xtask tools");
        return;
    }
    let question = "GET /eureka/apps HTTP/1.0\r\nAccept: application/json\r\n\r\n";
    lives(bowline_testkit::eureka().await, question, "apps__hashcode").await;
}

#[tokio::test]
async fn kubernetes_is_killed_paused_and_started_again_at_its_address() {
    if !bowline_testkit::has_kubernetes() {
        println!("skipped: there is no API server of Kubernetes; run: cargo xtask tools");
        return;
    }
    let mut server = bowline_testkit::kubernetes().await.unwrap();
    let (address, ca) = (server.address(), std::fs::read(server.ca()).unwrap());
    // In the clear it says as much.
    let (question, answer) = ("GET / HTTP/1.0\r\n\r\n", "to an HTTPS server");
    assert!(answers_again(&address, question).await.contains(answer));
    assert!(server.wipe().unwrap_err().message().contains("kill it before"));
    server.pause().await.unwrap();
    assert_eq!(ask(&address, question).await, None, "a paused server answers");
    server.resume().unwrap();
    assert!(answers_again(&address, question).await.contains(answer));
    server.kill().await.unwrap();
    assert_eq!(ask(&address, question).await, None, "a killed server answers");
    server.wipe().unwrap();
    server.start().await.unwrap();
    assert_eq!((server.address(), std::fs::read(server.ca()).unwrap()), (address.clone(), ca));
    assert!(answers_again(&address, question).await.contains(answer));
    drop(server);
    assert!(TcpStream::connect(&address).await.is_err(), "it lives longer than its owner");
}
