//! Overload, failing and slow instances, retry storms, subsets, tenants, copies: what the limiters, budgets and balancers
//! make of them.
//!
//! Each subject tells what it found as a [`report::Section`] with the bounds that have to hold. `cargo xtask simulate`
//! writes all of them as a page; the tests take each with fewer seeds.

mod engine;
pub mod faults;
pub mod mirror;
mod nodes;
mod numbers;
pub mod overload;
pub mod report;
pub mod storm;
pub mod subsets;
pub mod tenancy;

use report::Section;

/// How much is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// All sizes and topologies, or few enough for a test.
    pub thorough: bool,
}

impl Plan {
    /// All of them.
    pub fn seeds(&self) -> std::ops::Range<u64> {
        self.from..self.from.saturating_add(self.seeds)
    }
}

/// A subject: simulated by a plan.
pub type Subject = fn(&Plan) -> Section;

/// All of them, in the order of the page.
pub const SUBJECTS: [Subject; 6] =
    [overload::section, storm::section, faults::section, subsets::section, tenancy::section, mirror::section];
