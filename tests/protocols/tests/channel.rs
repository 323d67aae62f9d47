//! What a channel does when servers come and go.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowline_client::{Channel, ChannelOptions, ClientTls, HttpVersion};
use bowline_core::{Context, Endpoint};
use bowline_rpc::Transport as _;
use bowline_server::{Limits, Server, ServerOptions, Tls};
use bowline_tests_protocols::api::testing::v1::{Everything, SleepRequest, testing};
use bowline_tests_protocols::{Running, TestService, client};
use bowline_tests_support::eventually;

fn cx() -> Context {
    Context::background().with_timeout(Duration::from_secs(10))
}

fn target(endpoints: &[&Endpoint]) -> String {
    let list: Vec<_> = endpoints.iter().map(|endpoint| endpoint.authority()).collect();
    format!("static:///{}", list.join(","))
}

/// Where nobody listens any more.
fn nobody() -> Endpoint {
    Running::start().unwrap().endpoint.clone()
}

#[tokio::test]
async fn a_dead_endpoint_is_never_picked_while_a_live_one_exists() {
    let live = Running::start().unwrap();
    let client = client(&target(&[&nobody(), &live.endpoint]), ChannelOptions::default()).unwrap();
    for _ in 0..200 {
        client.echo(&cx(), Everything::default()).await.unwrap();
    }
    assert_eq!(live.service.begun.load(Ordering::SeqCst), 200);
}

#[tokio::test]
async fn an_endpoint_that_comes_back_gets_traffic_again() {
    let steady = Running::start().unwrap();
    let gone = Running::start().unwrap();
    let endpoint = gone.endpoint.clone();
    let client = client(&target(&[&endpoint, &steady.endpoint]), ChannelOptions::default()).unwrap();
    drop(gone);
    for _ in 0..20 {
        client.echo(&cx(), Everything::default()).await.unwrap();
    }
    let back = Running::start_with(ServerOptions::at(&endpoint.authority()).unwrap()).unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while back.service.begun.load(Ordering::SeqCst) == 0 {
            client.echo(&cx(), Everything::default()).await.unwrap();
        }
    });
    waited.await.expect("the instance that came back got nothing in 10 s");
}

#[tokio::test]
async fn a_drain_loses_no_request() {
    let (leaving, staying) = (Running::start().unwrap(), Running::start().unwrap());
    let client = client(&target(&[&leaving.endpoint, &staying.endpoint]), ChannelOptions::default()).unwrap();
    let load = async {
        for _ in 0..300 {
            let calls = (0..4).map(|_| async {
                client.sleep(&cx(), SleepRequest { millis: 1, ..Default::default() }).await
            });
            for answer in futures_util::future::join_all(calls).await {
                answer.unwrap();
            }
        }
    };
    let drain = async {
        eventually(|| leaving.service.begun.load(Ordering::SeqCst) > 50).await;
        leaving.server.drain(&cx()).await.unwrap();
    };
    tokio::join!(load, drain);
    assert_eq!(
        leaving.service.begun.load(Ordering::SeqCst) + staying.service.begun.load(Ordering::SeqCst),
        1200,
        "each request was handled exactly once"
    );
}

#[tokio::test]
async fn another_connection_is_made_when_streams_run_out() {
    let mut options = ServerOptions::at("127.0.0.1:0").unwrap();
    options.limits = Limits { concurrent_streams: 2, ..Limits::default() };
    let running = Running::start_with(options).unwrap();
    let client = running.client().unwrap();
    // The server's settings are known a turn of the scheduler after the first answer.
    for _ in 0..2 {
        client.echo(&cx(), Everything::default()).await.unwrap();
    }
    let calls = (0..8).map(|_| {
        Box::pin(async { client.sleep(&cx(), SleepRequest { millis: 100, ..Default::default() }).await })
    });
    for answer in futures_util::future::join_all(calls).await {
        answer.unwrap();
    }
    assert!((2..=4).contains(&running.server.connections()), "{} connections", running.server.connections());
}

#[tokio::test]
async fn old_connections_are_replaced_without_a_failure() {
    let mut options = ServerOptions::at("127.0.0.1:0").unwrap();
    options.limits = Limits { max_age: Duration::from_millis(50), ..Limits::default() };
    let running = Running::start_with(options).unwrap();
    let client = running.client().unwrap();
    let until = tokio::time::Instant::now() + Duration::from_millis(700);
    while tokio::time::Instant::now() < until {
        client.sleep(&cx(), SleepRequest { millis: 1, ..Default::default() }).await.unwrap();
    }
}

#[tokio::test]
async fn a_goaway_sends_no_call_to_a_dead_endpoint_and_loses_none() {
    let mut options = ServerOptions::at("127.0.0.1:0").unwrap();
    options.limits = Limits { max_age: Duration::from_millis(30), ..Limits::default() };
    let live = Running::start_with(options).unwrap();
    let client = client(&target(&[&live.endpoint, &nobody()]), ChannelOptions::default()).unwrap();
    let until = tokio::time::Instant::now() + Duration::from_secs(2);
    let callers = (0..8).map(|_| async {
        let mut calls = 0;
        while tokio::time::Instant::now() < until {
            client.echo(&cx(), Everything::default()).await.unwrap();
            calls += 1;
        }
        calls
    });
    let calls: u32 = futures_util::future::join_all(callers).await.iter().sum();
    assert!(calls > 100, "{calls}");
}

#[tokio::test]
async fn a_connection_that_the_kernel_took_for_a_dying_server_costs_no_call() {
    let live = Running::start().unwrap();
    // It takes connections and closes each with something unread, so that the peer sees a reset: as a server that goes down
    // before it has accepted what waits in its backlog.
    let dying = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::http("127.0.0.1", dying.local_addr().unwrap().port());
    let tasks = bowline_core::task::Tracker::new();
    tasks.spawn(async move {
        while let Ok((stream, _)) = dying.accept().await {
            let _ = stream.readable().await;
            // Time for the client to send more than its greeting.
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    });
    for _ in 0..20 {
        let client = client(&target(&[&endpoint, &live.endpoint]), ChannelOptions::default()).unwrap();
        client.echo(&cx(), Everything::default()).await.unwrap();
    }
    tasks.abort();
}

#[tokio::test]
async fn a_call_without_deadline_ends_where_it_is_made() {
    // It takes connections and never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = ChannelOptions { default_timeout: Duration::from_millis(200), ..ChannelOptions::default() };
    let target = format!("static:///{}", silent.local_addr().unwrap());
    let client = client(&target, options).unwrap();
    let unbounded = Context::background();
    let call = client.echo(&unbounded, Everything::default());
    let error =
        tokio::time::timeout(Duration::from_secs(30), call).await.expect("it never ended").unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
}

#[tokio::test]
async fn no_more_http1_connections_than_allowed_are_made_at_once() {
    let running = Running::start().unwrap();
    let options =
        ChannelOptions { http: HttpVersion::Http1, http1_connections: 4, ..ChannelOptions::default() };
    let channel = Channel::builder(running.endpoint.to_string()).options(options).build().unwrap();
    let calls = (0..50).map(|_| {
        let operation =
            bowline_core::Operation::new("testing.v1.Testing", "Echo", bowline_core::MethodKind::Unary);
        let request = http::Request::get(format!("http://{}/v1/echo/a", running.endpoint.authority()));
        channel.send(cx(), operation, request.body(bowline_rpc::Body::empty()).unwrap())
    });
    let answers = futures_util::future::join_all(calls).await;
    assert!(running.server.connections() <= 4, "{} connections", running.server.connections());
    let full = answers.iter().filter_map(|answer| answer.as_ref().err());
    assert!(full.clone().count() == 46 && full.clone().all(|error| error.reason() == "TOO_MANY_PENDING"));
}

#[tokio::test]
async fn unix_sockets_memory_and_http1_work_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", directory.path().join("s.sock").display());
    for listen in [socket.as_str(), "memory:channel-test"] {
        let running = Running::start_with(ServerOptions::at(listen).unwrap()).unwrap();
        assert_eq!(running.endpoint.to_string(), listen);
        let reply =
            running.client().unwrap().echo(&cx(), Everything { flag: true, ..Default::default() }).await;
        assert!(reply.unwrap().flag);
    }
}

#[tokio::test]
async fn without_time_or_instances_the_error_says_so() {
    let nobody = client("static:///127.0.0.1:1", ChannelOptions::default()).unwrap();
    let error = nobody.echo(&cx(), Everything::default()).await.unwrap_err();
    assert_eq!(error.reason(), "UNREACHABLE");
    assert!(error.message().contains("127.0.0.1:1"), "{error}");
    assert_eq!(error.public_message(), "the service cannot be reached", "a stranger learns no address");
    // Accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent =
        client(&format!("http://{}", silent.local_addr().unwrap()), ChannelOptions::default()).unwrap();
    let short = Context::background().with_timeout(Duration::from_millis(100));
    assert!(silent.echo(&short, Everything::default()).await.unwrap_err().is_timeout());
    let http1 = ChannelOptions { http: HttpVersion::Http1, ..ChannelOptions::default() };
    assert!(
        client("static:///127.0.0.1:1", http1).unwrap().echo(&cx(), Everything::default()).await.is_err()
    );
}

/// Writes a certificate for `localhost` by a new authority; returns the authority's PEM.
fn certify(directory: &Path) -> String {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer_cert = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = leaf.signed_by(&key, &issuer).unwrap();
    std::fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(directory.join("cert.pem"), certificate.pem()).unwrap();
    issuer_cert.pem()
}

#[tokio::test]
async fn tls_works_and_a_new_certificate_is_taken_from_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("ca1.pem"), certify(directory.path())).unwrap();
    let mut options = ServerOptions::at("127.0.0.1:0").unwrap();
    options.tls = Some(Tls { certificate: path("cert.pem"), key: path("key.pem"), client_ca: None });
    let mut server = Server::new("tls", options).mount(testing::server(TestService::default()));
    let endpoint = server.bind().unwrap();
    assert!(endpoint.to_string().starts_with("https://"));
    let trusting = |ca: &str| {
        let tls = ClientTls { ca: path(ca), identity: None, server_name: Some("localhost".into()) };
        client(&endpoint.to_string(), ChannelOptions { tls: Some(tls), ..ChannelOptions::default() }).unwrap()
    };
    trusting("ca1.pem").echo(&cx(), Everything::default()).await.unwrap();

    // Half a pair is not taken; the whole one is.
    std::fs::write(path("cert.pem"), "-----BEGIN CERTIFICATE-----\n").unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    trusting("ca1.pem").echo(&cx(), Everything::default()).await.unwrap();
    std::fs::write(path("ca2.pem"), certify(directory.path())).unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while trusting("ca2.pem").echo(&cx(), Everything::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    waited.await.expect("the new certificate was not taken in 10 s");
    let error = trusting("ca1.pem").echo(&cx(), Everything::default()).await.unwrap_err();
    assert_eq!(error.reason(), "UNREACHABLE", "the old authority no longer vouches for it: {error}");
}

#[tokio::test]
async fn metadata_and_tenant_travel_by_the_rules() {
    use bowline_rpc::{Body, BoxFuture};
    use bowline_server::{Middleware, Next};
    use std::sync::{Arc, Mutex};

    /// Notes what requests carry.
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<HashMap<String, String>>>);

    impl Middleware for Seen {
        fn call<'a>(
            &'a self,
            cx: &'a Context,
            request: http::Request<Body>,
            next: Next<'a>,
        ) -> BoxFuture<'a, bowline_core::Result<http::Response<Body>>> {
            let headers = request.headers().iter();
            let mut seen: HashMap<_, _> = headers
                .map(|(k, v)| (k.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
                .collect();
            seen.insert("tenant".into(), cx.tenant().to_string());
            *self.0.lock().unwrap() = seen;
            Box::pin(next.run(request))
        }
    }

    let seen = Seen::default();
    let mut server = Server::new("seen", ServerOptions::at("127.0.0.1:0").unwrap())
        .mount(testing::server(TestService::default()))
        .middleware(seen.clone());
    let endpoint = server.bind().unwrap();
    let client = client(&endpoint.to_string(), ChannelOptions::default()).unwrap();
    let cx = cx()
        .with_tenant(bowline_core::Tenant::new("canary").unwrap())
        .with_metadata("x-md-global-color", "blue")
        .unwrap()
        .with_metadata("x-md-local-hop", "1")
        .unwrap();
    client.echo(&cx, Everything::default()).await.unwrap();
    let seen = seen.0.lock().unwrap().clone();
    assert_eq!(seen["tenant"], "canary");
    assert_eq!((seen["x-md-global-color"].as_str(), seen["x-md-local-hop"].as_str()), ("blue", "1"));
    assert!(!seen.contains_key("grpc-timeout"), "the deadline is in the context: {seen:?}");
}

#[tokio::test]
async fn a_call_whose_time_is_over_is_counted_as_that() {
    let running = Running::start().unwrap();
    let metrics = bowline_telemetry::Metrics::new();
    let calls = bowline_telemetry::CallMetrics::new(&metrics, bowline_telemetry::Side::Client);
    let channel =
        bowline_client::Channel::builder(running.endpoint.to_string()).calls(calls).build().unwrap();
    let client = testing::Client::new(channel.caller().unwrap());
    let short = Context::background().with_timeout(Duration::from_millis(50));
    let late = client.sleep(&short, SleepRequest { millis: 60_000, ..Default::default() }).await;
    assert!(late.unwrap_err().is_timeout());
    eventually(|| metrics.encode().unwrap().contains(r#"method="Sleep",code="DEADLINE_EXCEEDED"} 1"#)).await;
}
