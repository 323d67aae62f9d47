//! Single decisions, so many times: `decisions WHAT COUNT`. What the clock is asked for is part of none of them, but of those in
//! [`guards`].

mod guards;

use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use bowline_balance::{Ask, Candidate, Index, IndexOptions, Load, Outcome, P2c, Request};
use bowline_core::{Criticality, Instance, Instant, MethodKind, Operation, SystemRng, Tenant};
use bowline_resilience::{
    Admission, Algorithm, Arrival, BbrOptions, CpuLoad, Ended, Throttle, ThrottleOptions, reason,
};
use bowline_rpc::{Protocol, ReadyMade};
use bowline_telemetry::{Metrics, Rejections, Side};
use http::HeaderMap;
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, PeakEwma};
use tower::{Service, ServiceExt};

struct Node {
    instance: Instance,
    load: Arc<Load>,
}

impl Candidate for Node {
    fn instance(&self) -> &Instance {
        &self.instance
    }

    fn load(&self) -> &Load {
        &self.load
    }

    fn is_live(&self) -> bool {
        true
    }
}

/// So many instances of production, and one of each of so many tenants.
fn index(instances: usize, tenants: usize, now: Instant) -> Index<Node> {
    let base = (0..instances).map(|n| Instance::new("catalog", format!("base-{n}")));
    let coloured = (0..tenants).map(|n| {
        let mut instance = Instance::new("catalog", format!("tenant-{n}"));
        instance.tenant = Tenant::new(&format!("tenant-{n}")).expect("a tenant");
        instance
    });
    let nodes = base.chain(coloured).map(|instance| Node { instance, load: Arc::default() }).collect();
    Index::build(nodes, &IndexOptions::default(), None, now)
}

/// A pick, and what begins and ends with it.
fn pick(instances: usize, tenants: usize, count: usize) {
    let now = Instant::now();
    let index = index(instances, tenants, now);
    let ask = Ask::new(now, &SystemRng);
    for _ in 0..count {
        let position = index.pick(&P2c, &Request::base(), &ask).expect("routable").expect("somebody");
        let in_flight = index[position].load.begin();
        in_flight.end(Outcome::Answered, Duration::from_millis(1), now);
    }
}

#[derive(Clone)]
struct Nothing;

impl Service<()> for Nothing {
    type Response = ();
    type Error = std::convert::Infallible;
    type Future = Ready<Result<(), Self::Error>>;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

/// The same by tower's balancer: readiness, pick, call.
fn tower_pick(instances: usize, count: usize) {
    bowline_benches::run(async move {
        let one = || {
            let measured =
                PeakEwma::new(Nothing, Duration::from_millis(10), 1e10, CompleteOnResponse::default());
            measured
        };
        let list = ServiceList::new((0..instances).map(|_| one()).collect::<Vec<_>>());
        let mut balance = Balance::new(list);
        for _ in 0..count {
            balance.ready().await.expect("ready").call(()).await.expect("an answer");
        }
    });
}

fn admission(algorithm: Algorithm, cpu: f64, now: Instant) -> Arc<Admission> {
    let load = CpuLoad::default();
    load.set(cpu);
    Admission::new(algorithm, load, now)
}

fn arrival(now: Instant) -> Arrival {
    Arrival { now, criticality: Criticality::Critical, caller: 7 << 56, operation: 9 << 56 }
}

/// A request that is let in, takes its first step and ends.
fn admit(count: usize) {
    let now = Instant::now();
    let admission = admission(Algorithm::Bbr(BbrOptions::default()), 0.5, now);
    for _ in 0..count {
        let mut permit = admission.admit(&arrival(now)).expect("room");
        permit.begun(now).expect("in time");
        permit.end(Ended::Served, now + Duration::from_millis(1));
    }
}

/// A request that is refused: the decision, the count of it, and the answer that it gets, which was made before.
fn refuse(count: usize) {
    let now = Instant::now();
    let admission = admission(Algorithm::Fixed(1), 1.0, now);
    let rejections = Rejections::new(&Metrics::new(), Side::Server);
    let rejections = rejections.operation(&Operation::new("bench.v1.Greeter", "SayHello", MethodKind::Unary));
    let held: Vec<_> = std::iter::from_fn(|| admission.admit(&arrival(now)).ok()).collect();
    let ready = ReadyMade::of(overloaded()).expect("it is there at once");
    for _ in 0..count {
        if admission.admit(&arrival(now)).is_err() {
            rejections.count(reason::OVERLOADED, Criticality::Critical);
            std::hint::black_box(&ready.response());
        }
    }
    drop(held);
}

fn overloaded() -> http::Response<bowline_rpc::Body> {
    let error = reason::overloaded("the server has too much to do", Duration::from_secs(1));
    Protocol::Grpc.error_response(&error, None, &HeaderMap::new())
}

/// An error's answer that is made for one request.
fn answer(count: usize) {
    for _ in 0..count {
        std::hint::black_box(overloaded());
    }
}

fn throttle(count: usize) {
    let now = Instant::now();
    let throttle = Throttle::new(ThrottleOptions::default(), now);
    for _ in 0..count {
        if throttle.ask(Criticality::Critical, now, &SystemRng).is_ok() {
            throttle.accepted(Criticality::Critical, now);
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().expect("WHAT");
    let count = arguments.next().and_then(|count| count.parse().ok()).expect("COUNT");
    match what.as_str() {
        "pick-10" => pick(10, 0, count),
        "pick-100" => pick(100, 0, count),
        "pick-1000" => pick(1_000, 0, count),
        "pick-100-of-1000-tenants" => pick(100, 1_000, count),
        "tower-10" => tower_pick(10, count),
        "tower-100" => tower_pick(100, count),
        "tower-1000" => tower_pick(1_000, count),
        "admit" => admit(count),
        "refuse" => refuse(count),
        "answer" => answer(count),
        "throttle" => throttle(count),
        "rate" => guards::rate(count),
        "their-rate" => guards::their_rate(count),
        "bulkhead" => guards::bulkhead(count),
        "their-bulkhead" => guards::their_bulkhead(count),
        "breaker" => guards::breaker(count),
        "their-breaker" => guards::their_breaker(count),
        "budget" => guards::budget(count),
        "their-budget" => guards::their_budget(count),
        other => panic!("nothing is called {other}"),
    }
}
