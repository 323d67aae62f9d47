//! Instances for tests: nothing behind them, everything about them settable.
#![allow(dead_code, unreachable_pub, reason = "each test takes its own part of this")]
#![allow(clippy::unwrap_used, reason = "tests; clippy knows only functions marked as such")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bowline_balance::{Ask, Candidate, Index, IndexOptions, Load, Request};
use bowline_core::{Clock, Instance, ManualClock, SeededRng, Tenant};

/// An instance and what is known of it; a clone is the same one.
#[derive(Clone, Debug)]
pub struct Node {
    pub instance: Arc<Instance>,
    pub load: Arc<Load>,
    pub live: Arc<AtomicBool>,
}

impl Node {
    pub fn new(id: impl Into<String>) -> Self {
        let instance = Instance::new("catalog", id.into());
        Self { instance: Arc::new(instance), load: Arc::default(), live: Arc::new(AtomicBool::new(true)) }
    }

    fn change(mut self, change: impl FnOnce(&mut Instance)) -> Self {
        change(Arc::make_mut(&mut self.instance));
        self
    }

    pub fn weight(self, weight: u32) -> Self {
        self.change(|instance| instance.weight = weight)
    }

    pub fn tenant(self, tenant: &str) -> Self {
        self.change(|instance| instance.tenant = Tenant::new(tenant).unwrap())
    }

    pub fn place(self, zone: &str, cluster: &str) -> Self {
        self.change(|instance| (instance.zone, instance.cluster) = (zone.into(), cluster.into()))
    }

    pub fn slot(self, slot: u32) -> Self {
        self.change(|instance| {
            instance.metadata.insert(bowline_balance::SLOT.into(), slot.to_string());
        })
    }

    pub fn dead(self) -> Self {
        self.live.store(false, Ordering::Relaxed);
        self
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
        self.live.load(Ordering::Relaxed)
    }
}

pub fn nodes(number: usize) -> Vec<Node> {
    (0..number).map(|i| Node::new(format!("node-{i}"))).collect()
}

pub fn index(nodes: Vec<Node>) -> Index<Node> {
    Index::build(nodes, &IndexOptions::default(), None, ManualClock::new().now())
}

/// Every picker, under its name.
#[macro_export]
macro_rules! with_each_picker {
    (|$name:ident, $picker:ident| $body:expr) => {{
        $crate::with_each_picker!(@ $name, $picker, $body, "P2C", bowline_balance::P2c);
        $crate::with_each_picker!(@ $name, $picker, $body, "least request", bowline_balance::LeastRequest);
        $crate::with_each_picker!(@ $name, $picker, $body, "round robin", bowline_balance::WeightedRoundRobin);
        $crate::with_each_picker!(@ $name, $picker, $body, "random", bowline_balance::WeightedRandom);
        $crate::with_each_picker!(@ $name, $picker, $body, "hash", bowline_balance::ConsistentHash::default());
    }};
    (@ $name:ident, $picker:ident, $body:expr, $text:literal, $value:expr) => {{
        let ($name, $picker) = ($text, $value);
        $body
    }};
}

/// How often each was picked in `picks` picks by keys of their own.
pub fn counts(
    picker: &impl bowline_balance::Picker,
    index: &Index<Node>,
    request: &Request<'_>,
    picks: u64,
    seed: u64,
) -> Vec<u64> {
    let (clock, rng) = (ManualClock::new(), SeededRng::new(seed));
    let mut counts = vec![0; index.len()];
    for key in 0..picks {
        let ask = Ask::new(clock.now(), &rng).with_key(bowline_balance::hash_of(key.to_string()));
        counts[index.pick(picker, request, &ask).unwrap().unwrap()] += 1;
    }
    counts
}
