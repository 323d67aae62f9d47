//! The server and its callers.

use std::collections::VecDeque;
use std::time::Duration;

use bowline_core::{Criticality, Rng, SeededRng};

use super::peers::{Gate, Ticket};
use super::{CAPACITY, MIX, PATIENCE, Shedder};
use crate::resilience::engine::Engine;
use crate::resilience::numbers::{exponential, quantile};

/// How much is asked for, and when.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Times the capacity, from when on.
    pub(crate) phases: Vec<(Duration, f64)>,
    /// When nobody asks any more. What is in it then is still done.
    pub(crate) end: Duration,
    /// How many of 100 requests are of each criticality.
    pub(crate) mix: [(Criticality, u64); 4],
    /// The part of all requests that the first of ten callers sends; the others share the rest.
    pub(crate) first: f64,
    /// What others on the machine take.
    pub(crate) others: Others,
}

/// Others on the machine, who keep it busy: the processor's load says 100 %, whatever this server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Others {
    /// There are none.
    None,
    /// They hold the server up for up to 150 ms, each second at the mean.
    InTurns,
    /// They leave it two processors of eight.
    Always,
}

impl Load {
    /// Half of the capacity for 15 s, `times` of it for 30 s, and half of it again for 10 s.
    pub(crate) fn surge(times: f64) -> Self {
        let phases = vec![(Duration::ZERO, 0.5), (SURGE.0, times), (SURGE.1, 0.5)];
        Self { phases, end: SURGE.1 + Duration::from_secs(10), mix: MIX, first: 0.5, others: Others::None }
    }

    /// `times` of the capacity from the first moment on, for 20 s.
    pub(crate) fn cold(times: f64) -> Self {
        Self { phases: vec![(Duration::ZERO, times)], end: Duration::from_secs(20), ..Self::surge(times) }
    }

    /// `times` of the capacity for 60 s, beside others.
    pub(crate) fn beside(others: Others, times: f64) -> Self {
        Self { end: Duration::from_secs(60), others, ..Self::cold(times) }
    }
}

/// When the surge is.
pub(crate) const SURGE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(45));

const PROCESSORS: usize = 8;
/// What is left of them, where others have the rest.
const LEFT: usize = 2;
/// How long others hold the server up at most.
const PAUSE: Duration = Duration::from_millis(150);
/// How long it goes on between two such times, at the mean.
const BETWEEN: Duration = Duration::from_secs(1);
const SERVICE: (f64, f64) = (0.002, 0.006);
/// What a refusal costs, of a request.
const REFUSAL: f64 = 0.01;
/// How many callers there are.
pub(crate) const CALLERS: u64 = 10;
const SAMPLE: Duration = Duration::from_millis(100);

enum Event {
    Arrives,
    Done(Job),
    Sample,
    /// Others hold the server up.
    Pause,
    Resume,
}

struct Request {
    came: Duration,
    criticality: Criticality,
    caller: u64,
    takes: Duration,
    ticket: Ticket,
    /// It was let in, and refused when its turn came.
    shed: bool,
}

enum Job {
    Serve(Request),
    Refuse(Duration),
}

/// A request's end.
#[derive(Clone, Copy, Debug)]
struct End {
    came: Duration,
    ended: Duration,
    criticality: Criticality,
    caller: u64,
    admitted: bool,
    in_time: bool,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Seen {
    ends: Vec<End>,
    /// Places that were not given back, after everybody had ended.
    pub(crate) left: u32,
    /// Requests that were refused although nothing was known of the server yet.
    pub(crate) refused_blindly: u32,
}

struct World {
    engine: Engine<Event>,
    rng: SeededRng,
    gate: Gate,
    load: Load,
    queue: VecDeque<Job>,
    idle: usize,
    /// Until when others hold it up.
    paused: Duration,
    busy: Duration,
    ends: Vec<End>,
    refused_blindly: u32,
    drops_late: bool,
}

/// Runs it.
pub(crate) fn run(shedder: Shedder, load: &Load, seed: u64) -> Seen {
    let engine = Engine::new();
    let gate = Gate::new(shedder, PROCESSORS as u32, engine.now());
    let mut world = World {
        engine,
        rng: SeededRng::new(seed),
        gate,
        load: load.clone(),
        queue: VecDeque::new(),
        idle: if load.others == Others::Always { LEFT } else { PROCESSORS },
        paused: Duration::ZERO,
        busy: Duration::ZERO,
        ends: Vec::new(),
        refused_blindly: 0,
        drops_late: shedder != Shedder::None,
    };
    world.engine.after(Duration::ZERO, Event::Arrives);
    world.engine.after(SAMPLE, Event::Sample);
    if load.others == Others::InTurns {
        world.engine.after(BETWEEN, Event::Pause);
    }
    while let Some(event) = world.engine.next() {
        match event {
            Event::Arrives => world.arrives(),
            Event::Done(job) => match world.paused.checked_sub(world.engine.time()) {
                Some(left) if !left.is_zero() => world.engine.after(left, Event::Done(job)),
                _ => world.done(job),
            },
            Event::Pause => world.pauses(),
            Event::Resume => world.start(),
            Event::Sample => {
                let own = world.busy.as_secs_f64() / (SAMPLE.as_secs_f64() * PROCESSORS as f64);
                let busy = if load.others == Others::None { own } else { 1.0 };
                world.busy = Duration::ZERO;
                world.gate.sampled(busy.min(1.0), world.engine.time());
                if world.engine.time() < load.end {
                    world.engine.after(SAMPLE, Event::Sample);
                }
            }
        }
    }
    Seen { ends: world.ends, left: world.gate.in_flight(), refused_blindly: world.refused_blindly }
}

impl World {
    fn arrives(&mut self) {
        let now = self.engine.time();
        if now >= self.load.end {
            return;
        }
        let times =
            self.load.phases.iter().rev().find(|(from, _)| *from <= now).map_or(1.0, |(_, times)| *times);
        let gap = exponential(&self.rng) / (CAPACITY * times);
        self.engine.after(Duration::from_secs_f64(gap), Event::Arrives);
        let takes = Duration::from_secs_f64(SERVICE.0 + SERVICE.1 * exponential(&self.rng));
        let mut draw = self.rng.below(100) as u64;
        let criticality = self.load.mix.iter().find_map(|(criticality, part)| {
            let taken = draw < *part;
            draw = draw.saturating_sub(*part);
            taken.then_some(*criticality)
        });
        let criticality = criticality.unwrap_or_default();
        let is_first = self.rng.unit() < self.load.first;
        let caller = if is_first { 0 } else { 1 + self.rng.below(CALLERS as usize - 1) as u64 };
        match self.gate.admit(self.engine.now(), now, criticality, caller) {
            Some(ticket) => {
                let request = Request { came: now, criticality, caller, takes, ticket, shed: false };
                self.queue.push_back(Job::Serve(request));
            }
            None => {
                self.refused_blindly += u32::from(!self.gate.knows());
                let (admitted, in_time) = (false, false);
                self.ends.push(End { came: now, ended: now, criticality, caller, admitted, in_time });
                self.queue.push_back(Job::Refuse(takes.mul_f64(REFUSAL)));
            }
        }
        self.start();
    }

    fn pauses(&mut self) {
        let now = self.engine.time();
        if now >= self.load.end {
            return;
        }
        let lasts = PAUSE.mul_f64(self.rng.unit());
        self.paused = now + lasts;
        self.engine.after(lasts, Event::Resume);
        let next = lasts + BETWEEN.mul_f64(exponential(&self.rng));
        self.engine.after(next, Event::Pause);
    }

    fn start(&mut self) {
        while self.idle > 0 && self.engine.time() >= self.paused {
            let Some(mut job) = self.queue.pop_front() else { return };
            let now = self.engine.time();
            let takes = match &mut job {
                Job::Refuse(takes) => *takes,
                Job::Serve(request) => {
                    let late = self.drops_late && now >= request.came + PATIENCE;
                    let refused = !request.ticket.begun(self.engine.now());
                    self.refused_blindly += u32::from(refused && !self.gate.knows());
                    request.shed = refused || late;
                    if request.shed { request.takes.mul_f64(REFUSAL) } else { request.takes }
                }
            };
            self.idle -= 1;
            self.busy += takes;
            self.engine.after(takes, Event::Done(job));
        }
    }

    fn done(&mut self, job: Job) {
        self.idle += 1;
        if let Job::Serve(Request { came, criticality, caller, ticket, shed, .. }) = job {
            let now = self.engine.time();
            let in_time = !shed && now < came + PATIENCE;
            self.gate.ended(ticket, in_time, self.engine.now(), now);
            self.ends.push(End { came, ended: now, criticality, caller, admitted: !shed, in_time });
        }
        self.start();
    }
}

impl Seen {
    fn between(&self, from: Duration, to: Duration) -> impl Iterator<Item = &End> {
        self.ends.iter().filter(move |end| (from..to).contains(&end.came))
    }

    /// Answers in time, per second.
    pub(crate) fn goodput(&self, from: Duration, to: Duration) -> f64 {
        let good = self.ends.iter().filter(|end| end.in_time && (from..to).contains(&end.ended)).count();
        good as f64 / (to - from).as_secs_f64()
    }

    /// The part of all requests that was answered in time.
    pub(crate) fn served(&self) -> f64 {
        self.ends.iter().filter(|end| end.in_time).count() as f64 / self.ends.len().max(1) as f64
    }

    /// The latency that so many of the admitted were below, in seconds.
    pub(crate) fn latency(&self, q: f64, from: Duration, to: Duration) -> f64 {
        let mut took: Vec<f64> = self
            .between(from, to)
            .filter(|end| end.admitted)
            .map(|end| (end.ended - end.came).as_secs_f64())
            .collect();
        quantile(&mut took, q)
    }

    /// The part of a criticality's requests that was answered in time.
    pub(crate) fn success(&self, criticality: Criticality, from: Duration, to: Duration) -> f64 {
        let own = || self.between(from, to).filter(|end| end.criticality == criticality);
        own().filter(|end| end.in_time).count() as f64 / own().count().max(1) as f64
    }

    /// The part of a caller's requests that was answered in time.
    pub(crate) fn success_of(&self, caller: u64, from: Duration, to: Duration) -> f64 {
        let own = || self.between(from, to).filter(|end| end.caller == caller);
        own().filter(|end| end.in_time).count() as f64 / own().count().max(1) as f64
    }

    /// How long after `since` the last one came that was refused or not answered in time.
    pub(crate) fn recovery(&self, since: Duration, end: Duration) -> Duration {
        let last = self.between(since, end).filter(|e| !e.in_time).map(|e| e.came).max();
        last.map_or(Duration::ZERO, |last| last - since)
    }
}
