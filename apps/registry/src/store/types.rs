//! What the store is asked and what it tells.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::Instant;

use super::{Owner, Record, ServiceKey};

/// A registration that is asked for.
#[derive(Debug)]
pub struct Registering {
    /// The service.
    pub key: ServiceKey,
    /// The instance.
    pub record: Arc<Record>,
    /// The lease's life without renewal; the default one if `None`.
    pub ttl: Option<Duration>,
    /// Who asks. Another holder takes the id over; an empty one is a holder like any other, but remembers nothing.
    pub holder: Arc<str>,
    /// Orders what one holder says.
    pub sequence: u64,
    /// Whether to refuse when another holder's lease lives.
    pub only_if_free: bool,
}

/// A lease that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// What to renew.
    pub lease: u64,
    /// How long it lives.
    pub ttl: Duration,
}

/// An instance and its lease.
#[derive(Clone, Debug)]
pub struct Registered {
    /// As it was registered.
    pub registered: Arc<Record>,
    /// As it is served: with what an operator set.
    pub record: Arc<Record>,
    /// Who registered it.
    pub holder: Arc<str>,
    /// What orders the words of its holder.
    pub sequence: u64,
    /// When its holder came.
    pub since: Instant,
    /// When its content changed last.
    pub updated: Instant,
    /// When it was renewed last.
    pub renewed: Instant,
    /// How long it lives without being renewed.
    pub ttl: Duration,
    /// The node that has its lease.
    pub owner: Owner,
}

/// One service in a list of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The service.
    pub key: ServiceKey,
    /// Its instances.
    pub instances: usize,
    /// Those that want traffic.
    pub up: usize,
    /// Its revision.
    pub revision: u64,
}

/// How much a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Services, those without instances included.
    pub services: usize,
    /// Instances.
    pub instances: usize,
    /// Those whose lease is on this node.
    pub leases: usize,
    /// Instances with an override, those that are gone included.
    pub overrides: usize,
}
