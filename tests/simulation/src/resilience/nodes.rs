//! Instances with nothing behind them.

use std::sync::Arc;

use bowline_balance::{
    Ask, Candidate, ConsistentHash, Field, LeastRequest, Load, P2c, Picker, WeightedRandom,
    WeightedRoundRobin,
};
use bowline_core::Instance;

/// An instance and what is known of it; a clone is the same one.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) instance: Arc<Instance>,
    pub(crate) load: Arc<Load>,
    pub(crate) live: bool,
}

impl Node {
    pub(crate) fn new(instance: Instance) -> Self {
        Self { instance: Arc::new(instance), load: Arc::default(), live: true }
    }
}

impl Candidate for Node {
    fn instance(&self) -> &Instance {
        &self.instance
    }

    fn load(&self) -> &Load {
        &self.load
    }

    fn is_live(&self) -> bool {
        self.live
    }
}

/// One of the pickers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AnyPicker {
    P2c,
    LeastRequest,
    RoundRobin,
    Random,
    Hash,
}

impl AnyPicker {
    pub(crate) const ALL: [Self; 5] =
        [Self::P2c, Self::LeastRequest, Self::RoundRobin, Self::Random, Self::Hash];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::P2c => "P2C",
            Self::LeastRequest => "least request",
            Self::RoundRobin => "round robin",
            Self::Random => "random",
            Self::Hash => "consistent hash",
        }
    }
}

impl Picker for AnyPicker {
    fn pick<C: Candidate>(&self, field: &Field<'_, C>, ask: &Ask<'_>) -> Option<usize> {
        match self {
            Self::P2c => P2c.pick(field, ask),
            Self::LeastRequest => LeastRequest.pick(field, ask),
            Self::RoundRobin => WeightedRoundRobin.pick(field, ask),
            Self::Random => WeightedRandom.pick(field, ask),
            Self::Hash => ConsistentHash::default().pick(field, ask),
        }
    }
}
