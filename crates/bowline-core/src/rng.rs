//! Chance as a parameter.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

/// Where an algorithm gets its randomness. Not for secrets.
pub trait Rng: Send + Sync + 'static {
    /// A uniformly distributed 64-bit number.
    fn next_u64(&self) -> u64;

    /// Uniform in `0..bound`; 0 when `bound` is 0.
    ///
    /// Lemire's multiply-shift without the rejection step: the bias is below 2⁻³² for the bounds used here
    /// (numbers of instances).
    fn below(&self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// Uniform in `[0, 1)`, with 53 bits.
    fn unit(&self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in `[0, max]`: "full jitter" for a backoff whose ceiling is `max`.
    fn jitter(&self, max: Duration) -> Duration {
        max.mul_f64(self.unit())
    }
}

/// Seeded once per thread from the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    fn next_u64(&self) -> u64 {
        fastrand::u64(..)
    }
}

/// Repeats itself for the same seed.
#[derive(Debug)]
pub struct SeededRng(Mutex<fastrand::Rng>);

impl SeededRng {
    /// A generator that yields the same numbers for the same `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }
}

impl Rng for SeededRng {
    fn next_u64(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).u64(..)
    }
}

impl<R: Rng + ?Sized> Rng for std::sync::Arc<R> {
    fn next_u64(&self) -> u64 {
        (**self).next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_stays_below_and_reaches_every_value() {
        let rng = SeededRng::new(7);
        let mut seen = [0; 5];
        for _ in 0..5_000 {
            seen[rng.below(5)] += 1;
        }
        assert!(seen.iter().all(|n| (800..1200).contains(n)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
    }
}
