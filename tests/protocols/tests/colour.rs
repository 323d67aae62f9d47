//! A request's colour goes where its context goes: over several services, into the tasks and streams that work for it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod stage;

use bowline_client::Balance;
use bowline_core::task::{Group, Tracker};
use bowline_core::{Context, Error, Result};
use bowline_rpc::Streaming;
use bowline_tests_protocols::api::google::api::HttpBody;
use bowline_tests_protocols::api::testing::v1::{
    CountRequest, Everything, FailRequest, Number, SleepReply, SleepRequest, UploadReply, UploadRequest,
    testing,
};
use bowline_tests_protocols::number;
use bowline_tests_support::eventually;
use futures_util::StreamExt as _;

use stage::{Stage, Stand, cx, cx_of};

/// A service that asks the next one, each method from somewhere else than its handler.
#[derive(Clone)]
struct Relay {
    next: testing::Client,
    tasks: Tracker,
}

impl Relay {
    fn stand(id: &str, next: &Stage, tasks: &Tracker) -> Stand {
        let relay = Self { next: next.client.clone(), tasks: tasks.clone() };
        Stand::serving(id, testing::server(relay))
    }
}

impl testing::Service for Relay {
    /// From a task that it waits for.
    async fn echo(&self, cx: &Context, req: Everything) -> Result<Everything> {
        let (next, mut group) = (self.next.clone(), Group::new(cx));
        group.spawn(move |cx| async move { next.echo(&cx, req).await });
        group.wait().await?.pop().ok_or_else(|| Error::internal("the task has ended without an answer"))
    }

    /// From a task that goes on after it has answered.
    async fn sleep(&self, cx: &Context, req: SleepRequest) -> Result<SleepReply> {
        let (next, cx) = (self.next.clone(), cx.detached());
        self.tasks.spawn(async move {
            next.sleep(&cx, req).await.unwrap();
        });
        Ok(SleepReply::default())
    }

    /// From the stream that it answers with: for each number, a stream of one.
    async fn count(&self, cx: &Context, req: CountRequest) -> Result<Streaming<Number>> {
        let (next, cx) = (self.next.clone(), cx.clone());
        let numbers = futures_util::stream::iter(1..=req.to).then(move |value| {
            let (next, cx) = (next.clone(), cx.clone());
            async move {
                let mut one = next.count(&cx, CountRequest { to: 1, ..Default::default() }).await?;
                while one.message().await?.is_some() {}
                Ok(number(value))
            }
        });
        Ok(Streaming::new(numbers))
    }

    /// From a task that answers, as numbers come in: for each of them, a stream both ways.
    async fn double(&self, cx: &Context, mut req: Streaming<Number>) -> Result<Streaming<Number>> {
        let (sender, doubled) = Streaming::channel(1);
        let (next, cx) = (self.next.clone(), cx.clone());
        self.tasks.spawn(async move {
            while let Ok(Some(number)) = req.message().await {
                let mut one = next.double(&cx, Streaming::from_iter([number])).await.unwrap();
                while let Ok(Some(number)) = one.message().await {
                    sender.send(number).await.unwrap();
                }
            }
        });
        Ok(doubled)
    }

    async fn fail(&self, _: &Context, _: FailRequest) -> Result<Number> {
        Err(not_here())
    }

    async fn sum(&self, _: &Context, _: Streaming<Number>) -> Result<Number> {
        Err(not_here())
    }

    async fn upload(&self, _: &Context, _: UploadRequest) -> Result<UploadReply> {
        Err(not_here())
    }

    async fn download(&self, _: &Context, _: Number) -> Result<HttpBody> {
        Err(not_here())
    }

    async fn repeat(&self, _: &Context, _: Everything) -> Result<Streaming<Everything>> {
        Err(not_here())
    }

    async fn lines(&self, _: &Context, _: CountRequest) -> Result<Streaming<HttpBody>> {
        Err(not_here())
    }

    async fn upload_chunks(&self, _: &Context, _: Streaming<HttpBody>) -> Result<UploadReply> {
        Err(not_here())
    }
}

fn not_here() -> Error {
    Error::unimplemented("this service only passes on")
}

/// A front, which nobody has coloured; behind it a service and behind that another one, each with instances of the base and a
/// blue one.
struct Fleet {
    outside: Stage,
    services: Vec<Stand>,
    last: Vec<Stand>,
    _inside: [Stage; 2],
    _front: Stand,
}

impl Fleet {
    fn start() -> Self {
        let tasks = Tracker::new();
        let mut last = Stand::several(2);
        last.push(Stand::start("blue").of("blue"));
        let to_last = Stage::new(Balance::default(), &last);
        let relay = |id| Relay::stand(id, &to_last, &tasks);
        let services = vec![relay("s0"), relay("s1"), relay("s-blue").of("blue")];
        let to_services = Stage::new(Balance::default(), &services);
        let front = Relay::stand("front", &to_services, &tasks);
        let outside = Stage::new(Balance::default(), std::slice::from_ref(&front));
        Self { outside, services, last, _inside: [to_services, to_last], _front: front }
    }

    /// How many requests of no colour, of blue and of green came to the base and to the blue instance of a service.
    fn seen(stands: &[Stand]) -> [[usize; 3]; 2] {
        let count = |stands: &[Stand]| {
            let tenants = stands.iter().flat_map(Stand::tenants).collect::<Vec<_>>();
            ["", "blue", "green"].map(|own| tenants.iter().filter(|tenant| *tenant == own).count())
        };
        [count(&stands[..2]), count(&stands[2..])]
    }

    /// Waits until the last service has had so many requests, and then says whose they were, on both.
    async fn all_seen(&self, requests: usize) -> [[[usize; 3]; 2]; 2] {
        eventually(|| self.last.iter().map(Stand::asked).sum::<usize>() >= requests).await;
        [Self::seen(&self.services), Self::seen(&self.last)]
    }
}

/// What is to be seen of so many requests of each colour: those of green, which has no instance, are the base's.
fn exactly(requests: usize) -> [[[usize; 3]; 2]; 2] {
    [[[requests, 0, requests], [0, requests, 0]]; 2]
}

fn of_each_colour() -> [Context; 3] {
    [cx(), cx_of("blue"), cx_of("green")]
}

#[tokio::test]
async fn a_call_from_a_task_that_a_handler_waits_for_has_the_requests_colour() {
    let fleet = Fleet::start();
    for _ in 0..20 {
        for cx in of_each_colour() {
            fleet.outside.ask(&cx).await.unwrap();
        }
    }
    assert_eq!(fleet.all_seen(60).await, exactly(20));
}

#[tokio::test]
async fn a_call_from_a_task_that_outlives_its_request_has_the_requests_colour() {
    let fleet = Fleet::start();
    for _ in 0..20 {
        for cx in of_each_colour() {
            fleet.outside.client.sleep(&cx, SleepRequest { millis: 1, ..Default::default() }).await.unwrap();
        }
    }
    assert_eq!(fleet.all_seen(60).await, exactly(20));
}

#[tokio::test]
async fn the_calls_that_a_stream_makes_for_its_messages_have_the_requests_colour() {
    let fleet = Fleet::start();
    let mut streams = Vec::new();
    for cx in of_each_colour() {
        let request = CountRequest { to: 20, ..Default::default() };
        streams.push(fleet.outside.client.count(&cx, request).await.unwrap());
    }
    // In turns, so that each is under way while the others are.
    for value in 1..=20 {
        for stream in &mut streams {
            assert_eq!(stream.message().await.unwrap().unwrap().value, value);
        }
    }
    assert_eq!(fleet.all_seen(60).await, exactly(20));
}

#[tokio::test]
async fn the_calls_of_a_task_that_answers_a_stream_have_the_requests_colour() {
    let fleet = Fleet::start();
    let mut streams = Vec::new();
    for cx in of_each_colour() {
        let (sender, numbers) = Streaming::channel(1);
        streams.push((sender, fleet.outside.client.double(&cx, numbers).await.unwrap()));
    }
    for value in 1..=20 {
        for (sender, doubled) in &mut streams {
            sender.send(number(value)).await.unwrap();
            assert_eq!(doubled.message().await.unwrap().unwrap().value, value * 2);
        }
    }
    assert_eq!(fleet.all_seen(60).await, exactly(20));
}
