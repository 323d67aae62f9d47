//! Zones and clusters: what stays at home, what spills over, and what a cluster gets.

mod support;

use bowline_balance::{
    Ejection, Index, IndexOptions, Outcome, P2c, Request, WeightedRandom, ZonePolicy, Zones,
};
use bowline_core::{Clock, ManualClock};
use std::sync::atomic::Ordering;
use support::{Node, counts};

fn in_zones(sizes: &[(&str, usize)]) -> Vec<Node> {
    let in_zone = |(zone, size): &(&str, usize)| {
        let zone = (*zone).to_owned();
        (0..*size).map(move |i| Node::new(format!("{zone}-{i}")).place(&zone, "")).collect::<Vec<_>>()
    };
    sizes.iter().flat_map(in_zone).collect()
}

fn options(local: &str, callers: &[(&str, f64)]) -> IndexOptions {
    let callers = callers.iter().map(|(zone, count)| ((*zone).to_owned(), *count)).collect();
    IndexOptions {
        zones: Zones { local: local.into(), callers, ..Zones::default() },
        ..IndexOptions::default()
    }
}

fn to_zone(index: &Index<Node>, zone: &str, picks: u64) -> f64 {
    let counts = counts(&P2c, index, &Request::base(), picks, 3);
    let in_zone = index.iter().zip(&counts).filter(|(node, _)| node.instance.zone == zone);
    in_zone.map(|(_, count)| *count).sum::<u64>() as f64 / picks as f64
}

fn build(nodes: &[Node], options: &IndexOptions) -> Index<Node> {
    Index::build(nodes.to_vec(), options, None, ManualClock::new().now())
}

#[test]
fn everything_stays_at_home_and_spills_over_in_proportion() {
    let nodes = in_zones(&[("a", 5), ("b", 15), ("c", 10)]);
    // A tenth of the callers, a sixth of the instances: all of it stays.
    let few = build(&nodes, &options("a", &[("a", 10.0), ("b", 45.0), ("c", 45.0)]));
    assert_eq!(to_zone(&few, "a", 5_000), 1.0);
    // Half of the callers: a third of what they ask for stays. b and c have 0.3 and 0.033 to spare.
    let many = build(&nodes, &options("a", &[("a", 50.0), ("b", 20.0), ("c", 30.0)]));
    let shares = ["a", "b", "c"].map(|zone| to_zone(&many, zone, 30_000));
    for (share, wanted) in shares.iter().zip([0.3333, 0.6, 0.0667]) {
        assert!((share - wanted).abs() < 0.015, "{shares:?}");
    }
}

#[test]
fn few_instances_are_not_divided_and_a_policy_turns_it_off() {
    let few = in_zones(&[("a", 2), ("b", 3)]);
    assert!((to_zone(&build(&few, &options("a", &[])), "a", 10_000) - 0.4).abs() < 0.02);
    let mut everywhere = options("a", &[]);
    everywhere.zones.policy = ZonePolicy::Everywhere;
    let nodes = in_zones(&[("a", 20), ("b", 20)]);
    assert!((to_zone(&build(&nodes, &everywhere), "a", 10_000) - 0.5).abs() < 0.02);
}

#[test]
fn a_zone_that_loses_instances_gives_up_traffic_at_once_and_with_the_next_index_in_proportion() {
    let nodes = in_zones(&[("a", 10), ("b", 10)]);
    let index = build(&nodes, &options("a", &[]));
    assert_eq!(to_zone(&index, "a", 2_000), 1.0);
    for node in &nodes[..10] {
        node.live.store(false, Ordering::Relaxed);
    }
    assert_eq!(to_zone(&index, "a", 2_000), 0.0, "all of it is dead: nobody waits for an update");
    for node in &nodes[..5] {
        node.live.store(true, Ordering::Relaxed);
    }
    // Five of fifteen for half of the callers: two thirds of theirs stay. With 5 in 10, times 1.4, a has 0.7 of its
    // share.
    let index = build(&nodes, &options("a", &[]));
    assert!((to_zone(&index, "a", 20_000) - 0.667).abs() < 0.02);
}

#[test]
fn clusters_share_by_their_weights_whatever_their_size() {
    let cluster = |name: &str, size: usize| {
        (0..size).map(|i| Node::new(format!("{name}-{i}")).place("z", name)).collect::<Vec<_>>()
    };
    let nodes = [cluster("blue", 4), cluster("green", 16)].concat();
    let share = |options: &IndexOptions, nodes: &[Node]| {
        let counts = counts(&WeightedRandom, &build(nodes, options), &Request::base(), 20_000, 1);
        counts[..4].iter().sum::<u64>() as f64 / 20_000.0
    };
    let mut options = IndexOptions::default();
    assert!((share(&options, &nodes) - 0.2).abs() < 0.02, "by size, where nothing is said");
    options.clusters = [("blue".to_owned(), 3.0), ("green".to_owned(), 1.0)].into();
    assert!((share(&options, &nodes) - 0.75).abs() < 0.02);
    nodes[0].live.store(false, Ordering::Relaxed);
    assert!((share(&options, &nodes) - 0.75).abs() < 0.02, "three of four carry it");
    nodes[1].live.store(false, Ordering::Relaxed);
    // Two of four, times 1.4: 0.7 of 3 against 1.
    assert!((share(&options, &nodes) - 2.1 / 3.1).abs() < 0.02);
    options.clusters = [("blue".to_owned(), 0.0), ("green".to_owned(), 1.0)].into();
    assert_eq!(share(&options, &nodes), 0.0);
}

#[test]
fn a_zone_whose_instances_are_ejected_is_left_before_the_index_is_built_anew() {
    let clock = ManualClock::new();
    let nodes = in_zones(&[("a", 5), ("b", 15)]);
    let index = build(&nodes, &options("a", &[("a", 1.0), ("b", 9.0)]));
    for node in &nodes[..5] {
        for _ in 0..5 {
            node.load.begin().end(Outcome::Unreachable, Default::default(), clock.now());
        }
    }
    // Two by the limit of a tenth, the others because the whole zone fails.
    assert_eq!(Ejection::default().look(&index, clock.now()).ejected.len(), 5);
    assert_eq!(to_zone(&index, "a", 2_000), 0.0);
}

#[test]
fn a_flat_index_knows_neither_tenants_nor_zones() {
    let nodes = vec![Node::new("a").place("a", "x"), Node::new("b").place("b", "").tenant("blue").dead()];
    let index = Index::flat(nodes.clone(), &options("a", &[]), None, ManualClock::new().now());
    assert_eq!(counts(&P2c, &index, &Request::base(), 1_000, 1), [1_000, 0]);
    // It takes part as soon as it can be reached, without another index.
    nodes[1].live.store(true, Ordering::Relaxed);
    let counts = counts(&P2c, &index, &Request::base(), 1_000, 1);
    assert!(counts[1] > 400, "{counts:?}");
}
