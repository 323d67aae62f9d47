//! Registrations and renewals, as fast as they go.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bowline_core::Context;
use bowline_registry_bowline::api::bowline::registry::v1::registered::Outcome;
use bowline_registry_bowline::api::bowline::registry::v1::registry::Client;
use bowline_registry_bowline::api::bowline::registry::v1::{
    KeepAliveRequest, KeepAliveResponse, RegisterRequest,
};
use bowline_rpc::{Sender, Streaming};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::nacos::{self, Nacos};
use crate::plain::Plain;
use crate::servers::{Programs, Server};
use crate::{figure, native};

const CONNECTIONS: usize = 16;
/// Requests at a time on one connection, where it has room for several.
const IN_FLIGHT: usize = 16;
const REGISTRATIONS: usize = 30_000;
const HTTP_REGISTRATIONS: usize = 10_000;
const BEATS: usize = 20_000;
/// Leases in one renewal, and renewals.
const LEASES: usize = 100;
const RENEWALS: usize = 4_000;

/// In a second, and in a second of the server's processor time.
#[derive(Clone, Copy)]
struct Rate {
    wall: f64,
    core: f64,
}

/// Has workers do `total` things as fast as they can.
async fn rate<F, Fut>(server: &Server, workers: usize, total: usize, work: F) -> Rate
where
    F: Fn(usize, usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (work, next) = (Arc::new(work), Arc::new(AtomicUsize::new(0)));
    let (cpu, begun) = (server.cpu(), Instant::now());
    let mut tasks = JoinSet::new();
    for worker in 0..workers {
        let (work, next) = (Arc::clone(&work), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= total {
                    return;
                }
                work(worker, n).await;
            }
        });
    }
    tasks.join_all().await;
    let (wall, cpu) = (begun.elapsed(), server.cpu() - cpu);
    Rate { wall: total as f64 / wall.as_secs_f64(), core: total as f64 / cpu.as_secs_f64() }
}

async fn over_nacos(server: &Server) -> Rate {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Nacos::connect(server.grpc).await);
    }
    let clients = Arc::new(clients);
    // A connection has one instance of a service: each registers its own of all of them.
    let rate = rate(server, CONNECTIONS * IN_FLIGHT, REGISTRATIONS, move |_, n| {
        let clients = Arc::clone(&clients);
        async move {
            let (client, service) = (n % CONNECTIONS, n / CONNECTIONS);
            clients[client].register(&format!("s{service}"), nacos::instance(client)).await;
        }
    });
    rate.await
}

async fn over_http(server: &Server) -> (Rate, Rate) {
    let mut connections = Vec::new();
    for _ in 0..4 * CONNECTIONS {
        connections.push(Mutex::new(Plain::connect(server.http).await));
    }
    let connections = Arc::new(connections);
    let of = |n: usize| {
        let ip = nacos::instance(n % 100).ip;
        format!("serviceName=h{}&groupName=DEFAULT_GROUP&ip={ip}&port=8080&ephemeral=true", n / 100)
    };
    let all = Arc::clone(&connections);
    let registered = rate(server, 4 * CONNECTIONS, HTTP_REGISTRATIONS, move |worker, n| {
        let (all, path) = (Arc::clone(&all), format!("/nacos/v1/ns/instance?{}", of(n)));
        async move { _ = all[worker].lock().await.call("POST", &path).await }
    })
    .await;
    let beaten = rate(server, 4 * CONNECTIONS, BEATS, move |worker, n| {
        let all = Arc::clone(&connections);
        let path = format!("/nacos/v1/ns/instance/beat?{}", of(n % HTTP_REGISTRATIONS));
        async move { _ = all[worker].lock().await.call("PUT", &path).await }
    })
    .await;
    (registered, beaten)
}

/// A keep-alive stream: a message, and its answer.
struct Kept {
    requests: Sender<KeepAliveRequest>,
    answers: Streaming<KeepAliveResponse>,
}

impl Kept {
    async fn open(client: &Client) -> Mutex<Self> {
        let (requests, stream) = Streaming::channel(1);
        let answers = client.keep_alive(&Context::background(), stream).await.expect("a stream");
        Mutex::new(Self { requests, answers })
    }

    async fn ask(&mut self, request: KeepAliveRequest) -> KeepAliveResponse {
        self.requests.send(request).await.expect("asked");
        self.answers.message().await.expect("an answer").expect("one more")
    }
}

/// What our protocol does.
struct Natively {
    /// Registrations with a call for each.
    called: Rate,
    /// Registrations over the stream, as many in a message as calls would be on their way.
    streamed: Rate,
    renewed: Rate,
}

/// The registration of one of as many instances as there are connections, of each service.
fn registration(prefix: &str, n: usize) -> RegisterRequest {
    let (client, service) = (n % CONNECTIONS, n / CONNECTIONS);
    native::request(native::instance(&format!("{prefix}{service}"), &format!("i{client}"), "1.2.3"), 600)
}

async fn natively(programs: &Programs) -> Natively {
    let server = programs.ours().await;
    let clients = native_clients(&server);
    let all = Arc::clone(&clients);
    let called = rate(&server, CONNECTIONS * IN_FLIGHT, REGISTRATIONS, move |_, n| {
        let clients = Arc::clone(&all);
        async move {
            let request = registration("n", n);
            clients[n % CONNECTIONS].register(&Context::background(), request).await.expect("registered");
        }
    })
    .await;
    drop((clients, server));

    let server = programs.ours().await;
    let clients = native_clients(&server);
    let mut streams = Vec::new();
    for client in clients.iter() {
        streams.push(Kept::open(client).await);
    }
    let (streams, leases) = (Arc::new(streams), Arc::new(std::sync::Mutex::new(Vec::new())));
    let (all, kept) = (Arc::clone(&streams), Arc::clone(&leases));
    let streamed = rate(&server, CONNECTIONS, REGISTRATIONS / IN_FLIGHT, move |worker, n| {
        let (streams, kept) = (Arc::clone(&all), Arc::clone(&kept));
        async move {
            let registrations = (n * IN_FLIGHT..(n + 1) * IN_FLIGHT).map(|n| registration("s", n)).collect();
            let request = KeepAliveRequest { registrations, ..Default::default() };
            let answer = streams[worker].lock().await.ask(request).await;
            assert_eq!(answer.registered.len(), IN_FLIGHT);
            let mut kept = kept.lock().expect("the leases");
            for registered in answer.registered {
                let Some(Outcome::Granted(granted)) = registered.outcome else { panic!("refused") };
                kept.push(granted.lease_id);
            }
        }
    })
    .await;
    let leases: Arc<Vec<u64>> = Arc::new(std::mem::take(&mut *leases.lock().expect("the leases")));
    let renewed = rate(&server, CONNECTIONS, RENEWALS, move |worker, n| {
        let (streams, leases) = (Arc::clone(&streams), Arc::clone(&leases));
        async move {
            let from = (n * LEASES) % (leases.len() - LEASES);
            let lease_ids = leases[from..from + LEASES].to_vec();
            let request = KeepAliveRequest { lease_ids, ..Default::default() };
            let answer = streams[worker].lock().await.ask(request).await;
            assert_eq!(answer.renewed.len(), LEASES);
        }
    })
    .await;
    let times = |rate: Rate, n: usize| Rate { wall: rate.wall * n as f64, core: rate.core * n as f64 };
    Natively { called, streamed: times(streamed, IN_FLIGHT), renewed: times(renewed, LEASES) }
}

fn native_clients(server: &Server) -> Arc<Vec<Client>> {
    Arc::new((0..CONNECTIONS).map(|_| native::client(server.http)).collect())
}

/// Ours alone, to look at where its time goes.
pub(crate) async fn profile(programs: &Programs) {
    let Natively { called, streamed, renewed } = natively(programs).await;
    for (what, rate) in
        [("registrations, a call each", called), ("registrations", streamed), ("renewals", renewed)]
    {
        figure(what, "per second of a core", rate.core, None, "more", "-");
    }
}

pub(crate) async fn run(programs: &Programs) {
    let rnacos = programs.rnacos().await;
    let (peer_grpc, (peer_http, peer_beat)) = (over_nacos(&rnacos).await, over_http(&rnacos).await);
    drop(rnacos);
    let ours = programs.ours().await;
    let (own_grpc, (own_http, own_beat)) = (over_nacos(&ours).await, over_http(&ours).await);
    drop(ours);
    let Natively { called, streamed, renewed: own_renewals } = natively(programs).await;
    let (wall, core) = (peer_grpc.wall.max(peer_http.wall), peer_grpc.core.max(peer_http.core));
    for (own, how, target) in [(streamed, "over its stream, 16 in a message", "3"), (called, "by calls", "-")]
    {
        let what = format!("registrations, each by its own protocol, ours {how}");
        figure(&what, "per second", own.wall, Some(wall), "more", target);
        figure(&what, "per second of a core", own.core, Some(core), "more", "-");
    }
    figure("registrations by Nacos' gRPC", "per second", own_grpc.wall, Some(peer_grpc.wall), "more", "-");
    figure(
        "registrations by Nacos' gRPC",
        "per second of a core",
        own_grpc.core,
        Some(peer_grpc.core),
        "more",
        "-",
    );
    figure("registrations by Nacos' HTTP", "per second", own_http.wall, Some(peer_http.wall), "more", "-");
    figure(
        "registrations by Nacos' HTTP",
        "per second of a core",
        own_http.core,
        Some(peer_http.core),
        "more",
        "-",
    );
    figure(
        "renewals, each by its own protocol",
        "per second of a core",
        own_renewals.core,
        Some(peer_beat.core),
        "more",
        "-",
    );
    figure("beats by Nacos' HTTP", "per second of a core", own_beat.core, Some(peer_beat.core), "more", "-");
}
