//! A second request for an answer that is late.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bowline_core::Instant;

use crate::window::Ticks;
use crate::{Budget, BudgetOptions};

/// When a request is sent a second time, to another instance, while the first is under way (Dean and Barroso, *The Tail at
/// Scale*, 2013). Only for what may be done twice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HedgeOptions {
    /// After as long as so many of the answers took: 0.95.
    pub quantile: f64,
    /// But not earlier than: 1 ms.
    pub earliest: Duration,
    /// With fewer answers in the last while there are no hedges: 100.
    pub least: u64,
    /// How many there may be: a hundredth of the requests.
    pub budget: BudgetOptions,
}

impl Default for HedgeOptions {
    fn default() -> Self {
        Self { quantile: 0.95, earliest: Duration::from_millis(1), least: 100, budget: BudgetOptions::HEDGES }
    }
}

/// Decides for one operation.
#[derive(Debug)]
pub struct Hedge {
    options: HedgeOptions,
    latencies: Latencies,
    budget: Budget,
}

impl Hedge {
    /// With nothing known.
    pub fn new(options: HedgeOptions, now: Instant) -> Self {
        Self {
            latencies: Latencies::new(options.quantile, options.least, now),
            budget: Budget::new(options.budget, now),
            options,
        }
    }

    /// A request begins: after how long to hedge it, if at all.
    pub fn begin(&self, now: Instant) -> Option<Duration> {
        self.budget.deposit(now);
        self.latencies.quantile(now).map(|delay| delay.max(self.options.earliest))
    }

    /// The time has come; whether the budget has one left.
    pub fn fire(&self, now: Instant) -> bool {
        self.budget.withdraw(now)
    }

    /// The first request of a call was answered after so long.
    pub fn answered(&self, took: Duration, now: Instant) {
        self.latencies.record(took, now);
    }
}

/// Eight buckets to each doubling: within 9 %.
const PER_DOUBLING: f64 = 8.0;

/// From 1 µs up to 17 minutes.
const BUCKETS: usize = 30 * PER_DOUBLING as usize;

/// How long a half of the memory is. An answer is remembered for that long at least, and twice that at most.
const HALF: Duration = Duration::from_secs(15);

/// How often the quantile is looked up.
const REFRESH: Duration = Duration::from_secs(1);

/// A quantile of the latencies of the last while: a histogram with buckets of equal ratio, in two halves.
#[derive(Debug)]
struct Latencies {
    quantile: f64,
    least: u64,
    ticks: Ticks,
    halves: [Box<[AtomicU32]>; 2],
    /// For which tick `known` was worked out.
    at: AtomicU64,
    /// Nanoseconds; 0 while too little is known.
    known: AtomicU64,
    turn: Mutex<u64>,
}

impl Latencies {
    fn new(quantile: f64, least: u64, now: Instant) -> Self {
        let half = || (0..BUCKETS).map(|_| AtomicU32::new(0)).collect();
        Self {
            quantile: quantile.clamp(0.0, 1.0),
            least: least.max(1),
            ticks: Ticks::new(now, REFRESH),
            halves: [half(), half()],
            at: AtomicU64::new(0),
            known: AtomicU64::new(0),
            turn: Mutex::new(0),
        }
    }

    /// The half that is written at a tick.
    fn half(tick: u64) -> u64 {
        tick / (HALF.as_secs() / REFRESH.as_secs())
    }

    fn record(&self, took: Duration, now: Instant) {
        let micros = (took.as_nanos() as f64 / 1_000.0).max(1.0);
        let bucket = ((micros.log2() * PER_DOUBLING) as usize).min(BUCKETS - 1);
        let tick = self.ticks.at(now);
        self.refresh(tick);
        self.halves[(Self::half(tick) % 2) as usize][bucket].fetch_add(1, Ordering::Relaxed);
    }

    fn quantile(&self, now: Instant) -> Option<Duration> {
        self.refresh(self.ticks.at(now));
        Some(self.known.load(Ordering::Relaxed)).filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    }

    /// Works the quantile out once a tick, and clears the half whose time has come.
    fn refresh(&self, tick: u64) {
        if self.at.load(Ordering::Relaxed) >= tick {
            return;
        }
        let Ok(mut turn) = self.turn.try_lock() else { return };
        if self.at.swap(tick, Ordering::Relaxed) >= tick {
            return;
        }
        let half = Self::half(tick);
        for old in (*turn + 1..=half).rev().take(2) {
            for bucket in &self.halves[(old % 2) as usize] {
                bucket.store(0, Ordering::Relaxed);
            }
        }
        *turn = half;
        let count = |bucket: usize| {
            self.halves.iter().map(|half| u64::from(half[bucket].load(Ordering::Relaxed))).sum::<u64>()
        };
        let all: u64 = (0..BUCKETS).map(count).sum();
        let rank = (all as f64 * self.quantile).ceil() as u64;
        let mut below = 0;
        let bucket = (0..BUCKETS).find(|bucket| {
            below += count(*bucket);
            below >= rank
        });
        // The bucket's upper end: not too early.
        let nanos = bucket.map_or(0.0, |bucket| 2_f64.powf((bucket as f64 + 1.0) / PER_DOUBLING) * 1_000.0);
        self.known.store(if all >= self.least { nanos as u64 } else { 0 }, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bowline_core::{Clock, ManualClock, Rng, SeededRng};

    use super::*;

    fn answer(hedge: &Hedge, clock: &ManualClock, seconds: u64, mean_ms: f64) {
        let rng = SeededRng::new(3);
        for _ in 0..seconds * 100 {
            let took = Duration::from_secs_f64(mean_ms / 1e3 * 2.0 * rng.unit());
            hedge.begin(clock.now());
            hedge.answered(took, clock.now());
            clock.advance(Duration::from_millis(10));
        }
    }

    #[test]
    fn it_waits_for_as_long_as_most_answers_take() {
        let clock = ManualClock::new();
        let hedge = Hedge::new(HedgeOptions::default(), clock.now());
        assert_eq!(hedge.begin(clock.now()), None, "nothing is known");
        answer(&hedge, &clock, 30, 20.0);
        // 95 % of what is spread evenly between 0 and 40 ms.
        let delay = hedge.begin(clock.now()).unwrap().as_secs_f64() * 1e3;
        assert!((36.0..44.0).contains(&delay), "{delay}");
        // The service becomes faster, and what was is forgotten.
        answer(&hedge, &clock, 40, 2.0);
        let delay = hedge.begin(clock.now()).unwrap().as_secs_f64() * 1e3;
        assert!((3.6..4.4).contains(&delay), "{delay}");
        clock.advance(Duration::from_secs(60));
        assert_eq!(hedge.begin(clock.now()), None, "all of it is too old");
    }

    #[test]
    fn there_is_one_for_a_hundred_requests() {
        let clock = ManualClock::new();
        let hedge = Hedge::new(HedgeOptions::default(), clock.now());
        answer(&hedge, &clock, 9, 20.0);
        assert_eq!((0..100).filter(|_| hedge.fire(clock.now())).count(), 9);
    }
}
