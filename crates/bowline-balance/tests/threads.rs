//! What many threads do at the same time adds up.

#![allow(clippy::unwrap_used, reason = "tests; clippy knows only functions marked as such")]

mod support;

use std::sync::Barrier;
use std::time::Duration;

use bowline_balance::{Ask, Ejection, LEAST, Outcome, Request, WeightedRandom, WeightedRoundRobin};
use bowline_core::{Clock, ManualClock, SystemRng};
use support::{index, nodes};

const THREADS: usize = 8;

/// The sum of what each of some threads that begin together returns.
fn together(run: impl Fn() -> usize + Sync) -> usize {
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    run()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

#[test]
fn one_of_many_threads_gets_the_probe() {
    let (clock, rules) = (ManualClock::new(), Ejection::default());
    for _ in 0..50 {
        let index = index(nodes(3));
        for _ in 0..5 {
            index[0].load.begin().end(Outcome::Failed, Duration::ZERO, clock.now());
        }
        rules.look(&index, clock.now());
        clock.advance(Duration::from_secs(30));
        rules.sweep(&index, clock.now());
        let now = clock.now();
        let probes = together(|| {
            let ask = Ask::new(now, &SystemRng);
            let pick = || index.pick(&WeightedRandom, &Request::base(), &ask).unwrap();
            // Whoever gets it keeps it.
            let held: Vec<_> =
                (0..200).filter(|_| pick() == Some(0)).map(|_| index[0].load.begin()).collect();
            let number = held.len();
            std::mem::forget(held);
            number
        });
        assert_eq!(probes, 1);
    }
}

#[test]
fn threads_share_one_round() {
    let index = index(nodes(LEAST));
    let clock = ManualClock::new();
    let now = clock.now();
    together(|| {
        for _ in 0..1_000 {
            let ask = Ask::new(now, &SystemRng);
            let picked = index.pick(&WeightedRoundRobin, &Request::base(), &ask).unwrap().unwrap();
            std::mem::forget(index[picked].load.begin());
        }
        0
    });
    let share = (THREADS * 1_000 / LEAST) as u32;
    assert!(index.iter().all(|node| node.load.pending() == share));
}

#[test]
fn what_begins_and_ends_in_many_threads_leaves_nothing_behind() {
    let (index, clock) = (index(nodes(2)), ManualClock::new());
    let now = clock.now();
    together(|| {
        for request in 0..5_000 {
            let in_flight = index[request % 2].load.begin();
            match request % 3 {
                0 => drop(in_flight),
                1 => in_flight.answered(Duration::from_millis(3), now),
                _ => in_flight.failed(Duration::from_millis(1), now),
            }
        }
        0
    });
    assert!(index.iter().all(|node| node.load.pending() == 0));
    // No time passed: the worst that was seen counts in full.
    let latency = index[0].load.latency(now);
    assert!(latency.is_finite() && latency >= 0.1, "{latency}");
}
