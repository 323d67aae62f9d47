//! Subsets are even, and change little.

mod support;

use std::collections::HashSet;

use bowline_balance::{
    Ask, Ejection, Index, IndexOptions, LEAST, Outcome, Request, Subsetting, WeightedRandom,
};
use bowline_core::{Clock, ManualClock, Rng, SeededRng};
use support::Node;

fn slotted(slots: impl IntoIterator<Item = u32>) -> Vec<Node> {
    slots.into_iter().map(|slot| Node::new(format!("node-{slot}")).slot(slot)).collect()
}

/// The subset of a client, as the slots in it.
fn subset(client: u32, nodes: &[Node], size: usize) -> HashSet<String> {
    let options = IndexOptions { subset: Subsetting::Slots { client, size }, ..IndexOptions::default() };
    chosen(nodes, &options)
}

fn chosen(nodes: &[Node], options: &IndexOptions) -> HashSet<String> {
    let index = Index::build(nodes.to_vec(), options, None, ManualClock::new().now());
    let positions = index.pools().flat_map(|pool| pool.subset().to_vec());
    positions.map(|position| index[position as usize].instance.id.to_string()).collect()
}

fn subsets(clients: u32, nodes: &[Node], size: usize) -> Vec<HashSet<String>> {
    (0..clients).map(|client| subset(client, nodes, size)).collect()
}

/// How many subsets the fullest instance is in, and how many the average one.
fn load(subsets: &[HashSet<String>], nodes: &[Node]) -> (usize, f64) {
    let count = |node: &Node| subsets.iter().filter(|s| s.contains(node.instance.id.as_str())).count();
    let most = nodes.iter().map(count).max().unwrap_or_default();
    (most, subsets.iter().map(HashSet::len).sum::<usize>() as f64 / nodes.len() as f64)
}

/// How many connections are made on the way from one to the other.
fn made(before: &[HashSet<String>], after: &[HashSet<String>]) -> usize {
    before.iter().zip(after).map(|(before, after)| after.difference(before).count()).sum()
}

#[test]
fn everybody_is_in_as_many_subsets_as_everybody_else() {
    for (clients, instances) in [
        (10, 10),
        (10, 100),
        (10, 1_000),
        (33, 47),
        (50, 50),
        (100, 10),
        (100, 100),
        (100, 1_000),
        (205, 205),
        (333, 500),
        (500, 333),
        (1_000, 10),
        (1_000, 100),
        (1_000, 237),
        (1_000, 1_000),
    ] {
        let nodes = slotted(0..instances);
        let subsets = subsets(clients, &nodes, LEAST);
        assert!(subsets.iter().all(|subset| subset.len() == LEAST.min(nodes.len())));
        let (most, mean) = load(&subsets, &nodes);
        // Nobody is in 0.2 subsets: below 20 one connection is more than 5 %.
        let bound = (1.05 * mean).max(mean.ceil() + 1.0);
        assert!(most as f64 <= bound, "{clients} × {instances}: {most} against {mean}");
    }
}

#[test]
fn for_any_numbers_the_fullest_has_at_most_two_more_than_its_share() {
    let rng = SeededRng::new(2022);
    for _ in 0..40 {
        let (clients, instances) = (10 + rng.below(391) as u32, 21 + rng.below(380) as u32);
        let nodes = slotted(0..instances);
        let (most, mean) = load(&subsets(clients, &nodes, LEAST), &nodes);
        let bound = (1.07 * mean).max(mean.ceil() + 2.0);
        assert!(most as f64 <= bound, "{clients} × {instances}: {most} against {mean}");
    }
}

#[test]
fn one_that_comes_or_goes_moves_no_more_than_its_own_connections() {
    for (clients, instances) in [(10, 100), (100, 47), (205, 205), (300, 500), (1_000, 100)] {
        let (few, more) = (slotted(0..instances), slotted(0..=instances));
        let (before, after) = (subsets(clients, &few, LEAST), subsets(clients, &more, LEAST));
        // No rule can do with fewer than the share of the one that comes or goes.
        let share = clients as usize * LEAST / few.len();
        let most = (share as f64 * 1.1).ceil() as usize + 1;
        assert!(
            made(&before, &after) <= most,
            "{clients} × {instances} comes: {} {share}",
            made(&before, &after)
        );
        assert!(
            made(&after, &before) <= most,
            "{clients} × {instances} goes: {} {share}",
            made(&after, &before)
        );

        // One in the middle leaves a hole.
        let without: Vec<Node> =
            few.iter().filter(|n| n.instance.id.as_str() != "node-13").cloned().collect();
        let left = subsets(clients, &without, LEAST);
        assert!(made(&before, &left) <= most, "{clients} × {instances} leaves: {}", made(&before, &left));
    }
}

#[test]
fn a_rolling_restart_with_inherited_slots_changes_each_connection_once() {
    let (clients, instances) = (50, 60);
    let mut nodes = slotted(0..instances);
    let mut before = subsets(clients, &nodes, LEAST);
    let mut all = 0;
    for slot in 0..instances {
        // The successor has another name and the same slot.
        nodes[slot as usize] = Node::new(format!("next-{slot}")).slot(slot);
        let after = subsets(clients, &nodes, LEAST);
        all += made(&before, &after);
        before = after;
    }
    assert_eq!(all, clients as usize * LEAST, "every connection once, to the successor");
    // And clients that restart with their slots choose as before: the subset is a function of the slot.
    assert_eq!(subsets(clients, &nodes, LEAST), before);
}

#[test]
fn a_rolling_restart_without_overlap_moves_only_what_it_must() {
    let (clients, instances) = (100, 100);
    let all = slotted(0..instances);
    let mut before = subsets(clients, &all, LEAST);
    let (mut moved, mut least) = (0, 0);
    for slot in (0..instances as usize).step_by(4) {
        let gone: Vec<Node> =
            all.iter().enumerate().filter(|(i, _)| *i != slot).map(|(_, n)| n.clone()).collect();
        let without = subsets(clients, &gone, LEAST);
        moved += made(&before, &without);
        let again = subsets(clients, &all, LEAST);
        moved += made(&without, &again);
        least += 2 * clients as usize * LEAST / instances as usize;
        before = again;
    }
    assert!(moved as f64 <= 1.1 * least as f64, "{moved} against {least}");
}

#[test]
fn a_successor_that_comes_before_its_predecessor_goes_moves_nobody_else() {
    let (clients, instances) = (50, 60);
    let mut nodes = slotted(0..instances);
    let mut before = subsets(clients, &nodes, LEAST);
    for slot in [0, 7, 33, 59] {
        let had_it = before.iter().filter(|subset| subset.contains(&format!("node-{slot}"))).count();
        nodes.push(Node::new(format!("next-{slot}")).slot(slot));
        let both = subsets(clients, &nodes, LEAST);
        assert_eq!((made(&before, &both), made(&both, &before)), (had_it, 0));
        nodes.retain(|node| node.instance.id.as_str() != format!("node-{slot}"));
        let after = subsets(clients, &nodes, LEAST);
        assert_eq!((made(&both, &after), made(&after, &both)), (0, had_it));
        before = after;
    }
}

#[test]
fn one_without_a_slot_is_in_its_share_of_subsets_and_moves_nobody_else() {
    let (clients, slots) = (400, slotted(0..99));
    let nodes = [slots.clone(), vec![Node::new("without")]].concat();
    let (before, after) = (subsets(clients, &slots, LEAST), subsets(clients, &nodes, LEAST));
    let has_it = after.iter().filter(|subset| subset.contains("without")).count();
    assert_eq!((made(&before, &after), made(&after, &before)), (has_it, 0));
    // 80 of 400, with a deviation of 8.
    assert!((48..112).contains(&has_it), "{has_it}");
}

#[test]
fn neighbours_have_different_company() {
    let nodes = slotted(0..500);
    let subsets = subsets(50, &nodes, LEAST);
    for (i, one) in subsets.iter().enumerate() {
        for other in &subsets[i + 1..] {
            assert!(
                one.intersection(other).count() <= LEAST / 2,
                "the loss of one subset is not that of another"
            );
        }
    }
}

#[test]
fn without_slots_scores_decide_and_move_nobody_else() {
    let nodes: Vec<Node> = (0..200).map(|i| Node::new(format!("pod-{i}"))).collect();
    let options = |client: u32| IndexOptions {
        subset: Subsetting::Scores { client: format!("client-{client}"), size: 30 },
        ..IndexOptions::default()
    };
    let all = |nodes: &[Node]| (0..300).map(|client| chosen(nodes, &options(client))).collect::<Vec<_>>();
    let (before, after) = (all(&nodes), all(&nodes[1..]));
    assert!(before.iter().all(|subset| subset.len() == 30));
    let had_it = before.iter().filter(|subset| subset.contains("pod-0")).count();
    assert_eq!(made(&before, &after), had_it);
    let (most, mean) = load(&before, &nodes);
    // Binomial: 45 and a deviation of 6.2.
    assert!(most as f64 <= mean + 4.5 * 6.2, "{most} against {mean}");
    let wild: Vec<Node> = (0..50).map(|i| Node::new(format!("wild-{i}")).slot(u32::MAX - i)).collect();
    assert_eq!(subset(3, &wild, 25).len(), 25, "a number of another kind costs no memory");
}

#[test]
fn a_subset_is_never_too_small_and_of_each_cluster() {
    let nodes: Vec<Node> = (0..120)
        .map(|i| Node::new(format!("n-{i}")).slot(i / 3).place("", ["a", "b", "c"][i as usize % 3]))
        .collect();
    let options =
        IndexOptions { subset: Subsetting::Slots { client: 5, size: 1 }, ..IndexOptions::default() };
    let index = Index::build(nodes, &options, None, ManualClock::new().now());
    let sizes: Vec<usize> = index.pools().map(|pool| pool.subset().len()).collect();
    assert_eq!(sizes, [LEAST; 3]);
}

#[test]
fn all_take_part_when_half_of_the_subset_is_gone() {
    let (clock, rng) = (ManualClock::new(), SeededRng::new(3));
    let nodes = slotted(0..100);
    let options =
        IndexOptions { subset: Subsetting::Slots { client: 1, size: 20 }, ..IndexOptions::default() };
    let index = Index::build(nodes, &options, None, clock.now());
    let subset: Vec<usize> =
        index.pools().flat_map(|pool| pool.subset().to_vec()).map(|position| position as usize).collect();
    let rules = Ejection { percentage: 100, ..Ejection::default() };
    let outside = || {
        let ask = Ask::new(clock.now(), &rng);
        let pick = || index.pick(&WeightedRandom, &Request::base(), &ask).unwrap().unwrap();
        (0..2_000).map(|_| pick()).filter(|position| !subset.contains(position)).count()
    };
    let eject = |some: &[usize]| {
        for position in some {
            for _ in 0..5 {
                index[*position].load.begin().end(Outcome::Failed, Default::default(), clock.now());
            }
        }
        rules.look(&index, clock.now());
    };
    eject(&subset[..10]);
    assert_eq!(outside(), 0, "half is enough");
    eject(&subset[10..11]);
    assert!(outside() > 500, "less is not");
    eject(&subset[11..]);
    assert_eq!(outside(), 2_000);
}
