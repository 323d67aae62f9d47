//! Which services are watched, and by whom the news are awaited.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bowline_core::{Error, Result};
use bowline_discovery::Publisher;
use tokio::sync::Notify;

/// A watched service: a number of its own, so that one that was let go and taken up again is another one.
pub(crate) type Subscribed = (u64, Publisher);

/// The services that the one watch stream follows.
#[derive(Default)]
pub(crate) struct Subscriptions {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    services: BTreeMap<Arc<str>, Subscribed>,
    next: u64,
}

impl Subscriptions {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a service until the result is dropped.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there are `limit` already.
    pub(crate) fn add(
        self: &Arc<Self>,
        service: &str,
        publisher: Publisher,
        limit: usize,
    ) -> Result<Subscription> {
        let mut state = self.lock();
        if state.services.len() >= limit && !state.services.contains_key(service) {
            return Err(Error::resource_exhausted(format!(
                "{limit} services are watched already; raise `max_services` of the registry client, or watch fewer"
            )));
        }
        state.next += 1;
        let (number, service) = (state.next, Arc::<str>::from(service));
        state.services.insert(Arc::clone(&service), (number, publisher));
        drop(state);
        self.changed.notify_one();
        Ok(Subscription { all: Arc::clone(self), service, number })
    }

    /// All that are followed now.
    pub(crate) fn current(&self) -> BTreeMap<Arc<str>, Subscribed> {
        self.lock().services.clone()
    }

    /// Waits for a change since the last call.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// A service that is followed until this is dropped.
pub(crate) struct Subscription {
    all: Arc<Subscriptions>,
    service: Arc<str>,
    number: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.all.lock();
        if state.services.get(&self.service).is_some_and(|(number, _)| *number == self.number) {
            state.services.remove(&self.service);
        }
        drop(state);
        self.all.changed.notify_one();
    }
}
