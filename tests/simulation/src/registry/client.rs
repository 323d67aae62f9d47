//! A client: one process that registers an instance and keeps it alive, as the adapter does.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Instant, Rng, SeededRng};
use bowline_registry::store::{FactKey, Kind, Record, Registering, ServiceKey};
use bowline_registry_bowline::api::bowline::registry::v1::{Instance, InstanceStatus};

/// How long a request may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a process that stops tries to deregister.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// It deregisters; since when.
    Stopping(Instant),
    /// It has stopped; which node confirmed it, and when.
    Stopped {
        confirmed: Option<(usize, Instant)>,
    },
    /// It is dead.
    Crashed,
}

#[derive(Debug)]
pub(super) enum Request {
    Register(Registering),
    Renew(u64),
    Deregister { key: ServiceKey, id: Arc<str>, holder: Arc<str> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Response {
    Granted(u64),
    Renewed,
    Unknown,
    Taken,
    Cancelled,
    Deregistered,
    /// The node cannot be reached, or is not ready.
    Unavailable,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) key: ServiceKey,
    pub(super) id: Arc<str>,
    pub(super) holder: Arc<str>,
    pub(super) zone: usize,
    /// The lease.
    pub(super) ttl: Duration,
    pub(super) phase: Phase,
    pub(super) content: u64,
    sequence: u64,
    /// The node it asks.
    pub(super) node: usize,
    lease: Option<u64>,
    dirty: bool,
    lost: bool,
    next: Instant,
    /// The request on its way.
    pub(super) asked: Option<(u64, Instant, u64)>,
    requests: u64,
    /// How many timers were set for it.
    pub(super) timers: u64,
    failures: u32,
    /// Where and when it was renewed last.
    pub(super) renewed: Option<(usize, Instant)>,
    /// The node that renewed it before that one.
    pub(super) before: Option<usize>,
}

impl Client {
    pub(super) fn start(
        key: ServiceKey,
        id: Arc<str>,
        holder: String,
        (zone, node): (usize, usize),
        ttl: Duration,
        now: Instant,
    ) -> Self {
        Self {
            key,
            id,
            holder: holder.into(),
            zone,
            ttl,
            phase: Phase::Running,
            content: 0,
            sequence: 1,
            node,
            lease: None,
            dirty: true,
            lost: false,
            next: now,
            asked: None,
            requests: 0,
            timers: 0,
            failures: 0,
            renewed: None,
            before: None,
        }
    }

    pub(super) fn of(&self) -> FactKey {
        FactKey { key: self.key.clone(), id: Arc::clone(&self.id), kind: Kind::Instance }
    }

    pub(super) fn record(&self) -> Record {
        let status = match self.content % 5 {
            4 => InstanceStatus::INSTANCE_STATUS_OUT_OF_SERVICE,
            _ => InstanceStatus::INSTANCE_STATUS_UP,
        };
        let instance = Instance {
            id: self.id.to_string(),
            zone: format!("z{}", self.zone),
            version: self.content.to_string(),
            endpoints: vec![format!("http://10.0.{}.{}:80", self.zone, self.content % 250)],
            weight: (!self.content.is_multiple_of(3)).then_some((self.content % 100) as u32),
            status: status.into(),
            metadata: [("holder".to_owned(), self.holder.to_string())].into_iter().collect(),
            ..Default::default()
        };
        Record::trusted(instance)
    }

    /// It has something else to say.
    pub(super) fn change(&mut self, now: Instant) {
        self.content += 1;
        self.sequence += 1;
        self.dirty = true;
        self.next = now;
    }

    /// It turns to another node.
    pub(super) fn turn_to(&mut self, node: usize, now: Instant) {
        self.node = node;
        if self.asked.is_none() {
            self.next = now;
        }
    }

    pub(super) fn stop(&mut self, now: Instant) {
        self.phase = Phase::Stopping(now);
        self.next = now;
    }

    /// What to ask now, with its number.
    pub(super) fn poll(&mut self, nodes: usize, rng: &SeededRng, now: Instant) -> Option<(u64, Request)> {
        if let Some((_, at, _)) = self.asked {
            if at + TIMEOUT > now {
                return None;
            }
            self.failed(nodes, rng, now);
        }
        if self.next > now {
            return None;
        }
        let request = match self.phase {
            Phase::Stopped { .. } | Phase::Crashed => return None,
            Phase::Stopping(since) if since + PATIENCE <= now => {
                self.phase = Phase::Stopped { confirmed: None };
                return None;
            }
            Phase::Stopping(_) => Request::Deregister {
                key: self.key.clone(),
                id: Arc::clone(&self.id),
                holder: Arc::clone(&self.holder),
            },
            Phase::Running => match self.lease {
                Some(lease) if !self.dirty => Request::Renew(lease),
                _ => Request::Register(Registering {
                    key: self.key.clone(),
                    record: Arc::new(self.record()),
                    ttl: Some(self.ttl),
                    holder: Arc::clone(&self.holder),
                    sequence: self.sequence,
                    only_if_free: self.lost,
                }),
            },
        };
        self.requests += 1;
        self.asked = Some((self.requests, now, self.sequence));
        Some((self.requests, request))
    }

    /// When it has something to do next, if nothing comes.
    pub(super) fn wake(&self) -> Option<Instant> {
        match (self.asked, self.phase) {
            (_, Phase::Stopped { .. } | Phase::Crashed) => None,
            (Some((_, at, _)), _) => Some(at + TIMEOUT),
            (None, _) => Some(self.next),
        }
    }

    fn failed(&mut self, nodes: usize, rng: &SeededRng, now: Instant) {
        self.asked = None;
        self.node = (self.node + 1) % nodes;
        let most = Duration::from_millis(100) * 2_u32.pow(self.failures.min(7));
        self.failures += 1;
        self.next = now + rng.jitter(most.min(Duration::from_secs(10)));
    }

    /// The answer to request `number` from a node.
    ///
    /// # Errors
    /// If it makes no sense.
    pub(super) fn answered(
        &mut self,
        number: u64,
        from: usize,
        response: Response,
        nodes: usize,
        rng: &SeededRng,
        now: Instant,
    ) -> Result<(), String> {
        let Some((_, asked, sequence)) = self.asked.filter(|(n, ..)| *n == number) else { return Ok(()) };
        self.asked = None;
        match (response, self.phase) {
            (Response::Unavailable, _) => self.failed(nodes, rng, now),
            (Response::Deregistered, _) => self.phase = Phase::Stopped { confirmed: Some((from, asked)) },
            (Response::Granted(lease), _) => {
                self.lease = Some(lease);
                (self.dirty, self.lost) = (sequence != self.sequence, false);
                self.renewed(from, asked, rng, now);
            }
            (Response::Renewed, _) => self.renewed(from, asked, rng, now),
            (Response::Unknown, _) => {
                (self.lease, self.lost, self.next) = (None, true, now);
            }
            (Response::Taken, _) => {
                self.next = now + rng.jitter(Duration::from_secs(10));
            }
            (Response::Cancelled, Phase::Running) => {
                return Err(format!("{} did not cancel, and was told it did", self.holder));
            }
            (Response::Cancelled, _) => self.phase = Phase::Stopped { confirmed: None },
        }
        Ok(())
    }

    fn renewed(&mut self, from: usize, asked: Instant, rng: &SeededRng, now: Instant) {
        self.failures = 0;
        // Counted from when it was asked: the node cannot have renewed it before.
        if let Some((last, _)) = self.renewed
            && last != from
        {
            self.before = Some(last);
        }
        self.renewed = Some((from, asked));
        let every = self.ttl / 3;
        self.next = if self.dirty || !matches!(self.phase, Phase::Running) {
            now
        } else {
            now + every - rng.jitter(every / 10)
        };
    }
}
