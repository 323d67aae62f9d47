//! The policies that several channels share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bowline_resilience::{ClientPolicy, Policies};

/// What counts for each operation that an application calls. A clone is the same one: its channels notice a change with their
/// next call.
#[derive(Clone, Debug, Default)]
pub struct ClientPolicies(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    changes: AtomicU64,
    current: Mutex<Policies<ClientPolicy>>,
}

impl ClientPolicies {
    /// These.
    pub fn new(policies: Policies<ClientPolicy>) -> Self {
        Self(Arc::new(Inner { changes: AtomicU64::new(0), current: Mutex::new(policies) }))
    }

    /// Takes others, for calls from now on. What an operation's stay as they are for keeps what is known of it.
    pub fn set(&self, policies: Policies<ClientPolicy>) {
        *self.0.current.lock().unwrap_or_else(PoisonError::into_inner) = policies;
        self.0.changes.fetch_add(1, Ordering::Release);
    }

    /// How often they were changed.
    pub(crate) fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Acquire)
    }

    pub(crate) fn current(&self) -> Policies<ClientPolicy> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl From<Policies<ClientPolicy>> for ClientPolicies {
    fn from(policies: Policies<ClientPolicy>) -> Self {
        Self::new(policies)
    }
}
