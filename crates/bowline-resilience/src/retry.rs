//! Whether a failed request is sent again.

use std::time::Duration;

use bowline_core::{Code, Instant, Rng};

use crate::Budget;

/// How often a call is sent, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryOptions {
    /// How often at most, the first time included: 3.
    pub attempts: u32,
    /// How long to wait before the second time at most: 25 ms. Each further time twice as long.
    pub backoff: Duration,
    /// How long to wait at most: 250 ms.
    pub longest: Duration,
    /// How long a server may ask to wait: 1 s. If it asks for more, the call has failed.
    pub patience: Duration,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            attempts: 3,
            backoff: Duration::from_millis(25),
            longest: Duration::from_millis(250),
            patience: Duration::from_secs(1),
        }
    }
}

/// What a server says of whether to come again: `grpc-retry-pushback-ms`, or google.rpc's `RetryInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    /// Not at all.
    Never,
    /// After so long.
    After(Duration),
}

/// An attempt that failed.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// With this code.
    pub code: Code,
    /// Whether the server may have begun to work on it.
    pub begun: bool,
    /// What the server says of coming again.
    pub pushback: Option<Pushback>,
}

/// Why a call is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// It would fail again: the failure is not one of the moment.
    Final,
    /// It may have been done, and must not be done twice.
    NotIdempotent,
    /// It was sent as often as it may be.
    Attempts,
    /// The server asks not to come again, or not for so long that nobody waits for it.
    Pushback,
    /// There would be no time for an answer.
    Deadline,
    /// Too much was sent again lately.
    Budget,
}

impl RetryOptions {
    /// No retries.
    pub const OFF: Self =
        Self { attempts: 1, backoff: Duration::ZERO, longest: Duration::ZERO, patience: Duration::ZERO };

    /// After how long the call is to be sent again. `made` is how often it was sent; `remaining` what is left of its time.
    ///
    /// Backoff has full jitter: a time between none and the whole (Brooker, *Exponential Backoff And Jitter*, AWS
    /// Architecture Blog, 2015). The budget is asked last, so that nothing is taken out of it in vain.
    ///
    /// # Errors
    /// Why it is not sent again.
    #[expect(clippy::too_many_arguments, reason = "all of it decides")]
    pub fn again(
        &self,
        failure: &Failure,
        idempotent: bool,
        made: u32,
        remaining: Option<Duration>,
        budget: &Budget,
        now: Instant,
        rng: &impl Rng,
    ) -> Result<Duration, GiveUp> {
        if !is_of_the_moment(failure.code) {
            return Err(GiveUp::Final);
        }
        if failure.begun && !idempotent {
            return Err(GiveUp::NotIdempotent);
        }
        if made >= self.attempts {
            return Err(GiveUp::Attempts);
        }
        let delay = match failure.pushback {
            Some(Pushback::Never) => return Err(GiveUp::Pushback),
            Some(Pushback::After(delay)) if delay > self.patience => return Err(GiveUp::Pushback),
            // A little later each, or all who were turned away come back at once.
            Some(Pushback::After(delay)) => delay + rng.jitter(delay / 10),
            None => rng.jitter(self.ceiling(made)),
        };
        if remaining.is_some_and(|remaining| delay >= remaining) {
            return Err(GiveUp::Deadline);
        }
        if budget.withdraw(now) { Ok(delay) } else { Err(GiveUp::Budget) }
    }

    fn ceiling(&self, made: u32) -> Duration {
        let factor = 1_u32.checked_shl(made.saturating_sub(1)).unwrap_or(u32::MAX);
        self.backoff.saturating_mul(factor).min(self.longest)
    }
}

/// Whether another attempt may end otherwise: the instance is not there, or has too much to do. What ran out of time is
/// one of an attempt's own time; the call's own is over then, and nothing is sent any more.
fn is_of_the_moment(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded)
}

#[cfg(test)]
mod tests {
    use bowline_core::SeededRng;

    use super::*;
    use crate::BudgetOptions;

    const DOWN: Failure = Failure { code: Code::Unavailable, begun: true, pushback: None };

    fn ask(
        failure: Failure,
        idempotent: bool,
        made: u32,
        remaining: Option<u64>,
    ) -> Result<Duration, GiveUp> {
        let budget = Budget::new(BudgetOptions::default(), Instant::now());
        let remaining = remaining.map(Duration::from_millis);
        let options = RetryOptions::default();
        options.again(
            &failure,
            idempotent,
            made,
            remaining,
            &budget,
            Instant::now(),
            &SeededRng::new(made.into()),
        )
    }

    #[test]
    fn what_may_have_been_done_is_not_done_twice() {
        assert_eq!(ask(DOWN, false, 1, None), Err(GiveUp::NotIdempotent));
        assert!(ask(Failure { begun: false, ..DOWN }, false, 1, None).is_ok());
        assert!(ask(DOWN, true, 1, None).is_ok());
    }

    #[test]
    fn what_would_fail_again_is_not_tried_again() {
        for code in [Code::InvalidArgument, Code::NotFound, Code::Internal, Code::Canceled, Code::Aborted] {
            assert_eq!(ask(Failure { code, ..DOWN }, true, 1, None), Err(GiveUp::Final), "{code:?}");
        }
        assert_eq!(ask(DOWN, true, 3, None), Err(GiveUp::Attempts));
    }

    #[test]
    fn a_server_is_obeyed() {
        let pushback = |pushback| Failure { pushback: Some(pushback), ..DOWN };
        assert_eq!(ask(pushback(Pushback::Never), true, 1, None), Err(GiveUp::Pushback));
        let second = Duration::from_secs(1);
        let delay = ask(pushback(Pushback::After(second)), true, 1, None).unwrap();
        assert!(delay >= second && delay <= second.mul_f64(1.1));
        assert_eq!(ask(pushback(Pushback::After(second)), true, 1, Some(900)), Err(GiveUp::Deadline));
        assert_eq!(ask(pushback(Pushback::After(2 * second)), true, 1, None), Err(GiveUp::Pushback));
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        let options = RetryOptions { attempts: 40, ..RetryOptions::default() };
        let ceilings: Vec<_> = (1..7).map(|made| options.ceiling(made).as_millis()).collect();
        assert_eq!(ceilings, [25, 50, 100, 200, 250, 250]);
        assert_eq!(options.ceiling(39), options.longest);
    }

    #[test]
    fn the_budget_is_not_spent_on_what_is_refused_otherwise() {
        let budget =
            Budget::new(BudgetOptions { per_second: 0.1, ..BudgetOptions::default() }, Instant::now());
        let again = |failure: &Failure, idempotent| {
            let (now, rng) = (Instant::now(), SeededRng::new(1));
            RetryOptions::default().again(failure, idempotent, 1, None, &budget, now, &rng)
        };
        for _ in 0..10 {
            assert!(again(&DOWN, false).is_err());
        }
        assert!(again(&DOWN, true).is_ok());
        assert_eq!(again(&DOWN, true), Err(GiveUp::Budget));
    }
}
