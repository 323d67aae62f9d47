//! A backend fails every other request, behind three layers of callers that all try again.
//!
//! A thousand requests a second enter at the top; each layer calls the next one, from ten instances. For half a minute
//! the backend fails half of what it gets. What counts is how much more it gets than it is asked.

use std::time::Duration;

use bowline_core::{Clock, Code, Criticality, ManualClock, Rng, SeededRng};
use bowline_resilience::{
    Budget, BudgetOptions, Failure, GiveUp, Pushback, RetryOptions, Throttle, ThrottleOptions,
};

use super::Plan;
use super::numbers::{exponential, mean};
use super::report::{Axis, Lines, Section, Table, Unit};

/// How the layers try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retries {
    /// As Bowline's channels do: within a budget, held back by the throttle, and only by the layer next to the failure.
    Ours,
    /// Up to three times each, at once.
    Naive,
    /// Not at all.
    None,
}

impl Retries {
    const ALL: [Self; 3] = [Self::Ours, Self::Naive, Self::None];

    fn name(self) -> &'static str {
        match self {
            Self::Ours => "Bowline",
            Self::Naive => "three attempts each",
            Self::None => "no retries",
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// By second: requests at the top, those of them that succeeded, and requests at the backend.
    pub(crate) seconds: Vec<[u32; 3]>,
}

/// When the backend fails.
pub(crate) const FAULT: (u64, u64) = (30, 60);

const SECONDS: u64 = 100;
const RATE: f64 = 1_000.0;
const LAYERS: usize = 3;
const INSTANCES: usize = 10;

struct Caller {
    throttle: Throttle,
    budget: Budget,
}

struct World {
    retries: Retries,
    clock: ManualClock,
    rng: SeededRng,
    layers: Vec<Vec<Caller>>,
    seen: Seen,
}

/// How a call failed: whether it may be tried again.
struct Failed {
    pushback: Option<Pushback>,
}

/// Runs it.
pub(crate) fn run(retries: Retries, seed: u64) -> Seen {
    let clock = ManualClock::new();
    let caller = || Caller {
        throttle: Throttle::new(ThrottleOptions::default(), clock.now()),
        budget: Budget::new(BudgetOptions::default(), clock.now()),
    };
    let layers = (0..LAYERS).map(|_| (0..INSTANCES).map(|_| caller()).collect()).collect();
    let seen = Seen { seconds: vec![[0; 3]; SECONDS as usize] };
    let mut world = World { retries, clock, rng: SeededRng::new(seed), layers, seen };
    let mut time = Duration::ZERO;
    loop {
        let gap = Duration::from_secs_f64(exponential(&world.rng) / RATE);
        time += gap;
        world.clock.advance(gap);
        let second = time.as_secs() as usize;
        if second >= world.seen.seconds.len() {
            return world.seen;
        }
        world.seen.seconds[second][0] += 1;
        if world.call(0, second).is_ok() {
            world.seen.seconds[second][1] += 1;
        }
    }
}

impl World {
    /// One call of a layer to the next. It takes no time: only how often it is made counts.
    fn call(&mut self, layer: usize, second: usize) -> Result<(), Failed> {
        if layer == LAYERS {
            self.seen.seconds[second][2] += 1;
            let fails = (FAULT.0..FAULT.1).contains(&(second as u64)) && self.rng.unit() < 0.5;
            return if fails { Err(Failed { pushback: None }) } else { Ok(()) };
        }
        let instance = self.rng.below(INSTANCES);
        self.layers[layer][instance].budget.deposit(self.clock.now());
        let mut made = 0;
        loop {
            let now = self.clock.now();
            if self.retries == Retries::Ours
                && self.layers[layer][instance].throttle.ask(Criticality::Critical, now, &self.rng).is_err()
            {
                // What is not sent here is not sent by others either.
                return Err(Failed { pushback: Some(Pushback::Never) });
            }
            made += 1;
            let called = self.call(layer + 1, second);
            let throttle = &self.layers[layer][instance].throttle;
            match &called {
                Ok(()) => throttle.accepted(Criticality::Critical, now),
                Err(_) => throttle.refused(Criticality::Critical, now),
            }
            let Err(failed) = called else { return Ok(()) };
            let again = match self.retries {
                Retries::None => Err(GiveUp::Attempts),
                Retries::Naive if made < 3 => Ok(Duration::ZERO),
                Retries::Naive => Err(GiveUp::Attempts),
                Retries::Ours => {
                    let failure = Failure { code: Code::Unavailable, begun: true, pushback: failed.pushback };
                    let budget = &self.layers[layer][instance].budget;
                    RetryOptions::default().again(&failure, true, made, None, budget, now, &self.rng)
                }
            };
            if again.is_err() {
                // It was tried here, or must not be: whoever is above does not try again.
                let told = self.retries == Retries::Ours;
                return Err(Failed { pushback: told.then_some(Pushback::Never) });
            }
        }
    }
}

impl Seen {
    /// How many requests the backend got for each one at the top, while it failed.
    pub(crate) fn amplification(&self) -> f64 {
        let [asked, _, sent] = self.fault();
        sent / asked
    }

    /// The part that succeeded while it failed.
    pub(crate) fn success(&self) -> f64 {
        let [asked, good, _] = self.fault();
        good / asked
    }

    /// The part that succeeded from 10 s after it failed.
    pub(crate) fn success_after(&self) -> f64 {
        let after = &self.seconds[FAULT.1 as usize + 10..];
        let sum = |i: usize| after.iter().map(|second| f64::from(second[i])).sum::<f64>();
        sum(1) / sum(0)
    }

    fn fault(&self) -> [f64; 3] {
        let fault = &self.seconds[FAULT.0 as usize..FAULT.1 as usize];
        [0, 1, 2].map(|i| fault.iter().map(|second| f64::from(second[i])).sum::<f64>())
    }
}

/// What holds in a retry storm.
pub fn section(plan: &Plan) -> Section {
    let mut section = Section::new(
        "Retry storm",
        "A thousand requests a second pass three layers of ten instances each, all of which try again what fails; for \
         half a minute the backend behind them fails every other request. What counts is how many requests it gets for \
         each one that entered.",
    );
    let x = || Axis { label: "seconds", ..Axis::default() };
    let y = |label| Axis { label, ..Axis::default() };
    let title = "Requests at the backend, for each at the top";
    let mut load = Lines { title: title.into(), x: x(), y: y("times"), series: Vec::new() };
    let title = "Requests that succeed";
    let mut success = Lines { title: title.into(), x: x(), y: y("%"), series: Vec::new() };
    let header = ["", "requests for each at the top", "success meanwhile", "success from 10 s after"];
    let mut table = Table::new("While the backend fails every other request", &header);
    for retries in Retries::ALL {
        let all: Vec<Seen> = plan.seeds().map(|seed| run(retries, seed)).collect();
        let of = |value: fn(&Seen) -> f64| mean(all.iter().map(value));
        let amplification = of(Seen::amplification);
        let after = of(Seen::success_after);
        if retries == Retries::Ours {
            section.at_most("requests at the backend for each at the top", amplification, 1.25, Unit::Times);
            section.at_least("success from ten seconds after the fault", after, 0.999, Unit::Percent);
        }
        let meanwhile = of(Seen::success);
        table.rows.push(vec![
            retries.name().into(),
            Unit::Times.tell(amplification),
            Unit::Percent.tell(meanwhile),
            Unit::Percent.tell(after),
        ]);
        let by_second = |value: fn(&[u32; 3]) -> f64| {
            let of = |second: usize| mean(all.iter().map(|seen| value(&seen.seconds[second])));
            (0..SECONDS as usize).map(|second| (second as f64, of(second))).collect()
        };
        load.series.push((retries.name().into(), by_second(|[asked, _, sent]| part_of(*sent, *asked))));
        success
            .series
            .push((retries.name().into(), by_second(|[asked, good, _]| part_of(*good, *asked) * 100.0)));
    }
    section.lines = vec![load, success];
    section.tables.push(table);
    section
}

fn part_of(one: u32, all: u32) -> f64 {
    f64::from(one) / f64::from(all.max(1))
}
