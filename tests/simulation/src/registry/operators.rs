//! Operators, who set and clear overrides, at times two of them at once.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_core::Rng;
use bowline_registry::store::{FactKey, Kind, Override, Parts, Said, Version};
use bowline_registry_bowline::api::bowline::registry::v1::{InstanceStatus, registry_error};

use super::events::Event;
use super::sums::Reached;
use super::world::{Checked, World};

/// The most instances that operators care for.
const MOST_TOUCHED: usize = 40;

/// What an operator asks of a node.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    Set(Override),
    Clear(Parts),
}

/// What a node has shown of an override, in one of its lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    version: Version,
    /// It was taken back.
    empty: bool,
}

/// What operators did so far.
#[derive(Debug, Default)]
pub(super) struct Operators {
    /// What was overridden once, and the last word a node confirmed.
    pub(super) touched: BTreeMap<FactKey, Version>,
}

impl World {
    /// An operator, or two of them, look at an instance.
    pub(super) fn operate(&mut self) {
        if self.healed {
            return;
        }
        self.events.after(self.rng.jitter(Duration::from_millis(2_500)), Event::Operators);
        let touched: Vec<_> = self.operators.touched.keys().cloned().collect();
        let again = touched.len() >= MOST_TOUCHED || self.rng.below(3) > 0;
        let of = match touched.get(self.rng.below(touched.len())).filter(|_| again) {
            // The same one, so that there is something to contend for.
            Some(of) => of.clone(),
            None => {
                let client = &self.clients[self.rng.below(self.clients.len())];
                FactKey { kind: Kind::Override, ..client.of() }
            }
        };
        for _ in 0..1 + self.rng.below(2) {
            let (node, wish) = (self.rng.below(self.hosts.len()), self.wish());
            let site = self.hosts.len() + self.rng.below(super::world::ZONES);
            if let Some(delay) = self.network.send(site, node, &self.rng) {
                self.events.after(delay, Event::Wish { node, of: of.clone(), wish });
            }
        }
    }

    fn wish(&self) -> Wish {
        let part = || self.rng.below(2) == 0;
        match self.rng.below(5) {
            0 => Wish::Clear(Parts::ALL),
            1 => Wish::Clear(Parts { status: part(), weight: part(), metadata: part() }),
            _ => {
                let up = if part() {
                    InstanceStatus::INSTANCE_STATUS_UP
                } else {
                    InstanceStatus::INSTANCE_STATUS_OUT_OF_SERVICE
                };
                let note = self.rng.below(1_000);
                let metadata = part().then(|| (format!("note-{}", note % 3), note.to_string()));
                Wish::Set(Override {
                    status: part().then_some(up),
                    weight: part().then(|| self.rng.below(200) as u32),
                    metadata: metadata.into_iter().collect(),
                    ..Override::default()
                })
            }
        }
    }

    /// A node is asked for it.
    pub(super) fn wished(&mut self, n: usize, of: FactKey, wish: Wish) -> Checked {
        let now = self.now();
        let Some(node) = self.hosts[n].node.as_mut().filter(|node| node.ready) else { return Ok(()) };
        let knew = known(node, &of, now);
        let (key, id) = (&of.key, &of.id);
        let done = match &wish {
            Wish::Set(changes) if changes.is_empty() => false,
            Wish::Set(changes) => match node.store.set_override(key, id, changes, now) {
                Ok(_) => true,
                Err(e) if registry_error::is_instance_not_found(&e) => false,
                Err(e) => return Err(format!("node {n}: an override was refused: {e}")),
            },
            Wish::Clear(parts) => node.store.clear_override(key, id, *parts, now),
        };
        if !done {
            return Ok(());
        }
        let Some(knows) = known(node, &of, now) else {
            return Err(format!("node {n} does not know what an operator did to {id}"));
        };
        self.tell(|| format!("node {n}: an operator's {wish:?} of {id}: {knows:?}"));
        let what = if matches!(wish, Wish::Set(_)) { Reached::OverrideSet } else { Reached::OverrideCleared };
        self.sums.reach(what, 1);
        if let Some(last) = self.operators.touched.insert(of, knows.version)
            && knew.is_none_or(|knew| knew.version < last)
        {
            self.sums.reach(Reached::OverrideContended, 1);
        }
        self.look(n)?;
        self.pump(n);
        Ok(())
    }

    /// No node goes back behind what it knew of an override, and what was taken back stays so until somebody sets it anew.
    pub(super) fn check_overrides(&mut self, n: usize) -> Checked {
        let now = self.now();
        let Some(node) = &mut self.hosts[n].node else { return Ok(()) };
        for of in self.operators.touched.keys() {
            let (before, after) = (node.overrides.get(of).copied(), known(node, of, now));
            match (before, after) {
                (Some(before), Some(after)) if after.version < before.version => {
                    return Err(format!(
                        "node {n} went back with the override of {}: from {before:?} to {after:?}",
                        of.id
                    ));
                }
                (Some(before), None) if !before.empty => {
                    return Err(format!("node {n} lost the override of {}, {before:?}", of.id));
                }
                (_, Some(after)) => {
                    node.overrides.insert(of.clone(), after);
                }
                // That it was taken back is remembered here, whoever forgets it.
                _ => {}
            }
        }
        Ok(())
    }

    /// What is served is what was registered with what operators want.
    pub(super) fn check_served(&mut self) -> Checked {
        let now = self.now();
        let mut outlived = 0;
        for (n, node) in self.hosts.iter().enumerate().filter_map(|(n, h)| Some((n, h.node.as_ref()?))) {
            for of in self.operators.touched.keys() {
                let Some(found) = node.store.instance(&of.key, &of.id) else { continue };
                let fact = node.store.facts(of, now).into_iter().next();
                let Some(fact) = fact else { continue };
                let Said::Overridden { overridden, .. } = fact.said else { continue };
                let lives = self.nodes().any(|other| other.own.owner == fact.version.owner);
                outlived += usize::from(!overridden.is_empty() && !lives);
                let served = found.record.instance();
                let weight = overridden.weight.or(found.registered.instance().weight);
                let noted = overridden.metadata.iter().all(|(k, v)| served.metadata.get(k) == Some(v));
                if served.weight != weight
                    || !noted
                    || found.record.overridden().is_some() == overridden.is_empty()
                {
                    return Err(format!("node {n} serves {served:?}, and not with {overridden:?}"));
                }
            }
        }
        self.sums.reach(Reached::OverrideOutlivedOwner, outlived);
        Ok(())
    }
}

fn known(node: &super::node::Node, of: &FactKey, now: bowline_core::Instant) -> Option<Shown> {
    let fact = node.store.facts(of, now).into_iter().next()?;
    let Said::Overridden { overridden, .. } = fact.said else { return None };
    Some(Shown { version: fact.version, empty: overridden.is_empty() })
}
