//! Counts over the last seconds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline_core::Instant;

/// Whole ticks of one length since a beginning: what a ring of buckets turns by.
#[derive(Debug)]
pub(crate) struct Ticks {
    origin: Instant,
    length: Duration,
}

impl Ticks {
    pub(crate) fn new(origin: Instant, length: Duration) -> Self {
        Self { origin, length: length.max(Duration::from_nanos(1)) }
    }

    pub(crate) fn at(&self, now: Instant) -> u64 {
        (self.nanos(now) / self.length.as_nanos() as u64).saturating_add(1)
    }

    /// Nanoseconds since the beginning: 584 years fit.
    pub(crate) fn nanos(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_nanos() as u64
    }

    pub(crate) fn length(&self) -> Duration {
        self.length
    }
}

/// `N` sums over a rolling window, in a ring of buckets. Adding takes no lock.
///
/// When the first of several threads that find a new tick clears its bucket, what another one adds in that instant may be
/// lost with what was there before. These are statistics, and it is one count in a bucket's time.
#[derive(Debug)]
pub(crate) struct Window<const N: usize> {
    buckets: Box<[Bucket<N>]>,
}

#[derive(Debug)]
struct Bucket<const N: usize> {
    tick: AtomicU64,
    sums: [AtomicU64; N],
}

impl<const N: usize> Window<N> {
    pub(crate) fn new(buckets: usize) -> Self {
        let bucket = || Bucket { tick: AtomicU64::new(0), sums: [const { AtomicU64::new(0) }; N] };
        Self { buckets: (0..buckets.max(1)).map(|_| bucket()).collect() }
    }

    /// Adds to the sums of the bucket of `tick`.
    pub(crate) fn add(&self, tick: u64, values: [u64; N]) {
        let bucket = &self.buckets[(tick % self.buckets.len() as u64) as usize];
        let held = bucket.tick.load(Ordering::Acquire);
        if held != tick {
            // What is late by a whole window has nothing to say any more.
            if held > tick {
                return;
            }
            if bucket.tick.compare_exchange(held, tick, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                for sum in &bucket.sums {
                    sum.store(0, Ordering::Relaxed);
                }
            }
        }
        for (sum, value) in bucket.sums.iter().zip(values) {
            if value > 0 {
                sum.fetch_add(value, Ordering::Relaxed);
            }
        }
    }

    /// The sums of each bucket that is in the window at `tick`, the current one included, in no order.
    pub(crate) fn buckets(&self, tick: u64) -> impl Iterator<Item = (u64, [u64; N])> {
        let oldest = (tick + 1).saturating_sub(self.buckets.len() as u64);
        self.buckets.iter().filter_map(move |bucket| {
            let own = bucket.tick.load(Ordering::Acquire);
            (own > 0 && (oldest..=tick).contains(&own))
                .then(|| (own, std::array::from_fn(|i| bucket.sums[i].load(Ordering::Relaxed))))
        })
    }

    /// The sums over the window.
    pub(crate) fn sums(&self, tick: u64) -> [u64; N] {
        self.buckets(tick).fold([0; N], |sums, (_, own)| std::array::from_fn(|i| sums[i] + own[i]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let window = Window::<2>::new(10);
        for tick in 1..=25 {
            window.add(tick, [1, tick]);
        }
        assert_eq!(window.sums(25), [10, (16..=25).sum()]);
        assert_eq!(window.sums(30), [5, (21..=25).sum()]);
        assert_eq!(window.sums(100), [0, 0]);
        // Whoever is late by a window changes nothing.
        window.add(15, [1, 1]);
        assert_eq!(window.sums(25)[0], 10);
    }
}
