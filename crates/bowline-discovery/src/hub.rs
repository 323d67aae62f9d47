//! One source task per service, however many watch it.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bowline_core::Error;
use bowline_core::task::Tracker;

use crate::{Publisher, Watcher};

/// What an adapter keeps its sources in. The first watcher of a service starts the source's task, further ones share it;
/// it ends when the last watcher is gone or the hub is dropped.
///
/// ```
/// use bowline_core::Instance;
/// use bowline_discovery::{Discovery, Hub, Watcher};
///
/// struct Mine(Hub);
/// impl Discovery for Mine {
///     fn watch(&self, service: &str) -> Watcher {
///         let name = service.to_owned();
///         self.0.watch(service, |publisher| async move {
///             publisher.publish([Instance::new(name, "only")]); // and then follow the registry
///             std::future::pending().await
///         })
///     }
/// }
/// ```
#[derive(Default)]
pub struct Hub {
    sources: Arc<Sources>,
    tasks: Tracker,
}

#[derive(Default)]
struct Sources(Mutex<HashMap<Arc<str>, Publisher>>);

impl Hub {
    /// An empty hub.
    pub fn new() -> Self {
        Self::default()
    }

    /// A watcher of `service`. If nobody watches it yet, `source` makes the future that feeds the publisher; it is expected
    /// to run until it is dropped. Should it end or panic, the watchers keep the last list, marked stale, and the next call
    /// starts a new one.
    ///
    /// Outside a tokio runtime the watcher is a failed one, which says so.
    pub fn watch<F, Fut>(&self, service: &str, source: F) -> Watcher
    where
        F: FnOnce(Publisher) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        if tokio::runtime::Handle::try_current().is_err() {
            let error = Error::failed_precondition(format!(
                "`{service}` is watched outside a tokio runtime; call Discovery::watch from async code"
            ));
            return Watcher::failed(service, &error);
        }
        let mut sources = self.sources.lock();
        if let Some(publisher) = sources.get(service) {
            return publisher.watch();
        }
        let (publisher, watcher) = Publisher::pair(service);
        sources.insert(Arc::clone(&publisher.current().service), publisher.clone());
        drop(sources);
        let entry = Entry { sources: Arc::clone(&self.sources), publisher: publisher.clone() };
        let source = source(publisher);
        self.tasks.spawn(async move {
            tokio::select! {
                () = source => {}
                () = entry.unwatched() => {}
            }
        });
        watcher
    }

    /// How many services are followed.
    pub fn len(&self) -> usize {
        self.sources.lock().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Sources {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Publisher>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source's place in the hub, given up when its task ends in whatever way.
struct Entry {
    sources: Arc<Sources>,
    publisher: Publisher,
}

impl Entry {
    /// Returns once nobody watches and, because the place is given up under the same lock, nobody will.
    async fn unwatched(&self) {
        loop {
            self.publisher.unwatched().await;
            let mut sources = self.sources.lock();
            if !self.publisher.is_watched() {
                sources.remove(&self.publisher.current().service);
                return;
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut sources = self.sources.lock();
        let service = Arc::clone(&self.publisher.current().service);
        if sources.get(&service).is_some_and(|p| p.is_same(&self.publisher)) {
            sources.remove(&service);
        }
        drop(sources);
        self.publisher.fail(&Error::unavailable("its discovery was closed or ended"));
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("services", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::State;
    use bowline_core::{Context, Instance};

    #[derive(Clone, Default)]
    struct Runs {
        started: Arc<AtomicUsize>,
        alive: Arc<()>,
    }

    impl Runs {
        fn watch(&self, hub: &Hub, service: &str) -> Watcher {
            let runs = self.clone();
            hub.watch(service, |publisher| async move {
                let _alive = runs.alive;
                runs.started.fetch_add(1, Ordering::SeqCst);
                publisher.publish([Instance::new("s", "a")]);
                std::future::pending().await
            })
        }

        async fn ended(&self) {
            for _ in 0..1_000 {
                if Arc::strong_count(&self.alive) == 1 {
                    return;
                }
                tokio::task::yield_now().await;
            }
            panic!("a source still runs");
        }
    }

    #[tokio::test]
    async fn watchers_of_one_service_share_a_source_that_ends_with_the_last_of_them() {
        let (hub, runs) = (Hub::new(), Runs::default());
        let first = runs.watch(&hub, "s");
        let second = runs.watch(&hub, "s");
        second.ready(&Context::background()).await.unwrap();
        drop(first);
        assert_eq!((hub.len(), runs.started.load(Ordering::SeqCst)), (1, 1));
        drop(second);
        runs.ended().await;
        assert!(hub.is_empty());

        let third = runs.watch(&hub, "s");
        third.ready(&Context::background()).await.unwrap();
        assert_eq!(runs.started.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn dropping_the_hub_ends_its_sources_and_leaves_the_last_list_stale() {
        let (hub, runs) = (Hub::new(), Runs::default());
        let mut watcher = runs.watch(&hub, "s");
        watcher.ready(&Context::background()).await.unwrap();
        drop(hub);
        runs.ended().await;
        while !matches!(watcher.current().state, State::Stale { .. }) {
            watcher.changed().await;
        }
        assert_eq!(watcher.current().instances.len(), 1);
    }

    #[tokio::test]
    async fn a_source_that_panics_is_started_again_by_the_next_watcher() {
        let (hub, runs) = (Hub::new(), Runs::default());
        let broken = hub.watch("s", |_| async { panic!("a bug") });
        let error = broken.ready(&Context::background()).await.unwrap_err();
        assert!(error.message().contains("closed or ended"), "{error}");
        let watcher = runs.watch(&hub, "s");
        assert_eq!(watcher.ready(&Context::background()).await.unwrap().instances.len(), 1);
    }

    #[test]
    fn outside_a_runtime_the_watcher_says_what_is_wrong() {
        let watcher = Runs::default().watch(&Hub::new(), "s");
        assert!(watcher.current().fault.as_deref().is_some_and(|f| f.contains("tokio runtime")));
    }
}
