//! Which requests are sent a second time, for a system that learns.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bowline_core::{Instant, Rng, Tenant};

/// Decides whether a request of production is sent once more, as one of a shadow tenant, whose answer nobody waits for.
///
/// Copies have a budget of their own, in requests a second with a burst of one second's: a shadow that is slow or a
/// storm of requests must not double the load. A request of a tenant is never copied, and so no copy is.
///
/// ```
/// use bowline_balance::Mirror;
/// use bowline_core::{Instant, SystemRng, Tenant};
///
/// let mirror = Mirror::new(Tenant::new("shadow").unwrap(), 100.0, 2.0);
/// let copies = (0..10).filter(|_| mirror.copies(&Tenant::base(), Instant::now(), &SystemRng).is_some()).count();
/// assert_eq!(copies, 2);
/// ```
#[derive(Debug)]
pub struct Mirror {
    shadow: Tenant,
    percent: f64,
    /// Nanoseconds between two copies at the full rate.
    pause: u64,
    burst: u64,
    origin: OnceLock<Instant>,
    /// The time at which the budget is full again, in nanoseconds: the generic cell rate algorithm.
    full_at: AtomicU64,
}

const SECOND: f64 = 1e9;

impl Mirror {
    /// Copies `percent` of the requests of production as requests of `shadow`, at most `per_second`. With a `shadow`
    /// that is the base nothing is copied, for its effects would be real.
    pub fn new(shadow: Tenant, percent: f64, per_second: f64) -> Self {
        // One copy each 11 days is as good as none.
        let pause = if per_second > 1e-6 { (SECOND / per_second) as u64 } else { u64::MAX };
        let burst = (SECOND as u64).max(pause);
        Self { shadow, percent, pause, burst, origin: OnceLock::new(), full_at: AtomicU64::new(0) }
    }

    /// The tenant to send a copy of this request as, if there is to be one.
    pub fn copies(&self, tenant: &Tenant, now: Instant, rng: &impl Rng) -> Option<&Tenant> {
        let wanted = tenant.is_base() && !self.shadow.is_base() && rng.unit() * 100.0 < self.percent;
        (wanted && self.pause < u64::MAX && self.spend(now)).then_some(&self.shadow)
    }

    fn spend(&self, now: Instant) -> bool {
        let now = now.saturating_duration_since(*self.origin.get_or_init(|| now)).as_nanos() as u64;
        let spent = |full_at: u64| {
            let next = full_at.max(now).saturating_add(self.pause);
            (next <= now.saturating_add(self.burst)).then_some(next)
        };
        self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bowline_core::{Clock, ManualClock, SeededRng};

    use super::*;

    #[test]
    fn a_storm_does_not_double_itself() {
        let mirror = Mirror::new(Tenant::new("shadow").unwrap(), 10.0, 50.0);
        let (clock, rng) = (ManualClock::new(), SeededRng::new(3));
        let mut copies = 0;
        for _ in 0..100_000 {
            copies += usize::from(mirror.copies(&Tenant::base(), clock.now(), &rng).is_some());
            clock.advance(Duration::from_micros(100));
        }
        // 10 s at 50 a second, and the burst; without a budget it would be 10 000.
        assert!((540..=550).contains(&copies), "{copies}");
    }

    #[test]
    fn no_copy_is_copied_and_none_is_taken_for_production() {
        let (now, rng, shadow) =
            (ManualClock::new().now(), SeededRng::new(3), Tenant::new("shadow").unwrap());
        let mirror = Mirror::new(shadow.clone(), 100.0, 1e9);
        assert_eq!(mirror.copies(&Tenant::base(), now, &rng), Some(&shadow));
        assert_eq!(mirror.copies(&shadow, now, &rng), None);
        assert_eq!(Mirror::new(Tenant::base(), 100.0, 1e9).copies(&Tenant::base(), now, &rng), None);
        for nothing in [0.0, -1.0, f64::NAN] {
            assert_eq!(Mirror::new(shadow.clone(), 100.0, nothing).copies(&Tenant::base(), now, &rng), None);
        }
    }
}
