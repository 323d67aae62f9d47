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
//! - a persistent instance stays until somebody takes it out, whoever checks it and whatever comes of that, and then it is gone;
//! - no node goes back behind what it knew of an override, and one that was taken back stays so until it is set anew;
//! - whoever is overdue in a protected group is held; of a service no sweep takes out more than 15 %, or one;
//!
//! and when all is mended: within 5 s all nodes are equal, and not by their sums alone; and then everybody who lives is
//! everywhere as they last said. Once the last protection is ended, nobody else is.
//!
//! How long leases, windows and runs are, and what breaks most, is the seed's choice. What a run came to is counted. No run is
//! as long as removals are kept for nodes that are away, so none of them shows what comes back after that.

mod breaking;
mod checks;
mod client;
mod events;
mod faults;
mod network;
mod node;
mod operators;
mod persistent;
mod plan;
mod streams;
mod sums;
mod world;

pub use sums::Sums;

/// Runs one seed.
///
/// # Errors
/// What did not hold.
pub fn run(seed: u64, verbose: bool) -> Result<Sums, String> {
    world::World::new(seed, verbose).run()
}
