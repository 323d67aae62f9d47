//! How long to wait before trying again.

use std::time::Duration;

use bowline_core::Rng;

/// Exponential backoff with equal jitter: the n-th delay is uniform between half and all of `first · 2ⁿ`, at most `max`.
///
/// Without jitter, everybody who lost the same registry comes back in the same instant and takes it down again. Full
/// jitter spreads best ("Exponential Backoff And Jitter", AWS Architecture Blog); equal jitter gives up little of that and
/// never retries at once, which matters to a loop that goes on for ever.
///
/// ```
/// use bowline_core::SystemRng;
/// use bowline_discovery::Backoff;
/// use std::time::Duration;
///
/// let mut backoff = Backoff::default();
/// let delay = backoff.next(&SystemRng);
/// assert!(delay >= Duration::from_millis(125) && delay <= Duration::from_millis(250));
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    attempts: u32,
}

impl Backoff {
    /// Delays that begin at up to `first` and double up to `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, attempts: 0 }
    }

    /// The next delay.
    pub fn next(&mut self, rng: &impl Rng) -> Duration {
        let factor = 1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        let ceiling = self.first.saturating_mul(factor).min(self.max);
        self.attempts = self.attempts.saturating_add(1).min(31);
        ceiling / 2 + rng.jitter(ceiling / 2)
    }

    /// Begins again after a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

impl Default for Backoff {
    /// 250 ms up to 30 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(250), Duration::from_secs(30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_core::SeededRng;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn delays_double_within_their_bounds_for_ever(seed: u64, first in 1..2_000_u64, max in 1..60_000_u64) {
            let (rng, first, max) = (SeededRng::new(seed), Duration::from_millis(first), Duration::from_millis(max));
            let mut backoff = Backoff::new(first, max);
            for n in 0..80_u32 {
                let ceiling = first.saturating_mul(2_u32.saturating_pow(n.min(31))).min(max);
                let delay = backoff.next(&rng);
                prop_assert!(delay >= ceiling / 2 && delay <= ceiling, "{n}: {delay:?} of {ceiling:?}");
            }
            backoff.reset();
            prop_assert!(backoff.next(&rng) <= first);
        }
    }
}
