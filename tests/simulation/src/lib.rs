//! Whole systems in virtual time, repeatable by a seed.
//!
//! What is simulated is the program's own code: its state machines, which take the time, chance and messages from outside.
//! The network, the failures and the clients are made here.

pub mod registry;
pub mod resilience;
