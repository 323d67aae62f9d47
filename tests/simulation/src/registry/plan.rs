//! What a seed chooses before anything happens.

use std::time::Duration;

use bowline_core::{Rng, SeededRng};
use bowline_registry::Config;

/// How patient everybody is in a run, for how long it goes, and what breaks most.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: Config,
    /// The leases that clients ask for, in whole seconds, from the shortest to the longest.
    ttl: (usize, usize),
    /// How long a node waits for another one to tell it what there is.
    pub(super) sync_within: Duration,
    /// How often what lost nodes left behind is swept.
    pub(super) sweep_every: Duration,
    /// How long things break.
    pub(super) breaks_for: Duration,
    /// Whether the run is long enough after the last mend for all that lost nodes left behind to go.
    pub(super) sees_orphans_go: bool,
    pub(super) mix: Mix,
}

/// What breaks more often than other things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mix {
    /// Nothing does.
    Even,
    /// Nodes are out of sight for longer than removals are remembered.
    Away,
    /// Nodes do not reach each other, and clients reach all of them and move about.
    Apart,
    /// Nodes start again, all at once too.
    Restarts,
}

impl Plan {
    pub(super) fn draw(rng: &SeededRng) -> Self {
        let seconds = |from: usize, to: usize| Duration::from_secs((from + rng.below(to - from + 1)) as u64);
        let mut config = Config::default();
        let mix = [Mix::Even, Mix::Away, Mix::Apart, Mix::Restarts][rng.below(4)];
        let (ttl, breaks_for, sweep_every) = match rng.below(16) {
            // As it comes.
            0..4 => ((30, 30), Duration::from_secs(150), Duration::from_secs(10)),
            // A long run, which passes the window several times.
            4 => {
                config.partition_window = seconds(15, 45);
                ((8, 8 + rng.below(20)), seconds(400, 600), seconds(2, 10))
            }
            _ => {
                config.partition_window = seconds(6, 25);
                ((6, 6 + rng.below(9)), seconds(120, 180), seconds(2, 4))
            }
        };
        if breaks_for > config.partition_window {
            config.max_ttl = Duration::from_secs(ttl.1 as u64);
            config.default_ttl = config.max_ttl;
        }
        if rng.below(2) == 0 {
            config.keep_overrides = seconds(20, 90);
        }
        // Some do without protection.
        if rng.below(6) == 0 {
            config.protection_threshold = 0;
        }
        Self {
            sees_orphans_go: breaks_for > config.partition_window,
            sync_within: seconds(1, 8),
            config,
            ttl,
            sweep_every,
            breaks_for,
            mix,
        }
    }

    /// The lease of a client.
    pub(super) fn ttl(&self, rng: &SeededRng) -> Duration {
        Duration::from_secs((self.ttl.0 + rng.below(self.ttl.1 - self.ttl.0 + 1)) as u64)
    }

    /// The longest lease.
    pub(super) fn longest_ttl(&self) -> Duration {
        Duration::from_secs(self.ttl.1 as u64)
    }

    /// How long nodes remember what is gone.
    pub(super) fn remembered(&self) -> Duration {
        self.config.max_ttl + self.config.partition_window
    }
}
