//! Who fails so often that it gets no requests for a while.

use std::time::Duration;

use bowline_core::Instant;

use crate::Candidate;

/// Finds outliers and takes them out for a time. The rules, and the defaults where nothing else is said, are Envoy's.
///
/// [`Ejection::sweep`] is to be called each `interval`, [`Ejection::look`] when a request's end says so. Both must
/// be called for one service by one thread at a time; picks go on meanwhile. What they decide takes effect at once,
/// in the candidates' [`Health`](crate::Health).
///
/// A failing instance is ejected if
/// - `consecutive` requests in a row failed, or as many in a row did not get through (gateway errors), or
/// - its rate of success over an interval is more than `deviations` standard deviations below the mean of all, or
/// - at least `failure_percentage` of its requests over an interval failed,
///
/// and not too many are ejected already: `percentage` of all, but one at least. Beyond that a cluster of which
/// more than half fails is taken out as a whole, as long as at least half of the instances stay. When
/// the time of an ejection is over, one request at a time tries the instance: the first that succeeds brings it
/// back, one that fails ejects it again, for longer. (Envoy lets everything back at once.)
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ejection {
    /// Failures in a row: 5. 0 turns the rule off.
    pub consecutive: u32,
    /// Gateway errors in a row: 5. 0 turns the rule off.
    pub consecutive_gateway: u32,
    /// How often to sweep: 10 s.
    pub interval: Duration,
    /// How long the first ejection is; the n-th is n times as long: 30 s.
    pub base: Duration,
    /// The longest ejection: 300 s.
    pub longest: Duration,
    /// How many may be ejected, as a percentage: 10.
    pub percentage: u32,
    /// How far from the mean of the rates of success is too far, in standard deviations: 1.9.
    pub deviations: f64,
    /// From how many requests an interval on an instance's rate of success counts: 100.
    pub rate_requests: u32,
    /// In how many instances there must be as many: 5.
    pub rate_hosts: usize,
    /// Which percentage of failures is too much by itself: 85.
    pub failure_percentage: u32,
    /// From how many requests an interval on that counts: 50; in 5 instances at least, as `rate_hosts`.
    pub failure_requests: u32,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            consecutive: 5,
            consecutive_gateway: 5,
            interval: Duration::from_secs(10),
            base: Duration::from_secs(30),
            longest: Duration::from_secs(300),
            percentage: 10,
            deviations: 1.9,
            rate_requests: 100,
            rate_hosts: 5,
            failure_percentage: 85,
            failure_requests: 50,
        }
    }
}

/// What was decided, for logs and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Positions of those that were ejected now.
    pub ejected: Vec<usize>,
    /// Positions of those that would have been, had not too many been ejected already.
    pub spared: Vec<usize>,
}

/// What one instance did in the last interval.
#[derive(Clone, Copy)]
struct Seen {
    position: usize,
    good: u32,
    bad: u32,
}

impl Seen {
    fn all(&self) -> u32 {
        self.good.saturating_add(self.bad)
    }

    fn rate(&self) -> f64 {
        f64::from(self.good) / f64::from(self.all().max(1))
    }
}

impl Ejection {
    /// Looks at failures in a row alone. `candidates` are all instances of the service.
    pub fn look<C: Candidate>(&self, candidates: &[C], now: Instant) -> Verdicts {
        self.eject(candidates, self.failing_in_a_row(candidates), now)
    }

    /// Looks at everything, and opens the way back for those whose time is over.
    pub fn sweep<C: Candidate>(&self, candidates: &[C], now: Instant) -> Verdicts {
        for candidate in candidates {
            let load = candidate.load();
            load.health().try_again(load.millis(now));
        }
        let seen: Vec<Seen> = (0..candidates.len())
            .map(|position| {
                let (good, bad) = candidates[position].load().health().take_counts();
                Seen { position, good, bad }
            })
            .filter(|seen| !candidates[seen.position].load().health().is_ejected())
            .collect();
        let mut failing = self.failing_in_a_row(candidates);
        for position in self.below_the_others(&seen).into_iter().chain(self.failing_mostly(&seen)) {
            if !failing.contains(&position) {
                failing.push(position);
            }
        }
        for seen in &seen {
            if seen.good > 0 && !failing.contains(&seen.position) {
                candidates[seen.position].load().health().forgive();
            }
        }
        self.eject(candidates, failing, now)
    }

    /// When the next one of `candidates` may be tried again, if anybody is ejected: a sweep is due then.
    pub fn next_return<C: Candidate>(&self, candidates: &[C], now: Instant) -> Option<Duration> {
        candidates.iter().filter_map(|c| c.load().health().time_left(c.load().millis(now))).min()
    }

    fn failing_in_a_row<C: Candidate>(&self, candidates: &[C]) -> Vec<usize> {
        let too_many = |limit: u32, count: u32| limit > 0 && count >= limit;
        let fails = |position: &usize| {
            let health = candidates[*position].load().health();
            let (failures, gateway) = health.failures();
            !health.is_ejected()
                && (too_many(self.consecutive, failures) || too_many(self.consecutive_gateway, gateway))
        };
        (0..candidates.len()).filter(fails).collect()
    }

    fn below_the_others(&self, seen: &[Seen]) -> Vec<usize> {
        let counted: Vec<_> = seen.iter().filter(|s| s.all() >= self.rate_requests.max(1)).collect();
        if counted.len() < self.rate_hosts.max(1) {
            return Vec::new();
        }
        let number = counted.len() as f64;
        let mean = counted.iter().map(|s| s.rate()).sum::<f64>() / number;
        let variance = counted.iter().map(|s| (s.rate() - mean).powi(2)).sum::<f64>() / number;
        let floor = mean - self.deviations * variance.sqrt();
        counted.iter().filter(|s| s.rate() < floor).map(|s| s.position).collect()
    }

    fn failing_mostly(&self, seen: &[Seen]) -> Vec<usize> {
        let counted: Vec<_> = seen.iter().filter(|s| s.all() >= self.failure_requests.max(1)).collect();
        if counted.len() < self.rate_hosts.max(1) {
            return Vec::new();
        }
        let limit = f64::from(self.failure_percentage) / 100.0;
        counted.iter().filter(|s| 1.0 - s.rate() >= limit).map(|s| s.position).collect()
    }

    fn eject<C: Candidate>(&self, candidates: &[C], mut failing: Vec<usize>, now: Instant) -> Verdicts {
        let mut verdicts = Verdicts::default();
        if failing.is_empty() {
            return verdicts;
        }
        // The worst first: there may not be room for all.
        failing.sort_by_key(|position| {
            let health = candidates[*position].load().health();
            (std::cmp::Reverse(health.failures()), *position)
        });
        let is_out = |position: usize| candidates[position].load().health().is_ejected();
        let mut out = (0..candidates.len()).filter(|position| is_out(*position)).count();
        let most = (candidates.len() * self.percentage as usize / 100).max(1);
        for position in failing {
            if out >= most {
                verdicts.spared.push(position);
                continue;
            }
            self.put_out(&candidates[position], now);
            verdicts.ejected.push(position);
            out += 1;
        }
        self.drain_clusters(candidates, &mut verdicts, now);
        verdicts
    }

    /// The limit protects against a fault of our own, or of something that all instances need; either fails everywhere
    /// alike. A cluster that fails while the others do not is at fault itself, and is one of several in order that
    /// it can be lost.
    fn drain_clusters<C: Candidate>(&self, candidates: &[C], verdicts: &mut Verdicts, now: Instant) {
        let is_out = |position: usize| candidates[position].load().health().is_ejected();
        let place = |position: usize| {
            let instance = candidates[position].instance();
            (&instance.tenant, &instance.zone, &instance.cluster)
        };
        let mut clusters: Vec<_> = verdicts.spared.iter().map(|position| place(*position)).collect();
        clusters.sort_unstable();
        clusters.dedup();
        for cluster in clusters {
            let own: Vec<usize> =
                (0..candidates.len()).filter(|position| place(*position) == cluster).collect();
            let fails = |position: &usize| is_out(*position) || verdicts.spared.contains(position);
            let failing = own.iter().filter(|position| fails(position)).count();
            // Others of the same tenant have to be there: nobody else takes its requests.
            let is_other = |position: &usize| {
                place(*position).0 == cluster.0 && place(*position) != cluster && !fails(position)
            };
            let others = (0..candidates.len()).filter(is_other).count();
            let all = (0..candidates.len()).filter(|position| place(*position).0 == cluster.0).count();
            if failing * 2 <= own.len() || others * 2 < all {
                continue;
            }
            let (drained, spared) = std::mem::take(&mut verdicts.spared)
                .into_iter()
                .partition::<Vec<_>, _>(|position| place(*position) == cluster);
            for position in &drained {
                self.put_out(&candidates[*position], now);
            }
            verdicts.ejected.extend(drained);
            verdicts.spared = spared;
        }
    }

    fn put_out<C: Candidate>(&self, candidate: &C, now: Instant) {
        let load = candidate.load();
        let (base, longest) = (self.base.as_millis() as u64, self.longest.as_millis() as u64);
        load.health().eject(load.millis(now), base, longest);
    }
}
