//! An operation that fails is left alone for a while.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bowline_core::Instant;

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::window::{Ticks, Window};

/// When a breaker opens, and for how long (Nygard, *Release It!*, "Circuit Breaker").
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerOptions {
    /// Which part of the requests must fail: 0.5.
    pub failures: f64,
    /// Of at least so many: 20.
    pub least: u64,
    /// In the last: 10 s.
    pub window: Duration,
    /// How long it stays open at first: 5 s; twice as long each time that the trial fails.
    pub open: Duration,
    /// How long it stays open at most: 60 s.
    pub longest: Duration,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            failures: 0.5,
            least: 20,
            window: Duration::from_secs(10),
            open: Duration::from_secs(5),
            longest: Duration::from_secs(60),
        }
    }
}

/// The breaker of one operation.
///
/// Closed it lets everything through and counts. Open it lets nothing through. When its time is over one request at a time
/// tries: the first that succeeds closes it, one that fails opens it again, for longer.
#[derive(Debug)]
pub struct Breaker {
    options: BreakerOptions,
    ticks: Ticks,
    /// What ended well and badly.
    window: Window<2>,
    /// Until when it is open, in nanoseconds and one more; 0 if it is closed. Read by each request.
    open_until: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How often it was opened in a row.
    times: u32,
    /// Whether a request tries.
    trying: bool,
    /// What was counted before this tick is of another time.
    since: u64,
}

/// The breaker is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// For so long.
    pub remaining: Duration,
}

/// A request that a breaker let through. Dropped without a word, it says nothing of the operation.
#[derive(Debug)]
#[must_use = "the breaker learns from how it ends"]
pub struct Trial {
    breaker: Arc<Breaker>,
    tries: bool,
}

const BUCKETS: u32 = 10;

impl Breaker {
    /// Closed.
    pub fn new(options: BreakerOptions, now: Instant) -> Arc<Self> {
        Arc::new(Self {
            ticks: Ticks::new(now, options.window / BUCKETS),
            window: Window::new(BUCKETS as usize),
            open_until: AtomicU64::new(0),
            state: Mutex::default(),
            options,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks before a request is sent.
    ///
    /// # Errors
    /// [`Open`] if it is not to be sent.
    pub fn ask(self: &Arc<Self>, now: Instant) -> Result<Trial, Open> {
        let until = self.open_until.load(Ordering::Acquire);
        if until == 0 {
            return Ok(Trial { breaker: Arc::clone(self), tries: false });
        }
        let remaining = Duration::from_nanos((until - 1).saturating_sub(self.ticks.nanos(now)));
        let mut state = self.state();
        // Another one's trial may have ended meanwhile.
        if self.open_until.load(Ordering::Acquire) != until {
            drop(state);
            return if self.is_closed() {
                Ok(Trial { breaker: Arc::clone(self), tries: false })
            } else {
                Err(Open { remaining: self.options.open })
            };
        }
        if !remaining.is_zero() || state.trying {
            return Err(Open { remaining });
        }
        state.trying = true;
        Ok(Trial { breaker: Arc::clone(self), tries: true })
    }

    /// Whether requests go through without a trial.
    pub fn is_closed(&self) -> bool {
        self.open_until.load(Ordering::Relaxed) == 0
    }

    fn open(&self, state: &mut State, now: Instant) {
        let longer = 1_u32.checked_shl(state.times).unwrap_or(u32::MAX);
        let lasts = self.options.open.saturating_mul(longer).min(self.options.longest);
        state.times = state.times.saturating_add(1).min(31);
        self.open_until
            .store((self.ticks.nanos(now) + lasts.as_nanos() as u64).max(1) + 1, Ordering::Release);
    }

    fn ended(&self, well: bool, tries: bool, now: Instant) {
        let tick = self.ticks.at(now);
        if tries {
            let mut state = self.state();
            state.trying = false;
            if well {
                *state = State { since: tick, ..State::default() };
                self.open_until.store(0, Ordering::Release);
            } else {
                self.open(&mut state, now);
            }
            return;
        }
        // What began before it opened has nothing to say of how it is now.
        if !self.is_closed() {
            return;
        }
        self.window.add(tick, [u64::from(well), u64::from(!well)]);
        if well {
            return;
        }
        let mut state = self.state();
        let lately = self.window.buckets(tick).filter(|(own, _)| *own >= state.since);
        let (good, bad) = lately.fold((0, 0), |(good, bad), (_, [g, b])| (good + g, bad + b));
        let all = good + bad;
        let fails = all >= self.options.least.max(1) && bad as f64 >= self.options.failures * all as f64;
        if fails && self.is_closed() {
            self.open(&mut state, now);
        }
    }
}

impl Trial {
    /// The operation works.
    pub fn succeeded(self, now: Instant) {
        self.end(true, now);
    }

    /// The operation failed.
    pub fn failed(self, now: Instant) {
        self.end(false, now);
    }

    fn end(mut self, well: bool, now: Instant) {
        self.breaker.ended(well, self.tries, now);
        self.tries = false;
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if self.tries {
            self.breaker.state().trying = false;
        }
    }
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use bowline_core::{Clock, ManualClock};

    use super::*;

    fn fail(breaker: &Arc<Breaker>, clock: &ManualClock, times: usize) {
        for _ in 0..times {
            breaker.ask(clock.now()).unwrap().failed(clock.now());
        }
    }

    #[test]
    fn it_opens_when_half_fails_and_closes_when_one_trial_succeeds() {
        let clock = ManualClock::new();
        let breaker = Breaker::new(BreakerOptions::default(), clock.now());
        for _ in 0..20 {
            breaker.ask(clock.now()).unwrap().succeeded(clock.now());
        }
        fail(&breaker, &clock, 19);
        assert!(breaker.is_closed());
        fail(&breaker, &clock, 1);
        assert_eq!(breaker.ask(clock.now()).unwrap_err().remaining, Duration::from_secs(5));

        clock.advance(Duration::from_secs(5));
        let trial = breaker.ask(clock.now()).unwrap();
        assert!(breaker.ask(clock.now()).is_err(), "one at a time");
        trial.failed(clock.now());
        assert_eq!(breaker.ask(clock.now()).unwrap_err().remaining, Duration::from_secs(10));

        clock.advance(Duration::from_secs(10));
        // A caller that gives up leaves the trial to the next one.
        drop(breaker.ask(clock.now()).unwrap());
        breaker.ask(clock.now()).unwrap().succeeded(clock.now());
        assert!(breaker.is_closed());
        // What failed before is forgotten.
        clock.advance(Duration::from_secs(1));
        fail(&breaker, &clock, 19);
        assert!(breaker.is_closed());
    }

    #[test]
    fn a_late_failure_does_not_open_it_anew() {
        let clock = ManualClock::new();
        let breaker = Breaker::new(BreakerOptions::default(), clock.now());
        let late = breaker.ask(clock.now()).unwrap();
        fail(&breaker, &clock, 20);
        clock.advance(Duration::from_secs(4));
        late.failed(clock.now());
        assert_eq!(breaker.ask(clock.now()).unwrap_err().remaining, Duration::from_secs(1));
    }

    #[test]
    fn few_requests_say_nothing() {
        let clock = ManualClock::new();
        let breaker = Breaker::new(BreakerOptions::default(), clock.now());
        for _ in 0..100 {
            fail(&breaker, &clock, 1);
            clock.advance(Duration::from_secs(1));
        }
        assert!(breaker.is_closed());
    }
}
