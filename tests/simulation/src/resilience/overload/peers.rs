//! Who decides: ours, and what others published, written anew from their formulas.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Criticality, Instant};
use bowline_resilience::{
    Admission, Algorithm, Arrival, BbrOptions, CpuLoad, Ended, GradientOptions, Permit,
};

use super::Shedder;

/// One of the shedders.
pub(crate) enum Gate {
    Ours { admission: Arc<Admission>, cpu: CpuLoad },
    None { in_flight: u32 },
    Aegis(Aegis),
    GoZero(GoZero),
}

/// An admitted request.
pub(crate) enum Ticket {
    Ours(Permit),
    Theirs { came: Duration },
}

impl Ticket {
    /// Its first step; false if it is not to be taken.
    pub(crate) fn begun(&mut self, now: Instant) -> bool {
        match self {
            Self::Ours(permit) => permit.begun(now).is_ok(),
            Self::Theirs { .. } => true,
        }
    }
}

impl Gate {
    pub(crate) fn new(shedder: Shedder, processors: u32, now: Instant) -> Self {
        let ours = |algorithm| {
            let cpu = CpuLoad::default();
            Self::Ours { admission: Admission::new(algorithm, cpu.clone(), now), cpu }
        };
        match shedder {
            Shedder::Ours => ours(Algorithm::Bbr(BbrOptions { processors, ..BbrOptions::default() })),
            Shedder::Gradient => ours(Algorithm::Gradient(GradientOptions::default())),
            Shedder::None => Self::None { in_flight: 0 },
            Shedder::Aegis => Self::Aegis(Aegis::default()),
            Shedder::GoZero => Self::GoZero(GoZero::default()),
        }
    }

    pub(crate) fn admit(
        &mut self,
        now: Instant,
        time: Duration,
        criticality: Criticality,
        caller: u64,
    ) -> Option<Ticket> {
        let theirs = Ticket::Theirs { came: time };
        match self {
            Self::Ours { admission, .. } => {
                // The highest byte tells callers apart.
                let arrival = Arrival { now, criticality, caller: caller << 56, operation: 0 };
                admission.admit(&arrival).ok().map(Ticket::Ours)
            }
            Self::None { in_flight } => {
                *in_flight += 1;
                Some(theirs)
            }
            Self::Aegis(aegis) => aegis.admit(time).then_some(theirs),
            Self::GoZero(zero) => zero.admit(time).then_some(theirs),
        }
    }

    pub(crate) fn ended(&mut self, ticket: Ticket, in_time: bool, now: Instant, time: Duration) {
        match (self, ticket) {
            (_, Ticket::Ours(permit)) => permit.end(if in_time { Ended::Served } else { Ended::Failed }, now),
            (Self::None { in_flight }, _) => *in_flight -= 1,
            (Self::Aegis(aegis), Ticket::Theirs { came }) => aegis.ended(time - came, time),
            (Self::GoZero(zero), Ticket::Theirs { came }) => zero.ended(in_time, time - came, time),
            (Self::Ours { .. }, Ticket::Theirs { .. }) => {}
        }
    }

    /// The processors were so busy in the last 100 ms.
    pub(crate) fn sampled(&mut self, busy: f64, time: Duration) {
        match self {
            // As `CpuMeter` smooths it.
            Self::Ours { cpu, .. } => cpu.set(cpu.get() + (busy - cpu.get()) * 0.5),
            Self::None { .. } => {}
            Self::Aegis(aegis) => aegis.cpu.sample(busy, time),
            Self::GoZero(zero) => zero.cpu.sample(busy, time),
        }
    }

    /// Whether the server's limit is known; others always take themselves to know.
    pub(crate) fn knows(&self) -> bool {
        match self {
            Self::Ours { admission, .. } => admission.limit().is_some(),
            _ => true,
        }
    }

    pub(crate) fn in_flight(&self) -> u32 {
        match self {
            Self::Ours { admission, .. } => admission.in_flight(),
            Self::None { in_flight } => *in_flight,
            Self::Aegis(aegis) => aegis.in_flight,
            Self::GoZero(zero) => zero.in_flight,
        }
    }
}

/// A processor's load from 0 to 1000 as both keep it: each `every` a twentieth of the new value.
struct Cpu {
    every: Duration,
    last: Duration,
    busy: Vec<f64>,
    load: f64,
}

impl Cpu {
    fn new(every: Duration) -> Self {
        Self { every, last: Duration::ZERO, busy: Vec::new(), load: 0.0 }
    }

    fn sample(&mut self, busy: f64, time: Duration) {
        self.busy.push(busy);
        if time - self.last < self.every {
            return;
        }
        let mean = self.busy.iter().sum::<f64>() / self.busy.len() as f64;
        self.load = (self.load * 0.95 + mean * 1000.0 * 0.05).trunc();
        (self.last, self.busy) = (time, Vec::new());
    }
}

/// Buckets of 100 ms: how many passed, and the sum of whole milliseconds that they took.
struct Buckets {
    most: usize,
    all: VecDeque<(u64, u64, f64)>,
}

impl Buckets {
    fn add(&mut self, time: Duration, took: f64) {
        let tick = (time.as_millis() / 100) as u64;
        match self.all.back_mut() {
            Some(last) if last.0 == tick => (last.1, last.2) = (last.1 + 1, last.2 + took),
            _ => self.all.push_back((tick, 1, took)),
        }
        while self.all.front().is_some_and(|first| first.0 + (self.most as u64) <= tick) {
            self.all.pop_front();
        }
    }

    fn complete(&self, time: Duration) -> impl Iterator<Item = &(u64, u64, f64)> {
        let tick = (time.as_millis() / 100) as u64;
        let most = self.most as u64;
        self.all.iter().filter(move |bucket| bucket.0 < tick && bucket.0 + most > tick)
    }

    fn max_pass(&self, time: Duration) -> u64 {
        self.complete(time).map(|bucket| bucket.1).max().unwrap_or(1)
    }
}

/// `ratelimit/bbr` of github.com/go-kratos/aegis: limit = maxPass × minRT (whole milliseconds) × buckets a second,
/// enforced while the smoothed load of the processor is 80 % or was so in the last second.
pub(crate) struct Aegis {
    cpu: Cpu,
    buckets: Buckets,
    in_flight: u32,
    began_to_drop: Option<Duration>,
}

impl Default for Aegis {
    fn default() -> Self {
        Self {
            cpu: Cpu::new(Duration::from_millis(500)),
            buckets: Buckets { most: 100, all: VecDeque::new() },
            in_flight: 0,
            began_to_drop: None,
        }
    }
}

impl Aegis {
    fn limit(&self, time: Duration) -> u32 {
        let shortest =
            self.buckets.complete(time).map(|(_, n, sum)| sum / *n as f64).fold(f64::MAX, f64::min);
        // A conversion of the largest number to an integer is the smallest one in Go, so that it becomes 1.
        let shortest = if shortest == f64::MAX { 1.0 } else { shortest.ceil().max(1.0) };
        ((self.buckets.max_pass(time) as f64 * shortest * 10.0 / 1000.0).floor() + 0.5) as u32
    }

    fn admit(&mut self, time: Duration) -> bool {
        let too_many = self.in_flight > 1 && self.in_flight > self.limit(time);
        let drops = if self.cpu.load < 800.0 {
            match self.began_to_drop {
                None => false,
                Some(began) if time - began <= Duration::from_secs(1) => too_many,
                Some(_) => {
                    self.began_to_drop = None;
                    false
                }
            }
        } else {
            if too_many && self.began_to_drop.is_none() {
                self.began_to_drop = Some(time);
            }
            too_many
        };
        self.in_flight += u32::from(!drops);
        !drops
    }

    fn ended(&mut self, took: Duration, time: Duration) {
        self.in_flight -= 1;
        self.buckets.add(time, (took.as_secs_f64() * 1000.0).ceil());
    }
}

/// `core/load` of github.com/zeromicro/go-zero: limit = maxPass × minRT × buckets a second × what the processor has left,
/// against the smoothed and the real number in flight, while the load is 90 % or was so in the last second.
pub(crate) struct GoZero {
    cpu: Cpu,
    buckets: Buckets,
    in_flight: u32,
    average: f64,
    overloaded: Option<Duration>,
    dropped: bool,
}

impl Default for GoZero {
    fn default() -> Self {
        Self {
            cpu: Cpu::new(Duration::from_millis(250)),
            buckets: Buckets { most: 50, all: VecDeque::new() },
            in_flight: 0,
            average: 0.0,
            overloaded: None,
            dropped: false,
        }
    }
}

impl GoZero {
    fn is_full(&self, time: Duration) -> bool {
        let shortest = self.buckets.complete(time).map(|(_, n, sum)| (sum / *n as f64).round());
        let shortest = shortest.fold(1000.0, f64::min);
        let limit = (self.buckets.max_pass(time) as f64 * shortest * 0.01).max(1.0);
        let left = ((1000.0 - self.cpu.load) / 100.0).clamp(0.1, 1.0);
        self.average > limit * left && f64::from(self.in_flight) > limit * left
    }

    fn is_hot(&mut self, time: Duration) -> bool {
        if self.cpu.load >= 900.0 {
            self.overloaded = Some(time);
            return true;
        }
        if !self.dropped {
            return false;
        }
        let Some(overloaded) = self.overloaded else { return false };
        self.dropped = time - overloaded < Duration::from_secs(1);
        self.dropped
    }

    fn admit(&mut self, time: Duration) -> bool {
        let drops = self.is_hot(time) && self.is_full(time);
        self.dropped |= drops;
        self.in_flight += u32::from(!drops);
        !drops
    }

    fn ended(&mut self, in_time: bool, took: Duration, time: Duration) {
        self.in_flight -= 1;
        self.average = self.average * 0.9 + f64::from(self.in_flight) * 0.1;
        if in_time {
            self.buckets.add(time, (took.as_secs_f64() * 1000.0).ceil());
        }
    }
}
