//! As many at a time as do not slow each other down.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bowline_core::Instant;

use crate::window::Ticks;

/// How the limit follows the latency: Netflix' `Gradient2` (*concurrency-limits*). Unlike BBR's it is enforced all the time, from
/// the first interval with enough answers on, and asks nothing of the processor; so it is for services whose bottleneck
/// is elsewhere, such as a disk or a database. It cannot tell a queue from requests that are more expensive than before.
///
/// Per interval: limit ← limit × gradient + √limit, smoothed, where gradient is the latency of the long run × `tolerance`
/// ÷ the latency of the interval, between 0.5 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradientOptions {
    /// What it begins with: 20.
    pub initial: u32,
    /// The lowest: 4.
    pub least: u32,
    /// The highest: 1 000.
    pub most: u32,
    /// How much slower than in the long run is still right: 1.5.
    pub tolerance: f64,
    /// How much of the new value is taken over: 0.2.
    pub smoothing: f64,
    /// How often: 100 ms.
    pub interval: Duration,
    /// How many intervals the long run is: 600.
    pub long: u32,
    /// How many answers an interval needs to count: 10.
    pub samples: u64,
}

impl Default for GradientOptions {
    fn default() -> Self {
        Self {
            initial: 20,
            least: 4,
            most: 1_000,
            tolerance: 1.5,
            smoothing: 0.2,
            interval: Duration::from_millis(100),
            long: 600,
            samples: 10,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Gradient {
    options: GradientOptions,
    ticks: Ticks,
    worked_out: AtomicU64,
    /// `u32::MAX` while nothing is known.
    limit: AtomicU32,
    answers: AtomicU64,
    nanos: AtomicU64,
    /// The most in flight in this interval.
    peak: AtomicU32,
    exact: Mutex<Exact>,
}

#[derive(Debug)]
struct Exact {
    limit: f64,
    /// Nanoseconds; 0 while nothing is known.
    long: f64,
}

impl Gradient {
    pub(crate) fn new(options: GradientOptions, now: Instant) -> Self {
        let initial = options.initial.clamp(options.least.max(1), options.most.max(1));
        Self {
            ticks: Ticks::new(now, options.interval),
            worked_out: AtomicU64::new(0),
            limit: AtomicU32::new(u32::MAX),
            answers: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
            peak: AtomicU32::new(0),
            exact: Mutex::new(Exact { limit: f64::from(initial), long: 0.0 }),
            options,
        }
    }

    /// The limit now; `None` while nothing is known.
    pub(crate) fn limit(&self, in_flight: u32, now: Instant) -> Option<u32> {
        let tick = self.ticks.at(now);
        if self.worked_out.load(Ordering::Relaxed) != tick {
            self.work_out(tick);
        }
        if in_flight > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(in_flight, Ordering::Relaxed);
        }
        self.known_limit()
    }

    pub(crate) fn known_limit(&self) -> Option<u32> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit != u32::MAX)
    }

    /// A request was answered; `took` includes the time that it waited.
    pub(crate) fn answered(&self, took: Duration) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    fn work_out(&self, tick: u64) {
        let Ok(mut exact) = self.exact.try_lock() else { return };
        if self.worked_out.load(Ordering::Relaxed) == tick {
            return;
        }
        if self.answers.load(Ordering::Relaxed) < self.options.samples.max(1) {
            // Too few to say anything: they count with those of the next one.
            self.worked_out.store(tick, Ordering::Relaxed);
            return;
        }
        self.worked_out.store(tick, Ordering::Relaxed);
        let answers = self.answers.swap(0, Ordering::Relaxed);
        let nanos = self.nanos.swap(0, Ordering::Relaxed);
        let peak = self.peak.swap(0, Ordering::Relaxed);
        let short = (nanos as f64 / answers as f64).max(1.0);
        let part = 2.0 / (f64::from(self.options.long) + 1.0);
        exact.long = if exact.long > 0.0 { exact.long + (short - exact.long) * part } else { short };
        // After a long time of slowness the long run would take as long to forget it.
        if exact.long > 2.0 * short {
            exact.long *= 0.95;
        }
        // Who does not use half of the limit learns nothing of it.
        if f64::from(peak) < exact.limit / 2.0 {
            self.limit.store(exact.limit as u32, Ordering::Relaxed);
            return;
        }
        let gradient = (self.options.tolerance * exact.long / short).clamp(0.5, 1.0);
        let wanted = exact.limit * gradient + exact.limit.sqrt();
        let smoothing = self.options.smoothing.clamp(0.0, 1.0);
        let (least, most) = (f64::from(self.options.least.max(1)), f64::from(self.options.most.max(1)));
        exact.limit = (exact.limit * (1.0 - smoothing) + wanted * smoothing).min(most).max(least.min(most));
        self.limit.store(exact.limit as u32, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bowline_core::{Clock, ManualClock};

    use super::*;

    /// Runs intervals with `offered` in flight on a service that does `capacity` at a time in 10 ms.
    fn run(gradient: &Gradient, clock: &ManualClock, intervals: usize, offered: u32, capacity: u32) {
        for _ in 0..intervals {
            let in_flight = offered.min(gradient.limit(0, clock.now()).unwrap_or(20));
            gradient.limit(in_flight, clock.now());
            let took =
                Duration::from_millis(10).mul_f64(f64::from(in_flight.max(capacity)) / f64::from(capacity));
            for _ in 0..20 {
                gradient.answered(took);
            }
            clock.advance(Duration::from_millis(100));
        }
    }

    #[test]
    fn it_grows_with_demand_and_stops_where_latency_does() {
        let clock = ManualClock::new();
        let gradient = Gradient::new(GradientOptions::default(), clock.now());
        run(&gradient, &clock, 100, 5, 50);
        assert_eq!(gradient.known_limit(), Some(20), "who does not use it learns nothing of it");
        run(&gradient, &clock, 300, 1_000, 50);
        let limit = gradient.known_limit().unwrap();
        assert!((50..=150).contains(&limit), "{limit}");
    }

    #[test]
    fn it_shrinks_when_the_service_slows_down() {
        let clock = ManualClock::new();
        let gradient = Gradient::new(GradientOptions::default(), clock.now());
        run(&gradient, &clock, 300, 1_000, 50);
        let before = gradient.known_limit().unwrap();
        run(&gradient, &clock, 50, 1_000, 10);
        let after = gradient.known_limit().unwrap();
        assert!(after < before / 2, "{before} {after}");
    }
}
