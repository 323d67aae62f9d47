//! Who waits for which service.
//!
//! A change does not carry anything to a watcher; it only marks the service as having news for it. The watcher looks into
//! the store when it is ready to send, and takes what it finds then: so a slow watcher holds nothing but a mark per service,
//! and however many changes it missed, it gets one message, or the whole list.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_core::Result;
use bowline_registry_bowline::api::bowline::registry::v1::registry_error;
use tokio::sync::Notify;

use crate::store::ServiceKey;

/// When a refused watcher may try again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// All watchers, by service.
#[derive(Debug)]
pub(crate) struct Fanout {
    state: Mutex<State>,
    limit: usize,
}

#[derive(Debug, Default)]
struct State {
    /// By service, then by watcher: which of the watcher's services it is.
    watched: HashMap<ServiceKey, HashMap<u64, (usize, Arc<Marks>)>>,
    watchers: usize,
    next: u64,
}

/// The services of one watcher that have news, each at most once, in the order in which they got them.
#[derive(Debug, Default)]
struct Marks {
    marked: Mutex<(VecDeque<usize>, Vec<bool>)>,
    news: Notify,
}

impl Marks {
    fn set(&self, service: usize) {
        let mut marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        let (order, is_marked) = &mut *marked;
        if let Some(mark) = is_marked.get_mut(service)
            && !std::mem::replace(mark, true)
        {
            order.push_back(service);
            drop(marked);
            self.news.notify_one();
        }
    }

    fn take(&self) -> Option<usize> {
        let mut marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        let service = marked.0.pop_front()?;
        if let Some(mark) = marked.1.get_mut(service) {
            *mark = false;
        }
        Some(service)
    }
}

impl Fanout {
    /// Nobody watches yet; at most `limit` will.
    pub(crate) fn new(limit: usize) -> Self {
        Self { state: Mutex::default(), limit }
    }

    /// How many watch.
    pub(crate) fn len(&self) -> usize {
        self.lock().watchers
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to watch. All services are marked from the start.
    ///
    /// # Errors
    /// `TOO_MANY_WATCHERS`.
    pub(crate) fn watch(self: &Arc<Self>, services: Vec<ServiceKey>) -> Result<Watching> {
        let mut state = self.lock();
        if state.watchers >= self.limit {
            return Err(registry_error::too_many_watchers()
                .with_message(format!(
                    "there are {} watchers; try another node or raise `limits.watchers` of the registry",
                    self.limit
                ))
                .with_retry_after(RETRY_AFTER));
        }
        state.watchers += 1;
        state.next += 1;
        let number = state.next;
        let marks = Marks {
            marked: Mutex::new(((0..services.len()).collect(), vec![true; services.len()])),
            news: Notify::new(),
        };
        let marks = Arc::new(marks);
        for (n, key) in services.iter().enumerate() {
            state.watched.entry(key.clone()).or_default().insert(number, (n, Arc::clone(&marks)));
        }
        drop(state);
        Ok(Watching { fanout: Arc::clone(self), number, services, marks })
    }

    /// Tells those who watch these services that there are news.
    pub(crate) fn notify(&self, changed: &[ServiceKey]) {
        if changed.is_empty() {
            return;
        }
        let state = self.lock();
        for key in changed {
            for (service, marks) in state.watched.get(key).into_iter().flat_map(HashMap::values) {
                marks.set(*service);
            }
        }
    }
}

/// One watcher's place. Dropping it gives the place up.
#[derive(Debug)]
pub(crate) struct Watching {
    fanout: Arc<Fanout>,
    number: u64,
    services: Vec<ServiceKey>,
    marks: Arc<Marks>,
}

impl Watching {
    /// A service that has news, by its place in the list given to [`Fanout::watch`]. The mark is gone then: look at the
    /// service after, not before.
    pub(crate) fn take(&self) -> Option<usize> {
        self.marks.take()
    }

    /// Waits until [`Watching::take`] may have something. Wakes up for nothing at times.
    pub(crate) async fn news(&self) {
        self.marks.news.notified().await;
    }

    /// The services.
    pub(crate) fn services(&self) -> &[ServiceKey] {
        &self.services
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut state = self.fanout.lock();
        state.watchers -= 1;
        for key in &self.services {
            if let Some(watchers) = state.watched.get_mut(key) {
                watchers.remove(&self.number);
                if watchers.is_empty() {
                    state.watched.remove(key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(service: &str) -> ServiceKey {
        ServiceKey::new("", "", service).unwrap()
    }

    fn drain(watching: &Watching) -> Vec<usize> {
        std::iter::from_fn(|| watching.take()).collect()
    }

    #[tokio::test]
    async fn many_changes_leave_one_mark_per_service() {
        let fanout = Arc::new(Fanout::new(9));
        let watching = fanout.watch(vec![key("a"), key("b")]).unwrap();
        assert_eq!(drain(&watching), [0, 1], "at first there is everything to be told");
        for _ in 0..1_000 {
            fanout.notify(&[key("b"), key("c")]);
        }
        watching.news().await;
        assert_eq!(drain(&watching), [1]);
    }

    #[test]
    fn watchers_are_limited_and_give_their_place_up() {
        let fanout = Arc::new(Fanout::new(1));
        let watching = fanout.watch(vec![key("a")]).unwrap();
        let error = fanout.watch(vec![key("a")]).unwrap_err();
        assert!(registry_error::is_too_many_watchers(&error) && error.is_temporary(), "{error:?}");
        drop(watching);
        assert!(fanout.lock().watched.is_empty());
        fanout.watch(vec![key("a")]).unwrap();
    }
}
