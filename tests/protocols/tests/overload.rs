//! A server that is asked for more than its processors do, over whatever protocol.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bowline_client::{ChannelOptions, ClientPolicies};
use bowline_core::{Context, Criticality, Endpoint, Error, Result};
use bowline_resilience::{ClientPolicy, Policies, RetryOptions, ThrottleOptions};
use bowline_rpc::{Body, BoxFuture};
use bowline_server::{Middleware, Next, Server, ServerOptions};
use bowline_tests_protocols::api::testing::v1::{CountRequest, Everything, testing};
use bowline_tests_protocols::{TestService, client};
use bowline_tests_support::Http;
use http::{Request, Response};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Keeps a processor busy before each call.
struct Computes;

impl Middleware for Computes {
    fn call<'a>(
        &'a self,
        _: &'a Context,
        request: Request<Body>,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<Response<Body>>> {
        Box::pin(async move {
            let end = Instant::now() + Duration::from_millis(5);
            while Instant::now() < end {
                std::hint::spin_loop();
            }
            next.run(request).await
        })
    }
}

/// A server with threads of its own.
struct Busy {
    at: Endpoint,
    _server: Server,
    runtime: Option<Runtime>,
}

impl Busy {
    fn start(threads: usize) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
        let entered = runtime.enter();
        let options = ServerOptions::at("127.0.0.1:0").unwrap();
        let mut server =
            Server::new("test", options).middleware(Computes).mount(testing::server(TestService::default()));
        let at = server.bind().unwrap();
        server.set_ready(true);
        drop(entered);
        Self { at, _server: server, runtime: Some(runtime) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A channel that sends everything, once.
fn plain(at: &Endpoint) -> testing::Client {
    let retry = RetryOptions { attempts: 1, ..RetryOptions::default() };
    let throttle = ThrottleOptions { k: 0.0, ..ThrottleOptions::default() };
    let policy = ClientPolicy { retry: Some(retry), throttle: Some(throttle), ..ClientPolicy::default() };
    let policies = ClientPolicies::new(Policies::new([("*".to_owned(), policy)]).unwrap());
    client(&at.to_string(), ChannelOptions { policies, ..ChannelOptions::default() }).unwrap()
}

#[derive(Default)]
struct Counts {
    served: AtomicUsize,
    refused: AtomicUsize,
}

impl Counts {
    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }
}

/// So many call without a pause until enough were served and refused, or for 20 s; who is refused comes again later.
async fn ask<F: Future<Output = bool> + Send + 'static>(
    callers: usize,
    (served, refused): (usize, usize),
    call: impl Fn(usize) -> F,
) -> Arc<Counts> {
    let (counts, end) = (Arc::new(Counts::default()), Instant::now() + Duration::from_secs(20));
    let mut asking = JoinSet::new();
    let enough = move |counts: &Counts| counts.served() >= served && counts.refused() >= refused;
    let mut at = 0;
    while Instant::now() < end && !enough(&counts) {
        while asking.len() < callers {
            let (counts, call) = (Arc::clone(&counts), call(at));
            at += 1;
            asking.spawn(async move {
                if call.await {
                    counts.served.fetch_add(1, Ordering::SeqCst);
                } else {
                    counts.refused.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
        }
        asking.join_next().await.unwrap().unwrap();
    }
    asking.shutdown().await;
    counts
}

fn sheddable() -> Context {
    Context::background().with_metadata(Criticality::KEY, Criticality::Sheddable.as_str()).unwrap()
}

fn is_served(answer: Result<()>) -> bool {
    match answer {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.reason(), "OVERLOADED", "{error:?}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn many_connections_with_one_call_each_are_an_overload() {
    for threads in [1, 2] {
        many_connections(&Busy::start(threads)).await;
    }
}

async fn many_connections(busy: &Busy) {
    let address = busy.at.to_string().rsplit('/').next().unwrap().to_owned();
    // What it can do at its best has to be known first.
    ask(1, (200, 0), |_| one_over_http1(address.clone())).await;
    let counts = ask(200, (200, 200), |_| one_over_http1(address.clone())).await;
    assert!(counts.refused() >= 200, "{} served, {} refused", counts.served(), counts.refused());
    let clients: Vec<_> = (0..200).map(|_| plain(&busy.at)).collect();
    let counts = ask(200, (200, 200), |n| {
        let client = clients[n % clients.len()].clone();
        async move { is_served(client.echo(&sheddable(), Everything::default()).await.map(drop)) }
    });
    let counts = counts.await;
    assert!(counts.refused() >= 200, "{} served, {} refused", counts.served(), counts.refused());
}

async fn one_over_http1(address: String) -> bool {
    let mut http = Http::connect(address.as_str()).await;
    let answer = http.call("GET", "/v1/echo/x", &[("x-md-global-criticality", "SHEDDABLE")], "").await;
    assert!([200, 429].contains(&answer.status), "{}", answer.text());
    answer.status == 200
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_of_streams_has_a_limit_too() {
    let busy = Busy::start(2);
    let clients = [plain(&busy.at), plain(&busy.at)];
    let count = |n: usize| {
        let client = clients[n % 2].clone();
        async move {
            let counted = async {
                let request = CountRequest { to: 2, ..CountRequest::default() };
                let mut stream = client.count(&sheddable(), request).await?;
                while stream.message().await?.is_some() {}
                Ok::<(), Error>(())
            };
            is_served(counted.await)
        }
    };
    ask(1, (200, 0), count).await;
    let counts = ask(200, (200, 200), count).await;
    assert!(counts.refused() >= 200, "{} served, {} refused", counts.served(), counts.refused());
}
