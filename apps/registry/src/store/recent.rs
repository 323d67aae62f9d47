//! What changed of late, for protocols whose clients ask for that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::Instant;

use super::{Record, ServiceKey};

/// What happened to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It came.
    Added,
    /// It is other than before.
    Modified,
    /// It went.
    Removed,
}

/// A change of late.
#[derive(Clone, Debug)]
pub struct Recent {
    /// When.
    pub at: Instant,
    /// Whose instance.
    pub key: ServiceKey,
    /// The instance as it was served then; before it went, if it did.
    pub record: Arc<Record>,
    /// What happened.
    pub happened: Happened,
}

/// How long a change is recent. 3 min, as in Eureka, whose clients ask every 30 s.
const RECENT: Duration = Duration::from_secs(180);
/// The most changes that are kept as recent; beyond it the oldest go first.
const MOST_RECENT: usize = 10_000;

/// Changes of late, the oldest first.
#[derive(Debug, Default)]
pub(super) struct RecentChanges(VecDeque<Recent>);

impl RecentChanges {
    pub(super) fn add(&mut self, change: Recent) {
        let now = change.at;
        self.0.push_back(change);
        self.forget(now);
    }

    /// Forgets what is not recent any more, and what is too much.
    pub(super) fn forget(&mut self, now: Instant) {
        let old = |change: &Recent| change.at + RECENT <= now;
        while self.0.len() > MOST_RECENT || self.0.front().is_some_and(old) {
            self.0.pop_front();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Recent> {
        self.0.iter()
    }
}
