//! What happened, so that nobody has to guess what the seeds cover.

use std::fmt;
use std::time::Duration;

/// Something that a run may come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Reached {
    Partition,
    Apart,
    OneWay,
    Loss,
    Crash,
    CrashOfAll,
    Pause,
    ClockJump,
    WindowPassed,
    LapsedTaken,
    BackAfterLong,
    StartedUnsynced,
    ServedAlone,
    Moved,
    MovedBackApart,
    CancelledApart,
    Refused,
    OverrideSet,
    OverrideCleared,
    OverrideContended,
    OverrideOutlivedOwner,
    Protected,
    ProtectionOver,
    ProtectionEndedByHand,
    Expired,
    Persisted,
    TakenOver,
    HealthChanged,
    TakenOut,
    TakenOutApart,
}

const NAMES: [&str; 30] = [
    "partitions",
    "nodes apart whom clients all reach",
    "one-way cuts",
    "losses",
    "crashes",
    "crashes of all at once",
    "pauses",
    "jumps of clocks",
    "sweeps past the window",
    "instances of lost nodes taken out",
    "nodes back after a lease and the window",
    "starts without anybody to learn from",
    "registrations and renewals on a node alone",
    "clients moved",
    "clients moved there and back while nodes were apart",
    "cancels while nodes were apart",
    "claims refused",
    "overrides set",
    "overrides cleared",
    "overrides contended",
    "overrides that outlived their node",
    "protections begun",
    "protections over by themselves",
    "protections ended by hand",
    "leases run out",
    "persistent instances registered",
    "persistent instances taken over from lost nodes",
    "changes of their health",
    "persistent instances taken out",
    "persistent instances taken out while nodes were apart",
];

/// What happened in a run, or in several.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    /// Events.
    pub events: u64,
    /// Messages between nodes.
    pub messages: u64,
    /// Instances that came or went at some node.
    pub changes: u64,
    /// Things that broke.
    pub faults: u64,
    /// Starts of nodes.
    pub boots: u64,
    /// The longest time from the last mend until all nodes were equal.
    pub slowest_equal: Duration,
    /// How often a run came to something, and in how many runs.
    reached: [(u64, u64); NAMES.len()],
}

impl Sums {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.messages += other.messages;
        self.changes += other.changes;
        self.faults += other.faults;
        self.boots += other.boots;
        self.slowest_equal = self.slowest_equal.max(other.slowest_equal);
        for (sum, of) in self.reached.iter_mut().zip(other.reached) {
            *sum = (sum.0 + of.0, sum.1 + u64::from(of.0 > 0));
        }
    }

    pub(super) fn reach(&mut self, what: Reached, times: usize) {
        self.reached[what as usize].0 += times as u64;
    }

    /// What was never reached.
    pub fn missed(&self) -> Vec<&'static str> {
        let all = NAMES.iter().zip(self.reached);
        all.filter(|(_, (times, _))| *times == 0).map(|(name, _)| *name).collect()
    }

    /// How often each thing was reached, a line for each.
    pub fn coverage(&self) -> String {
        let line =
            |(name, (times, runs)): (&&str, (u64, u64))| format!("{times:>9} in {runs:>5} seeds: {name}\n");
        NAMES.iter().zip(self.reached).map(line).collect()
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events, {} faults, {} starts of nodes, {} changes seen, equal at the latest {:.1?} after the last mend",
            self.events, self.faults, self.boots, self.changes, self.slowest_equal
        )
    }
}
