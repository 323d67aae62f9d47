//! An update leaves alone what is known of those who stay.

mod support;

use std::time::Duration;

use bowline_balance::{Ask, Index, IndexOptions, P2c, Request, WeightedRandom, WeightedRoundRobin};
use bowline_core::{Clock, ManualClock, SeededRng};
use support::{Node, counts, nodes};

#[test]
fn a_slow_instance_is_still_known_as_slow_after_an_update() {
    let clock = ManualClock::new();
    let all = nodes(5);
    let before = Index::build(all.clone(), &IndexOptions::default(), None, clock.now());
    for (position, node) in before.iter().enumerate() {
        let took = if position == 2 { 2_000 } else { 5 };
        node.load.begin().answered(Duration::from_millis(took), clock.now());
    }
    let changed = [&all[1..], &nodes(7)[5..]].concat();
    let after = Index::build(changed, &IndexOptions::default(), Some(&before), clock.now());
    let counts = counts(&P2c, &after, &Request::base(), 5_000, 1);
    assert_eq!(after[1].instance.id.as_str(), "node-2");
    assert_eq!(counts[1], 0, "{counts:?}");
}

#[test]
fn round_robin_goes_on_where_it_was() {
    let (clock, rng) = (ManualClock::new(), SeededRng::new(1));
    let all = nodes(5);
    let mut index = Index::build(all.clone(), &IndexOptions::default(), None, clock.now());
    let mut counts = [0; 5];
    for _ in 0..100 {
        // An update after every third pick: who began again would never come to the fourth instance.
        index = Index::build(all.clone(), &IndexOptions::default(), Some(&index), clock.now());
        for _ in 0..3 {
            let ask = Ask::new(clock.now(), &rng);
            counts[index.pick(&WeightedRoundRobin, &Request::base(), &ask).unwrap().unwrap()] += 1;
        }
    }
    assert_eq!(counts, [60; 5]);
}

#[test]
fn a_new_instance_begins_with_a_tenth_and_those_who_stay_do_not_begin_again() {
    let (clock, rng) = (ManualClock::new(), SeededRng::new(9));
    with_each_picker!(|name, picker| {
        let options = IndexOptions::default();
        let old = nodes(9);
        let first = Index::build(old.clone(), &options, None, clock.now());
        let changed = [old, vec![Node::new("new")]].concat();
        let mut index = Index::build(changed.clone(), &options, Some(&first), clock.now());
        let mut shares = Vec::new();
        for _ in 0..4 {
            let mut picked_new = 0;
            for key in 0..20_000_u32 {
                let key = bowline_balance::hash_of(key.to_string());
                let ask = Ask::new(clock.now(), &rng).with_key(key);
                picked_new += u32::from(index.pick(&picker, &Request::base(), &ask).unwrap() == Some(9));
            }
            shares.push(f64::from(picked_new) / 20_000.0);
            clock.advance(Duration::from_secs(15));
            index = Index::build(changed.clone(), &options, Some(&index), clock.now());
        }
        // Its weight is 10 %, 50 % and 100 % of one of ten's: ten percent of 9.1, of 9.5 and of 10.
        for (share, wanted) in shares.iter().zip([0.011, 0.0526, 0.1, 0.1]) {
            assert!((share - wanted).abs() < 0.01, "{name} {shares:?}");
        }
    });
}

#[test]
fn all_are_equally_new_to_a_client_that_starts() {
    let clock = ManualClock::new();
    let index = Index::build(nodes(4), &IndexOptions::default(), None, clock.now());
    let counts = counts(&WeightedRandom, &index, &Request::base(), 8_000, 1);
    assert!(counts.iter().all(|count| (1_800..2_200).contains(count)), "{counts:?}");
    assert_eq!(index[0].load.warmth(&Default::default(), clock.now()), 1.0);
}
