//! Who connects to whom: by Bowline's rule, and by what others published, written anew from their formulas.

use std::collections::BTreeMap;

use bowline_balance::{Index, IndexOptions, LEAST, SLOT, Subsetting};
use bowline_core::{Clock, Instance, ManualClock, Rng, SeededRng};

use crate::resilience::nodes::Node;

/// An instance: a number that is its alone, and the slot it leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) id: u32,
    pub(crate) slot: u32,
}

/// How subsets are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Bowline's, by slots.
    Slots,
    /// Bowline's, by names.
    Scores,
    /// `subset` of github.com/go-kratos/aegis: a ring of hashes with 160 places for each instance, and from the hash of
    /// the client's name on the next ones that differ.
    Ring,
    /// `zrpc/resolver/internal/subset.go` of github.com/zeromicro/go-zero: the list is shuffled with each update, and
    /// the first ones are taken.
    Shuffle,
}

impl Rule {
    pub(crate) const ALL: [Self; 4] = [Self::Slots, Self::Scores, Self::Ring, Self::Shuffle];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Slots => "Bowline, slots",
            Self::Scores => "Bowline, names",
            Self::Ring => "aegis' ring",
            Self::Shuffle => "go-zero's shuffle",
        }
    }
}

/// What each client is connected to: numbers of instances, in their order.
pub(crate) type Subsets = Vec<Vec<u32>>;

/// The subsets of so many clients. `update` is which list of instances this is: only chance looks at it.
pub(crate) fn subsets(rule: Rule, clients: u32, backends: &[Backend], update: u64) -> Subsets {
    let mut all: Subsets = match rule {
        Rule::Slots => ours(clients, backends, |client| Subsetting::Slots { client, size: LEAST }),
        Rule::Scores => {
            ours(clients, backends, |client| Subsetting::Scores { client: name(client), size: LEAST })
        }
        Rule::Ring => {
            let ring = ring(backends);
            (0..clients).map(|client| next_on(&ring, &name(client), backends.len().min(LEAST))).collect()
        }
        Rule::Shuffle => {
            let rng = SeededRng::new(update);
            (0..clients).map(|_| shuffled(backends, &rng)).collect()
        }
    };
    all.iter_mut().for_each(|subset| subset.sort_unstable());
    all
}

/// A client's name: nothing in it tells of the next one's.
fn name(client: u32) -> String {
    format!("{:016x}", SeededRng::new(u64::from(client)).next_u64())
}

fn ours(clients: u32, backends: &[Backend], subset: impl Fn(u32) -> Subsetting) -> Subsets {
    let node = |backend: &Backend| {
        let mut instance = Instance::new("catalog", address(backend));
        instance.metadata.insert(SLOT.into(), backend.slot.to_string());
        Node::new(instance)
    };
    let (nodes, now): (Vec<Node>, _) = (backends.iter().map(node).collect(), ManualClock::new().now());
    let of = |client| {
        let options = IndexOptions { subset: subset(client), ..IndexOptions::default() };
        let index = Index::build(nodes.clone(), &options, None, now);
        let positions = index.pools().flat_map(|pool| pool.subset().to_vec());
        positions.map(|position| backends[position as usize].id).collect()
    };
    (0..clients).map(of).collect()
}

fn address(backend: &Backend) -> String {
    let [_, a, b, c] = backend.id.to_be_bytes();
    format!("10.{a}.{b}.{c}:9000")
}

const PLACES: u32 = 160;

fn ring(backends: &[Backend]) -> BTreeMap<u32, u32> {
    let places = |backend: &Backend| {
        let (id, address) = (backend.id, address(backend));
        (0..PLACES).map(move |place| (fnv1a(&format!("{place}{address}")), id))
    };
    backends.iter().flat_map(places).collect()
}

fn next_on(ring: &BTreeMap<u32, u32>, client: &str, size: usize) -> Vec<u32> {
    use std::ops::Bound::{Excluded, Unbounded};
    let from = fnv1a(client);
    let mut chosen = Vec::with_capacity(size);
    for id in ring.range((Excluded(from), Unbounded)).chain(ring.range(..=from)).map(|(_, id)| *id) {
        if chosen.len() == size {
            break;
        }
        if !chosen.contains(&id) {
            chosen.push(id);
        }
    }
    chosen
}

/// FNV-1a with 32 bits.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn shuffled(backends: &[Backend], rng: &SeededRng) -> Vec<u32> {
    let mut ids: Vec<u32> = backends.iter().map(|backend| backend.id).collect();
    let size = ids.len().min(LEAST);
    for place in 0..size {
        let from = place + rng.below(ids.len() - place);
        ids.swap(place, from);
    }
    ids.truncate(size);
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_gives_each_client_as_many_different_instances() {
        for instances in [10, 20, 21, 150] {
            let backends: Vec<Backend> = (0..instances).map(|n| Backend { id: n, slot: n }).collect();
            for rule in Rule::ALL {
                for mut subset in subsets(rule, 30, &backends, 1) {
                    subset.dedup();
                    assert_eq!(subset.len(), LEAST.min(instances as usize), "{}", rule.name());
                }
            }
        }
    }

    #[test]
    fn hashes_are_those_of_fnv() {
        // From the reference's test vectors (draft-eastlake-fnv, appendix C).
        assert_eq!([fnv1a(""), fnv1a("a"), fnv1a("foobar")], [0x811c_9dc5, 0xe40c_292c, 0xbf9c_f968]);
    }
}
