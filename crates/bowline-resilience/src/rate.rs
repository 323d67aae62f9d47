//! So many a second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_core::Instant;

/// A rate, and how much of it may come at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Requests a second.
    pub per_second: f64,
    /// How many may come at once after a quiet time; 1 at least.
    pub burst: u32,
}

impl Rate {
    /// With a burst of one second's.
    pub fn per_second(per_second: f64) -> Self {
        Self { per_second, burst: per_second.clamp(1.0, f64::from(u32::MAX)).ceil() as u32 }
    }

    /// Nanoseconds between two requests at the full rate. One in 11 days is as good as none.
    fn pause(&self) -> u64 {
        if self.per_second > 1e-6 { (1e9 / self.per_second).max(1.0) as u64 } else { u64::MAX }
    }
}

/// A token bucket, in one atomic: the time at which it is full again (the generic cell rate algorithm of ITU-T I.371).
#[derive(Debug)]
pub struct TokenBucket {
    pause: u64,
    burst: u64,
    origin: Instant,
    full_at: AtomicU64,
}

#[derive(Debug)]
struct Buckets {
    by_key: HashMap<u64, Arc<TokenBucket>>,
    /// When those that were full were thrown out last: it is not to be done for each of many strangers.
    swept: Instant,
}

/// The rate is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// When there is a token again.
    pub retry_after: Duration,
}

impl TokenBucket {
    /// A full one.
    pub fn new(rate: Rate, now: Instant) -> Self {
        let pause = rate.pause();
        let burst = pause.saturating_mul(u64::from(rate.burst.max(1)));
        Self { pause, burst, origin: now, full_at: AtomicU64::new(0) }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// [`Limited`] if there is none.
    pub fn take(&self, now: Instant) -> Result<(), Limited> {
        if self.pause == u64::MAX {
            return Err(Limited { retry_after: Duration::from_secs(86_400) });
        }
        let now = self.nanos(now);
        let spent = |full_at: u64| {
            let next = full_at.max(now).saturating_add(self.pause);
            (next <= now.saturating_add(self.burst)).then_some(next)
        };
        match self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent) {
            Ok(_) => Ok(()),
            Err(full_at) => {
                let free = full_at.saturating_add(self.pause).saturating_sub(self.burst);
                Err(Limited { retry_after: Duration::from_nanos(free.saturating_sub(now)) })
            }
        }
    }

    /// Puts back a token that was taken, for what was not done after all.
    pub fn give_back(&self) {
        let earlier = |full_at: u64| Some(full_at.saturating_sub(self.pause));
        // The closure always returns a value, so that there is nothing to lose.
        let _ = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earlier);
    }

    fn nanos(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_nanos() as u64
    }

    /// Whether it is as good as a new one.
    fn is_full(&self, now: Instant) -> bool {
        self.full_at.load(Ordering::Relaxed) <= self.nanos(now)
    }
}

/// A token bucket for each key, such as each caller; a key is the hash of a name.
///
/// There are at most `most` at a time. One that is full again is the same as a new one, and makes room. If all
/// are in use, keys that are new share one: too many callers at once are limited together rather than not at all.
#[derive(Debug)]
pub struct KeyedBuckets {
    rate: Rate,
    most: usize,
    buckets: Mutex<Buckets>,
    others: Arc<TokenBucket>,
}

impl KeyedBuckets {
    /// How many keys are told apart: 10 000, which is about 1 MB.
    pub const MOST: usize = 10_000;

    /// No key yet.
    pub fn new(rate: Rate, most: usize, now: Instant) -> Self {
        let buckets = Buckets { by_key: HashMap::new(), swept: now };
        let others = Arc::new(TokenBucket::new(rate, now));
        Self { rate, most: most.max(1), buckets: Mutex::new(buckets), others }
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a token of `key`'s, and says of which bucket: it can be [given back](TokenBucket::give_back) there.
    ///
    /// # Errors
    /// [`Limited`] if there is none.
    pub fn take(&self, key: u64, now: Instant) -> Result<Arc<TokenBucket>, Limited> {
        let mut buckets = self.buckets();
        if let Some(bucket) = buckets.by_key.get(&key) {
            let bucket = Arc::clone(bucket);
            drop(buckets);
            return bucket.take(now).map(|()| bucket);
        }
        let is_full = buckets.by_key.len() >= self.most;
        if is_full && now.saturating_duration_since(buckets.swept) >= SWEEP {
            buckets.swept = now;
            buckets.by_key.retain(|_, bucket| !bucket.is_full(now));
        }
        if buckets.by_key.len() >= self.most {
            drop(buckets);
            return self.others.take(now).map(|()| Arc::clone(&self.others));
        }
        let bucket = Arc::new(TokenBucket::new(self.rate, now));
        buckets.by_key.insert(key, Arc::clone(&bucket));
        drop(buckets);
        bucket.take(now).map(|()| bucket)
    }
}

/// How often room is made.
const SWEEP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use bowline_core::{Clock, ManualClock};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_span_of_time_has_more_than_its_rate_and_a_burst(
            per_second in 1..1_000_u32,
            burst in 1..50_u32,
            gaps in proptest::collection::vec(0..20_000_u64, 1..400),
        ) {
            let clock = ManualClock::new();
            let rate = Rate { per_second: f64::from(per_second), burst };
            let bucket = TokenBucket::new(rate, clock.now());
            let (mut elapsed, mut taken) = (0.0, 0_u32);
            for gap in gaps {
                clock.advance(Duration::from_micros(gap));
                elapsed += gap as f64 / 1e6;
                match bucket.take(clock.now()) {
                    Ok(()) => taken += 1,
                    Err(Limited { retry_after }) => {
                        // What it says of when to come again is true.
                        let later = clock.now() + retry_after;
                        let earlier = clock.now() + retry_after.saturating_sub(Duration::from_nanos(1));
                        prop_assert!(!retry_after.is_zero());
                        prop_assert!(bucket.take(earlier).is_err());
                        prop_assert!(bucket.take(later).is_ok());
                        bucket.full_at.fetch_sub(bucket.pause, Ordering::Relaxed);
                    }
                }
                let most = f64::from(burst) + elapsed * f64::from(per_second) + 1.0;
                prop_assert!(f64::from(taken) <= most, "{} of {}", taken, most);
            }
        }
    }

    #[test]
    fn each_key_has_its_own_and_memory_is_bounded() {
        let clock = ManualClock::new();
        let buckets = KeyedBuckets::new(Rate { per_second: 1.0, burst: 2 }, 3, clock.now());
        for key in [1, 2, 3] {
            assert!(buckets.take(key, clock.now()).is_ok() && buckets.take(key, clock.now()).is_ok());
            assert_eq!(buckets.take(key, clock.now()).unwrap_err().retry_after, Duration::from_secs(1));
        }
        // Those that there is no room for share one.
        assert!(buckets.take(4, clock.now()).is_ok() && buckets.take(5, clock.now()).is_ok());
        assert!(buckets.take(6, clock.now()).is_err());
        assert_eq!(buckets.buckets().by_key.len(), 3);
        clock.advance(Duration::from_secs(2));
        assert!(buckets.take(6, clock.now()).is_ok());
        assert_eq!(buckets.buckets().by_key.len(), 1, "those that were full made room");
    }

    #[test]
    fn a_token_that_is_given_back_can_be_taken_and_makes_no_more_than_there_were() {
        let clock = ManualClock::new();
        let buckets = KeyedBuckets::new(Rate { per_second: 1.0, burst: 2 }, 1, clock.now());
        // The first key has a bucket of its own, the others share one.
        for key in [1, 2] {
            let bucket = buckets.take(key, clock.now()).unwrap();
            assert!(buckets.take(key, clock.now()).is_ok() && buckets.take(key, clock.now()).is_err());
            bucket.give_back();
            assert!(buckets.take(key, clock.now()).is_ok() && buckets.take(key, clock.now()).is_err());
        }
        let bucket = buckets.take(1, clock.now() + Duration::from_secs(9)).unwrap();
        clock.advance(Duration::from_secs(60));
        bucket.give_back();
        assert!((0..2).all(|_| bucket.take(clock.now()).is_ok()));
        assert!(bucket.take(clock.now()).is_err(), "it was full by itself");
    }

    #[test]
    fn a_rate_of_nothing_lets_nothing_through() {
        for per_second in [0.0, -1.0, f64::NAN] {
            assert!(
                TokenBucket::new(Rate { per_second, burst: 5 }, Instant::now()).take(Instant::now()).is_err()
            );
        }
        assert_eq!(Rate::per_second(0.5).burst, 1);
    }
}
