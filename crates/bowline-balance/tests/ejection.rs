//! Who is ejected, who is not, and how one comes back.

mod support;

use std::time::Duration;

use bowline_balance::{
    ActiveProbes, Ask, Candidate, Ejection, Index, IndexOptions, Outcome, Request, WeightedRandom,
};
use bowline_core::{Clock, Code, ManualClock, SeededRng};
use support::{Node, index, nodes};

fn end(node: &Node, outcome: Outcome, times: usize, clock: &ManualClock) -> bool {
    (0..times).fold(false, |_, _| node.load.begin().end(outcome, Duration::from_millis(1), clock.now()))
}

fn ejected(nodes: &[Node]) -> Vec<usize> {
    (0..nodes.len()).filter(|i| nodes[*i].load.health().is_ejected()).collect()
}

#[test]
fn five_failures_in_a_row_eject_at_once_and_four_do_not() {
    for outcome in [Outcome::Failed, Outcome::Unreachable] {
        let (clock, nodes) = (ManualClock::new(), nodes(10));
        end(&nodes[3], outcome, 4, &clock);
        assert_eq!(Ejection::default().look(&nodes, clock.now()).ejected, [] as [usize; 0]);
        assert!(end(&nodes[3], outcome, 1, &clock), "somebody has to look");
        assert_eq!(Ejection::default().look(&nodes, clock.now()).ejected, [3]);
        assert_eq!(ejected(&nodes), [3]);
    }
    let (clock, nodes) = (ManualClock::new(), nodes(10));
    end(&nodes[3], Outcome::Failed, 4, &clock);
    end(&nodes[3], Outcome::Answered, 1, &clock);
    end(&nodes[3], Outcome::Failed, 4, &clock);
    Ejection::default().sweep(&nodes, clock.now());
    assert_eq!(ejected(&nodes), [] as [usize; 0], "they were not in a row");
}

#[test]
fn gateway_errors_have_a_limit_of_their_own() {
    let rules = Ejection { consecutive: 0, consecutive_gateway: 3, ..Ejection::default() };
    let (clock, nodes) = (ManualClock::new(), nodes(10));
    end(&nodes[0], Outcome::Failed, 50, &clock);
    end(&nodes[1], Outcome::Unreachable, 2, &clock);
    end(&nodes[1], Outcome::Failed, 1, &clock);
    end(&nodes[1], Outcome::Unreachable, 2, &clock);
    assert_eq!(rules.look(&nodes, clock.now()).ejected, [] as [usize; 0]);
    end(&nodes[1], Outcome::Unreachable, 1, &clock);
    assert_eq!(rules.look(&nodes, clock.now()).ejected, [1]);
}

#[test]
fn nobody_is_ejected_for_refusing_or_for_a_callers_cancel() {
    let (clock, nodes) = (ManualClock::new(), nodes(10));
    for code in [Code::ResourceExhausted, Code::Canceled, Code::NotFound, Code::InvalidArgument] {
        end(&nodes[0], Outcome::of(Some(code)), 500, &clock);
    }
    for node in &nodes[1..] {
        end(node, Outcome::of(None), 500, &clock);
    }
    let verdicts = Ejection::default().sweep(&nodes, clock.now());
    assert_eq!(verdicts, Default::default());
    for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Internal, Code::Unknown, Code::DataLoss] {
        end(&nodes[0], Outcome::of(Some(code)), 1, &clock);
    }
    assert_eq!(Ejection::default().look(&nodes, clock.now()).ejected, [0]);
}

#[test]
fn one_may_always_go_but_not_more_than_a_tenth() {
    for (number, most) in [(1, 1), (3, 1), (10, 1), (19, 1), (20, 2), (100, 10)] {
        let (clock, nodes) = (ManualClock::new(), nodes(number));
        for node in &nodes {
            end(node, Outcome::Failed, 10, &clock);
        }
        let verdicts = Ejection::default().sweep(&nodes, clock.now());
        assert_eq!((verdicts.ejected.len(), verdicts.spared.len()), (most, number - most), "of {number}");
        assert_eq!(ejected(&nodes).len(), most);
    }
}

#[test]
fn the_rate_of_success_is_measured_against_the_others() {
    let (clock, nodes) = (ManualClock::new(), nodes(20));
    let calls = |node: &Node, good, bad| {
        for n in 0..good + bad {
            // Never two failures in a row: this is about the rate.
            let outcome =
                if bad > 0 && n % ((good + bad) / bad) == 0 { Outcome::Failed } else { Outcome::Answered };
            end(node, outcome, 1, &clock);
        }
    };
    for node in &nodes[1..] {
        calls(node, 198, 2);
    }
    calls(&nodes[0], 80, 19);
    assert_eq!(Ejection::default().sweep(&nodes, clock.now()).ejected, [] as [usize; 0], "99 are too few");
    for node in &nodes[1..] {
        calls(node, 198, 2);
    }
    calls(&nodes[0], 150, 50);
    assert_eq!(Ejection::default().sweep(&nodes, clock.now()).ejected, [0]);
    assert_eq!(Ejection::default().sweep(&nodes, clock.now()).ejected, [] as [usize; 0], "a new interval");
}

#[test]
fn who_fails_nearly_always_goes_without_a_comparison() {
    let rules = Ejection { consecutive: 0, consecutive_gateway: 0, deviations: 100.0, ..Ejection::default() };
    for (failures, ejected) in [(42, 0), (43, 1)] {
        let (clock, nodes) = (ManualClock::new(), nodes(5));
        for node in &nodes {
            end(node, Outcome::Answered, 50, &clock);
        }
        rules.sweep(&nodes, clock.now());
        end(&nodes[0], Outcome::Failed, failures, &clock);
        end(&nodes[0], Outcome::Answered, 50 - failures, &clock);
        for node in &nodes[1..] {
            end(node, Outcome::Answered, 50, &clock);
        }
        assert_eq!(rules.sweep(&nodes, clock.now()).ejected.len(), ejected, "{failures} of 50");
    }
}

#[test]
fn the_way_back_is_one_request_at_a_time() {
    let (clock, rng, rules) = (ManualClock::new(), SeededRng::new(4), Ejection::default());
    let index = index(nodes(10));
    end(&index[0], Outcome::Failed, 5, &clock);
    rules.look(&index, clock.now());
    let picks = |number| {
        let pick =
            || index.pick(&WeightedRandom, &Request::base(), &Ask::new(clock.now(), &rng)).unwrap().unwrap();
        (0..number).filter(|_| pick() == 0).count()
    };
    assert_eq!(picks(1_000), 0, "it is ejected");
    clock.advance(Duration::from_secs(29));
    rules.sweep(&index, clock.now());
    assert_eq!(picks(1_000), 0);
    assert_eq!(rules.next_return(&index, clock.now()), Some(Duration::from_secs(1)));
    clock.advance(Duration::from_secs(1));
    rules.sweep(&index, clock.now());
    assert_eq!(picks(1_000), 1, "one may try");
    let probe = index[0].load.begin();
    assert_eq!(picks(1_000), 0, "while it is under way no other may");
    clock.advance(Duration::from_secs(60));
    assert_eq!(picks(1_000), 0, "however long it takes");
    assert!(probe.end(Outcome::Failed, Duration::from_millis(1), clock.now()));
    assert_eq!((picks(1_000), index[0].load.health().times_ejected()), (0, 2));

    // The second time is twice as long.
    clock.advance(Duration::from_secs(59));
    rules.sweep(&index, clock.now());
    assert_eq!(picks(1_000), 0);
    clock.advance(Duration::from_secs(1));
    rules.sweep(&index, clock.now());
    assert_eq!(picks(1_000), 1);
    // A caller that gives up found nothing out: the next one may try.
    drop(index[0].load.begin());
    assert_eq!(picks(1_000), 1);
    index[0].load.begin().answered(Duration::from_millis(1), clock.now());
    assert!(!index[0].load.health().is_ejected());
    assert!(picks(1_000) > 50, "it is back");
}

#[test]
fn every_picker_lets_an_ejected_one_be_tried_once() {
    with_each_picker!(|name, picker| {
        let (clock, rng, rules) = (ManualClock::new(), SeededRng::new(4), Ejection::default());
        let index = index(nodes(10));
        end(&index[0], Outcome::Failed, 5, &clock);
        rules.look(&index, clock.now());
        let picks = || {
            let pick = |key: u32| {
                let ask = Ask::new(clock.now(), &rng).with_key(bowline_balance::hash_of(key.to_string()));
                index.pick(&picker, &Request::base(), &ask).unwrap()
            };
            (0..500).filter(|key| pick(*key) == Some(0)).count()
        };
        assert_eq!(picks(), 0, "{name}");
        clock.advance(Duration::from_secs(30));
        rules.sweep(&index, clock.now());
        assert_eq!(picks(), 1, "{name}");
        index[0].load.begin().answered(Duration::ZERO, clock.now());
        assert!(name == "P2C" || picks() > 20, "{name}: back, but its failures are slow answers to P2C");
    });
}

#[test]
fn what_began_before_the_ejection_proves_nothing() {
    let (clock, rules) = (ManualClock::new(), Ejection::default());
    let nodes = nodes(10);
    let (early, late) = (nodes[0].load.begin(), nodes[0].load.begin());
    end(&nodes[0], Outcome::Failed, 5, &clock);
    rules.look(&nodes, clock.now());
    early.answered(Duration::from_secs(1), clock.now());
    assert_eq!(ejected(&nodes), [0]);
    clock.advance(Duration::from_secs(30));
    rules.sweep(&nodes, clock.now());
    late.answered(Duration::from_secs(1), clock.now());
    assert_eq!(ejected(&nodes), [0]);
}

#[test]
fn a_probe_that_never_was_sent_does_not_keep_an_instance_out_for_ever() {
    let (clock, rules, rng) = (ManualClock::new(), Ejection::default(), SeededRng::new(1));
    let index = index(nodes(4));
    end(&index[0], Outcome::Failed, 5, &clock);
    rules.look(&index, clock.now());
    clock.advance(Duration::from_secs(30));
    rules.sweep(&index, clock.now());
    let tries = || {
        let ask = Ask::new(clock.now(), &rng);
        let pick = || index.pick(&WeightedRandom, &Request::base(), &ask).unwrap();
        (0..200).filter(|_| pick() == Some(0)).count()
    };
    assert_eq!((tries(), tries()), (1, 0), "no connection could be made");
    clock.advance(Duration::from_secs(10));
    assert_eq!(tries(), 1);
}

#[test]
fn in_a_panic_the_ejected_take_part() {
    let (clock, rules) = (ManualClock::new(), Ejection { percentage: 100, ..Ejection::default() });
    let index = index(nodes(10));
    for (out, share) in [(5, 0), (6, 300)] {
        for node in &index[..out] {
            end(node, Outcome::Failed, 5, &clock);
        }
        rules.look(&index, clock.now());
        let counts = support::counts(&WeightedRandom, &index, &Request::base(), 10_000, 1);
        let ejected = counts[..out].iter().copied().min();
        assert!(ejected.is_some_and(|least| least >= share && (share > 0 || least == 0)), "{out} {counts:?}");
    }
}

#[test]
fn a_dead_cluster_is_drained_within_one_interval_and_comes_back() {
    let (clock, rng, rules) = (ManualClock::new(), SeededRng::new(8), Ejection::default());
    let all: Vec<Node> =
        (0..30).map(|i| Node::new(format!("n-{i}")).place("", ["a", "b", "c"][i % 3])).collect();
    let options = IndexOptions::default();
    let mut index = Index::build(all.clone(), &options, None, clock.now());
    let mut to_b = Vec::new();
    let is_b = |position: usize| position % 3 == 1;
    for second in 0..60 {
        let mut count = 0;
        for _ in 0..600 {
            let ask = Ask::new(clock.now(), &rng);
            let picked = index.pick(&WeightedRandom, &Request::base(), &ask).unwrap().unwrap();
            // It is mended after twelve seconds.
            let fails = is_b(picked) && second < 12;
            count += usize::from(is_b(picked));
            let outcome = if fails { Outcome::Failed } else { Outcome::Answered };
            end(&all[picked], outcome, 1, &clock);
        }
        to_b.push(count);
        clock.advance(Duration::from_secs(1));
        if second % 10 == 9 {
            rules.sweep(&index, clock.now());
            index = Index::build(all.clone(), &options, Some(&index), clock.now());
        }
    }
    assert!(to_b[..10].iter().all(|count| *count > 100), "{to_b:?}");
    assert!(to_b[10..30].iter().all(|count| *count == 0), "{to_b:?}");
    assert!(to_b[50..].iter().all(|count| *count > 120), "{to_b:?}");
}

#[test]
fn a_fault_of_all_clusters_drains_none() {
    let (clock, rules) = (ManualClock::new(), Ejection::default());
    let all: Vec<Node> =
        (0..30).map(|i| Node::new(format!("n-{i}")).place("", ["a", "b", "c"][i % 3])).collect();
    for node in &all {
        end(node, Outcome::Failed, 5, &clock);
    }
    assert_eq!(rules.sweep(&all, clock.now()).ejected.len(), 3);
}

#[test]
fn those_nobody_confirms_are_probed_a_few_at_a_time() {
    let (clock, probes) = (ManualClock::new(), ActiveProbes::default());
    let nodes = [nodes(20), vec![Node::new("dead").dead()]].concat();
    assert_eq!(probes.due(&nodes, |_| false, 0, clock.now()), [] as [usize; 0]);
    assert_eq!(probes.due(&nodes, |_| true, 0, clock.now()), [0, 1, 2, 3], "never heard of");
    for node in &nodes[..18] {
        end(node, Outcome::Answered, 1, &clock);
    }
    assert_eq!(probes.due(&nodes, |_| true, 0, clock.now()), [18, 19], "the others just answered");
    clock.advance(Duration::from_secs(10));
    let _busy = nodes[0].load.begin();
    assert_eq!(probes.due(&nodes, |_| true, 1, clock.now()), [18, 19, 1]);
    assert_eq!(probes.due(&nodes, |_| true, 9, clock.now()), [] as [usize; 0]);
    assert_eq!(probes.due(&nodes, |node| node.instance().id.as_str() == "node-7", 0, clock.now()), [7]);
}

#[test]
fn one_on_probation_that_nobody_asks_for_is_probed_once() {
    let (clock, rules, probes) = (ManualClock::new(), Ejection::default(), ActiveProbes::default());
    let nodes = nodes(10);
    end(&nodes[6], Outcome::Failed, 5, &clock);
    rules.look(&nodes, clock.now());
    assert_eq!(probes.due(&nodes, |_| false, 0, clock.now()), [] as [usize; 0]);
    clock.advance(Duration::from_secs(30));
    rules.sweep(&nodes, clock.now());
    assert_eq!(probes.due(&nodes, |_| false, 0, clock.now()), [6]);
    assert_eq!(probes.due(&nodes, |_| false, 0, clock.now()), [] as [usize; 0]);
    nodes[6].load.begin().answered(Duration::from_millis(1), clock.now());
    assert_eq!(ejected(&nodes), [] as [usize; 0]);
}
