use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bowline_core::Instant;

use super::*;
use crate::{BoxFuture, Emptiness, Snapshot};

/// A name server that says what the test wants.
#[derive(Default)]
struct Scripted {
    hosts: Mutex<HashMap<String, Result<Answer<IpAddr>, ()>>>,
    services: Mutex<Vec<ServiceRecord>>,
    asked: AtomicUsize,
}

impl Scripted {
    fn set(&self, host: &str, addresses: &[&str], ttl: u64) {
        let records = addresses.iter().map(|a| a.parse().unwrap()).collect();
        let answer = Answer { records, ttl: Duration::from_secs(ttl) };
        self.hosts.lock().unwrap().insert(host.into(), Ok(answer));
    }

    fn fail(&self, host: &str) {
        self.hosts.lock().unwrap().insert(host.into(), Err(()));
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Lookup for Scripted {
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Answer<IpAddr>>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.hosts.lock().unwrap().get(host).cloned();
        Box::pin(async move {
            match answer {
                Some(Ok(answer)) => Ok(answer),
                Some(Err(())) => Err(Error::unavailable("timed out")),
                None => Ok(Answer { records: Vec::new(), ttl: Duration::ZERO }),
            }
        })
    }

    fn services<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Answer<ServiceRecord>>> {
        let records = self.services.lock().unwrap().clone();
        Box::pin(async move { Ok(Answer { records, ttl: Duration::from_secs(30) }) })
    }
}

fn setup() -> (Arc<Scripted>, Dns) {
    let scripted = Arc::new(Scripted::default());
    (Arc::clone(&scripted), Dns::new(scripted))
}

fn addresses(snapshot: &Snapshot) -> Vec<String> {
    snapshot.instances.iter().map(|i| i.endpoints[0].to_string()).collect()
}

async fn ready(watcher: &Watcher) -> Arc<Snapshot> {
    watcher.ready(&Context::background().with_timeout(Duration::from_secs(60))).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn addresses_are_asked_for_again_when_their_time_to_live_ends() {
    let (server, dns) = setup();
    server.set("h", &["10.0.0.1", "::1"], 20);
    let mut watcher = dns.watch("h:80");
    assert_eq!(addresses(&*ready(&watcher).await), ["http://10.0.0.1:80", "http://[::1]:80"]);
    watcher.changed().await;
    server.set("h", &["10.0.0.2"], 20);
    let before = Instant::now();
    assert_eq!(addresses(&*watcher.changed().await), ["http://10.0.0.2:80"]);
    assert_eq!(before.elapsed().as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn times_to_live_are_clamped() {
    for (ttl, expected) in [(0, 1), (86_400, 60)] {
        let (server, dns) = setup();
        server.set("h", &["10.0.0.1"], ttl);
        let mut watcher = dns.watch("h:80");
        ready(&watcher).await;
        watcher.changed().await;
        let before = Instant::now();
        server.set("h", &["10.0.0.2"], ttl);
        watcher.changed().await;
        assert_eq!(before.elapsed().as_secs(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_name_server_leaves_the_last_list_and_is_asked_ever_less_often() {
    let (server, dns) = setup();
    server.set("h", &["10.0.0.1"], 1);
    let mut watcher = dns.watch("h:80");
    ready(&watcher).await;
    watcher.changed().await;
    server.fail("h");
    let stale = watcher.changed().await;
    assert!(matches!(stale.state, State::Stale { .. }), "{stale:?}");
    assert_eq!(stale.instances.len(), 1);
    assert_eq!(stale.fault.as_deref(), Some("resolving `h:80`: timed out"));

    let before = server.asked();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let asked = server.asked() - before;
    assert!((20..60).contains(&asked), "asked {asked} times in ten minutes");

    server.set("h", &["10.0.0.1"], 60);
    assert_eq!(watcher.changed().await.state, State::Live);
}

#[tokio::test(start_paused = true)]
async fn a_name_without_records_is_empty_at_first_and_stale_later() {
    let (server, dns) = setup();
    let mut watcher = dns.watch("h:80");
    assert_eq!(ready(&watcher).await.state, State::Empty(Emptiness::Unknown));
    server.set("h", &["10.0.0.1"], 1);
    while watcher.current().state != State::Live {
        watcher.changed().await;
    }
    server.set("h", &[], 1);
    while watcher.current().state == State::Live {
        watcher.changed().await;
    }
    let snapshot = watcher.current();
    assert!(matches!(snapshot.state, State::Stale { .. }) && snapshot.instances.len() == 1, "{snapshot:?}");
}

#[tokio::test(start_paused = true)]
async fn service_records_give_ports_and_weights_of_the_best_priority_that_has_addresses() {
    let (server, dns) = setup();
    let record = |priority, weight, port, target: &str| ServiceRecord {
        priority,
        weight,
        port,
        target: target.into(),
    };
    *server.services.lock().unwrap() = vec![
        record(1, 5, 1, "gone."),
        record(2, 30, 8001, "a."),
        record(2, 0, 8002, "b."),
        record(3, 1, 9000, "backup."),
    ];
    server.set("a.", &["10.0.0.1"], 30);
    server.set("b.", &["10.0.0.2"], 30);
    server.set("backup.", &["10.0.0.3"], 30);
    let snapshot = ready(&dns.watch("_grpc._tcp.h")).await;
    assert_eq!(addresses(&snapshot), ["http://10.0.0.1:8001", "http://10.0.0.2:8002"]);
    assert_eq!(snapshot.instances.iter().map(|i| i.weight).collect::<Vec<_>>(), [30, 1]);
}

#[tokio::test]
async fn a_name_without_a_port_is_refused_at_once() {
    let error = setup().1.watch("catalog").ready(&Context::background()).await.unwrap_err();
    assert!(error.message().contains("use HOST:PORT"), "{error}");
}
