//! What a server refuses before it does anything: by its limit, by rates, by bulkheads, by time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::sync::atomic::Ordering;
use std::time::Duration;

use bowline_client::ChannelOptions;
use bowline_core::{Code, Context, Criticality, Error};
use bowline_resilience::{Algorithm, BulkheadOptions, Policies, Rate, ServerPolicy};
use bowline_server::ServerOptions;
use bowline_tests_protocols::api::testing::v1::{
    CountRequest, Everything, FailRequest, SleepRequest, testing,
};
use bowline_tests_protocols::{Running, TestService, client};
use bowline_tests_support::{Http, eventually};
use tokio::task::JoinSet;

const ECHO: &str = "/testing.v1.Testing/Echo";
const SLEEP: &str = "/testing.v1.Testing/Sleep";

fn policies<const N: usize>(entries: [(&str, ServerPolicy); N]) -> Policies<ServerPolicy> {
    Policies::new(entries.map(|(key, policy)| (key.to_owned(), policy))).unwrap()
}

fn start(admission: Option<Algorithm>, policies: Policies<ServerPolicy>) -> Running {
    let mut options = ServerOptions::at("127.0.0.1:0").unwrap();
    (options.admission, options.policies) = (admission, policies);
    Running::start_with(options).unwrap()
}

fn as_of(criticality: Criticality) -> Context {
    Context::background().with_metadata(Criticality::KEY, criticality.as_str()).unwrap()
}

fn sleep(millis: i32) -> SleepRequest {
    SleepRequest { millis, ..Default::default() }
}

/// Calls that sleep for long, once the server runs so many.
async fn sleepers(running: &Running, client: &testing::Client, count: usize) -> JoinSet<()> {
    let before = running.service.begun.load(Ordering::SeqCst);
    let mut calls = JoinSet::new();
    for _ in 0..count {
        let client = client.clone();
        calls.spawn(async move { drop(client.sleep(&Context::background(), sleep(20_000)).await) });
    }
    eventually(|| running.service.begun.load(Ordering::SeqCst) == before + count).await;
    calls
}

fn assert_refused(error: &Error, reason: &str) {
    assert_eq!((error.code(), error.reason()), (Code::ResourceExhausted, reason), "{error:?}");
    assert!(error.retry_after().is_some_and(|after| !after.is_zero()));
}

#[tokio::test]
async fn an_operation_is_called_as_often_as_its_rate_says_and_others_as_they_like() {
    let rate = Some(Rate { per_second: 0.1, burst: 2 });
    let running = start(None, policies([(ECHO, ServerPolicy { rate, ..Default::default() })]));
    let (client, cx) = (running.client().unwrap(), Context::background());
    for _ in 0..2 {
        client.echo(&cx, Everything::default()).await.unwrap();
    }
    let error = client.echo(&cx, Everything::default()).await.unwrap_err();
    assert_refused(&error, "RATELIMITED");
    assert!(error.retry_after().unwrap() > Duration::from_secs(5));
    client.sleep(&cx, sleep(0)).await.unwrap();

    // The same over REST, in its own words.
    let mut http = Http::connect(&running.endpoint).await;
    let answer = http.call("GET", "/v1/echo/x", &[], "").await;
    assert_eq!(answer.status, 429);
    let after: u64 = answer.header("retry-after").parse().unwrap();
    assert!((5..=10).contains(&after));
    assert!(answer.text().contains(r#""reason":"RATELIMITED""#), "{}", answer.text());

    // Another policy counts from now on.
    running.server.policies().set(Policies::default()).unwrap();
    client.echo(&cx, Everything::default()).await.unwrap();
}

#[tokio::test]
async fn each_caller_and_each_tenant_has_a_rate_of_its_own() {
    let rate = Some(Rate { per_second: 0.1, burst: 1 });
    let running = start(
        None,
        policies([
            (ECHO, ServerPolicy { caller_rate: rate, ..Default::default() }),
            (SLEEP, ServerPolicy { tenant_rate: rate, ..Default::default() }),
        ]),
    );
    let mut http = Http::connect(&running.endpoint).await;
    let mut echo = async |caller: &str| {
        http.call("GET", "/v1/echo/x", &[("x-md-local-caller", caller)], "").await.status
    };
    assert_eq!((echo("orders").await, echo("orders").await, echo("users").await), (200, 429, 200));

    let client = running.client().unwrap();
    let of = |tenant| Context::background().with_tenant(bowline_core::Tenant::new(tenant).unwrap());
    client.sleep(&of("red"), sleep(0)).await.unwrap();
    assert_refused(&client.sleep(&of("red"), sleep(0)).await.unwrap_err(), "RATELIMITED");
    client.sleep(&of("blue"), sleep(0)).await.unwrap();
    client.sleep(&Context::background(), sleep(0)).await.unwrap();
}

#[tokio::test]
async fn who_is_refused_by_a_wider_rate_spends_nothing_of_a_narrower_one() {
    let rate = |per_second, burst| Some(Rate { per_second, burst });
    let (scarce, soon) = (rate(0.001, 2), rate(2.0, 1));
    for (tenant_rate, rate) in [(soon, None), (rate(0.001, 100), soon)] {
        let policy = ServerPolicy { caller_rate: scarce, tenant_rate, rate, ..Default::default() };
        let running = start(None, policies([(ECHO, policy)]));
        let mut http = Http::connect(&running.endpoint).await;
        let mut echo = async |caller: &str| {
            http.call("GET", "/v1/echo/x", &[("x-md-local-caller", caller)], "").await.status
        };
        assert_eq!(echo("other").await, 200);
        let (mut served, mut refused) = (0, 0);
        while served < 2 && refused < 500 {
            match echo("me").await {
                200 => served += 1,
                _ => {
                    refused += 1;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
        assert!(refused > 2, "{refused}: the other rate was not used up");
        assert_eq!(served, 2, "it has both of its tokens for what is served");
    }
}

#[tokio::test]
async fn the_least_critical_is_refused_first_and_questions_about_health_never() {
    let running = start(Some(Algorithm::Fixed(4)), Policies::default());
    let client = running.client().unwrap();
    let busy = sleepers(&running, &client, 4).await;
    let call = |criticality| {
        let (client, cx) = (client.clone(), as_of(criticality));
        // The same operation: one with less than its share would have a place more.
        async move { client.sleep(&cx, sleep(0)).await }
    };
    assert_refused(&call(Criticality::Sheddable).await.unwrap_err(), "OVERLOADED");
    for more in [Criticality::SheddablePlus, Criticality::Critical, Criticality::CriticalPlus] {
        call(more).await.unwrap();
    }
    let even_more = sleepers(&running, &client, 4).await;
    assert_refused(&call(Criticality::Critical).await.unwrap_err(), "OVERLOADED");
    call(Criticality::CriticalPlus).await.unwrap();

    let health = bowline_rpc::proto::grpc::health::v1::health::Client::new(
        bowline_client::Channel::builder(running.endpoint.to_string()).build().unwrap().caller().unwrap(),
    );
    health.check(&as_of(Criticality::Sheddable), Default::default()).await.unwrap();
    drop((busy, even_more));
}

#[tokio::test]
async fn what_ends_in_any_way_gives_its_place_back() {
    let running = start(Some(Algorithm::Fixed(1)), Policies::default());
    let (client, cx) = (running.client().unwrap(), Context::background());
    let is_free = async || client.echo(&as_of(Criticality::Sheddable), Everything::default()).await.is_ok();
    for how in ["PANIC", "NOT_FOUND", "BUSY", "other"] {
        let error = client.fail(&cx, FailRequest { how: how.into(), ..Default::default() }).await;
        assert!(error.is_err());
        assert!(is_free().await, "{how}");
    }
    // A caller that goes away, and one whose time is over.
    drop(sleepers(&running, &client, 1).await);
    eventually(|| running.service.canceled.load(Ordering::SeqCst) == 1).await;
    assert!(is_free().await);
    let short = cx.with_timeout(Duration::from_millis(50));
    assert_eq!(client.sleep(&short, sleep(20_000)).await.unwrap_err().code(), Code::DeadlineExceeded);
    eventually(|| running.service.canceled.load(Ordering::SeqCst) == 2).await;
    assert!(is_free().await);
    // A stream holds no place: how long it lasts says nothing of how busy the server is.
    let count = CountRequest { to: i32::MAX, ..Default::default() };
    let mut stream = client.count(&cx, count).await.unwrap();
    assert!(stream.message().await.unwrap().is_some());
    assert!(is_free().await);
    drop(stream);
}

#[tokio::test]
async fn a_bulkhead_lets_some_run_some_wait_and_refuses_the_others() {
    let bulkhead = Some(BulkheadOptions { queue: 1, ..BulkheadOptions::new(2) });
    let running = start(None, policies([(SLEEP, ServerPolicy { bulkhead, ..Default::default() })]));
    let client = running.client().unwrap();
    let one = sleepers(&running, &client, 1).await;
    let other = sleepers(&running, &client, 1).await;
    // It waits, longer than it may.
    assert_refused(&client.sleep(&Context::background(), sleep(0)).await.unwrap_err(), "OVERLOADED");
    client.echo(&Context::background(), Everything::default()).await.unwrap();
    // A place that becomes free is its own.
    let (answer, ()) =
        tokio::join!(async { client.sleep(&Context::background(), sleep(0)).await }, async { drop(one) });
    answer.unwrap();
    drop(other);
    for _ in 0..10 {
        client.sleep(&Context::background(), sleep(0)).await.unwrap();
    }
}

#[tokio::test]
async fn other_policies_leave_tokens_and_places_that_are_taken_as_they_are() {
    let bulkhead = Some(BulkheadOptions { queue: 0, ..BulkheadOptions::new(2) });
    let rate = Some(Rate { per_second: 0.001, burst: 2 });
    let with = |timeout| {
        let (sleep, echo) = (
            ServerPolicy { bulkhead, timeout, ..Default::default() },
            ServerPolicy { rate, timeout, ..Default::default() },
        );
        policies([(SLEEP, sleep), (ECHO, echo)])
    };
    let running = start(None, with(None));
    let (client, cx) = (running.client().unwrap(), Context::background());
    let held = sleepers(&running, &client, 2).await;
    for _ in 0..2 {
        client.echo(&cx, Everything::default()).await.unwrap();
    }
    running.server.policies().set(with(Some(Duration::from_secs(60)))).unwrap();
    assert_refused(&client.sleep(&cx, sleep(0)).await.unwrap_err(), "OVERLOADED");
    let limited = client.echo(&cx, Everything::default()).await.unwrap_err();
    assert_eq!(limited.reason(), "RATELIMITED");
    drop(held);
    eventually(|| running.service.canceled.load(Ordering::SeqCst) == 2).await;
    client.sleep(&cx, sleep(0)).await.unwrap();
}

#[tokio::test]
async fn an_operation_has_as_much_time_as_its_policy_says() {
    let timeout = Some(Duration::from_millis(100));
    let running = start(None, policies([(SLEEP, ServerPolicy { timeout, ..Default::default() })]));
    let client = running.client().unwrap();
    let error = client.sleep(&Context::background(), sleep(20_000)).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    eventually(|| running.service.canceled.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_policy_for_what_is_not_there_is_an_error() {
    let mut options = ServerOptions::at("127.0.0.1:0").unwrap();
    options.policies = policies([("testing.v1.Testings", ServerPolicy::default())]);
    let error = Running::start_with(options).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(
        error.message().contains("testing.v1.Testings") && error.message().ends_with("testing.v1.Testing"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_refused_is_counted_by_its_reason() {
    let metrics = bowline_telemetry::Metrics::new();
    let rate = Some(Rate { per_second: 0.1, burst: 1 });
    let mut options = ServerOptions::at("127.0.0.1:0").unwrap();
    options.policies = policies([(ECHO, ServerPolicy { rate, ..Default::default() })]);
    let mut server = bowline_server::Server::new("test", options)
        .metrics(&metrics)
        .mount(testing::server(TestService::default()));
    let endpoint = server.bind().unwrap();
    server.set_ready(true);
    let client = client(&endpoint.to_string(), ChannelOptions::default()).unwrap();
    for _ in 0..3 {
        let _ = client.echo(&as_of(Criticality::Sheddable), Everything::default()).await;
    }
    let page = metrics.encode().unwrap();
    let line = r#"bowline_server_rejected_total{service="testing.v1.Testing",method="Echo",reason="RATELIMITED",criticality="SHEDDABLE"} 2"#;
    assert!(page.contains(line), "{page}");
    assert!(page.contains("bowline_server_cpu_load"), "{page}");
}

#[tokio::test]
async fn a_server_says_when_to_come_again() {
    let running = Running::start().unwrap();
    let client = running.client().unwrap();
    let busy = || FailRequest { how: "BUSY".into(), ..Default::default() };
    let error = client.fail(&Context::background(), busy()).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_millis(1500)));
    // gRPC's own clients look at the header.
    let mut http = Http::connect(&running.endpoint).await;
    let answer = http
        .call(
            "POST",
            "/testing.v1.Testing/Fail",
            &[("content-type", "application/json")],
            r#"{"how":"BUSY"}"#,
        )
        .await;
    assert_eq!(answer.header("grpc-retry-pushback-ms"), "1500");
}

#[tokio::test]
async fn what_came_too_late_is_told_by_its_id() {
    let running = Running::start().unwrap();
    let mut http = Http::connect(&running.endpoint).await;
    let late = [("x-envoy-expected-rq-timeout-ms", "0"), ("x-request-id", "late-1")];
    let answer = http.call("GET", "/v1/echo/n", &late, "").await;
    assert_eq!((answer.status, answer.header("x-request-id")), (504, late[1].1), "{}", answer.text());
    assert!(answer.text().contains("DEADLINE_EXCEEDED"), "{}", answer.text());
}
