//! A new instance begins with little.

use std::time::Duration;

/// How the weight of a new instance grows: its caches are empty and its code has not run yet, and the same share as its
/// peers' would make its first seconds its worst.
///
/// The formula and the defaults but the window are Envoy's: weight × max(minimum, (age ÷ window)^(1 ÷ aggression)).
///
/// ```
/// use bowline_balance::SlowStart;
/// use std::time::Duration;
///
/// let slow_start = SlowStart { window: Duration::from_secs(30), ..SlowStart::default() };
/// assert_eq!(slow_start.share(Duration::ZERO), 0.1);
/// assert_eq!(slow_start.share(Duration::from_secs(15)), 0.5);
/// assert_eq!(slow_start.share(Duration::from_secs(40)), 1.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// How long it takes to the full weight: 30 s; zero turns it off.
    pub window: Duration,
    /// What it begins with, as a part of its weight: 0.1.
    pub minimum: f64,
    /// 1 grows in a straight line; more grows faster at first.
    pub aggression: f64,
}

impl Default for SlowStart {
    fn default() -> Self {
        Self { window: Duration::from_secs(30), minimum: 0.1, aggression: 1.0 }
    }
}

impl SlowStart {
    /// Everybody has its full weight at once.
    pub const OFF: Self = Self { window: Duration::ZERO, minimum: 1.0, aggression: 1.0 };

    /// The part of its weight that an instance takes at `age`: from `minimum` to 1. Values that make no sense (NaN, an
    /// aggression that is not above 0) are taken as the defaults.
    pub fn share(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        let Self { minimum, aggression, .. } = Self::default();
        let minimum = if (0.0..=1.0).contains(&self.minimum) { self.minimum } else { minimum };
        let aggression = if self.aggression > 0.0 { self.aggression } else { aggression };
        (age.as_secs_f64() / self.window.as_secs_f64()).powf(1.0 / aggression).max(minimum)
    }
}
