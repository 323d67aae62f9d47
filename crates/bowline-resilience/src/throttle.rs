//! Requests that are not sent, because they would be refused.

use std::time::Duration;

use bowline_core::{Criticality, Instant, Rng};

use crate::window::{Ticks, Window};

/// How a client holds itself back: Google's client-side throttling (*Site Reliability Engineering*, chapter 21).
///
/// Of the requests of the last `window`, `K` times as many as were accepted may be sent; of the others a part is refused
/// here: p = max(0, (requests − K · accepts) ÷ (requests + 1)). So a server that refuses half of what it gets is sent
/// all of it, and one that refuses everything is still asked now and then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThrottleOptions {
    /// How many requests there may be for each that is accepted: 2. What is less critical gets less, a quarter of `K` at
    /// most; what is most critical gets twice as much. 0 turns the throttle off.
    pub k: f64,
    /// How long the past is: 10 s.
    pub window: Duration,
    /// With fewer requests in the window nothing is refused: 20. The first failure after a quiet time says little.
    pub least: u64,
}

impl Default for ThrottleOptions {
    fn default() -> Self {
        Self { k: 2.0, window: Duration::from_secs(10), least: 20 }
    }
}

/// Throttles what goes to one target for one operation.
///
/// A request counts before it is sent, those that are refused here too, as in the book. So the part that is refused
/// follows a server that no longer answers, and not only the answers that it gave. But what was sent within half of
/// the window and is not answered yet says nothing: a client that begins with a hundred requests at once has no answers either,
/// nor has one whose operation takes seconds.
///
/// What is known is known of each criticality by itself, as in the book: a server refuses the least critical first, and what becomes of
/// them says nothing of the others.
#[derive(Debug)]
pub struct Throttle {
    options: ThrottleOptions,
    ticks: Ticks,
    /// Requests, those that were accepted, and those that were refused, by criticality.
    windows: [Window<3>; Criticality::ALL.len()],
}

/// It would be refused, most likely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttled;

const BUCKETS: u32 = 10;

/// What is not answered yet says nothing for so many of them: half of the window.
const YOUNG: u64 = 5;

impl Throttle {
    /// With nothing known.
    pub fn new(options: ThrottleOptions, now: Instant) -> Self {
        Self {
            ticks: Ticks::new(now, options.window / BUCKETS),
            windows: Criticality::ALL.map(|_| Window::new(BUCKETS as usize)),
            options,
        }
    }

    fn window(&self, criticality: Criticality) -> &Window<3> {
        &self.windows[criticality as usize]
    }

    /// Asks before a request is sent. How it ends is to be told to [`Throttle::accepted`] or [`Throttle::refused`]; a caller
    /// that gave up is as good as accepted, for that says nothing of the server.
    ///
    /// # Errors
    /// [`Throttled`] if it is not to be sent.
    pub fn ask(&self, criticality: Criticality, now: Instant, rng: &impl Rng) -> Result<(), Throttled> {
        if self.options.k <= 0.0 {
            return Ok(());
        }
        let (tick, window) = (self.ticks.at(now), self.window(criticality));
        let (mut requests, mut accepts, mut open) = (0, 0, 0_i64);
        for (own, [sent, accepted, refused]) in window.buckets(tick) {
            (requests, accepts) = (requests + sent, accepts + accepted);
            if own + YOUNG > tick {
                open += sent as i64 - accepted as i64 - refused as i64;
            }
        }
        if requests < self.options.least {
            window.add(tick, [1, 0, 0]);
            return Ok(());
        }
        let k = self.options.k
            * match criticality {
                Criticality::Sheddable => 0.75,
                Criticality::SheddablePlus => 0.875,
                Criticality::Critical => 1.0,
                Criticality::CriticalPlus => 2.0,
            };
        let (requests, accepts, open) = (requests as f64, accepts as f64, open.max(0) as f64);
        let part = (requests - open - k.max(1.0) * accepts) / (requests + 1.0);
        let refused = part > 0.0 && rng.unit() < part;
        window.add(tick, [1, 0, u64::from(refused)]);
        if refused { Err(Throttled) } else { Ok(()) }
    }

    /// A request was refused: the server did nothing for it, was not there, or did not answer in time.
    pub fn refused(&self, criticality: Criticality, now: Instant) {
        self.window(criticality).add(self.ticks.at(now), [0, 0, 1]);
    }

    /// A request was accepted: the server did its work, be the answer good or bad.
    pub fn accepted(&self, criticality: Criticality, now: Instant) {
        self.window(criticality).add(self.ticks.at(now), [0, 1, 0]);
    }
}

#[cfg(test)]
mod tests {
    use bowline_core::{Clock, ManualClock, SeededRng};

    use super::*;

    /// Sends `requests` a second for `seconds`, of which the server accepts a part; the part that was sent.
    fn run(
        throttle: &Throttle,
        clock: &ManualClock,
        criticality: Criticality,
        seconds: u32,
        accepts: f64,
    ) -> f64 {
        let rng = SeededRng::new(5);
        let (mut sent, all) = (0, 100 * seconds);
        for _ in 0..all {
            if throttle.ask(criticality, clock.now(), &rng).is_ok() {
                sent += 1;
                match rng.unit() < accepts {
                    true => throttle.accepted(criticality, clock.now()),
                    false => throttle.refused(criticality, clock.now()),
                }
            }
            clock.advance(Duration::from_millis(10));
        }
        f64::from(sent) / f64::from(all)
    }

    #[test]
    fn a_server_that_refuses_less_than_half_gets_all() {
        let clock = ManualClock::new();
        let throttle = Throttle::new(ThrottleOptions::default(), clock.now());
        assert_eq!(run(&throttle, &clock, Criticality::Critical, 60, 1.0), 1.0);
        assert!(run(&throttle, &clock, Criticality::Critical, 60, 0.6) > 0.99);
    }

    #[test]
    fn one_that_refuses_all_is_asked_now_and_then_and_comes_back() {
        let clock = ManualClock::new();
        let throttle = Throttle::new(ThrottleOptions::default(), clock.now());
        run(&throttle, &clock, Criticality::Critical, 60, 1.0);
        run(&throttle, &clock, Criticality::Critical, 30, 0.0);
        let sent = run(&throttle, &clock, Criticality::Critical, 60, 0.0);
        assert!(sent > 0.0 && sent < 0.02, "{sent}");
        run(&throttle, &clock, Criticality::Critical, 60, 1.0);
        assert_eq!(run(&throttle, &clock, Criticality::Critical, 10, 1.0), 1.0);
    }

    #[test]
    fn the_less_critical_is_held_back_first() {
        let sent = |criticality| {
            let clock = ManualClock::new();
            let throttle = Throttle::new(ThrottleOptions::default(), clock.now());
            run(&throttle, &clock, criticality, 120, 0.4)
        };
        let [lowest, low, high, highest] = Criticality::ALL.map(sent);
        assert!(
            lowest < low && low < high && high < highest && highest > 0.99,
            "{lowest} {low} {high} {highest}"
        );
    }

    #[test]
    fn what_becomes_of_the_least_critical_holds_nobody_else_back() {
        let clock = ManualClock::new();
        let throttle = Throttle::new(ThrottleOptions::default(), clock.now());
        for _ in 0..10 {
            run(&throttle, &clock, Criticality::Sheddable, 3, 0.0);
            assert_eq!(run(&throttle, &clock, Criticality::CriticalPlus, 1, 1.0), 1.0);
        }
    }

    #[test]
    fn a_burst_that_is_not_answered_yet_is_sent_and_one_that_never_is_holds_the_next_one_back() {
        let clock = ManualClock::new();
        let throttle = Throttle::new(ThrottleOptions::default(), clock.now());
        let rng = SeededRng::new(1);
        let burst =
            || (0..1_000).filter(|_| throttle.ask(Criticality::Critical, clock.now(), &rng).is_ok()).count();
        assert_eq!(burst(), 1_000);
        clock.advance(Duration::from_secs(6));
        assert!(burst() < 600);
    }

    #[test]
    fn the_first_failures_after_a_quiet_time_hold_nothing_back() {
        let clock = ManualClock::new();
        let throttle = Throttle::new(ThrottleOptions::default(), clock.now());
        for _ in 0..20 {
            assert_eq!(throttle.ask(Criticality::Sheddable, clock.now(), &SeededRng::new(1)), Ok(()));
        }
    }
}
