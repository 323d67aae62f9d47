//! Every picker gives each instance what its weight says, and nothing to those who must not get any.

mod support;

use bowline_balance::{
    Ask, ConsistentHash, Index, IndexOptions, LeastRequest, P2c, Request, WeightedRoundRobin,
};
use bowline_core::{Clock, ManualClock, SeededRng};
use std::time::Duration;
use support::{Node, counts, index, nodes};

/// The chi-square of counts against weights, and how many degrees of freedom it has.
fn chi_square(counts: &[u64], weights: &[u32]) -> f64 {
    let (picks, total) = (counts.iter().sum::<u64>() as f64, weights.iter().sum::<u32>() as f64);
    let terms = counts.iter().zip(weights).filter(|(_, weight)| **weight > 0).map(|(count, weight)| {
        let expected = picks * f64::from(*weight) / total;
        (*count as f64 - expected).powi(2) / expected
    });
    terms.sum()
}

#[test]
fn every_picker_honours_weights() {
    let weights = [100, 300, 50, 0, 150, 1];
    with_each_picker!(|name, picker| {
        for seed in 1..=3 {
            let index = index(weights.map(|w| Node::new(format!("w-{w}")).weight(w)).into());
            let counts = counts(&picker, &index, &Request::base(), 60_100, seed);
            // Four degrees of freedom: once in 10 000 by chance.
            assert!(chi_square(&counts, &weights) < 23.5, "{name} {seed} {counts:?}");
            assert_eq!(counts[3], 0, "{name}");
        }
    });
}

#[test]
fn round_robin_is_exact() {
    let weights = [100, 300, 50, 150];
    let index = index(weights.map(|w| Node::new(format!("w-{w}")).weight(w)).into());
    let counts = counts(&WeightedRoundRobin, &index, &Request::base(), 6_000, 1);
    for (count, weight) in counts.iter().zip(weights) {
        assert!(count.abs_diff(u64::from(weight) * 10) <= 2, "{counts:?}");
    }
}

#[test]
fn the_strong_take_more_at_the_same_latency() {
    // Requests stay in flight: what counts is how many there are for the weight.
    let (clock, rng) = (ManualClock::new(), SeededRng::new(5));
    let weights = [100, 200, 400];
    for p2c in [true, false] {
        let index = index(weights.map(|w| Node::new(format!("w-{w}")).weight(w)).into());
        for node in index.iter() {
            node.load.begin().answered(Duration::from_millis(10), clock.now());
        }
        let ask = Ask::new(clock.now(), &rng);
        let mut in_flight = Vec::new();
        for _ in 0..700 {
            let request = Request::base();
            let picked = if p2c {
                index.pick(&P2c, &request, &ask)
            } else {
                index.pick(&LeastRequest, &request, &ask)
            };
            in_flight.push(index[picked.unwrap().unwrap()].load.begin());
        }
        for node in index.iter() {
            let wanted = node.instance.weight;
            assert!(
                node.load.pending().abs_diff(wanted) <= wanted / 20 + 5,
                "{wanted} {}",
                node.load.pending()
            );
        }
    }
}

#[test]
fn the_worse_is_picked_only_where_there_is_no_better() {
    with_each_picker!(|name, picker| {
        let picks = |nodes: Vec<Node>| counts(&picker, &index(nodes), &Request::base(), 500, 7);
        let (dead, well) = (|| Node::new("dead").dead(), || Node::new("well"));
        assert_eq!(picks(vec![dead(), well(), Node::new("unwanted").weight(0)]), [0, 500, 0], "{name}");
        assert_eq!(picks(vec![dead(), Node::new("unwanted").weight(0)]), [0, 500], "{name}");
        assert_eq!(picks(vec![dead()]), [500], "{name}");
        assert_eq!(
            picks(vec![dead(), well(), dead(), dead(), dead()]),
            [0, 500, 0, 0, 0],
            "{name}, in panic"
        );
    });
}

#[test]
fn what_was_tried_comes_after_what_was_not() {
    with_each_picker!(|name, picker| {
        let (clock, rng) = (ManualClock::new(), SeededRng::new(2));
        let pick = |index: &Index<Node>, tried: &[usize], key| {
            let ask = Ask::new(clock.now(), &rng).without(tried).with_key(key);
            index.pick(&picker, &Request::base(), &ask).unwrap()
        };
        let three = index(nodes(3));
        let two = index(vec![Node::new("a"), Node::new("b").dead()]);
        for key in 0..300 {
            assert_eq!(pick(&three, &[0, 2], key), Some(1), "{name}");
            assert_eq!(pick(&two, &[0], key), Some(0), "{name}: tried, but alive");
        }
        assert_eq!(pick(&index(Vec::new()), &[], 0), None, "{name}");
    });
}

#[test]
fn a_key_stays_with_its_instance_while_others_come_and_go() {
    let (clock, rng) = (ManualClock::new(), SeededRng::new(2));
    let owner = |index: &Index<Node>, key: u64| {
        let ask = Ask::new(clock.now(), &rng).with_key(key);
        let picked = index.pick(&ConsistentHash::default(), &Request::base(), &ask).unwrap().unwrap();
        index[picked].instance.id.clone()
    };
    let (ten, nine) = (index(nodes(10)), index(nodes(9)));
    let keys: Vec<u64> = (0..2_000_u32).map(|key| bowline_balance::hash_of(key.to_string())).collect();
    let mut moved = 0;
    for key in keys {
        let (before, after) = (owner(&ten, key), owner(&nine, key));
        if before != after {
            assert_eq!(before.as_str(), "node-9", "only keys of the one that went move");
            moved += 1;
        }
    }
    assert!((140..260).contains(&moved), "{moved}");
}

#[test]
fn one_key_that_everybody_asks_for_does_not_bring_its_instance_down() {
    let (clock, rng) = (ManualClock::new(), SeededRng::new(2));
    let options = IndexOptions::default();
    let index = Index::build(nodes(10), &options, None, clock.now());
    let ask = Ask::new(clock.now(), &rng).with_key(42);
    let mut in_flight = Vec::new();
    for _ in 0..1_000 {
        let picked = index.pick(&ConsistentHash::default(), &Request::base(), &ask).unwrap().unwrap();
        in_flight.push(index[picked].load.begin());
    }
    let most = index.iter().map(|node| node.load.pending()).max();
    assert!(most <= Some(126), "1.25 times the share of 100, rounded up: {most:?}");
}
