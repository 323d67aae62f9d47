//! One client and its instances in virtual time: how many requests are answered well within a second, when some of the
//! instances are slow, broken, flapping, or a little ill. Requests arrive at a fixed rate, whether or not there are
//! answers. A request that takes longer than a second is given up, as one that got no answer in time.

#![allow(clippy::unwrap_used, reason = "tests; clippy knows only functions marked as such")]

mod support;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use bowline_balance::{Ask, Ejection, InFlight, Index, IndexOptions, Outcome, Picker, Request};
use bowline_core::{Clock, Instant, ManualClock, Rng, SeededRng};
use support::nodes;

const SECONDS: u64 = 60;
const RATE: u64 = 1_000;
const PATIENCE: Duration = Duration::from_secs(1);
const NORMAL: Duration = Duration::from_millis(20);

/// How long an instance takes and whether it answers, by its number and the time.
type Behaviour = fn(usize, Duration, &SeededRng) -> (Duration, bool);

fn healthy(rng: &SeededRng) -> (Duration, bool) {
    (NORMAL.mul_f64(0.5 + rng.unit()), true)
}

struct Run {
    clock: ManualClock,
    began: Instant,
    rng: SeededRng,
    index: Index<support::Node>,
    ejection: Option<Ejection>,
    ends: BinaryHeap<Reverse<(Duration, usize)>>,
    under_way: Vec<Option<(InFlight, Duration, Outcome)>>,
    good: u64,
}

impl Run {
    fn now(&self) -> Duration {
        self.clock.now() - self.began
    }

    /// Moves the clock to `until`, with all that ends before.
    fn advance(&mut self, until: Duration) {
        while let Some(Reverse((at, request))) =
            self.ends.peek().copied().filter(|Reverse((at, _))| *at <= until)
        {
            self.ends.pop();
            self.clock.advance(at - self.now());
            let Some((in_flight, took, outcome)) = self.under_way[request].take() else { continue };
            self.good += u64::from(outcome == Outcome::Answered);
            let look = in_flight.end(outcome, took, self.clock.now());
            if let Some(ejection) = self.ejection.filter(|_| look) {
                ejection.look(&self.index, self.clock.now());
            }
        }
        self.clock.advance(until - self.now());
    }

    fn send(&mut self, picker: &impl Picker, behaviour: Behaviour) {
        let ask = Ask::new(self.clock.now(), &self.rng).with_key(self.rng.next_u64());
        let picked = self.index.pick(picker, &Request::base(), &ask).unwrap().unwrap();
        let (took, answers) = behaviour(picked, self.now(), &self.rng);
        let outcome = match (took > PATIENCE, answers) {
            (true, _) => Outcome::Unreachable,
            (false, true) => Outcome::Answered,
            (false, false) => Outcome::Failed,
        };
        let took = took.min(PATIENCE);
        self.ends.push(Reverse((self.now() + took, self.under_way.len())));
        self.under_way.push(Some((self.index[picked].load.begin(), took, outcome)));
    }
}

/// The part of requests that was answered well within a second.
fn success(picker: &impl Picker, instances: usize, ejection: Option<Ejection>, behaviour: Behaviour) -> f64 {
    let clock = ManualClock::new();
    let index = Index::build(nodes(instances), &IndexOptions::default(), None, clock.now());
    let (began, rng) = (clock.now(), SeededRng::new(17));
    let (ends, under_way) = (BinaryHeap::new(), Vec::new());
    let mut run = Run { clock, began, rng, index, ejection, ends, under_way, good: 0 };
    for request in 0..SECONDS * RATE {
        run.advance(Duration::from_micros(request * 1_000_000 / RATE));
        if let Some(ejection) = ejection.filter(|_| request % (10 * RATE) == 0) {
            ejection.sweep(&run.index, run.clock.now());
        }
        run.send(picker, behaviour);
    }
    run.advance(Duration::from_secs(SECONDS + 10));
    assert!(run.index.iter().all(|node| node.load.pending() == 0));
    run.good as f64 / (SECONDS * RATE) as f64
}

fn one_slow(instance: usize, _: Duration, rng: &SeededRng) -> (Duration, bool) {
    let (took, answers) = healthy(rng);
    (if instance == 0 { took * 100 } else { took }, answers)
}

fn one_failing_fast(instance: usize, _: Duration, rng: &SeededRng) -> (Duration, bool) {
    if instance == 0 { (Duration::from_micros(200), false) } else { healthy(rng) }
}

fn one_flapping(instance: usize, at: Duration, rng: &SeededRng) -> (Duration, bool) {
    let (took, _) = healthy(rng);
    (took, instance != 0 || (at.as_secs() / 3).is_multiple_of(2))
}

fn ten_grey(instance: usize, _: Duration, rng: &SeededRng) -> (Duration, bool) {
    let (took, answers) = healthy(rng);
    (took, answers && (instance >= 10 || rng.unit() < 0.5))
}

/// Each picker's success in each of the four, with ejection.
fn table(instances: usize, behaviour: Behaviour) -> Vec<(&'static str, f64)> {
    let mut results = Vec::new();
    with_each_picker!(|name, picker| {
        results.push((name, success(&picker, instances, Some(Ejection::default()), behaviour)));
    });
    results
}

#[test]
fn one_of_ten_is_a_hundred_times_slower() {
    let alone = success(&bowline_balance::P2c, 10, None, one_slow);
    assert!(alone >= 0.999, "P2C without ejection: {alone}");
    let results = table(10, one_slow);
    assert!(results[0].1 >= 0.999, "{results:?}");
    assert!(results.iter().all(|(_, success)| *success >= 0.99), "{results:?}");
}

#[test]
fn one_of_ten_fails_fast() {
    let alone = success(&bowline_balance::P2c, 10, None, one_failing_fast);
    assert!(alone >= 0.999, "P2C without ejection: {alone}");
    let results = table(10, one_failing_fast);
    assert!(results.iter().all(|(_, success)| *success >= 0.999), "{results:?}");
}

#[test]
fn one_of_ten_flaps() {
    let results = table(10, one_flapping);
    assert!(results.iter().all(|(_, success)| *success >= 0.995), "{results:?}");
}

#[test]
fn ten_of_a_hundred_answer_every_other_request() {
    let results = table(100, ten_grey);
    // Without ejection it is 0.95 for whoever does not look at failures. The sweep after 10 s finds them; what fails
    // before, and on the way back, is lost.
    assert!(results[0].1 >= 0.995, "{results:?}");
    assert!(results.iter().all(|(_, success)| *success >= 0.99), "{results:?}");
    let without = success(&bowline_balance::WeightedRandom, 100, None, ten_grey);
    assert!(without < 0.96, "the instances are ill indeed: {without}");
}
