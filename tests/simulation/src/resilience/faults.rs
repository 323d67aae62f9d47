//! One caller and its instances, some of which are slow, broken, flapping or a little ill.
//!
//! Requests are sent at a fixed rate, whether or not there are answers. What takes longer than a second is given up, as
//! one that got no answer in time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use bowline_balance::{Ask, Ejection, InFlight, Index, IndexOptions, Outcome, Request};
use bowline_core::{Clock, Instance, Instant, ManualClock, Rng, SeededRng};

use super::Plan;
use super::nodes::{AnyPicker, Node};
use super::numbers::{mean, quantile};
use super::report::{Axis, Bars, Section, Table, Unit};

const SECONDS: u64 = 60;
const RATE: u64 = 1_000;
const PATIENCE: Duration = Duration::from_secs(1);
const NORMAL: Duration = Duration::from_millis(20);

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// One of ten takes a hundred times as long.
    Slow,
    /// One of ten fails at once.
    FailingFast,
    /// One of ten fails for 3 s, is well for 3 s, and so on.
    Flapping,
    /// Ten of a hundred answer every other request after 10 s or not at all.
    Grey,
}

/// How an instance answers: after how long, if ever, and how.
type Answer = (Option<Duration>, Outcome);

impl Fault {
    const ALL: [Self; 4] = [Self::Slow, Self::FailingFast, Self::Flapping, Self::Grey];

    fn name(self) -> &'static str {
        match self {
            Self::Slow => "one of ten 100 times slower",
            Self::FailingFast => "one of ten fails at once",
            Self::Flapping => "one of ten flaps",
            Self::Grey => "ten of a hundred grey",
        }
    }

    fn instances(self) -> usize {
        if self == Self::Grey { 100 } else { 10 }
    }

    /// What success has to be with ejection: with P2C, and with the others.
    fn wanted(self) -> (f64, f64) {
        match self {
            Self::Slow => (0.999, 0.99),
            Self::FailingFast => (0.999, 0.999),
            Self::Flapping => (0.995, 0.995),
            // Round robin sends each of them 100 requests an interval, which is just what a rate counts from: a sweep may
            // come before the last one has ended, and sees too few.
            Self::Grey => (0.995, 0.98),
        }
    }

    /// What success has to be with P2C without ejection, where it has to be anything.
    fn wanted_alone(self) -> Option<f64> {
        matches!(self, Self::Slow | Self::FailingFast).then_some(0.999)
    }

    fn answer(self, instance: usize, at: Duration, rng: &SeededRng) -> Answer {
        let took = NORMAL.mul_f64(0.5 + rng.unit());
        let well = (Some(took), Outcome::Answered);
        match self {
            Self::Slow if instance == 0 => (Some(took * 100), Outcome::Answered),
            Self::FailingFast if instance == 0 => (Some(Duration::from_micros(200)), Outcome::Failed),
            Self::Flapping if instance == 0 && !(at.as_secs() / 3).is_multiple_of(2) => {
                (Some(took), Outcome::Failed)
            }
            Self::Grey if instance < 10 => match rng.below(4) {
                0 => (Some(Duration::from_secs(10)), Outcome::Answered),
                1 => (None, Outcome::Answered),
                _ => well,
            },
            _ => well,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The part that was answered well within a second.
    pub(crate) success: f64,
    /// How long each caller waited, in seconds.
    pub(crate) took: Vec<f64>,
    /// Requests that count as in flight after all have ended.
    pub(crate) left: u32,
}

struct World {
    clock: ManualClock,
    began: Instant,
    rng: SeededRng,
    index: Index<Node>,
    ejection: Option<Ejection>,
    ends: BinaryHeap<Reverse<(Duration, usize)>>,
    under_way: Vec<Option<(InFlight, Duration, Outcome)>>,
    good: u64,
    took: Vec<f64>,
}

/// Runs it, with ejection or without.
pub(crate) fn run(fault: Fault, picker: AnyPicker, ejects: bool, seed: u64) -> Seen {
    let clock = ManualClock::new();
    let nodes = (0..fault.instances()).map(|i| Node::new(Instance::new("catalog", format!("node-{i}"))));
    let index = Index::build(nodes.collect(), &IndexOptions::default(), None, clock.now());
    let ejection = ejects.then(Ejection::default);
    let mut world = World {
        began: clock.now(),
        clock,
        rng: SeededRng::new(seed),
        index,
        ejection,
        ends: BinaryHeap::new(),
        under_way: Vec::new(),
        good: 0,
        took: Vec::new(),
    };
    for request in 0..SECONDS * RATE {
        world.advance(Duration::from_micros(request * 1_000_000 / RATE));
        if let Some(ejection) = ejection.filter(|_| request % (10 * RATE) == 0) {
            ejection.sweep(&world.index, world.clock.now());
        }
        world.send(picker, fault);
    }
    world.advance(Duration::from_secs(SECONDS) + PATIENCE);
    let left = world.index.iter().map(|node| node.load.pending()).sum();
    Seen { success: world.good as f64 / (SECONDS * RATE) as f64, took: world.took, left }
}

impl World {
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
            self.took.push(took.as_secs_f64());
            let look = in_flight.end(outcome, took, self.clock.now());
            if let Some(ejection) = self.ejection.filter(|_| look) {
                ejection.look(&self.index, self.clock.now());
            }
        }
        self.clock.advance(until - self.now());
    }

    fn send(&mut self, picker: AnyPicker, fault: Fault) {
        let ask = Ask::new(self.clock.now(), &self.rng).with_key(self.rng.next_u64());
        // There are instances, and the request is nobody's in particular: there always is one.
        let Ok(Some(picked)) = self.index.pick(&picker, &Request::base(), &ask) else { return };
        let (took, outcome) = match fault.answer(picked, self.now(), &self.rng) {
            (Some(took), outcome) if took <= PATIENCE => (took, outcome),
            _ => (PATIENCE, Outcome::Unreachable),
        };
        self.ends.push(Reverse((self.now() + took, self.under_way.len())));
        self.under_way.push(Some((self.index[picked].load.begin(), took, outcome)));
    }
}

/// What holds when instances are slow, failing, flapping or grey.
pub fn section(plan: &Plan) -> Section {
    let mut section = Section::new(
        "Slow, failing and grey instances",
        format!(
            "One caller sends {RATE} requests a second for {SECONDS} s; an answer takes 10 to 30 ms, and who has none \
             after 1 s gives up. With ejection, what is found out is found out within these {SECONDS} s: nobody knows of \
             the fault before. Nothing is tried again."
        ),
    );
    let mut left = 0;
    for fault in Fault::ALL {
        let groups = AnyPicker::ALL.map(|picker| picker.name().to_owned()).into();
        let y = Axis { label: "failed, %", ..Axis::default() };
        let title = format!("Failed requests: {}", fault.name());
        let mut bars = Bars { title, y, groups, series: Vec::new() };
        let mut table = Table::new(fault.name(), &["", "success", "p99", "success without ejection", "p99"]);
        table.rows = AnyPicker::ALL.map(|picker| vec![picker.name().into()]).into();
        // A test is about bounds, and most without ejection have none.
        for ejects in if plan.thorough { &[true, false][..] } else { &[true] } {
            let ejects = *ejects;
            let mut failed = Vec::new();
            for (picker, row) in AnyPicker::ALL.into_iter().zip(&mut table.rows) {
                let (success, p99, in_flight) = of(fault, picker, ejects, plan);
                left += in_flight;
                bound(&mut section, fault, picker, ejects, success);
                failed.push((1.0 - success) * 100.0);
                row.extend([Unit::Percent.tell(success), Unit::Millis.tell(p99)]);
            }
            let name = if ejects { "with ejection" } else { "without" };
            bars.series.push((name.into(), failed));
        }
        section.bars.push(bars);
        section.tables.push(table);
    }
    let what = "requests that count as in flight after all have ended";
    section.at_most(what, f64::from(left), 0.0, Unit::Count);
    section
}

/// Success, the 99th percentile of how long callers waited, and how many still count as in flight.
fn of(fault: Fault, picker: AnyPicker, ejects: bool, plan: &Plan) -> (f64, f64, u32) {
    let (mut success, mut took, mut left) = (Vec::new(), Vec::new(), 0);
    for seed in plan.seeds() {
        let mut seen = run(fault, picker, ejects, seed);
        success.push(seen.success);
        left += seen.left;
        took.append(&mut seen.took);
    }
    (mean(success), quantile(&mut took, 0.99), left)
}

fn bound(section: &mut Section, fault: Fault, picker: AnyPicker, ejects: bool, success: f64) {
    let is_p2c = matches!(picker, AnyPicker::P2c);
    let (by_p2c, by_others) = fault.wanted();
    let wanted = match (ejects, is_p2c) {
        (true, true) => Some(by_p2c),
        (true, false) => Some(by_others),
        (false, true) => fault.wanted_alone(),
        (false, false) => None,
    };
    if let Some(wanted) = wanted {
        let how = if ejects { "" } else { " without ejection" };
        let what = format!("{}: success with {}{how}", fault.name(), picker.name());
        section.at_least(what, success, wanted, Unit::Percent);
    }
}
