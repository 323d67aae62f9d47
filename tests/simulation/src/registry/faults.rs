//! What breaks, and for how long.

use std::time::Duration;

use bowline_core::{Rng, SeededRng};

use super::plan::{Mix, Plan};

/// Something that is broken for a while.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// These places, and all others, do not reach each other.
    Partition(Vec<usize>),
    /// The same, of nodes alone: clients reach all of them.
    Apart(Vec<usize>),
    /// What the one sends to the other does not arrive.
    OneWay(usize, usize),
    /// This share of all messages is lost.
    Loss(f64),
    /// A node dies, and starts again after a while.
    Crash(usize, Duration),
    /// All nodes die, and start again at about the same time.
    CrashAll,
    /// A node stands still.
    Pause(usize),
    /// A node's wall clock jumps, by this many seconds.
    Clock(usize, i64),
}

/// Something that breaks, and for how long.
pub(super) fn draw(plan: &Plan, nodes: usize, places: usize, rng: &SeededRng) -> (Fault, Duration) {
    let often = rng.below(2) == 0;
    match plan.mix {
        Mix::Away if often => {
            let long = plan.remembered().min(plan.breaks_for);
            (away(nodes, places, rng), long + Duration::from_secs(5) + rng.jitter(Duration::from_secs(20)))
        }
        Mix::Apart if often => {
            let most = plan.config.partition_window.min(plan.breaks_for);
            (Fault::Apart(side(nodes, rng)), Duration::from_secs(2) + rng.jitter(most * 2))
        }
        Mix::Restarts if often => match rng.below(3) {
            0 => (Fault::CrashAll, Duration::ZERO),
            _ => (Fault::Crash(rng.below(nodes), rng.jitter(Duration::from_secs(25))), Duration::ZERO),
        },
        _ => anything(nodes, places, rng),
    }
}

/// Some of the first `count` places, at least one.
fn side(count: usize, rng: &SeededRng) -> Vec<usize> {
    let mut side: Vec<usize> = (0..count).filter(|_| rng.below(2) == 0).collect();
    if side.is_empty() {
        side.push(rng.below(count));
    }
    side
}

/// A node, or a zone's with its clients, out of everybody's sight.
fn away(nodes: usize, places: usize, rng: &SeededRng) -> Fault {
    let node = rng.below(nodes);
    match rng.below(4) {
        0 => Fault::Partition(vec![node]),
        1 => {
            let zones = places - nodes;
            let zone = rng.below(zones);
            Fault::Partition((0..nodes).filter(|n| n % zones == zone).chain([nodes + zone]).collect())
        }
        2 => Fault::Apart(side(nodes, rng)),
        _ => Fault::Apart(vec![node]),
    }
}

fn anything(nodes: usize, places: usize, rng: &SeededRng) -> (Fault, Duration) {
    let seconds = |from: u64, to: u64| Duration::from_secs(from) + rng.jitter(Duration::from_secs(to - from));
    let node = rng.below(nodes);
    let long = seconds(2, 45);
    let fault = match rng.below(21) {
        0..5 => Fault::Partition(side(places, rng)),
        5..7 => Fault::Apart(side(nodes, rng)),
        7..10 => {
            let other = (node + 1 + rng.below(places - 1)) % places;
            if rng.below(2) == 0 { Fault::OneWay(node, other) } else { Fault::OneWay(other, node) }
        }
        10..12 => Fault::Loss(0.05 + rng.unit() * 0.45),
        12..16 => Fault::Crash(node, seconds(0, 25)),
        16 => Fault::CrashAll,
        17..20 => Fault::Pause(node),
        _ => Fault::Clock(node, rng.below(7_200) as i64 - 3_600),
    };
    (fault, long)
}
