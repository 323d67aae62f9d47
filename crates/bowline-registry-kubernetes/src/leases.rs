//! Which leases are over, as one reader sees it.
//!
//! Clocks of different machines are not compared: a lease is over when this process has seen no renewal for as long as it
//! lasts. Only what is seen for the first time is judged by the time that is written in it, and generously so; whoever is
//! judged wrongly is alive again with its next renewal.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bowline_core::Instant;

use crate::api::Lease;
use crate::time;

/// By how much the clocks of two machines may differ before a lease that is seen for the first time is misjudged.
const SKEW: Duration = Duration::from_secs(60);
/// How often leases are looked at: three times within the shortest one, within these.
const OFTEN: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(10);
/// How long a lease lasts that does not say it. The default of `Options::ttl`.
const USUAL: Duration = Duration::from_secs(15);

/// What is known of leases, by name.
#[derive(Default)]
pub(crate) struct Leases(BTreeMap<String, Seen>);

struct Seen {
    /// The renewal that was seen last, and by whom; empty before the first look.
    renewal: String,
    lasts: Duration,
    /// When it was first seen. `None` if it was over then.
    since: Option<Instant>,
}

impl Leases {
    /// This one matters from now on.
    pub(crate) fn follow(&mut self, name: &str, now: Instant) {
        if !self.0.contains_key(name) {
            let new = Seen { renewal: String::new(), lasts: USUAL, since: Some(now) };
            self.0.insert(name.to_owned(), new);
        }
    }

    /// This one matters no more.
    pub(crate) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// These alone matter.
    pub(crate) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| wanted(name));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All begin again: nobody could renew, or be seen to, for a while.
    pub(crate) fn refresh(&mut self, now: Instant) {
        for seen in self.0.values_mut() {
            seen.since = seen.since.map(|_| now);
        }
    }

    /// Takes what there is now, of those that matter. One that is not there any more ends as one that is not renewed.
    pub(crate) fn look(&mut self, leases: &[Lease], now: Instant, today: SystemTime) {
        for lease in leases {
            let Some(seen) = self.0.get_mut(&lease.metadata.name) else { continue };
            let renewal = renewal(lease);
            if seen.renewal == renewal {
                continue;
            }
            seen.lasts = lasts(lease);
            let is_old = seen.renewal.is_empty() && is_old(lease, today, seen.lasts + SKEW);
            seen.since = (!is_old).then_some(now);
            seen.renewal = renewal;
        }
    }

    /// How often to look.
    pub(crate) fn every(&self) -> Duration {
        let shortest = self.0.values().map(|seen| seen.lasts).min().unwrap_or(SELDOM);
        (shortest / 3).clamp(OFTEN, SELDOM)
    }

    /// Tells which are over. Leases are not looked at all the time, which counts for them.
    pub(crate) fn over(&self, now: Instant) -> impl Fn(&str) -> bool {
        let every = self.every();
        let is_over = move |seen: &Seen| seen.since.is_none_or(|since| now > since + seen.lasts + every);
        move |name| self.0.get(name).is_some_and(is_over)
    }
}

/// Changes with each renewal and each holder.
fn renewal(lease: &Lease) -> String {
    let spec = &lease.spec;
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    // Never empty.
    format!("{} {}", part(&spec.renew_time), part(&spec.holder_identity))
}

fn lasts(lease: &Lease) -> Duration {
    lease.spec.lease_duration_seconds.map_or(USUAL, |seconds| Duration::from_secs(u64::from(seconds)))
}

/// Whether the last renewal is longer ago than this, as the clock of this machine and that of the holder say.
pub(crate) fn is_old(lease: &Lease, today: SystemTime, than: Duration) -> bool {
    let renewed = lease.spec.renew_time.as_deref().and_then(time::read);
    renewed.is_none_or(|renewed| today.duration_since(renewed).is_ok_and(|ago| ago > than))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{LeaseSpec, Meta};

    fn lease(renewed: SystemTime, holder: &str) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(15),
            renew_time: Some(time::print(renewed)),
        };
        Lease { metadata: Meta { name: "a".into(), ..Meta::default() }, spec }
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_is_over_when_no_renewal_was_seen_for_as_long_as_it_lasts() {
        let (start, today) = (Instant::now(), SystemTime::now());
        let mut leases = Leases::default();
        leases.follow("a", start);
        leases.look(&[lease(today, "x")], start, today);
        assert_eq!(leases.every(), s(5));
        assert!(!leases.over(start + s(20))("a") && leases.over(start + s(21))("a"));
        // The same again is no renewal; another one is, whatever time it says.
        leases.look(&[lease(today, "x")], start + s(18), today + s(18));
        assert!(leases.over(start + s(21))("a"));
        leases.look(&[lease(today - s(900), "x")], start + s(30), today + s(30));
        assert!(!leases.over(start + s(50))("a") && leases.over(start + s(51))("a"));
        leases.refresh(start + s(50));
        assert!(!leases.over(start + s(70))("a"));
    }

    #[test]
    fn what_is_old_at_first_sight_is_over_until_it_is_renewed() {
        let (start, today) = (Instant::now(), SystemTime::now());
        let mut leases = Leases::default();
        leases.follow("a", start);
        leases.look(&[lease(today - s(76), "x")], start, today);
        assert!(leases.over(start)("a"));
        leases.refresh(start);
        assert!(leases.over(start)("a"), "an outage brings nobody back to life");
        leases.look(&[lease(today - s(70), "x")], start, today);
        assert!(!leases.over(start)("a"));
        // A clock that is ahead or within the skew is no reason.
        for renewed in [today + s(900), today - s(74)] {
            let mut leases = Leases::default();
            leases.follow("a", start);
            leases.look(&[lease(renewed, "x")], start, today);
            assert!(!leases.over(start)("a"));
        }
    }

    #[test]
    fn one_that_is_not_there_runs_out_too_and_one_that_nobody_follows_takes_no_memory() {
        let start = Instant::now();
        let mut leases = Leases::default();
        leases.look(&[lease(SystemTime::now(), "x")], start, SystemTime::now());
        assert!(leases.is_empty() && !leases.over(start)("a"));
        leases.follow("a", start);
        assert!(!leases.over(start + s(20))("a") && leases.over(start + s(21))("a"));
        leases.retain(|name| name != "a");
        assert!(leases.is_empty());
    }
}
