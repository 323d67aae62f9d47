use std::panic::{AssertUnwindSafe, catch_unwind};

use bowline_core::{Clock, ManualClock};
use proptest::prelude::*;

use super::*;

fn arrival(clock: &ManualClock, criticality: Criticality, caller: u8) -> Arrival {
    Arrival { now: clock.now(), criticality, caller: u64::from(caller) << 56, operation: 0 }
}

/// How many of a criticality are let in one after the other.
fn fill(
    admission: &Arc<Admission>,
    clock: &ManualClock,
    criticality: Criticality,
    caller: u8,
) -> Vec<Permit> {
    std::iter::from_fn(|| admission.admit(&arrival(clock, criticality, caller)).ok()).take(1_000).collect()
}

fn fixed(limit: u32) -> (Arc<Admission>, ManualClock) {
    let clock = ManualClock::new();
    (Admission::new(Algorithm::Fixed(limit), CpuLoad::default(), clock.now()), clock)
}

#[test]
fn each_criticality_has_room_where_the_lower_one_has_none() {
    let (admission, clock) = fixed(50);
    let counts = Criticality::ALL.map(|criticality| fill(&admission, &clock, criticality, 1));
    assert_eq!(counts.map(|permits| permits.len()), [50, 5, 5, 816]);
    assert_eq!(admission.in_flight(), 0);
}

#[test]
fn alone_each_criticality_has_the_whole_limit() {
    for criticality in Criticality::ALL {
        let (admission, clock) = fixed(100);
        assert!(fill(&admission, &clock, criticality, 1).len() >= 100);
    }
}

#[test]
fn one_that_floods_leaves_room_for_the_others() {
    let (admission, clock) = fixed(100);
    let flood = fill(&admission, &clock, Criticality::Critical, 1);
    assert_eq!(flood.len(), 120);
    let others = fill(&admission, &clock, Criticality::Critical, 2);
    assert_eq!(others.len(), 5);
    assert!(admission.admit(&arrival(&clock, Criticality::Critical, 1)).is_err());
}

/// Serves so many a tick of 100 ms, each of which takes `took`. They wait for a thread, longer than they should while the
/// processor is busy.
fn serve(admission: &Arc<Admission>, clock: &ManualClock, ticks: usize, each: u32, took: Duration) {
    let wait = Duration::from_millis(2);
    for _ in 0..ticks {
        for _ in 0..each {
            let mut permit = admission.admit(&arrival(clock, Criticality::Critical, 1)).unwrap();
            permit.begun(clock.now() + wait).unwrap();
            permit.end(Ended::Served, clock.now() + wait + took);
        }
        late(admission, clock, wait, Duration::from_millis(100));
    }
}

/// One after the other waits so long before its first step, for so long; whether the last was begun. They do not end.
fn late(admission: &Arc<Admission>, clock: &ManualClock, wait: Duration, lasting: Duration) -> bool {
    let mut begun = true;
    let end = clock.now() + lasting;
    while clock.now() < end {
        let mut permit = admission.admit(&arrival(clock, Criticality::Critical, 1)).unwrap();
        begun = permit.begun(clock.now() + wait).is_ok();
        clock.advance(Duration::from_millis(5));
    }
    begun
}

fn bbr(processors: u32) -> (Arc<Admission>, CpuLoad, ManualClock) {
    let (clock, cpu) = (ManualClock::new(), CpuLoad::default());
    let algorithm = Algorithm::Bbr(BbrOptions { processors, ..BbrOptions::default() });
    (Admission::new(algorithm, cpu.clone(), clock.now()), cpu, clock)
}

#[test]
fn nothing_is_shed_while_nothing_is_known() {
    let (admission, cpu, clock) = bbr(1);
    cpu.set(1.0);
    let mut burst = fill(&admission, &clock, Criticality::Sheddable, 1);
    assert_eq!(burst.len(), 1_000);
    // Its last wait for long before their first step: nobody knows whether that is too much.
    clock.advance(Duration::from_secs(3));
    assert!(burst.iter_mut().all(|permit| permit.begun(clock.now()).is_ok()));
    let options = GradientOptions::default();
    let gradient = Admission::new(Algorithm::Gradient(options), CpuLoad::default(), clock.now());
    assert_eq!(fill(&gradient, &clock, Criticality::Sheddable, 1).len(), 1_000);
}

#[test]
fn the_limit_is_what_the_service_does_at_its_best() {
    let (admission, cpu, clock) = bbr(1);
    serve(&admission, &clock, 20, 50, Duration::from_micros(20_300));
    // 500 a second for 20.3 ms each are 10.15 at a time, and room for chance.
    assert_eq!(fill(&admission, &clock, Criticality::Sheddable, 1).len(), 1_000, "the processor is idle");
    cpu.set(0.8);
    serve(&admission, &clock, 2, 50, Duration::from_micros(20_300));
    assert_eq!(fill(&admission, &clock, Criticality::Sheddable, 1).len(), 23);
    // For a second after something was shed, it holds on.
    cpu.set(0.5);
    clock.advance(Duration::from_millis(900));
    assert_eq!(fill(&admission, &clock, Criticality::Sheddable, 1).len(), 23);
    clock.advance(Duration::from_millis(1_000));
    assert_eq!(fill(&admission, &clock, Criticality::Sheddable, 1).len(), 1_000);
}

#[test]
fn failures_are_no_answers() {
    let (admission, cpu, clock) = bbr(1);
    serve(&admission, &clock, 20, 50, Duration::from_millis(20));
    for _ in 0..1_000 {
        let permit = admission.admit(&arrival(&clock, Criticality::Critical, 1)).unwrap();
        permit.end(Ended::Failed, clock.now());
    }
    clock.advance(Duration::from_millis(100));
    cpu.set(1.0);
    fill(&admission, &clock, Criticality::Sheddable, 1);
    assert_eq!(admission.limit(), Some(23));
}

#[test]
fn a_queue_that_lasts_is_an_overload_whatever_the_processor_says() {
    let (admission, _, clock) = bbr(4);
    serve(&admission, &clock, 20, 50, Duration::from_millis(20));
    assert!(late(&admission, &clock, Duration::from_millis(120), Duration::from_millis(95)));
    assert!(
        !late(&admission, &clock, Duration::from_millis(120), Duration::from_millis(15)),
        "it waited too long"
    );
    assert_eq!(fill(&admission, &clock, Criticality::Sheddable, 1).len(), 23);
    // Once nobody waits any more it holds on for a second, and the next queue need not last.
    late(&admission, &clock, Duration::ZERO, Duration::from_millis(900));
    assert_eq!(fill(&admission, &clock, Criticality::Sheddable, 1).len(), 23);
    late(&admission, &clock, Duration::ZERO, Duration::from_millis(500));
    assert_eq!(fill(&admission, &clock, Criticality::Sheddable, 1).len(), 1_000);
    late(&admission, &clock, Duration::from_millis(6), Duration::from_millis(10));
    assert_eq!(fill(&admission, &clock, Criticality::Sheddable, 1).len(), 23);
}

#[test]
fn a_moment_in_which_others_held_the_process_up_is_no_overload() {
    let (admission, cpu, clock) = bbr(4);
    cpu.set(1.0);
    for _ in 0..20 {
        serve(&admission, &clock, 1, 50, Duration::from_millis(20));
        late(&admission, &clock, Duration::ZERO, Duration::from_millis(5));
        // All that came in 150 ms takes its first step after them; what takes 20 ms on four processors can be done 20 times in 100.
        let mut held: Vec<Permit> = (0..20)
            .map(|_| {
                clock.advance(Duration::from_micros(7_500));
                admission.admit(&arrival(&clock, Criticality::Sheddable, 1)).expect("nothing is shed")
            })
            .collect();
        for permit in &mut held {
            clock.advance(Duration::from_millis(2));
            permit.begun(clock.now()).expect("nothing is shed");
        }
    }
}

#[test]
fn a_service_that_computes_for_long_has_a_queue_though_its_first_steps_are_rare() {
    let (admission, _, clock) = bbr(2);
    serve(&admission, &clock, 20, 1, Duration::from_millis(500));
    let taken = || fill(&admission, &clock, Criticality::Sheddable, 1).len();
    for _ in 0..2 {
        assert_eq!(taken(), 1_000);
        // What is most critical is begun, however late.
        let mut permit = admission.admit(&arrival(&clock, Criticality::CriticalPlus, 1)).unwrap();
        clock.advance(Duration::from_millis(250));
        permit.begun(clock.now()).unwrap();
    }
    // Ten a second for half of a second each are 5, and room for chance.
    assert_eq!(taken(), 14);
}

#[test]
fn who_waits_for_something_else_takes_nobodys_place() {
    let (admission, _, clock) = bbr(4);
    serve(&admission, &clock, 20, 50, Duration::from_millis(20));
    let mut parked = fill(&admission, &clock, Criticality::Sheddable, 1);
    for permit in &mut parked {
        permit.begun(clock.now()).unwrap();
    }
    serve(&admission, &clock, 1, 50, Duration::from_millis(20));
    late(&admission, &clock, Duration::from_millis(6), Duration::from_millis(150));
    // A thousand are in flight and have begun; they count as the ten that the service does at a time.
    assert_eq!(fill(&admission, &clock, Criticality::Sheddable, 1).len(), 23 - 10);
    assert_eq!(admission.in_flight(), 1_000);
}

#[test]
fn a_burst_before_a_queue_lasts_is_let_in_as_far_as_it_can_be_done() {
    let (admission, _, clock) = bbr(8);
    serve(&admission, &clock, 20, 50, Duration::from_millis(2));
    late(&admission, &clock, Duration::from_millis(20), Duration::from_millis(20));
    // 8 processors, 2 ms each, 100 ms.
    assert_eq!(fill(&admission, &clock, Criticality::Sheddable, 1).len(), 400);
    // And then what they do in 5 ms, with room for chance.
    late(&admission, &clock, Duration::from_millis(20), Duration::from_millis(200));
    assert_eq!(fill(&admission, &clock, Criticality::Sheddable, 1).len(), 20 + 18);
}

#[test]
fn a_long_overload_does_not_raise_the_limit() {
    let (admission, cpu, clock) = bbr(1);
    serve(&admission, &clock, 100, 50, Duration::from_millis(20));
    cpu.set(1.0);
    let mut highest = 0;
    serve(&admission, &clock, 2, 50, Duration::from_millis(20));
    for _ in 0..600 {
        // As many as are let in share the processor: each takes longer the more there are.
        let permits = fill(&admission, &clock, Criticality::Critical, 1);
        let took = Duration::from_millis(20).mul_f64((permits.len() as f64 / 10.0).max(1.0));
        highest = highest.max(permits.len());
        drop(permits);
        serve(&admission, &clock, 1, 50, took);
    }
    assert!((27..40).contains(&highest), "{highest}");
}

#[test]
fn where_much_is_refused_there_is_no_room_for_chance() {
    let (admission, cpu, clock) = bbr(1);
    serve(&admission, &clock, 20, 50, Duration::from_millis(20));
    cpu.set(1.0);
    let mut limits = Vec::new();
    for _ in 0..30 {
        serve(&admission, &clock, 1, 50, Duration::from_millis(20));
        let full = fill(&admission, &clock, Criticality::Sheddable, 1);
        limits.push(full.len());
        let refused = || admission.admit(&arrival(&clock, Criticality::Sheddable, 1)).is_err();
        assert!((0..50).all(|_| refused()));
    }
    // A burst; then 10 at a time, and four times the root of that on top, down to once within half of a second.
    assert_eq!(limits[..5], [91, 20, 18, 16, 14]);
    assert!(limits[5..].iter().all(|limit| *limit == 14), "{limits:?}");
}

#[test]
fn what_is_most_critical_is_not_refused_because_the_limit_is_lowered_to_measure() {
    let (admission, cpu, clock) = bbr(1);
    serve(&admission, &clock, 20, 50, Duration::from_millis(20));
    cpu.set(1.0);
    serve(&admission, &clock, 2, 50, Duration::from_millis(20));
    let mut lowered = 0;
    for _ in 0..150 {
        serve(&admission, &clock, 1, 50, Duration::from_millis(20));
        let others = fill(&admission, &clock, Criticality::Sheddable, 1).len();
        lowered += usize::from(others == 5);
        assert!([5, 22, 23].contains(&others), "{others}");
        assert_eq!(fill(&admission, &clock, Criticality::CriticalPlus, 1).len(), 23 * 16 + 16);
    }
    assert_eq!(lowered, 3, "once, for three ticks");
}

#[derive(Clone, Debug)]
enum Step {
    Arrive(usize, u8, u64),
    /// The n-th that is in flight takes its first step, ends well or badly, is dropped, or panics.
    Begin(usize),
    End(usize, bool),
    Drop(usize),
    Panic(usize),
    Pass(u64),
    Cpu(f64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_usize, any::<u8>(), any::<u64>()).prop_map(|(c, caller, op)| Step::Arrive(c, caller, op)),
        2 => (0..16_usize).prop_map(Step::Begin),
        2 => (0..16_usize, any::<bool>()).prop_map(|(n, well)| Step::End(n, well)),
        1 => (0..16_usize).prop_map(Step::Drop),
        1 => (0..16_usize).prop_map(Step::Panic),
        1 => (0..300_u64).prop_map(Step::Pass),
        1 => (0.0..1.0_f64).prop_map(Step::Cpu),
    ]
}

proptest! {
    #[test]
    fn no_permit_is_lost_or_made(algorithm in 0..3_usize, steps in proptest::collection::vec(step(), 1..300)) {
        let algorithm = [
            Algorithm::Fixed(5),
            Algorithm::Bbr(BbrOptions::default()),
            Algorithm::Gradient(GradientOptions { initial: 5, ..GradientOptions::default() }),
        ][algorithm];
        let (clock, cpu) = (ManualClock::new(), CpuLoad::default());
        let admission = Admission::new(algorithm, cpu.clone(), clock.now());
        let mut held: Vec<Permit> = Vec::new();
        for step in steps {
            let take = |held: &mut Vec<Permit>, n: usize| (n < held.len()).then(|| held.swap_remove(n));
            match step {
                Step::Arrive(criticality, caller, operation) => {
                    let of = arrival(&clock, Criticality::ALL[criticality], caller);
                    held.extend(admission.admit(&Arrival { operation, ..of }));
                }
                Step::Begin(n) => {
                    if let Some(permit) = held.get_mut(n) {
                        let _ = permit.begun(clock.now());
                    }
                }
                Step::End(n, well) => {
                    if let Some(permit) = take(&mut held, n) {
                        permit.end(if well { Ended::Served } else { Ended::Failed }, clock.now());
                    }
                }
                Step::Drop(n) => drop(take(&mut held, n)),
                Step::Panic(n) => {
                    if let Some(permit) = take(&mut held, n) {
                        let panicked = catch_unwind(AssertUnwindSafe(move || {
                            let _permit = permit;
                            std::panic::resume_unwind(Box::new("handler"));
                        }));
                        prop_assert!(panicked.is_err());
                    }
                }
                Step::Pass(ms) => clock.advance(Duration::from_millis(ms)),
                Step::Cpu(load) => cpu.set(load),
            }
            prop_assert_eq!(admission.in_flight() as usize, held.len());
        }
        drop(held);
        prop_assert!(admission.is_empty());
    }
}
