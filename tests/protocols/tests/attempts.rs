//! What channels send again, and what they hold back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod stage;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bowline_client::{Balance, Channel, ChannelOptions, ClientPolicies, PickerKind};
use bowline_core::{Code, Context, Error, Instant, Result};
use bowline_resilience::{
    BreakerOptions, BudgetOptions, ClientPolicy, HedgeOptions, Policies, RetryOptions, ThrottleOptions,
};
use bowline_rpc::{Body, BoxFuture};
use bowline_server::{Middleware, Next, Server, ServerOptions};
use bowline_telemetry::{Metrics, Rejections, Side};
use bowline_tests_protocols::TestService;
use bowline_tests_protocols::api::testing::v1::{Everything, SleepRequest, testing};
use stage::{Stage, Stand, cx, cx_of};

/// A server whose first `fails` requests are answered with an error, and which counts all of them.
#[derive(Clone)]
struct Flaky {
    asked: Arc<AtomicUsize>,
    fails: usize,
    error: fn() -> Error,
}

impl Middleware for Flaky {
    fn call<'a>(
        &'a self,
        _: &'a Context,
        request: http::Request<Body>,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<http::Response<Body>>> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        if number < self.fails {
            return Box::pin(async { Err((self.error)()) });
        }
        Box::pin(next.run(request))
    }
}

struct Running {
    asked: Arc<AtomicUsize>,
    client: testing::Client,
    metrics: Metrics,
    policies: ClientPolicies,
    _server: Server,
}

/// One such server, and a client with a policy for all.
fn start(fails: usize, error: fn() -> Error, policy: ClientPolicy) -> Running {
    let asked = Arc::new(AtomicUsize::new(0));
    let mut server = Server::new("test", ServerOptions::at("127.0.0.1:0").unwrap())
        .mount(testing::server(TestService::default()))
        .middleware(Flaky { asked: Arc::clone(&asked), fails, error });
    let endpoint = server.bind().unwrap();
    server.set_ready(true);
    let metrics = Metrics::new();
    let policies = ClientPolicies::new(Policies::new([("*".to_owned(), policy)]).unwrap());
    let options = ChannelOptions {
        policies: policies.clone(),
        // One that fails on purpose is to stay.
        balance: Balance { ejection: None, ..Balance::default() },
        ..ChannelOptions::default()
    };
    let rejections = Rejections::new(&metrics, Side::Client);
    let channel =
        Channel::builder(endpoint.to_string()).options(options).rejections(rejections).build().unwrap();
    let client = testing::Client::new(channel.caller().unwrap());
    Running { asked, client, metrics, policies, _server: server }
}

impl Running {
    async fn ask(&self) -> Result<Everything> {
        self.client.echo(&cx(), Everything::default()).await
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn rejected(&self, reason: &str) -> bool {
        let page = self.metrics.encode().unwrap();
        page.lines().any(|line| line.starts_with("bowline_client_rejected_total") && line.contains(reason))
    }
}

fn down() -> Error {
    Error::unavailable("not now")
}

fn twice_is_fine() -> ClientPolicy {
    ClientPolicy { idempotent: Some(true), ..ClientPolicy::default() }
}

#[tokio::test]
async fn what_may_be_done_twice_is_sent_up_to_three_times() {
    let running = start(2, down, twice_is_fine());
    running.ask().await.unwrap();
    assert_eq!(running.asked(), 3);
    let running = start(3, down, twice_is_fine());
    let error = running.ask().await.unwrap_err();
    assert_eq!((error.code(), running.asked()), (Code::Unavailable, 3));
    assert!(error.forbids_retry(), "whoever called us does not try again");
}

#[tokio::test]
async fn what_may_have_been_done_is_not_sent_again() {
    let once = ClientPolicy { idempotent: Some(false), ..ClientPolicy::default() };
    let running = start(1, down, once);
    assert!(running.ask().await.unwrap_err().forbids_retry());
    assert_eq!(running.asked(), 1);
}

#[tokio::test]
async fn what_would_fail_again_is_not_sent_again() {
    for error in
        [|| Error::internal("a bug"), || Error::not_found("nothing"), || Error::invalid_argument("no")]
    {
        let running = start(1, error, twice_is_fine());
        let error = running.ask().await.unwrap_err();
        assert_eq!(running.asked(), 1, "{error}");
        assert!(!error.forbids_retry());
    }
}

#[tokio::test]
async fn a_server_that_says_so_is_not_asked_again() {
    let running = start(1, || down().without_retry(), twice_is_fine());
    assert!(running.ask().await.unwrap_err().forbids_retry());
    assert_eq!(running.asked(), 1);
    // And when it says when, not before.
    let running = start(1, || down().with_retry_after(Duration::from_millis(400)), twice_is_fine());
    let began = Instant::now();
    running.ask().await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(400));
    // Not at all if there is no time for it.
    let running = start(1, || down().with_retry_after(Duration::from_secs(60)), twice_is_fine());
    assert_eq!(running.ask().await.unwrap_err().retry_after(), Some(Duration::from_secs(60)));
}

#[tokio::test]
async fn a_server_that_is_overloaded_did_nothing_so_that_it_may_be_asked_again() {
    let overloaded = || {
        Error::resource_exhausted("too much")
            .with_reason("OVERLOADED")
            .with_retry_after(Duration::from_millis(50))
    };
    let running = start(1, overloaded, ClientPolicy { idempotent: Some(false), ..ClientPolicy::default() });
    running.ask().await.unwrap();
    assert_eq!(running.asked(), 2);
}

#[tokio::test]
async fn what_is_too_large_or_over_a_quota_is_no_overload() {
    let too_large = || Error::resource_exhausted("too large").with_reason("MESSAGE_TOO_LARGE");
    let running = start(usize::MAX, too_large, twice_is_fine());
    for asked in 1..=40 {
        assert_eq!(running.ask().await.unwrap_err().reason(), "MESSAGE_TOO_LARGE");
        assert_eq!(running.asked(), asked, "sent once, and never held back");
    }
}

#[tokio::test]
async fn who_is_held_back_from_trying_again_hears_what_went_wrong_at_first() {
    let breaker = BreakerOptions { least: 1, failures: 0.5, ..BreakerOptions::default() };
    let running = start(usize::MAX, down, ClientPolicy { breaker: Some(breaker), ..twice_is_fine() });
    let error = running.ask().await.unwrap_err();
    assert_eq!((running.asked(), error.message(), error.reason()), (1, "not now", down().reason()));
    assert!(error.forbids_retry());
    assert_eq!(running.ask().await.unwrap_err().reason(), "CIRCUIT_OPEN", "this one was not sent");
    assert_eq!(running.asked(), 1);
}

#[tokio::test]
async fn one_of_two_that_refuses_at_once_costs_nobody_a_call_and_attracts_nobody() {
    let stands = Stand::several(2);
    let stage = Stage::new(Balance::default(), &stands);
    assert_eq!(stage.ask_times(50, &cx()).await, 0);
    stands[0].refuse();
    let before = stands[0].asked();
    assert_eq!(stage.ask_times(300, &cx()).await, 0);
    let refused = stands[0].asked() - before;
    assert!(refused <= 30, "{refused} of 300 went to the one that refuses");
}

#[tokio::test]
async fn what_one_that_is_full_asks_for_does_not_keep_a_tenants_request_from_the_rest_of_the_base() {
    let stands = Stand::several(2);
    let balance = Balance { picker: PickerKind::WeightedRoundRobin, ..Balance::default() };
    let stage = Stage::new(balance, &stands);
    stands[0].refuse();
    for tenant in ["", "red"] {
        // It asks for a second, which these do not have.
        for _ in 0..4 {
            stage.ask(&cx_of(tenant).with_timeout(Duration::from_millis(700))).await.unwrap();
        }
    }
    assert!(stands[0].asked() >= 2, "it was asked by both");
}

#[tokio::test]
async fn the_only_one_that_works_is_left_alone_for_as_long_as_it_asks() {
    let mut stands = Stand::several(3);
    stands[1].instance.weight = 0;
    let stage = Stage::new(Balance::default(), &stands);
    drop(stands.remove(2));
    stands[0].refuse();
    let began = Instant::now();
    let error = stage.ask(&cx()).await.unwrap_err();
    assert_eq!(error.reason(), "OVERLOADED", "{error}");
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "those that are dead or want no traffic are no others"
    );
    assert_eq!(stands[1].asked(), 0);
}

#[tokio::test]
async fn one_of_two_that_hangs_is_left_though_its_calls_have_little_time() {
    let stands = Stand::several(2);
    let stage = Stage::new(Balance::default(), &stands);
    let policy = ClientPolicy { timeout: Some(Duration::from_millis(60)), ..ClientPolicy::default() };
    stage.policies.set(Policies::new([("*".to_owned(), policy)]).unwrap());
    assert_eq!(stage.ask_times(50, &cx()).await, 0);
    stands[0].hang();
    let failed = stage.ask_times(200, &cx()).await;
    assert!(failed <= 10, "{failed} of 200");
    // Nor by callers that give little time, or go away without a word.
    let stage = Stage::new(Balance { ejection: None, ..Balance::default() }, &stands);
    let (cx, mut failed) = (cx(), 0);
    for _ in 0..200 {
        let call = tokio::time::timeout(Duration::from_millis(60), stage.ask(&cx));
        failed += usize::from(call.await.is_err());
    }
    assert!(failed <= 10, "{failed} of 200");
}

#[tokio::test]
async fn no_more_is_sent_again_than_the_budget_allows() {
    let budget = Some(BudgetOptions { ratio: 0.0, per_second: 0.3, ..BudgetOptions::default() });
    let throttle = Some(ThrottleOptions { k: 0.0, ..ThrottleOptions::default() });
    let running = start(usize::MAX, down, ClientPolicy { budget, throttle, ..twice_is_fine() });
    for _ in 0..10 {
        running.ask().await.unwrap_err();
    }
    assert_eq!(running.asked(), 13, "0.3 a second for 10 s");
    let error = running.ask().await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "not now"));
    assert!(running.rejected("BUDGET_EXHAUSTED"));
}

#[tokio::test]
async fn an_operation_that_is_always_refused_is_hardly_sent_any_more() {
    let retry = Some(RetryOptions::OFF);
    let running = start(usize::MAX, down, ClientPolicy { retry, ..ClientPolicy::default() });
    let mut held = 0;
    for _ in 0..300 {
        let error = running.ask().await.unwrap_err();
        if error.reason() == "CIRCUIT_OPEN" {
            assert!(error.forbids_retry() && error.retry_after().is_some());
            held += 1;
        }
    }
    assert_eq!(running.asked() + held, 300);
    assert!(running.asked() < 150, "{} were sent", running.asked());
    assert!(running.rejected("CIRCUIT_OPEN"));
}

#[tokio::test]
async fn a_breaker_opens_and_one_request_closes_it() {
    let breaker = BreakerOptions { least: 5, open: Duration::from_millis(300), ..BreakerOptions::default() };
    let policy = ClientPolicy { breaker: Some(breaker), ..ClientPolicy::default() };
    let running = start(5, || Error::internal("a bug"), policy);
    for _ in 0..5 {
        assert_eq!(running.ask().await.unwrap_err().code(), Code::Internal);
    }
    assert_eq!(running.ask().await.unwrap_err().reason(), "CIRCUIT_OPEN");
    assert_eq!(running.asked(), 5);
    let began = Instant::now();
    while running.ask().await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(5), "it stays open");
        tokio::task::yield_now().await;
    }
    running.ask().await.unwrap();
}

#[tokio::test]
async fn an_attempt_that_hangs_is_given_up_and_another_instance_answers() {
    let stands = Stand::several(2);
    stands[0].hang();
    let policy = ClientPolicy { attempt_timeout: Some(Duration::from_millis(200)), ..twice_is_fine() };
    let stage = Stage::new(Balance::default(), &stands);
    stage.policies.set(Policies::new([("*".to_owned(), policy)]).unwrap());
    assert_eq!(stage.ask_times(20, &cx()).await, 0);
    assert!(stands[0].asked() > 0);
}

#[tokio::test]
async fn a_late_answer_is_overtaken_by_a_second_request_elsewhere() {
    let stands = Stand::several(2);
    let budget = BudgetOptions { ratio: 1.0, ..BudgetOptions::HEDGES };
    let hedge = HedgeOptions { least: 10, budget, ..HedgeOptions::default() };
    let policy = ClientPolicy { hedge: Some(hedge), ..twice_is_fine() };
    let stage = Stage::new(Balance { ejection: None, ..Balance::default() }, &stands);
    stage.policies.set(Policies::new([("*".to_owned(), policy)]).unwrap());
    // What is late is worked out once a second.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1200) {
        stage.ask(&cx()).await.unwrap();
    }
    stands[0].hang();
    assert_eq!(stage.ask_times(20, &cx()).await, 0, "nobody waits for the one that hangs");
}

#[tokio::test]
async fn an_operation_has_no_more_time_than_its_policy_gives() {
    let stands = Stand::several(1);
    stands[0].hang();
    let stage = Stage::new(Balance::default(), &stands);
    let policy = ClientPolicy { timeout: Some(Duration::from_millis(100)), ..ClientPolicy::default() };
    stage.policies.set(Policies::new([("testing.v1.Testing".to_owned(), policy)]).unwrap());
    let error = stage.ask(&cx()).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(error.forbids_retry());
}

#[tokio::test]
async fn a_call_whose_time_is_over_is_not_sent() {
    let running = start(0, down, ClientPolicy::default());
    let late = Context::background().with_timeout(Duration::ZERO);
    let error = running.client.echo(&late, Everything::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(running.asked(), 0);
    running.policies.set(Policies::default());
    running.ask().await.unwrap();
}

#[tokio::test]
async fn the_last_good_answer_stands_in_for_a_new_one_and_only_for_the_same_request() {
    let stands = Stand::several(1);
    let policy = ClientPolicy { last_good: Some(Duration::from_secs(60)), ..twice_is_fine() };
    let stage = Stage::new(Balance { ejection: None, ..Balance::default() }, &stands);
    stage.policies.set(Policies::new([("*".to_owned(), policy)]).unwrap());
    let named = |name: &str| Everything { name: name.into(), ..Default::default() };
    stage.client.echo(&cx(), named("a")).await.unwrap();
    let mut stands = stands;
    stands.remove(0).stop().await;
    assert_eq!(stage.client.echo(&cx(), named("a")).await.unwrap().name, "a");
    assert_eq!(stage.client.echo(&cx(), named("b")).await.unwrap_err().code(), Code::Unavailable);
    let other = stage::cx_of("red");
    assert!(stage.client.echo(&other, named("a")).await.is_err(), "another tenant's is none of its business");
    let degraded =
        r#"bowline_client_degraded_total{service="testing.v1.Testing",method="Echo",how="last-good"}"#;
    assert_eq!(stage.measured(degraded), Some(1.0));
}

#[tokio::test]
async fn a_fallback_answers_in_the_place_of_a_failure_that_it_knows() {
    let stands = Stand::several(1);
    stands[0].fail();
    let stage = Stage::with(Balance { ejection: None, ..Balance::default() }, &stands, |builder| {
        builder.fallback("/testing.v1.Testing/Echo", |_, error: &Error| {
            let instead = Everything { name: "instead".into(), ..Default::default() };
            (error.code() == Code::Internal).then_some(instead)
        })
    });
    assert_eq!(stage.ask(&cx()).await.unwrap().name, "instead");
    stands[0].recover();
    assert_eq!(stage.ask(&cx()).await.unwrap().name, "");
}

/// Asks somebody else before it answers.
#[derive(Clone)]
struct Asks(testing::Client);

impl Middleware for Asks {
    fn call<'a>(
        &'a self,
        cx: &'a Context,
        request: http::Request<Body>,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<http::Response<Body>>> {
        Box::pin(async move {
            self.0.echo(cx, Everything::default()).await?;
            next.run(request).await
        })
    }
}

#[tokio::test]
async fn what_is_degraded_is_told_hop_by_hop() {
    let stands = Stand::several(1);
    stands[0].fail();
    let stage = Stage::with(Balance { ejection: None, ..Balance::default() }, &stands, |builder| {
        builder.fallback("/testing.v1.Testing/Echo", |_, _: &Error| Some(Everything::default()))
    });
    let asking = |client: testing::Client| {
        let mut server = Server::new("test", ServerOptions::at("127.0.0.1:0").unwrap())
            .mount(testing::server(TestService::default()))
            .middleware(Asks(client));
        let endpoint = server.bind().unwrap();
        server.set_ready(true);
        (server, endpoint)
    };
    let (_near, near) = asking(stage.client.clone());
    let channel = Channel::builder(near.to_string()).build().unwrap();
    let (_far, far) = asking(testing::Client::new(channel.caller().unwrap()));
    let client = testing::Client::new(Channel::builder(far.to_string()).build().unwrap().caller().unwrap());
    let mut http = bowline_tests_support::Http::connect(&far).await;
    for is_well in [false, true] {
        if is_well {
            stands[0].recover();
        }
        let (cx, _canceller) = Context::builder().build();
        client.echo(&cx, Everything::default()).await.unwrap();
        assert_eq!(cx.is_degraded(), !is_well);
        let json = [("content-type", "application/json")];
        let answer = http.call("POST", "/testing.v1.Testing/Echo", &json, "{}").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-bowline-degraded"), if is_well { "" } else { "dependency" });
        let failed = http.call("POST", "/testing.v1.Testing/Fail", &json, r#"{"how": "NOT_FOUND"}"#).await;
        assert_ne!(failed.status, 200, "{}", failed.text());
        assert_eq!(failed.header("x-bowline-degraded"), "", "what failed is no answer");
    }
}

#[tokio::test]
async fn the_same_reads_at_the_same_time_are_one_and_outlive_who_asked_first() {
    let stands = Stand::several(1);
    let policy = ClientPolicy { singleflight: Some(true), ..twice_is_fine() };
    let stage = Stage::new(Balance::default(), &stands);
    stage.policies.set(Policies::new([("*".to_owned(), policy)]).unwrap());
    let sleep = || {
        let client = stage.client.clone();
        let request = SleepRequest { millis: 300, ..Default::default() };
        async move { client.sleep(&cx(), request).await }
    };
    let impatient = Context::background().with_timeout(Duration::from_millis(50));
    let request = SleepRequest { millis: 300, ..Default::default() };
    let (first, others) = tokio::join!(
        stage.client.sleep(&impatient, request),
        futures_util::future::join_all((0..20).map(|_| sleep()))
    );
    assert_eq!(first.unwrap_err().code(), Code::DeadlineExceeded);
    assert!(others.iter().all(Result::is_ok), "{others:?}");
    assert_eq!(stands[0].asked(), 1);
    // What is asked for later is a call of its own, and one that nobody waits for any more ends.
    sleep().await.unwrap();
    assert_eq!(stands[0].asked(), 2);
}

#[tokio::test]
async fn a_hedge_goes_to_another_instance_than_the_one_that_is_late() {
    let stands = Stand::several(2);
    let budget = BudgetOptions { ratio: 1.0, ..BudgetOptions::HEDGES };
    let hedge = HedgeOptions { least: 10, budget, ..HedgeOptions::default() };
    let policy = ClientPolicy { hedge: Some(hedge), ..twice_is_fine() };
    let picker = PickerKind::ConsistentHash { key: "x-md-global-user".into() };
    let stage = Stage::new(Balance { picker, ejection: None, ..Balance::default() }, &stands);
    stage.policies.set(Policies::new([("*".to_owned(), policy)]).unwrap());
    // The same key is the same instance's.
    let cx = || cx().with_metadata("x-md-global-user", "7").unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1200) {
        stage.ask(&cx()).await.unwrap();
    }
    let (its, others) = if stands[0].asked() > stands[1].asked() { (0, 1) } else { (1, 0) };
    let before = stands[others].asked();
    stands[its].hang();
    assert_eq!(stage.ask_times(10, &cx()).await, 0);
    assert_eq!(stands[others].asked() - before, 10);
}
