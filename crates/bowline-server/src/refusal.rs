//! What a server says to a request that it does not take.
//!
//! A refusal comes most often when there is least time to make one: to write a status with its details costs ten times what it
//! costs to decide on it. So each is made once, in each form that protocols have for it, and given from then on.

use std::sync::OnceLock;
use std::time::Duration;

use bowline_core::{Code, Error};
use bowline_resilience::{Overloaded, reason};
use bowline_rpc::{Body, Form, Protocol, ReadyMade};
use http::{HeaderMap, Response};

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// There is too much to do.
    Overloaded,
    /// The bulkhead has no place.
    NoPlace,
    /// The time was over before it was begun.
    TooLate,
    /// The caller's rate is used up.
    Caller,
    /// The tenant's rate is used up.
    Tenant,
    /// The operation's rate is used up.
    Operation,
}

/// A request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    why: Why,
    /// When to come again, where that is not the same for all.
    retry_after: Option<Delay>,
}

impl Refusal {
    /// For a reason whose answers are all the same.
    pub(crate) const fn new(why: Why) -> Self {
        Self { why, retry_after: None }
    }

    /// A rate is used up until then.
    pub(crate) fn limited(why: Why, retry_after: Duration) -> Self {
        Self { why, retry_after: Some(Delay::new(retry_after)) }
    }

    /// Its name, for callers and metrics.
    pub(crate) const fn reason(self) -> &'static str {
        match self.why {
            Why::Overloaded | Why::NoPlace => reason::OVERLOADED,
            Why::TooLate => reason::DEADLINE_EXCEEDED,
            Why::Caller | Why::Tenant | Why::Operation => reason::RATELIMITED,
        }
    }

    /// The whole of it.
    pub(crate) fn error(self) -> Error {
        let limited = |whose| {
            let after = self.retry_after.map_or(Overloaded::RETRY_AFTER, Delay::duration);
            reason::rate_limited(whose, after)
        };
        match self.why {
            Why::Overloaded => reason::overloaded("the server has too much to do", Overloaded::RETRY_AFTER),
            Why::NoPlace => reason::overloaded(
                "as many calls of this operation run and wait as may",
                Overloaded::RETRY_AFTER,
            ),
            Why::TooLate => {
                Error::refusal(Code::DeadlineExceeded, "the deadline had passed before the call was begun")
                    .with_reason(reason::DEADLINE_EXCEEDED)
            }
            Why::Caller => limited("this caller calls the operation more often than it may"),
            Why::Tenant => limited("the tenant's callers call the operation more often than they may"),
            Why::Operation => limited("the operation is called more often than it may be"),
        }
    }
}

/// Milliseconds in two digits and noughts, rounded up: too early is the one thing it must not be, and a tenth too late is no
/// harm. So there are few enough of them to keep an answer for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Delay {
    /// Up to 99.
    digits: u64,
    noughts: u32,
}

impl Delay {
    /// With up to as many noughts, which is 114 days, there are answers to keep.
    const NOUGHTS: u32 = 8;
    const COUNT: usize = 100 + 90 * Self::NOUGHTS as usize;

    fn new(delay: Duration) -> Self {
        let millis = delay.as_nanos().div_ceil(1_000_000);
        let mut this = Self { digits: u64::try_from(millis).unwrap_or(u64::MAX), noughts: 0 };
        while this.digits > 99 {
            this = Self { digits: this.digits.div_ceil(10), noughts: this.noughts + 1 };
        }
        this
    }

    fn duration(self) -> Duration {
        // A u64 rounded up to two digits may be a little more than one.
        Duration::from_millis(self.digits.saturating_mul(10_u64.saturating_pow(self.noughts)))
    }

    /// Its place among all there are, if it is one of them: 0 to 99, then 90 with each nought more.
    fn index(self) -> Option<usize> {
        let index = self.digits as usize + 90 * self.noughts as usize;
        (index < Self::COUNT).then_some(index)
    }
}

/// The answers that were made so far. There are fewer than 30 000 of them, half a kilobyte each, if every rate has refused every
/// caller in every protocol for every length of time; of one rate and one protocol it is a few dozens.
#[derive(Default)]
pub(crate) struct Answers([[OnceLock<Box<[Answer]>>; Form::COUNT]; 6]);

/// `None` inside for one that cannot be kept.
type Answer = OnceLock<Option<Box<ReadyMade>>>;

impl Answers {
    /// The answer to a request of `protocol` with these headers.
    pub(crate) fn to(&self, protocol: Protocol, headers: &HeaderMap, refusal: Refusal) -> Response<Body> {
        let made = || protocol.error_response(&refusal.error(), None, headers);
        let Some(answer) = self.kept(protocol, headers, refusal) else { return made() };
        match answer.get_or_init(|| ReadyMade::of(made()).map(Box::new)) {
            Some(ready) => ready.response(),
            None => made(),
        }
    }

    /// The place for it, if it has one.
    fn kept(&self, protocol: Protocol, headers: &HeaderMap, refusal: Refusal) -> Option<&Answer> {
        let form = Form::of(protocol, headers)?;
        let (index, count) = match refusal.retry_after {
            None => (0, 1),
            Some(delay) => (delay.index()?, Delay::COUNT),
        };
        let answers = &self.0[refusal.why as usize][form.index()];
        let answers = answers.get_or_init(|| (0..count).map(|_| OnceLock::new()).collect());
        answers.get(index)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_delay_is_never_too_short_and_hardly_too_long(nanos in 0..=u64::MAX) {
            let exact = Duration::from_nanos(nanos);
            let delay = Delay::new(exact);
            prop_assert!(delay.duration() >= exact);
            let most = exact.mul_f64(1.1) + Duration::from_millis(1);
            prop_assert!(delay.duration() <= most, "{:?}", delay.duration());
        }
    }

    #[test]
    fn each_delay_has_a_place_of_its_own() {
        let mut places = BTreeMap::new();
        for exponent in 0..10 {
            for step in 0..10_000_u64 {
                let delay = Delay::new(Duration::from_millis(step * 10_u64.pow(exponent)));
                let Some(index) = delay.index() else { continue };
                assert_eq!(*places.entry(index).or_insert(delay.duration()), delay.duration());
            }
        }
        assert_eq!(places.len(), Delay::COUNT);
        assert!(places.values().is_sorted());
        assert_eq!(Delay::new(Duration::MAX).index(), None);
    }

    #[test]
    fn an_answer_says_the_same_whether_it_was_kept_or_made() {
        let answers = Answers::default();
        let headers = HeaderMap::new();
        for why in [Why::Overloaded, Why::NoPlace, Why::TooLate, Why::Caller, Why::Tenant, Why::Operation] {
            for millis in [7_u64, 7, 1_240, u64::MAX] {
                let refusal = match why {
                    Why::Overloaded | Why::NoPlace | Why::TooLate => Refusal::new(why),
                    _ => Refusal::limited(why, Duration::from_millis(millis)),
                };
                for protocol in [Protocol::Grpc, Protocol::Rest] {
                    let made = protocol.error_response(&refusal.error(), None, &headers);
                    let kept = answers.to(protocol, &headers, refusal);
                    assert_eq!(kept.headers(), made.headers(), "{refusal:?}");
                    assert_eq!(kept.body().as_full(), made.body().as_full(), "{refusal:?}");
                    assert_eq!(kept.status(), made.status(), "{refusal:?}");
                }
            }
        }
    }
}
