//! What is known of one service: a pure state machine over what Nacos tells.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_core::{Error, Instance, InstanceId, Instant};
use bowline_discovery::{Emptiness, Publisher};

use crate::convert::Read;

pub(crate) struct View {
    grace: Duration,
    known: BTreeMap<InstanceId, Instance>,
    /// Instances that were known and are not listed over the connection there is now, and until when they are kept.
    missing: BTreeMap<InstanceId, Instance>,
    missing_until: Option<Instant>,
}

impl View {
    pub(crate) fn new(grace: Duration) -> Self {
        Self { grace, known: BTreeMap::new(), missing: BTreeMap::new(), missing_until: None }
    }

    /// Takes the first list over a new connection: it may be that of a Nacos which has lost its data.
    pub(crate) fn connected(&mut self, listed: Vec<Read>, now: Instant) {
        let before = std::mem::take(&mut self.known);
        self.known = latest(listed);
        self.missing.extend(before);
        self.settle();
        if !self.missing.is_empty() {
            self.missing_until = Some(now + self.grace);
        }
    }

    /// Takes a later list over the same connection: what is not in it went.
    pub(crate) fn changed(&mut self, listed: Vec<Read>) {
        self.known = latest(listed);
        self.settle();
    }

    fn settle(&mut self) {
        self.missing.retain(|id, _| !self.known.contains_key(id));
        if self.missing.is_empty() {
            self.missing_until = None;
        }
    }

    /// When [`View::tick`] is due.
    pub(crate) fn timer(&self) -> Option<Instant> {
        self.missing_until
    }

    /// Lets the grace end, if somebody is listed. A list without anybody is not believed before.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.missing_until.is_some_and(|until| until <= now) {
            self.missing_until = None;
            if !self.known.is_empty() {
                self.missing.clear();
            }
        }
    }

    /// Tells the watchers.
    pub(crate) fn publish(&mut self, publisher: &Publisher) {
        if self.missing_until.is_none() && !self.known.is_empty() {
            // Somebody came after the grace.
            self.missing.clear();
        }
        let (missing, known) = (self.missing.len(), self.known.len());
        let all = self.known.values().chain(self.missing.values()).cloned();
        match (known, missing) {
            (0, 0) if publisher.current().instances.is_empty() => {
                publisher.publish_empty(Emptiness::Unknown);
            }
            (0, 0) => publisher.publish_empty(Emptiness::Cancelled),
            (_, 0) => publisher.publish(all),
            // Not said to be live in between.
            (0, _) => publisher.fail(&lost(missing, missing)),
            _ => {
                publisher.publish(all);
                publisher.fail(&lost(missing, known + missing));
            }
        }
    }
}

/// Of each id the one that was registered last.
fn latest(listed: Vec<Read>) -> BTreeMap<InstanceId, Instance> {
    let mut latest: BTreeMap<InstanceId, Read> = BTreeMap::new();
    for read in listed {
        let id = read.instance.id.clone();
        // The first of the same registration counts: those of the preferred name come first.
        if latest.get(&id).is_none_or(|known| known.holder < read.holder) {
            latest.insert(id, read);
        }
    }
    latest.into_iter().map(|(id, read)| (id, read.instance)).collect()
}

fn lost(missing: usize, all: usize) -> Error {
    Error::unavailable(format!("Nacos lists anew; {missing} of {all} instances have not come back yet"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::Holder;
    use bowline_discovery::{Snapshot, State, Watcher};
    use std::sync::Arc;

    const GRACE: Duration = Duration::from_secs(30);

    fn read(id: &str, since: u64, version: &str) -> Read {
        let instance = Instance { version: version.into(), ..Instance::new("s", id) };
        Read { instance, holder: Holder { since, number: 1 } }
    }

    fn all(ids: &[&str]) -> Vec<Read> {
        ids.iter().map(|id| read(id, 1, "")).collect()
    }

    struct Rig {
        view: View,
        publisher: Publisher,
        watcher: Watcher,
    }

    impl Rig {
        fn new(ids: &[&str]) -> Self {
            let (publisher, watcher) = Publisher::pair("s");
            let mut view = View::new(GRACE);
            view.connected(all(ids), Instant::now());
            Self { view, publisher, watcher }
        }

        fn seen(&mut self) -> Arc<Snapshot> {
            self.view.publish(&self.publisher);
            self.watcher.current()
        }
    }

    fn ids(snapshot: &Snapshot) -> Vec<&str> {
        snapshot.instances.iter().map(|i| i.id.as_str()).collect()
    }

    #[test]
    fn nothing_at_first_is_an_answer_and_what_goes_over_a_living_connection_is_gone() {
        let mut rig = Rig::new(&[]);
        assert_eq!(rig.seen().state, State::Empty(Emptiness::Unknown));
        rig.view.changed(all(&["a", "b"]));
        assert_eq!((ids(&rig.seen()), &rig.seen().state), (vec!["a", "b"], &State::Live));
        rig.view.changed(all(&["b"]));
        assert_eq!(ids(&rig.seen()), ["b"]);
        rig.view.changed(vec![]);
        assert_eq!(rig.seen().state, State::Empty(Emptiness::Cancelled));
    }

    #[test]
    fn who_is_not_listed_anew_is_kept_for_a_grace() {
        let now = Instant::now();
        let mut rig = Rig::new(&["a", "b"]);
        rig.seen();
        rig.view.connected(all(&["b", "c"]), now);
        let seen = rig.seen();
        assert!(matches!(seen.state, State::Stale { .. }) && ids(&seen) == ["a", "b", "c"], "{seen:?}");
        rig.view.tick(now + GRACE - Duration::from_secs(1));
        assert_eq!(ids(&rig.seen()), ["a", "b", "c"]);
        rig.view.tick(now + GRACE);
        assert_eq!((ids(&rig.seen()), &rig.seen().state), (vec!["b", "c"], &State::Live));
    }

    #[test]
    fn who_comes_back_within_the_grace_ends_it() {
        let mut rig = Rig::new(&["a"]);
        rig.seen();
        rig.view.connected(vec![], Instant::now());
        rig.view.changed(all(&["a"]));
        assert_eq!((ids(&rig.seen()), &rig.seen().state, rig.view.timer()), (vec!["a"], &State::Live, None));
    }

    #[test]
    fn a_list_without_anybody_is_not_believed_until_somebody_comes() {
        let now = Instant::now();
        let mut rig = Rig::new(&["a"]);
        rig.seen();
        rig.view.connected(vec![], now);
        rig.view.tick(now + GRACE);
        for _ in 0..2 {
            let seen = rig.seen();
            assert!(matches!(seen.state, State::Stale { .. }) && ids(&seen) == ["a"], "{seen:?}");
            rig.view.changed(vec![]);
        }
        rig.view.changed(all(&["b"]));
        assert_eq!((ids(&rig.seen()), &rig.seen().state), (vec!["b"], &State::Live));
    }

    #[test]
    fn of_one_id_the_later_registration_counts_and_of_one_registration_the_first_name() {
        let mut rig = Rig::new(&[]);
        rig.view.changed(vec![
            read("a", 1, "old"),
            read("a", 2, "new"),
            read("a", 2, "other name"),
            read("a", 1, "old"),
        ]);
        assert_eq!(rig.seen().instances.iter().map(|i| &*i.version).collect::<Vec<_>>(), ["new"]);
    }
}
