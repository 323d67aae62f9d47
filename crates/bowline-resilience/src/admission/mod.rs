//! Which requests a server takes.

mod bbr;
mod gradient;
mod shares;

use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Criticality, Instant};

pub use bbr::BbrOptions;
pub use gradient::GradientOptions;

use crate::CpuLoad;
use crate::sync::atomic::{AtomicU32, Ordering};
use bbr::Bbr;
use gradient::Gradient;
use shares::Shares;

/// How the limit on requests in flight is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Algorithm {
    /// By what the service does at its best, enforced when there is too much to do.
    Bbr(BbrOptions),
    /// By how latency follows load, always enforced.
    Gradient(GradientOptions),
    /// A number of its own.
    Fixed(u32),
}

impl Default for Algorithm {
    fn default() -> Self {
        Self::Bbr(BbrOptions::default())
    }
}

/// Limits the requests in flight to what the service can do, and sheds the least critical first.
///
/// There is one limit. Whoever is more critical may go a little beyond it: by a tenth per level; and of `CRITICAL_PLUS`
/// there may be sixteen times as many, however many others there are. So each level fills what those above it leave,
/// nothing is held free for anybody, and while there is too much of a higher level a lower one gets nothing. In the same
/// way callers and operations with less than their share of what is in flight go a little beyond those with more: one
/// that floods does not take the others' places.
///
/// A request costs one atomic addition per count, no lock and no allocation; the limit itself is worked out each 100 ms.
#[derive(Debug)]
pub struct Admission {
    limit: Limit,
    cpu: CpuLoad,
    in_flight: AtomicU32,
    /// Those of them that have not begun.
    waiting: AtomicU32,
    /// How many came that found nobody else.
    alone: AtomicU32,
    /// Those of them that are most critical.
    most_critical: AtomicU32,
    callers: Shares,
    operations: Shares,
}

#[derive(Debug)]
enum Limit {
    Bbr(Box<Bbr>),
    Gradient(Box<Gradient>),
    Fixed(u32),
}

/// How many times the limit there may be of `CRITICAL_PLUS`.
const CRITICAL_PLUS: u32 = 16;

/// Of so many requests that find nobody else one waits all the same.
const LOOK_EVERY: u32 = 8;

/// A request that wants to be admitted.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// When it came.
    pub now: Instant,
    /// How much it matters.
    pub criticality: Criticality,
    /// Who asks, as a hash.
    pub caller: u64,
    /// For what, as a hash.
    pub operation: u64,
}

/// There is too much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overloaded {
    /// The limit at that moment.
    pub limit: u32,
}

impl Overloaded {
    /// When to come again: in 1 s, which is as long as shedding goes on at least.
    pub const RETRY_AFTER: Duration = Duration::from_secs(1);
}

/// How an admitted request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was answered, be it that the request was wrong.
    Served,
    /// The service failed, or the time was over.
    Failed,
}

impl Admission {
    /// Admits by `algorithm`; `cpu` is the load that BBR looks at.
    pub fn new(algorithm: Algorithm, cpu: CpuLoad, now: Instant) -> Arc<Self> {
        let limit = match algorithm {
            Algorithm::Bbr(options) => Limit::Bbr(Box::new(Bbr::new(options, now))),
            Algorithm::Gradient(options) => Limit::Gradient(Box::new(Gradient::new(options, now))),
            Algorithm::Fixed(limit) => Limit::Fixed(limit.max(1)),
        };
        Arc::new(Self {
            limit,
            cpu,
            in_flight: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            alone: AtomicU32::new(0),
            most_critical: AtomicU32::new(0),
            callers: Shares::new(),
            operations: Shares::new(),
        })
    }

    /// A place for a request. Dropped without a word nothing is learnt of it.
    ///
    /// # Errors
    /// [`Overloaded`] if there is none.
    pub fn admit(self: &Arc<Self>, arrival: &Arrival) -> Result<Permit, Overloaded> {
        let (caller, operation) = (Shares::slot(arrival.caller), Shares::slot(arrival.operation));
        if let Some(limit) = self.enforced(arrival.now) {
            // Most are below the limit itself, and need no look at who they are.
            if self.busy() >= limit && !self.goes_beyond(limit, arrival.criticality, caller, operation) {
                if let Limit::Bbr(bbr) = &self.limit {
                    bbr.has_shed(arrival.now);
                }
                return Err(Overloaded { limit });
            }
        }
        let queues = self.in_flight.fetch_add(1, Ordering::Relaxed) > 0
            || self.alone.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOK_EVERY);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if arrival.criticality == Criticality::CriticalPlus {
            self.most_critical.fetch_add(1, Ordering::Relaxed);
        }
        self.callers.begin(caller);
        self.operations.begin(operation);
        let Arrival { now: admitted, criticality, .. } = *arrival;
        Ok(Permit {
            admission: Arc::clone(self),
            criticality,
            caller,
            operation,
            queues,
            admitted,
            begun: None,
        })
    }

    /// Whether there is room for this one beyond the limit.
    fn goes_beyond(&self, limit: u32, criticality: Criticality, caller: u16, operation: u16) -> bool {
        let step = (limit / 10).max(2);
        let beyond = match criticality {
            Criticality::Sheddable => 0,
            Criticality::SheddablePlus => step,
            Criticality::Critical => 2 * step,
            // Only its like count. By Little's law it waits for fifteen answers more at most, so that a burst of them waits
            // rather than fails: also where refusing the others leaves hardly more than they need. A limit that is lowered
            // to measure is no reason to refuse them.
            Criticality::CriticalPlus => {
                let own = self.most_critical.load(Ordering::Relaxed);
                return own < self.full(limit).saturating_mul(CRITICAL_PLUS).saturating_add(16);
            }
        };
        let has_less = || self.callers.has_less(caller, limit) || self.operations.has_less(operation, limit);
        let excess = self.busy().saturating_sub(limit);
        excess < beyond || (excess < beyond + step / 2 && has_less())
    }

    /// The limit, were it not lowered for a moment.
    fn full(&self, limit: u32) -> u32 {
        match &self.limit {
            Limit::Bbr(bbr) => bbr.full_limit().max(limit),
            Limit::Gradient(_) | Limit::Fixed(_) => limit,
        }
    }

    fn enforced(&self, now: Instant) -> Option<u32> {
        match &self.limit {
            Limit::Bbr(bbr) => bbr.limit(self.cpu.get(), now),
            Limit::Gradient(gradient) => gradient.limit(self.in_flight(), now),
            Limit::Fixed(limit) => Some(*limit),
        }
    }

    /// The limit as it is known, enforced or not; `None` while nothing is known.
    pub fn limit(&self) -> Option<u32> {
        match &self.limit {
            Limit::Bbr(bbr) => bbr.known_limit(),
            Limit::Gradient(gradient) => gradient.known_limit(),
            Limit::Fixed(limit) => Some(*limit),
        }
    }

    /// How many of those in flight the limit is for. Who has begun and waits for something else, for long or for ever, keeps nobody
    /// from a processor.
    fn busy(&self) -> u32 {
        let in_flight = self.in_flight();
        let Limit::Bbr(bbr) = &self.limit else { return in_flight };
        let waiting = self.waiting.load(Ordering::Relaxed);
        waiting.saturating_add(in_flight.saturating_sub(waiting).min(bbr.base()))
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether nobody has a permit, however they are counted.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let counts = [&self.in_flight, &self.waiting, &self.most_critical];
        counts.iter().all(|count| count.load(Ordering::Relaxed) == 0)
            && self.callers.is_empty()
            && self.operations.is_empty()
    }
}

/// A request's place. It is given back when this is dropped, whatever happened.
#[derive(Debug)]
#[must_use = "dropped at once, the place is free again"]
pub struct Permit {
    admission: Arc<Admission>,
    criticality: Criticality,
    caller: u16,
    operation: u16,
    queues: bool,
    admitted: Instant,
    begun: Option<Instant>,
}

impl Permit {
    /// Whether the request is to go behind all that can run now before it takes its first step. How long that takes is what the
    /// limit goes by, and meanwhile others are read. Who is alone need not, but for one in eight: where each is begun by who
    /// read it, one must wait for the others to be seen; and then there is somebody in flight, and all wait.
    pub fn queues(&self) -> bool {
        self.queues
    }

    /// The first step is taken. What lies between is the time it waited for a thread.
    ///
    /// # Errors
    /// [`Overloaded`] if it waited so long that it should not be begun. What is most critical is, however late; and everything while
    /// nothing is known of how long the work takes.
    pub fn begun(&mut self, now: Instant) -> Result<(), Overloaded> {
        if self.begun.replace(now).is_none() {
            self.admission.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        let Limit::Bbr(bbr) = &self.admission.limit else { return Ok(()) };
        let too_long =
            bbr.waited(now.saturating_duration_since(self.admitted), self.admission.cpu.get(), now);
        match bbr.known_limit() {
            Some(limit) if too_long && self.criticality < Criticality::CriticalPlus => {
                bbr.has_shed(now);
                Err(Overloaded { limit })
            }
            _ => Ok(()),
        }
    }

    /// It ended, and that tells something of the service.
    pub fn end(self, ended: Ended, now: Instant) {
        match (&self.admission.limit, ended) {
            (Limit::Bbr(bbr), Ended::Served) => {
                bbr.succeeded(now.saturating_duration_since(self.begun.unwrap_or(self.admitted)), now);
            }
            // What fails fast says nothing of how long the work takes.
            (Limit::Gradient(gradient), Ended::Served) => {
                gradient.answered(now.saturating_duration_since(self.admitted));
            }
            _ => {}
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.begun.is_none() {
            self.admission.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        if self.criticality == Criticality::CriticalPlus {
            self.admission.most_critical.fetch_sub(1, Ordering::Relaxed);
        }
        self.admission.callers.end(self.caller);
        self.admission.operations.end(self.operation);
    }
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests;
