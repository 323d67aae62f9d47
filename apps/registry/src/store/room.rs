//! How much a store takes on: services and slots each have limits of their own, so that neither takes the other's room.

use std::collections::VecDeque;
use std::sync::Arc;

use bowline_core::{Error, Instant, Result};
use bowline_registry_bowline::api::bowline::registry::v1::registry_error;

use super::{ServiceKey, Store};

/// How much there is of services and their instances, or of groups and their slots.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Services or groups, those that are empty included.
    pub(super) names: usize,
    /// Instances or slots.
    pub(super) instances: usize,
    /// Names in the order in which they became empty; those that are not any more are skipped.
    pub(super) emptied: VecDeque<(Instant, ServiceKey)>,
}

fn too_many(what: impl std::fmt::Display, setting: &str) -> Error {
    registry_error::too_many_instances()
        .with_message(format!("there are {what}; remove some or raise `limits.{setting}` of the registry"))
}

impl Store {
    fn tally(&self, slots: bool) -> &Tally {
        if slots { &self.of_slots } else { &self.of_services }
    }

    /// What a name counts to.
    pub(super) fn tally_mut(&mut self, key: &ServiceKey) -> &mut Tally {
        if key.is_slots() { &mut self.of_slots } else { &mut self.of_services }
    }

    pub(super) fn check_room_for_checks(&self, key: &ServiceKey, id: &Arc<str>) -> Result<()> {
        let most = self.config.limits.checks;
        if self.checked.len() < most || self.checked.contains(&(key.clone(), Arc::clone(id))) {
            return Ok(());
        }
        Err(too_many(format!("{most} instances with a check"), "checks"))
    }

    /// Whether one more instance of this service, or slot of this group, fits; names that nobody uses any more give way.
    pub(super) fn make_room(&mut self, key: &ServiceKey, now: Instant) -> Result<()> {
        let (slots, limits) = (key.is_slots(), &self.config.limits);
        let (most, what) = if slots { (limits.slots, "slots") } else { (limits.instances, "instances") };
        if self.tally(slots).instances >= most {
            return Err(too_many(format!("{most} {what}"), what));
        }
        let of_one = limits.instances_per_service;
        let (names, of_what) =
            if slots { (limits.slot_groups, "slot_groups") } else { (limits.services, "services") };
        match self.services.get(key).map(|s| s.instances.len()) {
            Some(instances) if instances >= of_one => {
                Err(too_many(format!("{of_one} {what} of {key}"), "instances_per_service"))
            }
            None if self.tally(slots).names >= names && !self.forget_some(slots, now, true) => {
                let shown = if slots { "groups of slots" } else { "services" };
                let message = format!(
                    "there are {names} {shown}; remove some or raise `limits.{of_what}` of the registry"
                );
                Err(registry_error::too_many_services().with_message(message))
            }
            _ => Ok(()),
        }
    }

    /// A service, or a group, is empty from now on.
    pub(super) fn note_empty(&mut self, key: &ServiceKey, now: Instant) {
        let tally = if key.is_slots() { &mut self.of_slots } else { &mut self.of_services };
        tally.emptied.push_back((now, key.clone()));
        // One that comes and goes is there each time.
        if tally.emptied.len() > 64 + 4 * tally.names {
            let services = &self.services;
            tally.emptied.retain(|(since, key)| {
                services.get(key).is_some_and(|service| service.empty_since == Some(*since))
            });
        }
    }

    /// Forgets services and groups that have been empty for long.
    pub(super) fn forget(&mut self, now: Instant) {
        for slots in [false, true] {
            self.forget_some(slots, now, false);
        }
    }

    /// Forgets groups, or else services, that have been empty for long; with `now_or_never` the one that is empty longest in any
    /// case. Returns whether one was forgotten.
    fn forget_some(&mut self, slots: bool, now: Instant, mut now_or_never: bool) -> bool {
        let tally = if slots { &mut self.of_slots } else { &mut self.of_services };
        let mut forgotten = false;
        while let Some((since, key)) = tally.emptied.front() {
            let old = *since + self.config.forget_after <= now;
            let is_empty = self.services.get(key).is_some_and(|s| s.empty_since == Some(*since));
            if is_empty && !old && !now_or_never {
                break;
            }
            let Some((_, key)) = tally.emptied.pop_front() else { break };
            if is_empty {
                self.services.remove(&key);
                tally.names -= 1;
                self.forgotten.push(key);
                forgotten = true;
                now_or_never = false;
            }
        }
        forgotten
    }
}
