//! How many requests more than were asked for.

use std::time::Duration;

use bowline_core::Instant;

use crate::window::{Ticks, Window};

/// How much a client may add to its load by sending requests again.
///
/// As Finagle's retry budget, but for the share of those who send little: there it is 10 a second *on top of* the part,
/// and a thousand clients of one request a second each would double their load. Here it is the larger of the two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetOptions {
    /// A part of the requests: 0.2.
    pub ratio: f64,
    /// But so many a second at least, for clients that send little: 1.
    pub per_second: f64,
    /// How long the past is: 10 s.
    pub window: Duration,
}

impl Default for BudgetOptions {
    fn default() -> Self {
        Self { ratio: 0.2, per_second: 1.0, window: Duration::from_secs(10) }
    }
}

impl BudgetOptions {
    /// For hedges: a hundredth of the requests, and nothing for who sends little.
    pub const HEDGES: Self = Self { ratio: 0.01, per_second: 0.0, window: Duration::from_secs(10) };
}

/// Allows as many further requests as the budget of the last seconds has left. One for each target.
///
/// When a service fails, all its clients try again at the same time, and what was a fault becomes an overload. With a
/// budget the load grows by a fifth, whatever fails.
///
/// ```
/// use bowline_core::Instant;
/// use bowline_resilience::{Budget, BudgetOptions};
///
/// let budget = Budget::new(BudgetOptions { per_second: 0.0, ..BudgetOptions::default() }, Instant::now());
/// (0..10).for_each(|_| budget.deposit(Instant::now()));
/// let further = (0..10).filter(|_| budget.withdraw(Instant::now())).count();
/// assert_eq!(further, 2);
/// ```
#[derive(Debug)]
pub struct Budget {
    options: BudgetOptions,
    ticks: Ticks,
    /// Requests, and further ones.
    window: Window<2>,
}

const BUCKETS: u32 = 10;

impl Budget {
    /// With what each second brings.
    pub fn new(options: BudgetOptions, now: Instant) -> Self {
        Self {
            ticks: Ticks::new(now, options.window / BUCKETS),
            window: Window::new(BUCKETS as usize),
            options,
        }
    }

    /// A request was asked for.
    pub fn deposit(&self, now: Instant) {
        self.window.add(self.ticks.at(now), [1, 0]);
    }

    /// Takes one further request out of the budget; false if it is used up.
    pub fn withdraw(&self, now: Instant) -> bool {
        let tick = self.ticks.at(now);
        let [requests, further] = self.window.sums(tick);
        let share = self.options.ratio.max(0.0) * requests as f64;
        let least = self.options.per_second.max(0.0) * self.options.window.as_secs_f64();
        let all = share.max(least);
        let has_left = further as f64 + 1.0 <= all;
        if has_left {
            self.window.add(tick, [0, 1]);
        }
        has_left
    }
}

#[cfg(test)]
mod tests {
    use bowline_core::{Clock, ManualClock};

    use super::*;

    #[test]
    fn it_is_a_part_of_what_was_asked_lately_and_one_a_second_at_least() {
        let clock = ManualClock::new();
        let budget = Budget::new(BudgetOptions::default(), clock.now());
        let spend = || (0..100_000).filter(|_| budget.withdraw(clock.now())).count();
        assert_eq!(spend(), 10, "one a second for 10 s");
        for _ in 0..1_000 {
            budget.deposit(clock.now());
        }
        assert_eq!(spend(), 190, "a fifth, with what was spent");
        clock.advance(Duration::from_secs(11));
        assert_eq!(spend(), 10, "what was long ago counts no more");
    }

    #[test]
    fn hedges_have_a_hundredth_and_nothing_else() {
        let clock = ManualClock::new();
        let budget = Budget::new(BudgetOptions::HEDGES, clock.now());
        (0..99).for_each(|_| budget.deposit(clock.now()));
        assert!(!budget.withdraw(clock.now()));
        budget.deposit(clock.now());
        assert!(budget.withdraw(clock.now()));
        assert!(!budget.withdraw(clock.now()));
    }
}
