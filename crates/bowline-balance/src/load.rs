//! What is known of an instance's load.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline_core::Instant;

/// How fast the memory of a latency fades: 10 s, as in Finagle's and tower's peak EWMA.
pub const TAU: Duration = Duration::from_secs(10);

/// What each further request costs on an instance of which nothing is known while its first is under way: 1 s. The first
/// costs nothing, so that every instance is tried; a herd is kept off until there is an answer. (As in Finagle.)
const UNKNOWN: f64 = 1.0;

/// How much worse than its memory a failure counts. Failing is fast, and a fast instance attracts traffic: without a
/// penalty the broken one would get the most.
const FAILURE_PENALTY: f64 = 5.0;

/// The least a failure counts as: 100 ms.
const FAILURE_FLOOR: f64 = 0.1;

/// The most a failure counts as: 10 s.
const FAILURE_CEILING: f64 = 10.0;

/// Requests in flight, and a peak-sensitive moving average of latencies: it jumps up with a slow answer and decays with
/// [`TAU`]. (Finagle's peak EWMA.)
#[derive(Debug, Default)]
pub struct Load {
    pending: AtomicU32,
    average: Mutex<Option<Average>>,
}

#[derive(Clone, Copy, Debug)]
struct Average {
    seconds: f64,
    at: Instant,
}

impl Load {
    /// Nothing known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests in flight.
    pub fn pending(&self) -> u32 {
        self.pending.load(Ordering::Relaxed)
    }

    /// The latency to expect, in seconds; 0 while nothing is known.
    pub fn latency(&self, now: Instant) -> f64 {
        match *self.average.lock().unwrap_or_else(PoisonError::into_inner) {
            None => 0.0,
            Some(average) => average.decayed(now).max(f64::MIN_POSITIVE),
        }
    }

    /// What one more request would cost: latency × (pending + 1).
    pub fn cost(&self, now: Instant) -> f64 {
        match (self.latency(now), f64::from(self.pending())) {
            (latency, pending) if latency > 0.0 => latency * (pending + 1.0),
            (_, pending) => UNKNOWN * pending,
        }
    }

    /// A request begins. It counts until the guard is told how it ended, or dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.pending.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    fn record(&self, seconds: f64, now: Instant) {
        let mut average = self.average.lock().unwrap_or_else(PoisonError::into_inner);
        let next = match *average {
            // A slow answer counts in full at once; a fast one only with the passing of time.
            Some(old) if seconds < old.seconds => {
                let kept = old.weight_of_the_past(now);
                old.seconds * kept + seconds * (1.0 - kept)
            }
            _ => seconds,
        };
        *average = Some(Average { seconds: next, at: now });
    }
}

impl Average {
    fn weight_of_the_past(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        (-elapsed / TAU.as_secs_f64()).exp()
    }

    fn decayed(&self, now: Instant) -> f64 {
        self.seconds * self.weight_of_the_past(now)
    }
}

/// A request in flight on an instance.
#[derive(Debug)]
pub struct InFlight(Arc<Load>);

impl InFlight {
    /// It was answered after `took`.
    pub fn answered(self, took: Duration, now: Instant) {
        self.0.record(took.as_secs_f64(), now);
    }

    /// It failed through the instance's fault after `took`.
    pub fn failed(self, took: Duration, now: Instant) {
        let penalty = (self.0.latency(now) * FAILURE_PENALTY).clamp(FAILURE_FLOOR, FAILURE_CEILING);
        self.0.record(took.as_secs_f64().max(penalty), now);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bowline_core::{Clock, ManualClock};

    use super::*;

    #[test]
    fn a_slow_answer_counts_at_once_and_fades() {
        let (load, clock) = (Arc::new(Load::new()), ManualClock::new());
        load.begin().answered(Duration::from_millis(10), clock.now());
        load.begin().answered(Duration::from_millis(500), clock.now());
        assert!((load.latency(clock.now()) - 0.5).abs() < 1e-9);
        clock.advance(TAU);
        assert!((load.latency(clock.now()) - 0.5 * (-1.0_f64).exp()).abs() < 1e-9);
        load.begin().answered(Duration::from_millis(10), clock.now());
        let latency = load.latency(clock.now());
        assert!(latency > 0.01 && latency < 0.5, "{latency}");
    }

    #[test]
    fn a_fast_failure_does_not_look_attractive() {
        let (good, bad, clock) = (Arc::new(Load::new()), Arc::new(Load::new()), ManualClock::new());
        good.begin().answered(Duration::from_millis(20), clock.now());
        bad.begin().failed(Duration::from_micros(50), clock.now());
        assert!(bad.cost(clock.now()) > good.cost(clock.now()));
    }

    #[test]
    fn an_unknown_instance_is_tried_once_before_it_is_flooded() {
        let (known, new, clock) = (Arc::new(Load::new()), Arc::new(Load::new()), ManualClock::new());
        known.begin().answered(Duration::from_micros(300), clock.now());
        assert!(new.cost(clock.now()) < known.cost(clock.now()));
        let _first = new.begin();
        assert!(new.cost(clock.now()) > known.cost(clock.now()));
    }

    #[test]
    fn whatever_ends_a_request_it_no_longer_counts() {
        let (load, clock) = (Arc::new(Load::new()), ManualClock::new());
        let (a, b, c) = (load.begin(), load.begin(), load.begin());
        assert_eq!(load.pending(), 3);
        a.answered(Duration::ZERO, clock.now());
        b.failed(Duration::ZERO, clock.now());
        drop(c);
        assert_eq!(load.pending(), 0);
    }
}
