//! Who is asked whether it is there.

use std::time::Duration;

use bowline_core::Instant;

use crate::Candidate;

/// Decides which instances to probe actively. The probe itself, a health check over the connection that requests would
/// take, is the client's; it counts as a request: [`Load::begin`](crate::Load::begin) and how it ended.
///
/// Two kinds need it: those of a list that is kept although the registry no longer confirms it, since nobody tells
/// when they go; and those on probation, so that an instance comes back although nobody happens to ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProbes {
    /// How long an instance was not heard from before it is asked: 10 s. Who answers requests needs no probe.
    pub quiet: Duration,
    /// How many to ask at the same time: 4. A client with 1 000 instances does not ask all of them at once because the
    /// registry is gone.
    pub at_once: usize,
}

impl Default for ActiveProbes {
    fn default() -> Self {
        Self { quiet: Duration::from_secs(10), at_once: 4 }
    }
}

impl ActiveProbes {
    /// The positions of those to probe now: first those on probation, then those of whom `is_stale` says that nobody
    /// confirms them, the longest unheard of first. `under_way` is how many are being probed. Whoever cannot be reached
    /// is left out: it is being reconnected to already.
    ///
    /// Who is on probation is given the one probe it may have; not using it within 10 s gives it up.
    pub fn due<C: Candidate>(
        &self,
        candidates: &[C],
        is_stale: impl Fn(&C) -> bool,
        under_way: usize,
        now: Instant,
    ) -> Vec<usize> {
        let room = self.at_once.saturating_sub(under_way);
        let live = || candidates.iter().enumerate().filter(|(_, candidate)| candidate.is_live());
        let takes_probe = |candidate: &C| {
            let load = candidate.load();
            load.health().take_probe(load.millis(now))
        };
        // Taken one after the other, so that none is taken that there is no room for.
        let mut due: Vec<usize> =
            live().filter(|(_, c)| takes_probe(c)).map(|(position, _)| position).take(room).collect();
        let quiet = self.quiet.as_millis() as u64;
        let mut stale: Vec<(u64, usize)> = live()
            .filter(|(_, candidate)| is_stale(candidate) && !candidate.load().health().is_ejected())
            .filter_map(|(position, candidate)| {
                let load = candidate.load();
                let unheard =
                    load.health().heard().map_or(u64::MAX, |at| load.millis(now).saturating_sub(at));
                (unheard >= quiet && load.pending() == 0).then_some((unheard, position))
            })
            .collect();
        stale.sort_by_key(|(unheard, position)| (std::cmp::Reverse(*unheard), *position));
        due.extend(stale.into_iter().map(|(_, position)| position).take(room - due.len()));
        due
    }
}
