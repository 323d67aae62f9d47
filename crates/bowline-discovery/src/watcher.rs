//! Following a service: the two ends of one cell that always holds the newest snapshot.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Context, Error, Instance, Instant, Result};
use tokio::sync::watch;

use crate::snapshot::collect;
use crate::{Emptiness, Snapshot, State};

/// Finds the instances of services.
pub trait Discovery: Send + Sync + 'static {
    /// Starts to follow `service`, or joins those who follow it already. Never waits; call it within a tokio runtime.
    ///
    /// The source's work goes on while any watcher of the service lives and ends when the discovery is dropped.
    fn watch(&self, service: &str) -> Watcher;
}

impl<D: Discovery + ?Sized> Discovery for Arc<D> {
    fn watch(&self, service: &str) -> Watcher {
        (**self).watch(service)
    }
}

/// Follows one service. Cheap to clone; every clone sees every change on its own.
#[derive(Clone)]
pub struct Watcher(watch::Receiver<Arc<Snapshot>>);

impl Watcher {
    /// A watcher of something that never changes.
    pub fn fixed(snapshot: Snapshot) -> Self {
        Self(watch::channel(Arc::new(snapshot)).1)
    }

    /// A watcher of something that cannot be followed: stays pending, and [`Watcher::ready`] fails with `error` at once.
    pub fn failed(service: &str, error: &Error) -> Self {
        Self::fixed(Snapshot { fault: Some(error.to_string().into()), ..Snapshot::pending(service) })
    }

    /// The newest snapshot. Never waits.
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.borrow())
    }

    /// Waits for a snapshot that this watcher has not returned from here yet. Changes in between are skipped: the newest
    /// wins. Never returns once the source is gone, because nothing changes any more; so wait for something else beside it.
    pub async fn changed(&mut self) -> Arc<Snapshot> {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        Arc::clone(&self.0.borrow_and_update())
    }

    /// Waits for the first answer: instances (old ones from disk too) or a definite "there are none".
    ///
    /// # Errors
    /// `DEADLINE_EXCEEDED` or `CANCELLED` when `cx` is done first, `UNAVAILABLE` when the source is gone; the message
    /// names what the source last failed with.
    pub async fn ready(&self, cx: &Context) -> Result<Arc<Snapshot>> {
        let mut receiver = self.0.clone();
        // The guard that `wait_for` returns may not be held across an await.
        let first =
            async { receiver.wait_for(|s| s.state.is_ready()).await.map(|snapshot| Arc::clone(&snapshot)) };
        let failure = match cx.run(first).await {
            Ok(Ok(snapshot)) => return Ok(snapshot),
            Ok(Err(_)) => Error::unavailable("its discovery is closed"),
            Err(done) => done,
        };
        let snapshot = self.current();
        let fault = snapshot.fault.as_deref().unwrap_or("the source did not answer yet");
        let message = format!("nothing is known about `{}`: {fault}", snapshot.service);
        Err(failure.with_message(message).with_public_message("the service has not been found yet"))
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watcher").field(&self.current()).finish()
    }
}

/// The writing end of [`Watcher`]s: what an adapter feeds. It keeps the invariants, so that no adapter has to: lists are
/// sorted, unchanged news wakes nobody, revisions grow, and a failure never takes the last list away.
///
/// ```
/// use bowline_core::{Error, Instance};
/// use bowline_discovery::{Publisher, State};
///
/// let (publisher, watcher) = Publisher::pair("catalog");
/// publisher.publish([Instance::new("catalog", "catalog-1")]);
/// publisher.fail(&Error::unavailable("the registry does not answer"));
/// let snapshot = watcher.current();
/// assert_eq!(snapshot.instances.len(), 1);
/// assert!(matches!(snapshot.state, State::Stale { .. }));
/// ```
#[derive(Clone)]
pub struct Publisher(watch::Sender<Arc<Snapshot>>);

impl Publisher {
    /// Both ends for `service`, pending. Watchers outlive the publisher.
    pub fn pair(service: impl Into<Arc<str>>) -> (Self, Watcher) {
        let (sender, receiver) = watch::channel(Arc::new(Snapshot::pending(service)));
        (Self(sender), Watcher(receiver))
    }

    /// One more watcher.
    pub fn watch(&self) -> Watcher {
        Watcher(self.0.subscribe())
    }

    /// What the watchers see.
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.borrow())
    }

    /// Whether any watcher lives.
    pub fn is_watched(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Waits until no watcher lives.
    pub async fn unwatched(&self) {
        self.0.closed().await;
    }

    /// Whether both feed the same watchers.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }

    /// The source says that these are the instances. An empty list is published as [`Emptiness::Unknown`]; a source that
    /// knows better calls [`Publisher::publish_empty`].
    pub fn publish(&self, instances: impl IntoIterator<Item = Instance>) {
        let instances = collect(instances, &self.current().instances);
        if instances.is_empty() {
            return self.publish_empty(Emptiness::Unknown);
        }
        self.set(|old| Snapshot { instances, state: State::Live, fault: None, ..old.clone() });
    }

    /// The source says, definitely, that there are none, and why.
    pub fn publish_empty(&self, why: Emptiness) {
        self.set(|old| Snapshot {
            instances: Arc::default(),
            state: State::Empty(why),
            fault: None,
            ..old.clone()
        });
    }

    /// The source failed. What it said last stays and is marked stale from now on; a list from disk stays one, and what is
    /// pending stays pending. An empty list stays too.
    pub fn fail(&self, error: &Error) {
        let fault = Some(Arc::from(error.to_string()));
        self.set(|old| {
            let state = match old.state {
                State::Live | State::Empty(_) => State::Stale { since: Instant::now() },
                State::Pending | State::Stale { .. } | State::Disk { .. } => old.state,
            };
            Snapshot { state, fault, ..old.clone() }
        });
    }

    /// Serves a list of the given age while the source has not answered. Does nothing once it has.
    pub fn restore(&self, instances: impl IntoIterator<Item = Instance>, age: Duration) {
        let instances = collect(instances, &[]);
        self.set(|old| match old.state {
            State::Pending if !instances.is_empty() => {
                Snapshot { instances, state: State::Disk { age }, ..old.clone() }
            }
            _ => old.clone(),
        });
    }

    /// Takes over what another watcher of the same service sees, for a discovery that wraps another one. While the other
    /// is pending, only its fault is taken.
    pub fn relay(&self, other: &Snapshot) {
        self.set(|old| {
            let fault = other.fault.clone();
            if !other.state.is_ready() {
                return Snapshot { fault, ..old.clone() };
            }
            Snapshot { instances: Arc::clone(&other.instances), state: other.state, fault, ..old.clone() }
        });
    }

    /// Wakes the watchers unless nothing but the fault's text changed: that there is one now, or none any more, is news.
    fn set(&self, change: impl FnOnce(&Snapshot) -> Snapshot) {
        self.0.send_if_modified(|current| {
            let mut new = change(current);
            let modified = new.state != current.state || new.instances != current.instances;
            if modified {
                new.revision = current.revision + 1;
            }
            let news = modified || new.fault.is_some() != current.fault.is_some();
            if modified || new.fault != current.fault {
                *current = Arc::new(new);
            }
            news
        });
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Publisher").field(&self.current()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(snapshot: &Snapshot) -> Vec<&str> {
        snapshot.instances.iter().map(|i| i.id.as_str()).collect()
    }

    fn down() -> Error {
        Error::unavailable("down")
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_source_keeps_its_last_list_and_says_since_when() {
        let (publisher, watcher) = Publisher::pair("s");
        publisher.publish([Instance::new("s", "a")]);
        let since = Instant::now();
        publisher.fail(&down());
        tokio::time::advance(Duration::from_secs(9)).await;
        publisher.fail(&Error::unavailable("still down"));
        let snapshot = watcher.current();
        assert_eq!((ids(&snapshot), snapshot.state), (vec!["a"], State::Stale { since }));
        assert_eq!(snapshot.fault.as_deref(), Some("still down"));
        publisher.publish([Instance::new("s", "a")]);
        assert_eq!((watcher.current().state, &watcher.current().fault), (State::Live, &None));
    }

    #[test]
    fn a_definite_empty_says_why() {
        let (publisher, watcher) = Publisher::pair("s");
        publisher.publish([Instance::new("s", "a")]);
        publisher.publish_empty(Emptiness::Cancelled);
        let snapshot = watcher.current();
        assert_eq!((snapshot.instances.len(), snapshot.state), (0, State::Empty(Emptiness::Cancelled)));
    }

    #[tokio::test]
    async fn unchanged_news_wakes_nobody_and_keeps_the_revision() {
        let (publisher, mut watcher) = Publisher::pair("s");
        publisher.publish([Instance::new("s", "a")]);
        let first = watcher.changed().await;
        publisher.publish([Instance::new("s", "a")]);
        assert!(!watcher.0.has_changed().unwrap());
        assert_eq!(watcher.current().revision, first.revision);
        publisher.publish([Instance::new("s", "b")]);
        assert_eq!(watcher.changed().await.revision, first.revision + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_the_first_answer_is_bounded_and_names_the_fault() {
        let (publisher, watcher) = Publisher::pair("s");
        publisher.fail(&down());
        let cx = Context::background().with_timeout(Duration::from_secs(1));
        let error = watcher.ready(&cx).await.unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
        assert_eq!(error.message(), "nothing is known about `s`: down");
        drop(publisher);
        let error = watcher.ready(&Context::background()).await.unwrap_err();
        assert!(error.is_temporary(), "{error:?}");
    }

    #[tokio::test]
    async fn a_first_fault_is_news_to_whoever_passes_it_on_and_its_new_text_is_not() {
        let (publisher, mut watcher) = Publisher::pair("s");
        publisher.fail(&down());
        assert_eq!(watcher.changed().await.fault.as_deref(), Some("down"));
        publisher.fail(&Error::unavailable("still down"));
        assert!(!watcher.0.has_changed().unwrap());
    }

    #[tokio::test]
    async fn a_definite_empty_is_an_answer() {
        let (publisher, watcher) = Publisher::pair("s");
        publisher.publish([]);
        let snapshot = watcher.ready(&Context::background()).await.unwrap();
        assert_eq!(snapshot.state, State::Empty(Emptiness::Unknown));
    }

    #[test]
    fn a_list_from_disk_gives_way_to_any_answer_and_never_replaces_one() {
        let (publisher, watcher) = Publisher::pair("s");
        let age = Duration::from_secs(60);
        publisher.restore([Instance::new("s", "old")], age);
        publisher.fail(&down());
        assert_eq!(watcher.current().state, State::Disk { age });
        publisher.publish([Instance::new("s", "new")]);
        publisher.restore([Instance::new("s", "old")], age);
        assert_eq!((ids(&watcher.current()), watcher.current().state), (vec!["new"], State::Live));
    }

    proptest! {
        #[test]
        fn only_answers_change_the_list_and_revisions_never_shrink(
            steps in proptest::collection::vec((0..4_u8, proptest::collection::vec("[a-c]", 0..3)), 0..30)
        ) {
            let (publisher, watcher) = Publisher::pair("s");
            for (step, names) in steps {
                let before = watcher.current();
                let list: Vec<_> = names.iter().map(|id| Instance::new("s", id.as_str())).collect();
                match step {
                    0 => publisher.publish(list),
                    1 => publisher.publish_empty(Emptiness::Expired),
                    2 => publisher.fail(&down()),
                    _ => publisher.restore(list, Duration::ZERO),
                }
                let after = watcher.current();
                prop_assert!(after.revision == before.revision || after.revision == before.revision + 1);
                if step == 2 || (step == 3 && before.state != State::Pending) {
                    prop_assert_eq!(&after.instances, &before.instances);
                }
                if after.state == State::Pending || matches!(after.state, State::Empty(_)) {
                    prop_assert!(after.instances.is_empty());
                }
            }
        }
    }
}
