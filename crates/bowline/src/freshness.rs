//! How old is what we know of others?
//!
//! A list from disk, or the last one of a registry that is silent, keeps an application at work. But whoever looks after it
//! must see that it works from memory: it says so in its log, and in `/metrics` until the registry answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_core::Instant;
use bowline_discovery::{Discovery, Hub, Snapshot, State, Watcher};
use bowline_telemetry::Metrics;

/// A discovery whose lists' ages are told: the one place that sees every service the application follows.
pub(crate) struct Overseen {
    inner: Arc<dyn Discovery>,
    hub: Hub,
    ages: Ages,
}

impl Overseen {
    /// Tells the ages of what `inner` says, in the log and in `metrics`.
    pub(crate) fn new(inner: Arc<dyn Discovery>, metrics: &Metrics) -> Self {
        let ages = Ages::default();
        let told = ages.clone();
        metrics.gauges(
            "bowline_discovery_snapshot_age_seconds",
            "How old the list of a service's instances is; 0 while the registry stands behind it",
            "service",
            move || told.seconds(),
        );
        Self { inner, hub: Hub::new(), ages }
    }
}

impl Discovery for Overseen {
    fn watch(&self, service: &str) -> Watcher {
        let (inner, ages, name) = (Arc::clone(&self.inner), self.ages.clone(), service.to_owned());
        self.hub.watch(service, |publisher| async move {
            let mut inner = inner.watch(&name);
            let mut followed = Followed { ages, service: name };
            let mut snapshot = inner.current();
            loop {
                publisher.relay(&snapshot);
                followed.note(&snapshot);
                snapshot = inner.changed().await;
            }
        })
    }
}

/// Of what time a list is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Freshness {
    Live,
    /// So old at that moment.
    Disk(Duration, Instant),
    /// The registry stood behind it until then.
    Stale(Instant),
}

impl Freshness {
    /// `None` where there is no list yet.
    fn of(state: State) -> Option<Self> {
        match state {
            State::Pending => None,
            State::Live | State::Empty(_) => Some(Self::Live),
            State::Disk { age } => Some(Self::Disk(age, Instant::now())),
            State::Stale { since } => Some(Self::Stale(since)),
        }
    }

    fn age(self) -> Duration {
        match self {
            Self::Live => Duration::ZERO,
            Self::Disk(age, read) => age + read.elapsed(),
            Self::Stale(since) => since.elapsed(),
        }
    }

    /// Whether both are of the same kind.
    fn is_like(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

#[derive(Clone, Default)]
struct Ages(Arc<Mutex<BTreeMap<String, Freshness>>>);

impl Ages {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Freshness>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seconds(&self) -> Vec<(String, f64)> {
        self.lock().iter().map(|(service, of)| (service.clone(), of.age().as_secs_f64())).collect()
    }
}

/// A service that somebody follows. Its age is shown as long as that.
struct Followed {
    ages: Ages,
    service: String,
}

impl Followed {
    fn note(&mut self, snapshot: &Snapshot) {
        let Some(new) = Freshness::of(snapshot.state) else { return };
        let mut ages = self.ages.lock();
        let old = ages.get(&self.service).copied();
        if old.is_some_and(|old| old.is_like(new)) {
            return;
        }
        ages.insert(self.service.clone(), new);
        drop(ages);
        let (service, instances) = (&*self.service, snapshot.instances.len());
        let fault = snapshot.fault.as_deref().unwrap_or("it has not answered yet");
        match (old, new) {
            (_, Freshness::Disk(age, _)) => {
                tracing::warn!(
                    service,
                    age_s = age.as_secs(),
                    instances,
                    fault,
                    "a list from disk is used: the registry is not there"
                );
            }
            (_, Freshness::Stale(_)) => {
                tracing::warn!(
                    service,
                    instances,
                    fault,
                    "the last list is used on: the registry is not there any more"
                );
            }
            (Some(old), Freshness::Live) => {
                let age_s = old.age().as_secs();
                tracing::info!(service, age_s, instances, "the list is live again: the registry answers");
            }
            (None, Freshness::Live) => {}
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.ages.lock().remove(&self.service);
    }
}

#[cfg(test)]
mod tests {
    use bowline_core::{Error, Instance};
    use bowline_discovery::Publisher;

    use super::*;

    /// A registry of one service.
    struct One(Publisher);

    impl Discovery for One {
        fn watch(&self, _: &str) -> Watcher {
            self.0.watch()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_age_of_a_list_is_shown_while_somebody_follows_it() {
        let (publisher, _kept) = Publisher::pair("s");
        let metrics = Metrics::new();
        let overseen = Overseen::new(Arc::new(One(publisher.clone())), &metrics);
        let shown = || {
            let page = metrics.encode().unwrap();
            let line = page
                .lines()
                .find_map(|line| line.strip_prefix("bowline_discovery_snapshot_age_seconds{service=\"s\"} "));
            line.map(|age| age.parse::<f64>().unwrap().round() as u64)
        };
        let mut watcher = overseen.watch("s");
        let second = Duration::from_secs(1);

        publisher.fail(&Error::unavailable("down"));
        assert_eq!(watcher.changed().await.fault.as_deref(), Some("down"));
        assert_eq!(shown(), None, "nothing is known, so nothing is old");
        publisher.restore([Instance::new("s", "a")], 90 * second);
        assert_eq!(watcher.changed().await.state, State::Disk { age: 90 * second });
        tokio::time::advance(10 * second).await;
        assert_eq!(shown(), Some(100));

        publisher.publish([Instance::new("s", "a")]);
        assert_eq!(watcher.changed().await.state, State::Live);
        tokio::time::advance(10 * second).await;
        assert_eq!(shown(), Some(0));

        publisher.fail(&Error::unavailable("down"));
        assert!(matches!(watcher.changed().await.state, State::Stale { .. }));
        tokio::time::advance(5 * second).await;
        assert_eq!(shown(), Some(5));

        drop(watcher);
        while shown().is_some() {
            tokio::task::yield_now().await;
        }
    }
}
