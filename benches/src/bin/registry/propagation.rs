//! How long it takes from a registration to those who watch, each on a connection of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bowline_registry_bowline::api::bowline::registry::v1::watch_response::Event;
use bowline_registry_bowline::api::bowline::registry::v1::{Subscription, WatchRequest};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::nacos::{self, Nacos};
use crate::servers::Programs;
use crate::watcher::Watcher;
use crate::{figure, native};

const ROUNDS: usize = 20;
/// Between rounds there is quiet.
const QUIET: Duration = Duration::from_millis(300);
/// Connections that are set up at a time.
const AT_A_TIME: usize = 64;
/// The longest a round may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// When the round began, who has heard, and how long it took each.
struct Rounds {
    watchers: usize,
    began: Mutex<(usize, Instant)>,
    heard: AtomicUsize,
    times: Mutex<Vec<Duration>>,
}

impl Rounds {
    fn new(watchers: usize) -> Arc<Self> {
        let began = Mutex::new((0, Instant::now()));
        Arc::new(Self { watchers, began, heard: AtomicUsize::new(0), times: Mutex::default() })
    }

    fn begin(&self, round: usize) {
        self.heard.store(0, Ordering::SeqCst);
        *self.began.lock().expect("the round") = (round, Instant::now());
    }

    /// A watcher has heard of a round.
    fn hear(&self, round: usize) {
        let now = Instant::now();
        let (current, began) = *self.began.lock().expect("the round");
        if current == round {
            self.times.lock().expect("the times").push(now - began);
            self.heard.fetch_add(1, Ordering::SeqCst);
        }
    }

    async fn all_have_heard(&self) {
        let end = Instant::now() + PATIENCE;
        while self.heard.load(Ordering::SeqCst) < self.watchers {
            let heard = self.heard.load(Ordering::SeqCst);
            assert!(Instant::now() < end, "{heard} of {} have heard", self.watchers);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(QUIET).await;
    }

    /// The median and the 99th percentile, in ms.
    fn percentiles(&self) -> (f64, f64) {
        let mut times = self.times.lock().expect("the times").clone();
        times.sort();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
        (at(0.5), at(0.99))
    }
}

/// The median and the 99th percentile, and the server's processor time for each round, in ms.
async fn ours(programs: &Programs, watchers: usize) -> (f64, f64, f64) {
    let server = programs.ours().await;
    let (rounds, mut tasks) = (Rounds::new(watchers), JoinSet::new());
    let registrant = native::client(server.http);
    native::register(&registrant, native::instance("p", "a", "0"), 600).await;
    let ready = Arc::new(AtomicUsize::new(0));
    for _ in 0..watchers {
        let (rounds, ready) = (Arc::clone(&rounds), Arc::clone(&ready));
        let services = vec![Subscription { service: "p".into(), ..Default::default() }];
        let request = WatchRequest { services, ..Default::default() };
        let mut watcher = Watcher::open(server.http, &request).await;
        tasks.spawn(async move {
            loop {
                match watcher.message().await.event {
                    Some(Event::Synced(_)) => _ = ready.fetch_add(1, Ordering::SeqCst),
                    Some(Event::Delta(delta)) => {
                        let version = delta.upserted.first().and_then(|e| e.instance.as_option());
                        rounds.hear(version.and_then(|i| i.version.parse().ok()).unwrap_or_default());
                    }
                    _ => {}
                }
            }
        });
    }
    while ready.load(Ordering::SeqCst) < watchers {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(QUIET).await;
    let cpu = server.cpu();
    for round in 1..=ROUNDS {
        rounds.begin(round);
        native::register(&registrant, native::instance("p", "a", &round.to_string()), 600).await;
        rounds.all_have_heard().await;
    }
    let cpu = (server.cpu() - cpu).as_secs_f64() * 1e3 / ROUNDS as f64;
    tasks.abort_all();
    let (p50, p99) = rounds.percentiles();
    (p50, p99, cpu)
}

async fn by_nacos(server: &crate::servers::Server, watchers: usize) -> (f64, f64) {
    let (rounds, mut tasks) = (Rounds::new(watchers), JoinSet::new());
    let (ready, door) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(AT_A_TIME)));
    for _ in 0..watchers {
        let (rounds, ready, door, at) =
            (Arc::clone(&rounds), Arc::clone(&ready), Arc::clone(&door), server.grpc);
        tasks.spawn(async move {
            let permit = door.acquire().await.expect("an open door");
            let mut client = Nacos::connect(at).await;
            client.subscribe("p").await;
            drop(permit);
            ready.fetch_add(1, Ordering::SeqCst);
            let mut last = 0;
            loop {
                // r-nacos keeps what the connection registered before, too.
                let ports = client.pushed().await.hosts.into_iter().map(|host| usize::from(host.port));
                let round = ports.max().map_or(0, |port| port - 8080);
                if round != last {
                    last = round;
                    rounds.hear(round);
                }
            }
        });
    }
    while ready.load(Ordering::SeqCst) < watchers {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Only now: who says nothing for long is taken for gone.
    let registrant = Nacos::connect(server.grpc).await;
    registrant.register("p", nacos::instance(0)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for round in 1..=ROUNDS {
        rounds.begin(round);
        let mut instance = nacos::instance(0);
        instance.port = 8080 + u16::try_from(round).expect("a small number");
        registrant.register("p", instance).await;
        rounds.all_have_heard().await;
    }
    tasks.abort_all();
    rounds.percentiles()
}

/// Ours alone, to look at where its time goes.
pub(crate) async fn profile(programs: &Programs) {
    let (p50, p99, cpu) = ours(programs, 10_000).await;
    for (what, ms) in [("p50", p50), ("p99", p99), ("the server's processor time", cpu)] {
        figure(&format!("registration to 10000 watchers, {what}"), "ms", ms, None, "less", "-");
    }
}

pub(crate) async fn run(programs: &Programs) {
    for watchers in [1_000, 10_000] {
        let what = |percentile: &str| format!("registration to {watchers} watchers, {percentile}");
        let ours = ours(programs, watchers).await;
        let peer = programs.rnacos().await;
        let peer = by_nacos(&peer, watchers).await;
        let target = if watchers == 10_000 { "100" } else { "-" };
        figure(&what("p50"), "ms", ours.0, Some(peer.0), "less", "-");
        figure(&what("p99"), "ms", ours.1, Some(peer.1), "less", target);
        let what_it_took = format!("telling {watchers} watchers, the server's processor time");
        figure(&what_it_took, "ms", ours.2, None, "less", "-");
        let own = programs.ours().await;
        let own = by_nacos(&own, watchers).await;
        figure(&format!("{}, both by Nacos' gRPC", what("p99")), "ms", own.1, Some(peer.1), "less", "-");
    }
}
