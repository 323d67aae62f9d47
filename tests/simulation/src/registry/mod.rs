//! A registry of three to five nodes in two zones, and two hundred clients, while everything breaks.
//!
//! The store and what nodes say to each other are the registry's own. Who hears of whom is found by heartbeats that go from
//! node to node, as in gossip, but simpler and quicker to err than what real nodes use.
//!
//! What must hold, always:
//!
//! - nobody who lives is taken out by a node that reaches the one that renewed it;
//! - nothing comes back once it was cancelled;
//! - whoever follows a node has exactly what it has;
//! - a node that is up serves, alone if it must;
//!
//! and when all is mended: within 5 s all nodes are equal; and then everybody who lives is everywhere as they last said, and
//! nobody else is.

mod client;
mod events;
mod faults;
mod network;
mod node;
mod world;

use std::fmt;
use std::time::Duration;

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

/// Runs one seed.
///
/// # Errors
/// What did not hold.
pub fn run(seed: u64, verbose: bool) -> Result<Sums, String> {
    world::World::new(seed, verbose).run()
}
