//! What breaks, and for how long.

use std::time::Duration;

use bowline_core::{Rng, SeededRng};

/// Something that is broken for a while.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// These places, and all others, do not reach each other.
    Partition(Vec<usize>),
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
pub(super) fn draw(nodes: usize, places: usize, rng: &SeededRng) -> (Fault, Duration) {
    let seconds = |from: u64, to: u64| Duration::from_secs(from) + rng.jitter(Duration::from_secs(to - from));
    let node = rng.below(nodes);
    let long = seconds(2, 45);
    let fault = match rng.below(20) {
        0..6 => {
            let mut side: Vec<usize> = (0..places).filter(|_| rng.below(2) == 0).collect();
            if side.is_empty() {
                side.push(node);
            }
            Fault::Partition(side)
        }
        6..9 => {
            let other = (node + 1 + rng.below(places - 1)) % places;
            if rng.below(2) == 0 { Fault::OneWay(node, other) } else { Fault::OneWay(other, node) }
        }
        9..11 => Fault::Loss(0.05 + rng.unit() * 0.45),
        11..15 => Fault::Crash(node, seconds(0, 25)),
        15 => Fault::CrashAll,
        16..19 => Fault::Pause(node),
        _ => Fault::Clock(node, rng.below(7_200) as i64 - 3_600),
    };
    (fault, long)
}
