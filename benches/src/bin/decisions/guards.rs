//! A call through each guard alone, around a service that is ready and answers at once: ours, and tower-resilience's. Both
//! look at the clock themselves.

use std::convert::Infallible;
use std::time::Duration;

use bowline_core::Instant;
use bowline_resilience::{
    Breaker, BreakerOptions, Budget, BudgetOptions, Bulkhead, BulkheadOptions, Entry, Rate, TokenBucket,
};
use tower::{Layer, Service, ServiceExt};
use tower_resilience_bulkhead::BulkheadLayer;
use tower_resilience_circuitbreaker::CircuitBreakerLayer;
use tower_resilience_ratelimiter::RateLimiterLayer;
use tower_resilience_retry::{RetryBudgetBuilder, RetryLayer};

use crate::Nothing;

/// More a second than anybody calls here.
const OFTEN: u32 = 1_000_000_000;

async fn call<S: Service<()>>(service: &mut S) -> Result<S::Response, S::Error> {
    service.ready().await?.call(()).await
}

/// So many calls of theirs.
fn theirs<S>(mut service: S, count: usize)
where
    S: Service<()> + 'static,
    S::Error: std::fmt::Debug,
{
    bowline_benches::run(async move {
        for _ in 0..count {
            call(&mut service).await.expect("an answer");
        }
    });
}

/// So many calls of ours: what is asked before, and what is told after.
fn ours<T: 'static>(count: usize, before: impl Fn() -> T + 'static, after: impl Fn(T) + 'static) {
    bowline_benches::run(async move {
        for _ in 0..count {
            let asked = before();
            call(&mut Nothing).await.expect("an answer");
            after(asked);
        }
    });
}

pub(crate) fn rate(count: usize) {
    let bucket = TokenBucket::new(Rate { per_second: f64::from(OFTEN), burst: OFTEN }, Instant::now());
    ours(count, move || bucket.take(Instant::now()).expect("a token"), |()| {});
}

/// A token bucket as well.
pub(crate) fn their_rate(count: usize) {
    let often = OFTEN as usize;
    theirs(RateLimiterLayer::burst(often, often).build().expect("a limiter").layer(Nothing), count);
}

pub(crate) fn bulkhead(count: usize) {
    let bulkhead = Bulkhead::new(BulkheadOptions::new(25), Instant::now());
    let enter = move || match bulkhead.enter(Instant::now()) {
        Entry::Runs(slot) => slot,
        other => panic!("{other:?}"),
    };
    ours(count, enter, drop);
}

pub(crate) fn their_bulkhead(count: usize) {
    let layer = BulkheadLayer::builder().max_concurrent_calls(25).build().expect("a bulkhead");
    theirs(layer.layer(Nothing), count);
}

pub(crate) fn breaker(count: usize) {
    let breaker = Breaker::new(BreakerOptions::default(), Instant::now());
    let ask = move || breaker.ask(Instant::now()).expect("closed");
    ours(count, ask, |trial| trial.succeeded(Instant::now()));
}

/// By default it counts the last hundred calls; ours those of ten seconds.
pub(crate) fn their_breaker(count: usize) {
    theirs(CircuitBreakerLayer::builder().build().expect("a breaker").layer(Nothing), count);
}

/// What it costs a call that it might be sent again.
pub(crate) fn budget(count: usize) {
    let budget = Budget::new(BudgetOptions::default(), Instant::now());
    ours(count, move || budget.deposit(Instant::now()), |()| {});
}

pub(crate) fn their_budget(count: usize) {
    let budget = RetryBudgetBuilder::new().aimd().build().expect("a budget");
    let layer = RetryLayer::<(), (), Infallible>::builder().budget(budget);
    theirs(layer.fixed_backoff(Duration::ZERO).build().layer(Nothing), count);
}
