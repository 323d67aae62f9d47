//! When many leases run out together, the fault is more likely here, or on the way, than in all who are late.
//!
//! As in Eureka's self-preservation, a node that misses more than 15 % of the renewals it expects removes nobody. Other than
//! there, the instances of one service in one zone are a group of their own; one of a group may always go, so that small
//! groups are not stuck; and it ends as soon as as many renew as before, whoever they are: those who came in place of the
//! dead count.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bowline_core::Instant;

use super::ServiceKey;

/// The instances of a service in a zone.
pub(super) type Group = (ServiceKey, Arc<str>);

/// A group of which nobody is removed for being late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protected {
    /// The service.
    pub key: ServiceKey,
    /// The zone; empty for those without.
    pub zone: Arc<str>,
    /// Since when.
    pub since: Instant,
    /// How many were to renew when it began; fewer if some have deregistered since.
    pub expected: usize,
    /// How many are overdue.
    pub overdue: usize,
}

#[derive(Debug)]
pub(super) struct Guarded {
    pub(super) since: Instant,
    pub(super) expected: usize,
    /// Leases that have run out.
    pub(super) held: BTreeSet<u64>,
}

/// The groups that are protected.
#[derive(Debug)]
pub(super) struct Protection {
    /// Of a hundred, how many have to be on time.
    threshold: u8,
    pub(super) groups: BTreeMap<Group, Guarded>,
    /// When they were counted last.
    pub(super) counted: Option<Instant>,
}

impl Protection {
    pub(super) fn new(threshold: u8) -> Self {
        Self { threshold, groups: BTreeMap::new(), counted: None }
    }

    /// Whether nobody is protected.
    pub(super) fn is_off(&self) -> bool {
        self.threshold == 0
    }

    /// How many of a group may be late at a time.
    pub(super) fn allowed(&self, of: usize) -> usize {
        let percent = usize::from(100 - self.threshold.min(100));
        (of * percent / 100).max(1)
    }
}
