//! Our client against our server, over gRPC.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::sync::atomic::Ordering;
use std::time::Duration;

use bowline_core::{Code, Context, Error};
use bowline_rpc::Streaming;
use bowline_tests_protocols::api::testing::v1::{CountRequest, Everything, FailRequest, SleepRequest};
use bowline_tests_protocols::{Running, number};
use bowline_tests_support::eventually;

async fn collect<T>(mut stream: Streaming<T>) -> (Vec<T>, Option<Error>) {
    let mut all = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(message)) => all.push(message),
            Ok(None) => return (all, None),
            Err(error) => return (all, Some(error)),
        }
    }
}

#[tokio::test]
async fn all_four_kinds_of_method_work() {
    let running = Running::start().unwrap();
    let client = running.client().unwrap();
    let cx = Context::background();

    let sent =
        Everything { name: "北京".into(), big: i64::MAX, tags: vec!["a".into()], ..Default::default() };
    assert_eq!(client.echo(&cx, sent.clone()).await.unwrap(), sent);

    let count = CountRequest { to: 1000, ..Default::default() };
    let (numbers, error) = collect(client.count(&cx, count).await.unwrap()).await;
    assert!(error.is_none());
    assert_eq!(numbers.iter().map(|n| n.value).collect::<Vec<_>>(), (1..=1000).collect::<Vec<_>>());

    let sum = client.sum(&cx, Streaming::from_iter((1..=100).map(number))).await.unwrap();
    assert_eq!(sum.value, 5050);

    let (sender, requests) = Streaming::channel(1);
    let mut doubled = client.double(&cx, requests).await.unwrap();
    for value in [1, 2, 3] {
        sender.send(number(value)).await.unwrap();
        assert_eq!(
            doubled.message().await.unwrap().unwrap().value,
            2 * value,
            "each answer comes before the next question"
        );
    }
    drop(sender);
    assert!(doubled.message().await.unwrap().is_none());
}

#[tokio::test]
async fn errors_keep_their_meaning() {
    let running = Running::start().unwrap();
    let client = running.client().unwrap();
    let cx = Context::background();
    let fail = |how: &str| FailRequest { how: how.into(), ..Default::default() };

    let error = client.fail(&cx, fail("NOT_FOUND")).await.unwrap_err();
    assert!(bowline_tests_protocols::api::testing::v1::test_error::is_item_not_found(&error), "{error:?}");
    assert_eq!((error.message(), error.metadata()["id"].as_str()), ("there is no such item", "7"));

    let error = client.fail(&cx, fail("INTERNAL")).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Internal, "internal error"));
    assert!(error.metadata().contains_key("request_id"));

    let error = client.fail(&cx, fail("PANIC")).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::Internal, "PANIC"));
    assert!(!error.message().contains("bug"));

    let error = client.fail(&cx, fail("BUSY")).await.unwrap_err();
    assert!(error.is_temporary());
    assert_eq!(error.retry_after(), Some(Duration::from_millis(1500)));

    let early = CountRequest { to: 9, fail_after: -1, ..Default::default() };
    let (numbers, error) = match client.count(&cx, early).await {
        Ok(stream) => collect(stream).await,
        Err(error) => (Vec::new(), Some(error)),
    };
    assert!(numbers.is_empty());
    let error = error.unwrap();
    assert_eq!(
        error.reason(),
        "ITEM_NOT_FOUND",
        "a stream that fails before its first message keeps its reason: {error:?}"
    );

    let count = CountRequest { to: 9, fail_after: 3, ..Default::default() };
    let (numbers, error) = collect(client.count(&cx, count).await.unwrap()).await;
    assert_eq!(numbers.len(), 3);
    assert!(error.unwrap().is_not_found());
}

#[tokio::test]
async fn a_panic_within_a_stream_is_its_last_element_in_every_protocol() {
    let running = Running::start().unwrap();
    let client = running.client().unwrap();
    let request = CountRequest { to: 5, fail_after: i32::MAX, ..Default::default() };
    let (numbers, error) = collect(client.count(&Context::background(), request).await.unwrap()).await;
    let error = error.unwrap();
    assert_eq!((numbers.len(), error.code(), error.message()), (2, Code::Internal, "internal error"));
    assert!(error.metadata().contains_key("request_id"), "{error:?}");
    let mut rest = bowline_tests_support::Http::connect(&running.endpoint).await;
    let path = format!("/v1/count/5?fail_after={}", i32::MAX);
    let answer = rest.call("GET", &path, &[], "").await;
    let last = answer.text().lines().last().unwrap_or_default().to_owned();
    assert!(
        last.contains("@error") && last.contains("request_id") && !last.contains("bug"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn a_health_watch_ends_with_the_server_and_holds_up_no_drain() {
    use bowline_rpc::proto::grpc::health::v1::{HealthCheckRequest, health};
    let running = Running::start().unwrap();
    let channel = bowline_client::Channel::builder(running.endpoint.to_string()).build().unwrap();
    let client = health::Client::new(channel.caller().unwrap());
    let cx = Context::background().with_timeout(Duration::from_secs(20));
    let mut watch = client.watch(&cx, HealthCheckRequest::default()).await.unwrap();
    let serving = watch.message().await.unwrap().unwrap();
    running.server.drain(&cx).await.unwrap();
    let stopping = watch.message().await.unwrap().unwrap();
    assert_ne!(serving.status, stopping.status);
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn the_deadline_travels_and_ends_the_call_on_both_sides() {
    let running = Running::start().unwrap();
    let client = running.client().unwrap();
    let sleep = |millis| SleepRequest { millis, ..Default::default() };

    let cx = Context::background().with_timeout(Duration::from_secs(5));
    let remaining = client.sleep(&cx, sleep(0)).await.unwrap().remaining_millis;
    assert!((4000..=5000).contains(&remaining), "{remaining}");

    let error =
        client.sleep(&Context::background().with_timeout(Duration::from_millis(50)), sleep(60_000)).await;
    assert!(error.unwrap_err().is_timeout());
    eventually(|| running.service.canceled.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn cancelling_the_context_stops_the_handler() {
    let running = Running::start().unwrap();
    let client = running.client().unwrap();
    let (cx, canceller) = Context::background().with_cancel();
    let call = client.sleep(&cx, SleepRequest { millis: 60_000, ..Default::default() });
    let stop = async {
        eventually(|| running.service.begun.load(Ordering::SeqCst) == 1).await;
        canceller.cancel();
    };
    let (answer, ()) = tokio::join!(call, stop);
    assert!(answer.unwrap_err().is_canceled());
    eventually(|| running.service.canceled.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_broken_request_stream_is_not_taken_for_a_complete_one() {
    let running = Running::start().unwrap();
    let client = running.client().unwrap();
    let items = vec![Ok(number(1)), Err(Error::aborted_for_test())];
    let requests = Streaming::new(futures_util::stream::iter(items));
    let error = client.sum(&Context::background(), requests).await.unwrap_err();
    assert_eq!(error.code(), Code::Aborted, "{error:?}");
}

trait ForTest {
    fn aborted_for_test() -> Error;
}

impl ForTest for Error {
    fn aborted_for_test() -> Error {
        Error::new(Code::Aborted, "the source broke")
    }
}

#[tokio::test]
async fn draining_lets_requests_finish_and_refuses_new_ones() {
    let running = Running::start().unwrap();
    let client = running.client().unwrap();
    let cx = Context::background().with_timeout(Duration::from_secs(10));
    let slow = client.sleep(&cx, SleepRequest { millis: 300, ..Default::default() });
    let drain = async {
        eventually(|| running.service.begun.load(Ordering::SeqCst) == 1).await;
        running.server.drain(&cx).await
    };
    let (answer, drained) = tokio::join!(slow, drain);
    answer.unwrap();
    drained.unwrap();
    let error = client.echo(&cx, Everything::default()).await.unwrap_err();
    assert_eq!(error.reason(), "UNREACHABLE", "{error:?}");
}
