//! When registrations run out.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bowline_core::Instant;

use super::ServiceKey;

/// A registration's life.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) key: ServiceKey,
    pub(super) id: Arc<str>,
    pub(super) ttl: Duration,
    pub(super) deadline: Instant,
    /// When it was renewed last, or granted; the deadline is later than the ttl from then if this node stood still.
    pub(super) renewed: Instant,
    /// Kept though it has run out; it is in the heap no more.
    pub(super) held: bool,
    /// How long it takes from one renewal to the next, the longer ones of late counting most; zero before the first.
    rhythm: Duration,
    /// Another node has the instance by now; a renewal claims it back.
    pub(super) contested: bool,
    /// Where it stands in the heap: never later than the deadline.
    queued: Instant,
}

impl Lease {
    /// Whether it counts at `now`.
    pub(super) fn is_live(&self, now: Instant) -> bool {
        self.held || self.deadline > now
    }

    /// Whether a renewal is overdue: they should come every third of the ttl, and for who is used to renew less often a quarter
    /// later than usual.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        let allowed = (self.ttl / 2).max(self.rhythm + self.rhythm / 4);
        self.deadline <= now || self.since_renewal(now) > allowed
    }

    /// At most the ttl.
    fn since_renewal(&self, now: Instant) -> Duration {
        self.ttl.saturating_sub(self.deadline.saturating_duration_since(now))
    }
}

/// All leases, and which runs out next.
///
/// A renewal moves the deadline in the table and leaves the heap alone: the entry there, too early now, is put back with
/// the right time when it comes up. So a renewal costs one look-up, and the heap has one entry per lease that counts.
/// Others, of leases that ended or were shortened, are dropped when they come up or become too many.
#[derive(Debug)]
pub(super) struct Leases {
    leases: HashMap<u64, Lease>,
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    next: u64,
}

impl Leases {
    /// None yet. Ids count from `first`, which is random, so that a lease of another life is not taken for one of this.
    pub(super) fn new(first: u64) -> Self {
        Self { leases: HashMap::new(), due: BinaryHeap::new(), next: first }
    }

    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }

    pub(super) fn get(&self, lease: u64) -> Option<&Lease> {
        self.leases.get(&lease)
    }

    /// Begins one.
    pub(super) fn grant(&mut self, key: ServiceKey, id: Arc<str>, ttl: Duration, now: Instant) -> u64 {
        // 0 stands for "none" on the wire.
        self.next = self.next.wrapping_add(1).max(1);
        let (lease, deadline) = (self.next, now + ttl);
        self.leases.insert(
            lease,
            Lease {
                key,
                id,
                ttl,
                deadline,
                renewed: now,
                held: false,
                rhythm: Duration::ZERO,
                contested: false,
                queued: deadline,
            },
        );
        self.queue(deadline, lease);
        lease
    }

    /// Prolongs one by its ttl from `now`. `None` if it is not there or has run out: then its end is only a matter of
    /// being noticed, and whoever asks must not be told that it lives.
    pub(super) fn renew(&mut self, lease: u64, now: Instant) -> Option<&Lease> {
        let entry = self.leases.get_mut(&lease).filter(|l| l.is_live(now))?;
        if !entry.held {
            let taken = entry.since_renewal(now);
            entry.rhythm = taken.max((entry.rhythm * 3 + taken) / 4);
        }
        (entry.deadline, entry.renewed) = (now + entry.ttl, now);
        if std::mem::take(&mut entry.held) {
            entry.queued = entry.deadline;
            let deadline = entry.deadline;
            self.queue(deadline, lease);
        }
        self.leases.get(&lease)
    }

    /// Says whether another node has the instance.
    pub(super) fn contest(&mut self, lease: u64, contested: bool) {
        if let Some(entry) = self.leases.get_mut(&lease) {
            entry.contested = contested;
        }
    }

    /// Keeps one that has run out, until it is renewed or ended.
    pub(super) fn hold(&mut self, lease: u64) {
        if let Some(entry) = self.leases.get_mut(&lease) {
            entry.held = true;
        }
    }

    /// Gives all this much more time, but none more than its ttl from `now`: while it passed, nobody could have renewed.
    pub(super) fn prolong(&mut self, by: Duration, now: Instant) {
        for entry in self.leases.values_mut() {
            let most = entry.deadline.max(now + entry.ttl);
            entry.deadline = (entry.deadline + by).min(most);
        }
    }

    /// Changes how long one lives, from `now` on.
    pub(super) fn set_ttl(&mut self, lease: u64, ttl: Duration, now: Instant) {
        if let Some(entry) = self.leases.get_mut(&lease) {
            entry.ttl = ttl;
            (entry.deadline, entry.renewed) = (now + ttl, now);
            if std::mem::take(&mut entry.held) || entry.deadline < entry.queued {
                entry.queued = entry.deadline;
                let deadline = entry.deadline;
                self.queue(deadline, lease);
            }
        }
    }

    fn queue(&mut self, at: Instant, lease: u64) {
        self.due.push(Reverse((at, lease)));
        if self.due.len() > 64 + 4 * self.leases.len() {
            self.due = self.leases.iter().map(|(lease, l)| Reverse((l.queued, *lease))).collect();
        }
    }

    /// Ends one before its time.
    pub(super) fn end(&mut self, lease: u64) {
        self.leases.remove(&lease);
    }

    /// One that has run out by `now`, each once: end it or hold it.
    pub(super) fn expired(&mut self, now: Instant) -> Option<u64> {
        while let Some(Reverse((due, lease))) = self.due.peek().copied() {
            if due > now {
                return None;
            }
            self.due.pop();
            let Some(entry) = self.leases.get_mut(&lease).filter(|l| l.queued == due && !l.held) else {
                continue;
            };
            if entry.deadline <= now {
                return Some(lease);
            }
            entry.queued = entry.deadline;
            self.due.push(Reverse((entry.queued, lease)));
        }
        None
    }

    /// The earliest time at which one may have run out; `None` if there are none.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grant(leases: &mut Leases, ttl: u64, now: Instant) -> u64 {
        let key = ServiceKey::new("", "", "s").unwrap();
        leases.grant(key, "i".into(), Duration::from_secs(ttl), now)
    }

    #[test]
    fn a_lease_that_has_run_out_cannot_be_renewed_even_before_it_is_noticed() {
        let (mut leases, start) = (Leases::new(7), Instant::now());
        let lease = grant(&mut leases, 10, start);
        assert!(leases.renew(lease, start + Duration::from_secs(9)).is_some());
        assert!(leases.renew(lease, start + Duration::from_secs(19)).is_none());
    }

    #[test]
    fn ended_leases_do_not_pile_up() {
        let (mut leases, start) = (Leases::new(7), Instant::now());
        for _ in 0..10_000 {
            let lease = grant(&mut leases, 600, start);
            leases.end(lease);
        }
        assert!(leases.due.len() < 200, "{}", leases.due.len());
    }

    proptest! {
        /// Against a model that looks at every lease every time.
        #[test]
        fn every_lease_runs_out_at_its_time(steps in proptest::collection::vec((0..5_u8, 0..8_usize, 1..20_u64), 0..200)) {
            let start = Instant::now();
            let (mut leases, mut now) = (Leases::new(u64::MAX - 3), start);
            let mut model: Vec<(u64, Duration, Instant)> = Vec::new();
            for (what, which, secs) in steps {
                let ttl = Duration::from_secs(secs);
                let chosen = which % model.len().max(1);
                match what {
                    0 => model.push((grant(&mut leases, secs, now), ttl, now + ttl)),
                    1 if !model.is_empty() => {
                        let renewed = leases.renew(model[chosen].0, now).map(|l| l.ttl);
                        prop_assert_eq!(renewed, Some(model[chosen].1));
                        model[chosen].2 = now + model[chosen].1;
                    }
                    2 if !model.is_empty() => {
                        leases.set_ttl(model[chosen].0, ttl, now);
                        model[chosen] = (model[chosen].0, ttl, now + ttl);
                    }
                    3 if !model.is_empty() => leases.end(model.remove(chosen).0),
                    _ => now += Duration::from_millis(secs * 300),
                }
                let mut count = 0;
                while let Some(lease) = leases.expired(now) {
                    leases.end(lease);
                    count += 1;
                }
                let before = model.len();
                model.retain(|(_, _, deadline)| *deadline > now);
                prop_assert_eq!(count, before - model.len());
                prop_assert_eq!(leases.len(), model.len());
                let next = model.iter().map(|m| m.2).min();
                prop_assert!(next.is_none() || leases.next_due().is_some_and(|due| Some(due) <= next));
            }
        }
    }
}
