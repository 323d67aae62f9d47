//! How long watchers wait for more news before they are told the next.
//!
//! A change after a quiet while is told at once. What follows closely goes out together: one message tells many changes of a
//! service, and a thousand instances that start at the same time make a few messages and not a thousand for each watcher. The
//! more changes there are, the longer the pause: in a storm what counts is that everybody gets through.

use std::time::Duration;

use bowline_core::Instant;

/// Changes in a second up to which the shortest pause is kept.
const CALM: f64 = 200.0;
/// Changes in a second from which on the longest is.
const STORM: f64 = 2_000.0;
/// How fast old changes lose their weight: after this time a third of it is left.
const MEMORY: Duration = Duration::from_secs(1);

/// Counts changes, the latest most.
#[derive(Debug)]
pub(crate) struct Pace {
    shortest: Duration,
    longest: Duration,
    /// Changes in a second, as they are remembered.
    rate: f64,
    counted_at: Instant,
}

impl Pace {
    pub(crate) fn new(shortest: Duration, longest: Duration, now: Instant) -> Self {
        Self { shortest, longest: longest.max(shortest), rate: 0.0, counted_at: now }
    }

    fn rate(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.counted_at).as_secs_f64();
        self.rate * (-passed / MEMORY.as_secs_f64()).exp()
    }

    /// Counts changes.
    pub(crate) fn count(&mut self, changes: usize, now: Instant) {
        // The sum of exp(-age / MEMORY) over all changes is their rate times MEMORY once that is steady.
        self.rate = self.rate(now) + changes as f64 / MEMORY.as_secs_f64();
        self.counted_at = now;
    }

    /// The pause after what is told now.
    pub(crate) fn pause(&self, now: Instant) -> Duration {
        let storm = ((self.rate(now) - CALM) / (STORM - CALM)).clamp(0.0, 1.0);
        self.shortest + (self.longest - self.shortest).mul_f64(storm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_pause_grows_with_the_changes_and_shrinks_when_they_end() {
        let mut now = Instant::now();
        let mut pace = Pace::new(50 * MS, 500 * MS, now);
        assert_eq!(pace.pause(now), 50 * MS);
        let mut run = |pace: &mut Pace, per_second: u32, seconds: u32| {
            for _ in 0..per_second * seconds {
                now += Duration::from_secs(1) / per_second;
                pace.count(1, now);
            }
            now
        };
        let at = run(&mut pace, 100, 10);
        assert_eq!(pace.pause(at), 50 * MS);
        let at = run(&mut pace, 1_100, 10);
        assert!((250 * MS..300 * MS).contains(&pace.pause(at)), "{:?}", pace.pause(at));
        let at = run(&mut pace, 20_000, 10);
        assert_eq!(pace.pause(at), 500 * MS);
        assert_eq!(pace.pause(at + Duration::from_secs(10)), 50 * MS);
    }
}
