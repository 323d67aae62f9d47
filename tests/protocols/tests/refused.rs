//! What is refused by its head alone, before what it brings along has arrived.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context as Task, Poll};

use bowline_client::{Channel, ChannelOptions, ClientPolicies};
use bowline_core::{Context, MethodKind, Operation};
use bowline_resilience::{
    BulkheadOptions, ClientPolicy, Policies, Rate, RetryOptions, ServerPolicy, ThrottleOptions,
};
use bowline_rpc::headers::grpc_failure;
use bowline_rpc::{Body, Transport};
use bowline_server::ServerOptions;
use bowline_tests_protocols::Running;
use bowline_tests_protocols::api::testing::v1::{SleepRequest, testing};
use bowline_tests_support::eventually;
use http::Request;
use http_body::{Body as HttpBody, Frame};
use tokio::task::JoinSet;

const ECHO: &str = "/testing.v1.Testing/Echo";

/// Several times what h2 forgives in a connection's life; not each of them is late.
const CALLS: usize = 8_000;
/// How many of them at a time.
const AT_ONCE: usize = 60;

/// An empty message that leaves a moment after its request's head, on its way while the answer is.
struct Late(u8);

impl HttpBody for Late {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, Self::Error>>> {
        match self.0 {
            0 => Poll::Ready(None),
            1 => {
                self.0 = 0;
                Poll::Ready(Some(Ok(Frame::data(bytes::Bytes::from_static(&[0; 5])))))
            }
            _ => {
                self.0 -= 1;
                task.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

/// One connection, and nothing but what the server says.
fn channel(running: &Running) -> Channel {
    let retry = Some(RetryOptions { attempts: 1, ..RetryOptions::default() });
    let throttle = Some(ThrottleOptions { k: 0.0, ..ThrottleOptions::default() });
    let policy = ClientPolicy { retry, throttle, ..ClientPolicy::default() };
    let policies = ClientPolicies::new(Policies::new([("*".to_owned(), policy)]).unwrap());
    let options = ChannelOptions { policies, connections: 1, ..ChannelOptions::default() };
    Channel::builder(running.endpoint.to_string()).options(options).build().unwrap()
}

async fn refused(channel: Channel, timeout: &str) -> String {
    let body = Body::new(Late(2));
    let request = Request::post(format!("http://test{ECHO}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", timeout)
        .body(body);
    let operation = Operation::new("testing.v1.Testing", "Echo", MethodKind::Unary);
    match channel.send(Context::background(), operation, request.unwrap()).await {
        Ok(response) => grpc_failure(response.headers()).map_or("served".into(), |e| e.reason().to_owned()),
        Err(error) => error.reason().to_owned(),
    }
}

async fn a_connection_outlives_what_it_is_refused(
    policy: ServerPolicy,
    timeout: &'static str,
    served: usize,
    reason: &str,
) {
    let mut options = ServerOptions::at("127.0.0.1:0").unwrap();
    options.policies = Policies::new([(ECHO.to_owned(), policy)]).unwrap();
    let running = Running::start_with(options).unwrap();
    let channel = channel(&running);
    let client = testing::Client::new(channel.caller().unwrap());
    let mut beside = JoinSet::new();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    beside.spawn(async move {
        let cx = Context::background();
        let long = client.sleep(&cx, SleepRequest { millis: 20_000, ..Default::default() });
        tokio::select! {
            answer = long => panic!("the connection broke: {answer:?}"),
            _ = stopped => {}
        }
    });
    eventually(|| running.service.begun.load(Ordering::SeqCst) == 1).await;
    let (mut calls, mut told) = (JoinSet::new(), std::collections::BTreeMap::<String, usize>::new());
    for _ in 0..CALLS {
        if calls.len() == AT_ONCE {
            *told.entry(calls.join_next().await.unwrap().unwrap()).or_default() += 1;
        }
        calls.spawn(refused(channel.clone(), timeout));
    }
    for answer in calls.join_all().await {
        *told.entry(answer).or_default() += 1;
    }
    let known = |answer: &String| answer == "served" || answer == reason;
    assert!(told.keys().all(known) && told[reason] >= CALLS - served, "{told:?}");
    stop.send(()).expect("it was told before");
    beside.join_next().await.unwrap().unwrap();
    assert_eq!(running.server.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_outlives_thousands_of_calls_that_a_rate_refused() {
    let rate = Some(Rate { per_second: 0.001, burst: 1 });
    let policy = ServerPolicy { rate, ..Default::default() };
    a_connection_outlives_what_it_is_refused(policy, "20S", 1, "RATELIMITED").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_outlives_thousands_of_calls_that_a_bulkhead_refused() {
    let options = BulkheadOptions { queue: 0, ..BulkheadOptions::new(1) };
    let policy = ServerPolicy { bulkhead: Some(options), ..Default::default() };
    // Whoever finds the place free is served.
    a_connection_outlives_what_it_is_refused(policy, "20S", CALLS - 2_000, "OVERLOADED").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_outlives_thousands_of_calls_that_came_too_late() {
    let none = ServerPolicy::default();
    a_connection_outlives_what_it_is_refused(none, "0u", 0, "DEADLINE_EXCEEDED").await;
}
