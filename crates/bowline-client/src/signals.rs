//! What calls tell the keeper of a channel's index.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Rings for the keeper. However often it is rung meanwhile, the keeper comes once.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    bell: Notify,
    look: AtomicBool,
    rebuild: AtomicBool,
}

/// What is wanted of the keeper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// To look who fails.
    pub(crate) look: bool,
    /// To arrange the instances anew.
    pub(crate) rebuild: bool,
}

impl Signals {
    /// An instance should be looked at.
    pub(crate) fn look(&self) {
        self.ring(&self.look);
    }

    /// An instance can no longer be reached, or can again.
    pub(crate) fn rebuild(&self) {
        self.ring(&self.rebuild);
    }

    fn ring(&self, wanted: &AtomicBool) {
        if !wanted.swap(true, Ordering::AcqRel) {
            self.bell.notify_one();
        }
    }

    /// Waits until it rings.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// What it rang for. What is asked for from now on rings again.
    pub(crate) fn take(&self) -> Wanted {
        Wanted {
            look: self.look.swap(false, Ordering::AcqRel),
            rebuild: self.rebuild.swap(false, Ordering::AcqRel),
        }
    }
}
