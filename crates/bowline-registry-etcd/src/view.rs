//! What is known of one service: a pure state machine over etcd's lists and events.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bowline_core::{Error, Instance, Instant};
use bowline_discovery::{Emptiness, Publisher, kratos};

use crate::api::mvccpb::{Event, KeyValue, event::EventType};

struct Entry {
    changed_at: i64,
    lease: i64,
    /// If this side can use it.
    instance: Option<Instance>,
}

pub(crate) struct View {
    service: String,
    env: String,
    grace: Duration,
    entries: BTreeMap<Vec<u8>, Entry>,
    /// Up to where the entries are complete; 0 before the first list.
    revision: i64,
    /// Instances that an etcd without its data has not listed again yet, and until when they are kept.
    missing: BTreeMap<Vec<u8>, Instance>,
    missing_until: Option<Instant>,
    empty: Emptiness,
}

impl View {
    pub(crate) fn new(service: &str, env: &str, grace: Duration) -> Self {
        Self {
            service: service.into(),
            env: env.into(),
            grace,
            entries: BTreeMap::new(),
            revision: 0,
            missing: BTreeMap::new(),
            missing_until: None,
            empty: Emptiness::Unknown,
        }
    }

    fn entry(&self, kv: &KeyValue) -> Entry {
        let instance = kratos::from_json(&kv.value, &self.service, &self.env).unwrap_or_else(|error| {
            let key = String::from_utf8_lossy(&kv.key);
            tracing::warn!(%key, %error, "an instance in etcd cannot be used");
            None
        });
        Entry { changed_at: kv.mod_revision, lease: kv.lease, instance }
    }

    /// Whether a list can be a later state of what is known: if not, etcd has lost its data and begun anew.
    fn is_later(&self, listed: &[KeyValue], revision: i64) -> bool {
        let known = |kv: &KeyValue| {
            self.entries.get(&kv.key).is_some_and(|e| (e.changed_at, e.lease) == (kv.mod_revision, kv.lease))
        };
        revision >= self.revision && listed.iter().all(|kv| kv.mod_revision > self.revision || known(kv))
    }

    /// Takes a whole list. Returns the leases of what went since the last one.
    pub(crate) fn list(&mut self, listed: &[KeyValue], revision: i64, now: Instant) -> Vec<i64> {
        let is_later = self.is_later(listed, revision);
        let entries = listed.iter().map(|kv| (kv.key.clone(), self.entry(kv))).collect();
        let before = std::mem::replace(&mut self.entries, entries);
        self.revision = revision;
        let gone = before.into_iter().filter(|(key, _)| !self.entries.contains_key(key));
        let mut leases = Vec::new();
        if is_later {
            leases.extend(gone.filter(|(_, e)| e.instance.is_some()).map(|(_, e)| e.lease));
        } else {
            self.missing.extend(gone.filter_map(|(key, e)| Some((key, e.instance?))));
            self.missing_until = Some(now + self.grace);
        }
        self.settle();
        leases
    }

    /// Takes changes. Returns the leases of what went.
    pub(crate) fn events(&mut self, events: &[Event]) -> Vec<i64> {
        let mut leases = BTreeSet::new();
        for event in events {
            self.revision = self.revision.max(event.kv.mod_revision);
            if event.r#type == EventType::DELETE {
                self.missing.remove(&event.kv.key);
                let removed = self.entries.remove(&event.kv.key);
                leases.extend(removed.filter(|e| e.instance.is_some()).map(|e| e.lease));
            } else {
                let entry = self.entry(&event.kv);
                self.entries.insert(event.kv.key.clone(), entry);
            }
        }
        self.settle();
        leases.into_iter().collect()
    }

    fn settle(&mut self) {
        self.missing.retain(|key, _| !self.entries.contains_key(key));
        if self.missing.is_empty() {
            self.missing_until = None;
        }
        if self.usable().next().is_some() {
            self.empty = Emptiness::Unknown;
        }
    }

    /// There are none left because somebody removed the last one.
    pub(crate) fn was_emptied(&mut self) {
        self.empty = Emptiness::Cancelled;
    }

    fn usable(&self) -> impl Iterator<Item = &Instance> {
        self.entries.values().filter_map(|entry| entry.instance.as_ref())
    }

    /// Whether nothing is registered that can be used, and nothing is waited for.
    pub(crate) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.usable().next().is_none()
    }

    /// When [`View::tick`] is due.
    pub(crate) fn timer(&self) -> Option<Instant> {
        self.missing_until
    }

    /// Lets the grace end. Returns whether there is something to publish.
    pub(crate) fn tick(&mut self, now: Instant) -> bool {
        let over = self.missing_until.is_some_and(|until| until <= now);
        if over {
            self.missing.clear();
            self.missing_until = None;
        }
        over
    }

    /// Tells the watchers.
    pub(crate) fn publish(&self, publisher: &Publisher) {
        let waited_for = self.missing.len();
        let all: Vec<_> = self.usable().chain(self.missing.values()).cloned().collect();
        match all.len() {
            0 if self.empty == Emptiness::Unknown && !publisher.current().instances.is_empty() => {
                publisher.fail(&Error::unavailable(
                    "etcd lists no instance any more, and nobody has removed the last one: its lease ran out",
                ));
            }
            0 => publisher.publish_empty(self.empty),
            // Not said to be live in between.
            _ if waited_for > 0 && self.entries.is_empty() => {
                publisher.fail(&restarted(waited_for, all.len()))
            }
            count => {
                publisher.publish(all);
                if waited_for > 0 {
                    publisher.fail(&restarted(waited_for, count));
                }
            }
        }
    }
}

fn restarted(missing: usize, all: usize) -> Error {
    Error::unavailable(format!("etcd has lost its data; {missing} of {all} instances have not come back yet"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_discovery::{Snapshot, State, Watcher};
    use std::sync::Arc;

    fn kv(id: &str, changed_at: i64, lease: i64) -> KeyValue {
        KeyValue {
            key: id.into(),
            mod_revision: changed_at,
            lease,
            value: kratos::to_json(&Instance::new("s", id), "").unwrap(),
            ..Default::default()
        }
    }

    fn deleted(id: &str, at: i64) -> Event {
        let kv = KeyValue { key: id.into(), mod_revision: at, ..Default::default() };
        Event { r#type: EventType::DELETE.into(), kv: kv.into(), ..Default::default() }
    }

    struct Rig {
        view: View,
        publisher: Publisher,
        watcher: Watcher,
    }

    impl Rig {
        fn new(listed: &[KeyValue], revision: i64) -> Self {
            let (publisher, watcher) = Publisher::pair("s");
            let mut view = View::new("s", "", Duration::from_secs(30));
            view.list(listed, revision, Instant::now());
            view.publish(&publisher);
            Self { view, publisher, watcher }
        }

        fn seen(&self) -> Arc<Snapshot> {
            self.view.publish(&self.publisher);
            self.watcher.current()
        }
    }

    fn ids(snapshot: &Snapshot) -> Vec<&str> {
        snapshot.instances.iter().map(|i| i.id.as_str()).collect()
    }

    #[test]
    fn the_last_one_is_kept_unless_somebody_removed_it() {
        let mut rig = Rig::new(&[kv("a", 2, 7)], 2);
        assert_eq!(rig.view.events(&[deleted("a", 3)]), [7]);
        assert!(rig.view.is_empty());
        let seen = rig.seen();
        assert!(matches!(seen.state, State::Stale { .. }) && ids(&seen) == ["a"], "{seen:?}");
        rig.view.was_emptied();
        assert_eq!(rig.seen().state, State::Empty(Emptiness::Cancelled));
        rig.view.list(&[kv("b", 4, 8)], 4, Instant::now());
        assert_eq!((ids(&rig.seen()), rig.seen().state), (vec!["b"], State::Live));
    }

    #[test]
    fn nothing_at_first_is_an_answer() {
        assert_eq!(Rig::new(&[], 1).seen().state, State::Empty(Emptiness::Unknown));
    }

    #[test]
    fn a_later_list_is_believed_and_that_of_another_history_only_after_the_grace() {
        let now = Instant::now();
        let mut rig = Rig::new(&[kv("a", 2, 7), kv("b", 3, 8)], 5);
        assert_eq!(rig.view.list(&[kv("a", 2, 7)], 9, now), [8]);
        assert_eq!((ids(&rig.seen()), rig.seen().state), (vec!["a"], State::Live));

        // An older revision, or an entry that would have been seen.
        for (listed, revision) in [(vec![], 2), (vec![kv("c", 2, 9)], 50)] {
            let mut rig = Rig::new(&[kv("a", 2, 7), kv("b", 3, 8)], 5);
            assert!(rig.view.list(&listed, revision, now).is_empty());
            let seen = rig.seen();
            assert!(matches!(seen.state, State::Stale { .. }), "{seen:?}");
            assert_eq!(seen.instances.len(), 2 + listed.len());
            assert!(!rig.view.tick(now + Duration::from_secs(29)));
            assert!(rig.view.tick(rig.view.timer().unwrap()));
            let after = rig.seen();
            match listed.len() {
                0 => assert!(matches!(after.state, State::Stale { .. }) && after.instances.len() == 2),
                _ => assert_eq!((ids(&after), after.state), (vec!["c"], State::Live)),
            }
        }
    }

    #[test]
    fn who_comes_back_within_the_grace_ends_it() {
        let mut rig = Rig::new(&[kv("a", 2, 7)], 5);
        rig.view.list(&[], 1, Instant::now());
        let put = Event { kv: kv("a", 2, 7).into(), ..Default::default() };
        rig.view.events(&[put]);
        assert_eq!((ids(&rig.seen()), rig.seen().state, rig.view.timer()), (vec!["a"], State::Live, None));
    }
}
