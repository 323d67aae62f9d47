//! Permits in every order of what threads do, by loom: `RUSTFLAGS="--cfg loom" cargo test --package bowline-resilience --lib
//! models`. loom itself finds the deadlock of a wake-up that is lost, and whatever still holds a bulkhead at the end.

use std::sync::Arc as StdArc;
use std::time::Duration;

use bowline_core::{Criticality, Instant};
use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use crate::{
    Admission, Algorithm, Arrival, Breaker, BreakerOptions, Bulkhead, BulkheadOptions, CpuLoad, Entry,
    Permit, Slot, Wait,
};

/// More preemptions find nothing more in models of this size, and take hours.
const PREEMPTIONS: usize = 3;

fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(run);
}

/// Nobody gives up by itself: a model has no time.
fn bulkhead(concurrency: u32, queue: usize) -> Bulkhead {
    let patience = Duration::from_secs(3600);
    let options = BulkheadOptions { concurrency, queue, target: patience, interval: patience };
    Bulkhead::new(options, Instant::now())
}

fn runs(bulkhead: &Bulkhead) -> Slot {
    match bulkhead.enter(Instant::now()) {
        Entry::Runs(slot) => slot,
        other => panic!("{other:?}"),
    }
}

fn waits(bulkhead: &Bulkhead) -> Wait {
    match bulkhead.enter(Instant::now()) {
        Entry::Waits(wait) => wait,
        other => panic!("{other:?}"),
    }
}

fn is_empty(bulkhead: &Bulkhead) -> bool {
    (bulkhead.running(), bulkhead.waiting()) == (0, 0)
}

#[test]
fn a_place_that_is_handed_to_one_who_leaves_is_free_again() {
    model(|| {
        let bulkhead = bulkhead(1, 1);
        let (slot, wait) = (runs(&bulkhead), waits(&bulkhead));
        let ends = thread::spawn(move || drop(slot));
        let leaves = thread::spawn(move || drop(wait));
        ends.join().unwrap();
        leaves.join().unwrap();
        assert!(is_empty(&bulkhead));
    });
}

#[test]
fn a_place_goes_on_to_whoever_still_waits() {
    model(|| {
        let bulkhead = bulkhead(1, 2);
        let (slot, leaving, staying) = (runs(&bulkhead), waits(&bulkhead), waits(&bulkhead));
        let ends = thread::spawn(move || drop(slot));
        let leaves = thread::spawn(move || drop(leaving));
        let slot = block_on(staying.into_grant()).unwrap();
        ends.join().unwrap();
        leaves.join().unwrap();
        assert_eq!((bulkhead.running(), bulkhead.waiting()), (1, 0));
        drop(slot);
        assert!(is_empty(&bulkhead));
    });
}

#[test]
fn no_more_run_than_may_and_everybody_who_waits_runs() {
    model(|| {
        let (bulkhead, running) = (bulkhead(1, 2), Arc::new(AtomicU32::new(0)));
        let one = |bulkhead: Bulkhead, running: Arc<AtomicU32>| {
            move || {
                let slot = match bulkhead.enter(Instant::now()) {
                    Entry::Runs(slot) => slot,
                    Entry::Waits(wait) => block_on(wait.into_grant()).unwrap(),
                    Entry::Full => panic!("there is room in the queue"),
                };
                assert_eq!(running.fetch_add(1, Ordering::AcqRel), 0);
                running.fetch_sub(1, Ordering::AcqRel);
                drop(slot);
            }
        };
        let other = thread::spawn(one(bulkhead.clone(), Arc::clone(&running)));
        let third = thread::spawn(one(bulkhead.clone(), Arc::clone(&running)));
        one(bulkhead.clone(), running)();
        other.join().unwrap();
        third.join().unwrap();
        assert!(is_empty(&bulkhead));
    });
}

#[test]
fn who_comes_while_a_place_is_given_back_runs_or_waits_for_it() {
    model(|| {
        let bulkhead = bulkhead(1, 1);
        let slot = runs(&bulkhead);
        let ends = thread::spawn(move || drop(slot));
        // To ask whether it is full takes nothing.
        bulkhead.is_full(Instant::now());
        let slot = match bulkhead.enter(Instant::now()) {
            Entry::Runs(slot) => slot,
            Entry::Waits(wait) => block_on(wait.into_grant()).unwrap(),
            Entry::Full => panic!("there is room in the queue"),
        };
        ends.join().unwrap();
        drop(slot);
        assert!(is_empty(&bulkhead));
    });
}

/// The hash of a name that is nobody else's.
fn name(number: u64) -> u64 {
    number << 56
}

fn ask(admission: &StdArc<Admission>, criticality: Criticality, caller: u64, now: Instant) -> Option<Permit> {
    admission.admit(&Arrival { now, criticality, caller: name(caller), operation: name(0) }).ok()
}

#[test]
fn a_limits_permits_come_back_however_their_requests_end() {
    model(|| {
        let now = Instant::now();
        let admission = Admission::new(Algorithm::Fixed(1), CpuLoad::default(), now);
        let one = |criticality, caller, ends: bool| {
            let admission = StdArc::clone(&admission);
            move || {
                let Some(mut permit) = ask(&admission, criticality, caller, now) else { return };
                let begun = permit.begun(now);
                if ends && begun.is_ok() {
                    permit.end(crate::Ended::Served, now);
                }
            }
        };
        let other = thread::spawn(one(Criticality::CriticalPlus, 0, false));
        one(Criticality::Sheddable, 1, true)();
        other.join().unwrap();
        assert!(admission.is_empty());
    });
}

#[test]
fn callers_of_the_same_name_are_counted_as_one_who_is_there_or_not() {
    model(|| {
        let now = Instant::now();
        let admission = Admission::new(Algorithm::Fixed(4), CpuLoad::default(), now);
        let one = || {
            let admission = StdArc::clone(&admission);
            move || drop(ask(&admission, Criticality::Critical, 1, now))
        };
        let other = thread::spawn(one());
        one()();
        other.join().unwrap();
        assert!(admission.is_empty());
    });
}

#[test]
fn one_at_a_time_tries_an_open_breaker_and_one_who_leaves_lets_the_next_try() {
    model(|| {
        let now = Instant::now();
        let options = BreakerOptions { least: 1, ..BreakerOptions::default() };
        let breaker = Breaker::new(options, now);
        breaker.ask(now).unwrap().failed(now);
        assert!(!breaker.is_closed());
        let (later, trying) = (now + options.longest, Arc::new(AtomicU32::new(0)));
        let one = || {
            let (breaker, trying) = (StdArc::clone(&breaker), Arc::clone(&trying));
            move || {
                let Ok(trial) = breaker.ask(later) else { return };
                assert_eq!(trying.fetch_add(1, Ordering::AcqRel), 0);
                trying.fetch_sub(1, Ordering::AcqRel);
                drop(trial);
            }
        };
        let other = thread::spawn(one());
        one()();
        other.join().unwrap();
        breaker.ask(later).unwrap().succeeded(later);
        assert!(breaker.is_closed());
    });
}
