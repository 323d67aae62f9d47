//! Who has deregistered of late.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bowline_core::Instant;

use super::ServiceKey;

/// The most that are remembered; beyond it the oldest are forgotten first.
const MOST: usize = 100_000;

type Name = (ServiceKey, Arc<str>);

/// Holders that deregistered. A registration of theirs that was still on its way, on another connection perhaps, must not
/// bring the instance back: nobody would ever take it out again but the end of its lease.
#[derive(Debug)]
pub(super) struct Cancelled {
    keep: Duration,
    holders: HashMap<Name, (Arc<str>, Instant)>,
    order: VecDeque<(Instant, Name)>,
}

impl Cancelled {
    pub(super) fn new(keep: Duration) -> Self {
        Self { keep, holders: HashMap::new(), order: VecDeque::new() }
    }

    pub(super) fn add(&mut self, key: &ServiceKey, id: &str, holder: &str, now: Instant) {
        let name = (key.clone(), Arc::from(id));
        self.order.push_back((now, name.clone()));
        self.holders.insert(name, (holder.into(), now));
        while self.order.len() > MOST {
            self.drop_oldest();
        }
    }

    /// Whether `holder` was the last to deregister this id.
    pub(super) fn contains(&mut self, key: &ServiceKey, id: &str, holder: &str, now: Instant) -> bool {
        while self.order.front().is_some_and(|(at, _)| *at + self.keep <= now) {
            self.drop_oldest();
        }
        self.holders.get(&(key.clone(), id.into())).is_some_and(|(cancelled, _)| **cancelled == *holder)
    }

    fn drop_oldest(&mut self) {
        if let Some((at, name)) = self.order.pop_front()
            && self.holders.get(&name).is_some_and(|(_, latest)| *latest == at)
        {
            self.holders.remove(&name);
        }
    }
}
