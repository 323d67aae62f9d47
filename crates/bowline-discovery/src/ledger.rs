//! What an adapter knows of one service: which lists are believed, and which are those of a registry that lost its data.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_core::{Error, Instance, Instant};

use crate::{Emptiness, Publisher};

/// The instances of one service, by the registry's name for each, for adapters to registries that list.
///
/// An adapter feeds it and publishes it. It keeps two rules, the same for every registry:
///
/// - The last instance stays, stale, unless somebody [removed](Ledger::was_emptied) it.
/// - What a registry that [began anew](Ledger::begin_anew) does not list stays for a grace, for it comes back by then if it is
///   alive.
///
/// ```
/// use std::time::Duration;
/// use bowline_core::Instance;
/// use bowline_discovery::{Ledger, Publisher, State};
///
/// let (publisher, watcher) = Publisher::pair("catalog");
/// let mut ledger = Ledger::new("the registry", Duration::from_secs(30));
/// ledger.set("catalog-1", Instance::new("catalog", "catalog-1"));
/// ledger.publish(&publisher);
/// ledger.remove("catalog-1");
/// ledger.publish(&publisher);
/// assert!(matches!(watcher.current().state, State::Stale { .. }));
/// ```
#[derive(Debug)]
pub struct Ledger {
    registry: &'static str,
    grace: Duration,
    known: BTreeMap<String, Instance>,
    /// Instances that a registry without its data has not listed again yet, and until when they are kept.
    missing: BTreeMap<String, Instance>,
    missing_until: Option<Instant>,
    empty: Emptiness,
}

impl Ledger {
    /// Nothing yet. `registry` is its name in messages; `grace` is for how long those are kept whom a registry that began anew
    /// does not list.
    pub fn new(registry: &'static str, grace: Duration) -> Self {
        Self {
            registry,
            grace,
            known: BTreeMap::new(),
            missing: BTreeMap::new(),
            missing_until: None,
            empty: Emptiness::Unknown,
        }
    }

    /// Takes a whole list that continues what is known. Returns the names that went.
    pub fn replace(&mut self, listed: BTreeMap<String, Instance>) -> Vec<String> {
        let before = std::mem::replace(&mut self.known, listed);
        let gone = before.into_keys().filter(|name| !self.known.contains_key(name)).collect();
        self.settle();
        gone
    }

    /// Takes a whole list of a registry that has lost what it knew.
    pub fn begin_anew(&mut self, listed: BTreeMap<String, Instance>, now: Instant) {
        let before = std::mem::replace(&mut self.known, listed);
        self.missing.extend(before);
        self.missing_until = Some(now + self.grace);
        self.settle();
    }

    /// One instance is there, or changed.
    pub fn set(&mut self, name: &str, instance: Instance) {
        self.known.insert(name.to_owned(), instance);
        self.settle();
    }

    /// One instance is not there. Returns whether it was.
    pub fn remove(&mut self, name: &str) -> bool {
        let was_there = self.known.remove(name).is_some();
        self.missing.remove(name);
        self.settle();
        was_there
    }

    fn settle(&mut self) {
        self.missing.retain(|name, _| !self.known.contains_key(name));
        if self.missing.is_empty() {
            self.missing_until = None;
        }
        if !self.known.is_empty() {
            self.empty = Emptiness::Unknown;
        }
    }

    /// There is none left because somebody removed the last one.
    pub fn was_emptied(&mut self) {
        self.empty = Emptiness::Cancelled;
    }

    /// Whether there is none, and none is waited for.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.missing.is_empty()
    }

    /// When [`Ledger::tick`] is due.
    pub fn timer(&self) -> Option<Instant> {
        self.missing_until
    }

    /// Lets the grace end. Returns whether there is something to publish.
    pub fn tick(&mut self, now: Instant) -> bool {
        let is_over = self.missing_until.is_some_and(|until| until <= now);
        if is_over {
            self.missing.clear();
            self.missing_until = None;
        }
        is_over
    }

    /// Tells the watchers.
    pub fn publish(&self, publisher: &Publisher) {
        let waited_for = self.missing.len();
        let all: Vec<_> = self.known.values().chain(self.missing.values()).cloned().collect();
        match all.len() {
            0 if self.empty == Emptiness::Unknown && !publisher.current().instances.is_empty() => {
                publisher.fail(&Error::unavailable(format!(
                    "{} lists no instance any more, and nobody is known to have removed the last one",
                    self.registry
                )));
            }
            0 => publisher.publish_empty(self.empty),
            // Not said to be live in between.
            _ if waited_for > 0 && self.known.is_empty() => publisher.fail(&self.began_anew(all.len())),
            count => {
                publisher.publish(all);
                if waited_for > 0 {
                    publisher.fail(&self.began_anew(count));
                }
            }
        }
    }

    fn began_anew(&self, all: usize) -> Error {
        let (registry, missing) = (self.registry, self.missing.len());
        Error::unavailable(format!(
            "{registry} has lost its data; {missing} of {all} instances have not come back yet"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Snapshot, State, Watcher};
    use std::sync::Arc;

    struct Rig {
        ledger: Ledger,
        publisher: Publisher,
        watcher: Watcher,
    }

    fn list(ids: &[&str]) -> BTreeMap<String, Instance> {
        ids.iter().map(|id| ((*id).to_owned(), Instance::new("s", *id))).collect()
    }

    impl Rig {
        fn new(ids: &[&str]) -> Self {
            let (publisher, watcher) = Publisher::pair("s");
            let mut ledger = Ledger::new("it", Duration::from_secs(30));
            ledger.replace(list(ids));
            let rig = Self { ledger, publisher, watcher };
            rig.seen();
            rig
        }

        fn seen(&self) -> Arc<Snapshot> {
            self.ledger.publish(&self.publisher);
            self.watcher.current()
        }
    }

    fn ids(snapshot: &Snapshot) -> Vec<&str> {
        snapshot.instances.iter().map(|i| i.id.as_str()).collect()
    }

    #[test]
    fn the_last_one_is_kept_unless_somebody_removed_it() {
        let mut rig = Rig::new(&["a"]);
        assert!(rig.ledger.remove("a") && !rig.ledger.remove("a") && rig.ledger.is_empty());
        let seen = rig.seen();
        assert!(matches!(seen.state, State::Stale { .. }) && ids(&seen) == ["a"], "{seen:?}");
        rig.ledger.was_emptied();
        assert_eq!(rig.seen().state, State::Empty(Emptiness::Cancelled));
        rig.ledger.set("b", Instance::new("s", "b"));
        assert_eq!((ids(&rig.seen()), rig.seen().state), (vec!["b"], State::Live));
        assert_eq!(rig.ledger.replace(list(&["c"])), ["b"]);
        assert_eq!(ids(&rig.seen()), ["c"]);
    }

    #[test]
    fn nothing_at_first_is_an_answer() {
        assert_eq!(Rig::new(&[]).seen().state, State::Empty(Emptiness::Unknown));
    }

    #[test]
    fn who_is_missing_after_a_new_beginning_is_kept_for_the_grace() {
        let now = Instant::now();
        for listed in [&[][..], &["c"]] {
            let mut rig = Rig::new(&["a", "b"]);
            rig.ledger.begin_anew(list(listed), now);
            let seen = rig.seen();
            assert!(matches!(seen.state, State::Stale { .. }), "{seen:?}");
            assert_eq!(seen.instances.len(), 2 + listed.len());
            assert!(!rig.ledger.tick(now + Duration::from_secs(29)));
            assert!(rig.ledger.tick(rig.ledger.timer().unwrap()));
            let after = rig.seen();
            match listed.len() {
                0 => assert!(matches!(after.state, State::Stale { .. }) && after.instances.len() == 2),
                _ => assert_eq!((ids(&after), after.state), (vec!["c"], State::Live)),
            }
        }
    }

    #[test]
    fn who_comes_back_within_the_grace_ends_it() {
        let mut rig = Rig::new(&["a"]);
        rig.ledger.begin_anew(list(&[]), Instant::now());
        rig.ledger.set("a", Instance::new("s", "a"));
        assert_eq!((ids(&rig.seen()), rig.seen().state, rig.ledger.timer()), (vec!["a"], State::Live, None));
    }
}
