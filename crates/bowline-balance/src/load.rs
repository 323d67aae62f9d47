//! What is known of an instance.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bowline_core::Instant;

use crate::{Health, Outcome, SlowStart};

/// How fast the memory of a latency fades: 10 s, as in Finagle's and tower's peak EWMA.
pub const TAU: Duration = Duration::from_secs(10);

/// What each further request costs on an instance of which nothing is known while its first is under way: 1 s. The
/// first costs nothing, so that every instance is tried; a herd is kept off until there is an answer. (As in Finagle.)
const UNKNOWN: f64 = 1.0;

/// How much worse than its memory a failure counts. Failing is fast, and a fast instance attracts traffic: without a
/// penalty the broken one would get the most.
const FAILURE_PENALTY: f64 = 5.0;

/// The least a failure counts as: 100 ms.
const FAILURE_FLOOR: f64 = 0.1;

/// The most a failure counts as: 10 s.
const FAILURE_CEILING: f64 = 10.0;

/// How much worse than its memory a refusal counts. It is faster still than a failure, and says that there is too much already; one
/// alone says little, so that all who are asked for too much keep their shares.
const REFUSAL_PENALTY: f64 = 2.0;

/// The least a refusal counts as: 10 ms.
const REFUSAL_FLOOR: f64 = 0.01;

/// The most a refusal counts as: 1 s, in which whoever refuses is to be asked again.
const REFUSAL_CEILING: f64 = 1.0;

/// Requests in flight, a peak-sensitive moving average of latencies, which jumps up with a slow answer and decays with
/// [`TAU`] (Finagle's peak EWMA), how its requests ended, and since when it warms up.
///
/// Whoever holds the connections to an instance keeps its `Load` for as long as it holds them: an update of the list of
/// instances leaves it as it is. Everything in it is atomic; nothing waits for anything.
#[derive(Debug, Default)]
pub struct Load {
    /// The first time that was seen. Times are kept in milliseconds since then.
    origin: OnceLock<Instant>,
    pending: AtomicU32,
    average: AtomicU64,
    /// When it began to warm up, as milliseconds and one more; 0 if it is warm.
    warming: AtomicU64,
    health: Health,
}

/// An average and its time, in one word, so that it changes as one: seconds as `f32` in the lower half, milliseconds in
/// the upper. All 0 while nothing is known. The milliseconds wrap after 49 days without a request, which then count
/// as few.
#[derive(Clone, Copy)]
struct Average {
    seconds: f64,
    at: u32,
}

impl Average {
    fn unpack(word: u64) -> Option<Self> {
        let seconds = f32::from_bits(word as u32);
        (word != 0).then(|| Self { seconds: f64::from(seconds), at: (word >> 32) as u32 })
    }

    fn pack(self) -> u64 {
        let seconds = (self.seconds as f32).max(f32::MIN_POSITIVE);
        u64::from(self.at) << 32 | u64::from(seconds.to_bits())
    }

    fn weight_of_the_past(&self, now: u32) -> f64 {
        (-f64::from(self.elapsed(now)) / 1_000.0 / TAU.as_secs_f64()).exp()
    }

    /// Milliseconds. Another thread's time may be a moment ahead of this one's: that is no time at all, not 49 days.
    fn elapsed(&self, now: u32) -> i32 {
        now.wrapping_sub(self.at).cast_signed().max(0)
    }

    fn decayed(&self, now: u32) -> f64 {
        self.seconds * self.weight_of_the_past(now)
    }

    /// A slow answer counts in full at once; a fast one only with the passing of time.
    fn with(self, seconds: f64, now: u32) -> Self {
        let at = self.at.wrapping_add(self.elapsed(now).cast_unsigned());
        if seconds >= self.seconds {
            return Self { seconds, at };
        }
        let kept = self.weight_of_the_past(now);
        Self { seconds: self.seconds * kept + seconds * (1.0 - kept), at }
    }
}

impl Load {
    /// Nothing known, and warm.
    pub fn new() -> Self {
        Self::default()
    }

    /// It is new among others that are known: it warms up from `now` on, if the options of the index say so.
    pub fn warm_up(&self, now: Instant) {
        self.warming.store(self.millis(now) + 1, Ordering::Relaxed);
    }

    /// It could not be reached and can again: it is likely another process, of whose speed nothing is known. Whether it
    /// fails is still counted, or one that comes and goes would never be found out.
    pub fn came_back(&self) {
        self.average.store(0, Ordering::Relaxed);
    }

    /// The part of its weight that it takes now: 1 unless it warms up.
    pub fn warmth(&self, slow_start: &SlowStart, now: Instant) -> f64 {
        match self.warming.load(Ordering::Relaxed) {
            0 => 1.0,
            since => {
                let age = self.millis(now).saturating_sub(since - 1);
                slow_start.share(Duration::from_millis(age))
            }
        }
    }

    /// How its requests ended, and whether it is ejected.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Requests in flight.
    pub fn pending(&self) -> u32 {
        self.pending.load(Ordering::Relaxed)
    }

    /// The latency to expect, in seconds; 0 while nothing is known.
    pub fn latency(&self, now: Instant) -> f64 {
        let average = Average::unpack(self.average.load(Ordering::Relaxed));
        average.map_or(0.0, |average| average.decayed(self.short_millis(now)).max(f64::MIN_POSITIVE))
    }

    /// What one more request would cost: latency × (pending + 1).
    pub fn cost(&self, now: Instant) -> f64 {
        self.cost_at(1.0, now)
    }

    /// What one more request would cost an instance of `capacity` against the average one's 1: latency × (pending ÷
    /// capacity + 1). One with twice the weight takes twice the requests before it costs the same, and two without
    /// requests cost their latency alone.
    pub fn cost_at(&self, capacity: f64, now: Instant) -> f64 {
        match (self.latency(now), f64::from(self.pending()) / capacity) {
            (latency, pending) if latency > 0.0 => latency * (pending + 1.0),
            (_, pending) => UNKNOWN * pending,
        }
    }

    /// A request begins. It counts until the guard is told how it ended, or dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.pending.fetch_add(1, Ordering::Relaxed);
        InFlight { load: Arc::clone(self), probe: self.health.probe_began(), is_answering: false }
    }

    fn record(&self, seconds: f64, now: Instant) {
        let at = self.short_millis(now);
        let next = |word| {
            let average = Average::unpack(word).map_or(Average { seconds, at }, |old| old.with(seconds, at));
            Some(average.pack())
        };
        // The closure always returns a value, so that there is nothing to lose.
        let _ = self.average.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Milliseconds since the first time that was seen.
    pub(crate) fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(*self.origin.get_or_init(|| now)).as_millis() as u64
    }

    fn short_millis(&self, now: Instant) -> u32 {
        self.millis(now) as u32
    }
}

/// A request in flight on an instance. Dropped without a word, nothing was learnt of the instance.
#[derive(Debug)]
pub struct InFlight {
    load: Arc<Load>,
    probe: bool,
    /// Its latency is known already.
    is_answering: bool,
}

impl InFlight {
    /// It was answered after `took`.
    pub fn answered(self, took: Duration, now: Instant) {
        self.end(Outcome::Answered, took, now);
    }

    /// It failed through the instance's fault after `took`.
    pub fn failed(self, took: Duration, now: Instant) {
        self.end(Outcome::Failed, took, now);
    }

    /// The head of its answer came after `took` and tells of no failure. The rest may take as long as it likes: that says
    /// nothing of how fast the instance is, and one that answers a probe is well again, so that a stream holds back nobody
    /// until its end. How it ends is still to be told. True if the instance should be looked at, as with [`end`](Self::end).
    pub fn begins_to_answer(&mut self, took: Duration, now: Instant) -> bool {
        let load = &*self.load;
        load.record(took.as_secs_f64(), now);
        self.is_answering = true;
        if !std::mem::take(&mut self.probe) {
            return false;
        }
        let is_back = load.health.record(Outcome::Answered, true, load.millis(now));
        load.health.probe_ended();
        is_back
    }

    /// It ended after `took`. True if the instance should be looked at, because it fails or has come back: call
    /// [`Ejection::look`](crate::Ejection::look) then, without waiting for the next interval.
    pub fn end(self, outcome: Outcome, took: Duration, now: Instant) -> bool {
        let load = &*self.load;
        match outcome {
            Outcome::Canceled => {
                // Nobody knows how long it would have taken; longer than this.
                if !self.is_answering && took.as_secs_f64() > load.latency(now) {
                    load.record(took.as_secs_f64(), now);
                }
                return false;
            }
            Outcome::Answered if self.is_answering => {}
            Outcome::Answered => load.record(took.as_secs_f64(), now),
            Outcome::Refused => {
                let penalty = (load.latency(now) * REFUSAL_PENALTY).clamp(REFUSAL_FLOOR, REFUSAL_CEILING);
                load.record(took.as_secs_f64().max(penalty), now);
            }
            Outcome::Failed | Outcome::Unreachable => {
                let penalty = (load.latency(now) * FAILURE_PENALTY).clamp(FAILURE_FLOOR, FAILURE_CEILING);
                load.record(took.as_secs_f64().max(penalty), now);
            }
        }
        load.health.record(outcome, self.probe, load.millis(now))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.load.pending.fetch_sub(1, Ordering::Relaxed);
        if self.probe {
            self.load.health.probe_ended();
        }
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
    fn who_refuses_at_once_does_not_look_attractive_and_is_asked_again_soon() {
        let (good, full, clock) = (Arc::new(Load::new()), Arc::new(Load::new()), ManualClock::new());
        for _ in 0..5 {
            good.begin().answered(Duration::from_millis(20), clock.now());
            full.begin().end(Outcome::Refused, Duration::from_micros(50), clock.now());
        }
        assert!(full.cost(clock.now()) > good.cost(clock.now()));
        for _ in 0..50 {
            full.begin().end(Outcome::Refused, Duration::from_micros(50), clock.now());
        }
        assert!(full.latency(clock.now()) <= 1.0);
    }

    #[test]
    fn who_keeps_a_request_until_its_caller_leaves_is_as_slow_as_that_at_least() {
        let (load, clock) = (Arc::new(Load::new()), ManualClock::new());
        load.begin().answered(Duration::from_millis(5), clock.now());
        load.begin().end(Outcome::Canceled, Duration::from_millis(1), clock.now());
        assert!((load.latency(clock.now()) - 0.005).abs() < 1e-6, "that says nothing");
        load.begin().end(Outcome::Canceled, Duration::from_millis(300), clock.now());
        assert!((load.latency(clock.now()) - 0.3).abs() < 1e-6);
        assert_eq!(load.health().failures(), (0, 0));
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

    #[test]
    fn the_probe_that_brings_it_back_asks_for_a_look_and_no_other_answer_does() {
        let (load, clock) = (Arc::new(Load::new()), ManualClock::new());
        assert!(!load.begin().end(Outcome::Answered, Duration::ZERO, clock.now()));
        let now = load.millis(clock.now());
        load.health().eject(now, 0, 0);
        load.health().try_again(now);
        assert!(!load.begin().end(Outcome::Answered, Duration::ZERO, clock.now()), "it was not the probe");
        assert!(load.health().is_on_probation() && load.health().take_probe(now));
        assert!(load.begin().end(Outcome::Answered, Duration::ZERO, clock.now()));
        assert!(!load.health().is_ejected());
    }

    #[test]
    fn a_probe_is_over_with_the_head_of_its_answer_and_what_follows_still_counts() {
        let (load, clock) = (Arc::new(Load::new()), ManualClock::new());
        let now = load.millis(clock.now());
        load.health().eject(now, 0, 0);
        load.health().try_again(now);
        assert!(load.health().take_probe(now));
        let mut stream = load.begin();
        assert!(stream.begins_to_answer(Duration::from_millis(20), clock.now()));
        assert!(!load.health().is_ejected());
        assert!((load.latency(clock.now()) - 0.02).abs() < 1e-6);
        assert_eq!(load.pending(), 1, "it goes on");
        // It is ejected again before the stream ends: the probe is another's by then, and the end of this one is not it.
        load.health().eject(now, 0, 0);
        load.health().try_again(now);
        assert!(load.health().take_probe(now));
        let probe = load.begin();
        clock.advance(TAU);
        stream.end(Outcome::Unreachable, Duration::from_millis(20), clock.now());
        assert!(load.health().is_on_probation() && !load.health().has_probe(load.millis(clock.now())));
        assert_eq!((load.pending(), load.health().failures()), (1, (1, 1)));
        assert!(probe.end(Outcome::Answered, Duration::ZERO, clock.now()));
        assert!(!load.health().is_ejected());
    }

    #[test]
    fn a_stream_that_ends_well_does_not_bring_back_how_slow_its_head_was() {
        let (load, clock) = (Arc::new(Load::new()), ManualClock::new());
        for outcome in [Outcome::Answered, Outcome::Canceled] {
            let mut stream = load.begin();
            stream.begins_to_answer(Duration::from_secs(5), clock.now());
            clock.advance(TAU * 10);
            stream.end(outcome, Duration::from_secs(5), clock.now());
            assert!(load.latency(clock.now()) < 0.001, "{outcome:?}");
        }
    }

    #[test]
    fn one_that_came_back_is_tried_at_once() {
        let (known, back, clock) = (Arc::new(Load::new()), Arc::new(Load::new()), ManualClock::new());
        known.begin().answered(Duration::from_micros(300), clock.now());
        back.begin().end(Outcome::Unreachable, Duration::from_micros(50), clock.now());
        assert!(back.cost(clock.now()) > known.cost(clock.now()));
        back.came_back();
        assert!(back.cost(clock.now()) < known.cost(clock.now()));
        assert_eq!(back.health().failures(), (1, 1));
    }

    #[test]
    fn a_time_that_runs_behind_another_threads_erases_nothing() {
        let (load, clock) = (Arc::new(Load::new()), ManualClock::new());
        load.begin().answered(Duration::from_millis(1), clock.now());
        let before = clock.now();
        clock.advance(Duration::from_secs(1));
        load.begin().answered(Duration::from_millis(400), clock.now());
        load.begin().answered(Duration::from_millis(10), before);
        assert!((load.latency(clock.now()) - 0.4).abs() < 1e-6);
    }
}
