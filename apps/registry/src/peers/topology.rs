//! Which nodes have a stream to each other.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::{Owner, number};

/// A node as the others know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The node in its latest life.
    pub owner: Owner,
    /// Its zone.
    pub zone: String,
    /// Whether it is heard of.
    pub live: bool,
}

/// A node's number, from its name.
pub fn node_number(name: &str) -> u64 {
    number(name)
}

/// What follows for a node from who is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// The nodes to have a stream to, and whether they are of the same zone.
    pub neighbours: BTreeMap<u64, bool>,
    /// The nodes that are heard of, in their lives.
    pub live: BTreeSet<Owner>,
    /// Whether this node, of its zone, has the streams to other zones.
    pub relays: bool,
    /// The node of each zone that has.
    firsts: BTreeMap<String, u64>,
    /// Whether this node, of all, takes out what lost nodes leave behind.
    pub sweeps: bool,
}

impl Topology {
    /// For a node among others, of which some are heard of but out of reach: these are passed over where one of a zone is
    /// enough. The nodes of its own zone have a stream to each other also while they are not heard of, so that it is there as
    /// soon as they are. Who sweeps is decided among those who are `spoken_to`: gossip proves nothing, neither that a node is one
    /// of this cluster nor that it could do anything for others. The one with the lowest number of all is the first of its zone,
    /// and so has a stream to each of its zone and to the first of each other one: that is who has to know.
    pub fn of(
        own: &Member,
        others: &[Member],
        out_of_reach: impl Fn(u64) -> bool,
        spoken_to: impl Fn(u64) -> bool,
    ) -> Self {
        let live = others.iter().filter(|m| m.live);
        let mut first_of: BTreeMap<&str, u64> = BTreeMap::new();
        for member in live.clone().chain([own]) {
            let node = member.owner.node;
            let first = first_of.entry(&member.zone).or_insert(node);
            if (out_of_reach(node), node) < (out_of_reach(*first), *first) {
                *first = node;
            }
        }
        let near = others.iter().filter(|m| m.zone == own.zone).map(|m| (m.owner.node, true));
        let mut neighbours: BTreeMap<u64, bool> = near.collect();
        let relays = first_of.get(own.zone.as_str()) == Some(&own.owner.node);
        if relays {
            let far = first_of.iter().filter(|(zone, _)| **zone != own.zone);
            neighbours.extend(far.map(|(_, node)| (*node, false)));
        }
        let sweeps = live.clone().map(|m| m.owner.node).all(|node| node > own.owner.node || !spoken_to(node));
        let firsts = first_of.into_iter().map(|(zone, node)| (zone.to_owned(), node)).collect();
        Self { neighbours, live: live.map(|m| m.owner).collect(), relays, firsts, sweeps }
    }

    /// The node of a zone that has the streams to other zones.
    pub(super) fn first_of(&self, zone: Option<&str>) -> Option<u64> {
        self.firsts.get(zone?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u64, zone: &str, live: bool) -> Member {
        Member { owner: Owner { node, life: 1 }, zone: zone.into(), live }
    }

    fn neighbours(of: usize, all: &[Member]) -> Vec<(u64, bool)> {
        let mut others = all.to_vec();
        let own = others.remove(of);
        Topology::of(&own, &others, |n| n == 9, |_| true).neighbours.into_iter().collect()
    }

    #[test]
    fn nodes_of_a_zone_all_meet_and_of_two_zones_one_each() {
        let mut all =
            [member(1, "a", true), member(2, "a", true), member(3, "b", true), member(4, "b", true)];
        assert_eq!(neighbours(0, &all), [(2, true), (3, false)]);
        assert_eq!(neighbours(1, &all), [(1, true)]);
        assert_eq!(neighbours(3, &all), [(3, true)]);
        all[0].live = false;
        assert_eq!(neighbours(1, &all), [(1, true), (3, false)], "the next one takes its place");
        assert_eq!(neighbours(2, &all), [(2, false), (4, true)]);
    }

    #[test]
    fn who_is_out_of_reach_is_passed_over() {
        let all = [member(9, "a", true), member(10, "a", true), member(11, "b", true)];
        assert_eq!(neighbours(1, &all), [(9, true), (11, false)]);
        let all = [member(1, "a", true), member(9, "b", true), member(11, "b", true)];
        assert_eq!(neighbours(0, &all), [(11, false)]);
    }

    #[test]
    fn one_sweeps() {
        let all = [member(1, "a", false), member(2, "a", true), member(3, "b", true)];
        let sweeps = |of: usize, spoken_to: &[u64]| {
            let mut others = all.to_vec();
            let own = others.remove(of);
            Topology::of(&own, &others, |_| false, |node| spoken_to.contains(&node)).sweeps
        };
        assert!(sweeps(1, &[1, 3]), "the first is lost");
        assert!(!sweeps(2, &[2]));
        assert!(sweeps(2, &[]), "to whom nobody speaks, him nobody waits for");
    }
}
