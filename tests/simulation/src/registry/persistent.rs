//! Persistent instances: nodes check them, and whoever wants them gone takes them out, at any node.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Instant, Rng, SeededRng};
use bowline_registry::store::{FactKey, Kind, Record, Registering, ServiceKey};
use bowline_registry_bowline::api::bowline::registry::v1::{HealthCheck, Instance, TcpProbe};

use super::events::Event;
use super::node::Node;
use super::sums::{Reached, Sums};
use super::world::{Checked, World};

/// The most that there are in a run.
const MOST: usize = 40;

/// What somebody asks of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Register,
    TakeOut,
}

/// An instance that is registered once and may be taken out once.
#[derive(Debug)]
pub(super) struct Persistent {
    of: FactKey,
    holder: Arc<str>,
    /// Which node took it on, and when.
    registered: Option<(usize, Instant)>,
    /// Whether somebody tried to take it out.
    unwanted: bool,
    /// Which node said that it is gone, and when.
    taken_out: Option<(usize, Instant)>,
}

impl Persistent {
    fn new(number: usize) -> Self {
        let key = ServiceKey::new("", "", "persistent").unwrap_or_else(|_| unreachable!());
        let of = FactKey { key, id: format!("db-{number}").into(), kind: Kind::Instance };
        let holder = format!("admin-{number}").into();
        Self { of, holder, registered: None, unwanted: false, taken_out: None }
    }

    fn registering(&self) -> Registering {
        let check = HealthCheck { probe: Some(TcpProbe::default().into()), ..Default::default() };
        let instance = Instance {
            id: self.of.id.to_string(),
            endpoints: vec!["http://10.1.0.1:80".to_owned()],
            check: check.into(),
            unhealthy: true,
            ..Default::default()
        };
        Registering {
            key: self.of.key.clone(),
            record: Arc::new(Record::trusted(instance)),
            ttl: None,
            holder: Arc::clone(&self.holder),
            sequence: 0,
            only_if_free: false,
        }
    }
}

impl Node {
    /// Looks after what is this node's to check, with probes that succeed or fail by chance.
    pub(super) fn probe(&mut self, may_change: bool, rng: &SeededRng, sums: &mut Sums, now: Instant) {
        let before = self.store.orphans();
        let checked = self.store.tend_checked(self.tended.topology.sweeps, now);
        sums.reach(Reached::TakenOver, before.saturating_sub(self.store.orphans()));
        for checked in checked {
            if may_change && rng.below(40) == 0 {
                let healthy = checked.record.instance().unhealthy;
                let changed = self.store.set_health(&checked.key, checked.record.id(), healthy, now);
                sums.reach(Reached::HealthChanged, usize::from(changed));
            }
        }
    }
}

impl World {
    /// Somebody wants a persistent instance, or wants one no more.
    pub(super) fn persist(&mut self) {
        if self.healed {
            return;
        }
        self.events.after(self.rng.jitter(Duration::from_secs(6)), Event::Persist);
        let node = self.rng.below(self.hosts.len());
        let all = self.persistent.iter().enumerate();
        let there: Vec<usize> =
            all.filter(|(_, p)| p.registered.is_some() && !p.unwanted).map(|(n, _)| n).collect();
        let is_full = self.persistent.len() >= MOST;
        let wants_less = is_full || self.rng.below(3) == 0;
        let (number, asked) = match there.get(self.rng.below(there.len())).filter(|_| wants_less) {
            Some(number) => {
                self.persistent[*number].unwanted = true;
                (*number, Asked::TakeOut)
            }
            None if is_full => return,
            None => {
                self.persistent.push(Persistent::new(self.persistent.len()));
                (self.persistent.len() - 1, Asked::Register)
            }
        };
        let site = self.hosts.len() + self.rng.below(super::world::ZONES);
        if let Some(delay) = self.network.send(site, node, &self.rng) {
            self.events.after(delay, Event::Persistent { node, number, asked });
        }
    }

    /// A node is asked for it.
    pub(super) fn persistent(&mut self, n: usize, number: usize, asked: Asked) -> Checked {
        let now = self.now();
        let is_apart = self.is_apart();
        let Some(node) = self.hosts[n].node.as_mut().filter(|node| node.ready) else { return Ok(()) };
        let persistent = &mut self.persistent[number];
        let done = match asked {
            Asked::Register => {
                let granted = node.store.register(persistent.registering(), now);
                granted.map_err(|e| format!("node {n}: a registration was refused: {e}"))?;
                persistent.registered = Some((n, now));
                self.sums.reach(Reached::Persisted, 1);
                true
            }
            // By whom it was registered, nobody knows any more.
            Asked::TakeOut => {
                let gone = node.store.deregister(&persistent.of.key, &persistent.of.id, "", now);
                if gone {
                    persistent.taken_out = Some((n, now));
                    self.sums.reach(Reached::TakenOut, 1);
                    self.sums.reach(Reached::TakenOutApart, usize::from(is_apart));
                }
                gone
            }
        };
        self.tell(|| format!("node {n}: {asked:?} of {}: {done}", self.persistent[number].of.id));
        self.look(n)?;
        self.pump(n);
        Ok(())
    }

    /// What was taken out is nowhere, and what nobody wanted gone is everywhere; what a node knew alone that died went with it.
    pub(super) fn check_persistent(&self) -> Checked {
        let lives =
            |(by, at): (usize, Instant)| self.hosts[by].node.as_ref().is_some_and(|node| node.booted <= at);
        for persistent in &self.persistent {
            let is_gone = persistent.taken_out.is_some_and(lives);
            let is_there = persistent.registered.is_some_and(lives) && !persistent.unwanted;
            for (n, node) in self.nodes().enumerate() {
                let id = &persistent.of.id;
                match node.store.instance(&persistent.of.key, id) {
                    Some(found) if is_gone => {
                        return Err(format!(
                            "node {n} has {id}, which was taken out, from {:?}",
                            found.owner
                        ));
                    }
                    None if is_there => return Err(format!("node {n} has not {id}, which nobody took out")),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
