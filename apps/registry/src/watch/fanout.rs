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

use super::prepared::Prepared;
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
    watched: HashMap<ServiceKey, Watched>,
    /// Who takes up services as they appear, by watcher.
    following: HashMap<u64, (Following, Arc<Marks>)>,
    watchers: usize,
    next: u64,
}

/// A service that somebody watches.
#[derive(Debug, Default)]
struct Watched {
    /// By watcher: which of the watcher's services it is.
    watchers: HashMap<u64, (usize, Arc<Marks>)>,
    prepared: Arc<Prepared>,
}

/// Services that a watcher takes up as they appear: those of a namespace and environment with one of these prefixes.
#[derive(Clone, Debug)]
pub(crate) struct Following {
    pub(crate) namespace: String,
    pub(crate) env: String,
    pub(crate) prefixes: Vec<String>,
    /// How many services the watcher named besides; these are its first.
    pub(crate) named: usize,
    /// How many services the watcher has at most, of those that are not forgotten.
    pub(crate) most: usize,
}

impl Following {
    /// Whether it takes a service up.
    pub(crate) fn takes(&self, key: &ServiceKey) -> bool {
        key.namespace() == self.namespace
            && !key.is_slots()
            && key.env() == self.env
            && self.prefixes.iter().any(|prefix| key.service().starts_with(prefix))
    }
}

/// The services of one watcher, and which have news: each at most once, in the order in which they got them.
#[derive(Debug, Default)]
struct Marks {
    marked: Mutex<Marked>,
    news: Notify,
}

/// One service of a watcher, and what it is told in common with others.
pub(super) type Service = (ServiceKey, Arc<Prepared>);

#[derive(Debug, Default)]
struct Marked {
    places: Vec<Place>,
    /// Places of services that are forgotten, for others.
    free: Vec<usize>,
    order: VecDeque<usize>,
    /// There were more services to take up than the watcher may have.
    overflown: bool,
}

/// A watcher's place for a service.
#[derive(Debug)]
struct Place {
    /// `None` once it is forgotten.
    service: Option<Service>,
    is_marked: bool,
    /// Whether another service was here before, and this one was never taken.
    is_another: bool,
}

impl Marked {
    fn mark(&mut self, number: usize) -> bool {
        let Some(place) = self.places.get_mut(number) else { return false };
        let is_news = !std::mem::replace(&mut place.is_marked, true);
        if is_news {
            self.order.push_back(number);
        }
        is_news
    }

    /// One service more, marked; if there is room.
    fn add(&mut self, service: Service, most: usize) -> Option<usize> {
        let place = Place { service: Some(service), is_marked: false, is_another: false };
        let number = match self.free.pop() {
            Some(free) => {
                *self.places.get_mut(free)? = Place { is_another: true, ..place };
                free
            }
            None if self.places.len() < most => {
                self.places.push(place);
                self.places.len() - 1
            }
            None => return None,
        };
        self.mark(number);
        Some(number)
    }

    /// Gives a place up, unless the watcher has still to be told of the service. Returns whether it did.
    fn give_up(&mut self, number: usize) -> bool {
        let Some(place) = self.places.get_mut(number).filter(|place| !place.is_marked) else { return false };
        place.service = None;
        self.free.push(number);
        true
    }
}

impl Marks {
    fn lock(&self) -> MutexGuard<'_, Marked> {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, service: usize) {
        if self.lock().mark(service) {
            self.news.notify_one();
        }
    }
}

impl State {
    /// A watcher has one service more, if it may.
    fn take_up(&mut self, number: u64, key: &ServiceKey, marks: &Arc<Marks>, most: usize) {
        let Watched { watchers, prepared } = self.watched.entry(key.clone()).or_default();
        if watchers.contains_key(&number) {
            return;
        }
        let mut marked = marks.lock();
        match marked.add((key.clone(), Arc::clone(prepared)), most) {
            Some(service) => _ = watchers.insert(number, (service, Arc::clone(marks))),
            None => marked.overflown = true,
        }
        drop(marked);
        marks.news.notify_one();
        if watchers.is_empty() {
            self.watched.remove(key);
        }
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
        let (number, marks) = (state.next, Arc::new(Marks::default()));
        for key in services {
            state.take_up(number, &key, &marks, usize::MAX);
        }
        drop(state);
        Ok(Watching { fanout: Arc::clone(self), number, marks })
    }

    /// These services are forgotten: who took them up gives up their places. If they appear again, they are new.
    pub(crate) fn forget(&self, forgotten: &[ServiceKey]) {
        if forgotten.is_empty() {
            return;
        }
        let mut state = self.lock();
        let State { watched, following, .. } = &mut *state;
        for key in forgotten {
            let Some(found) = watched.get_mut(key) else { continue };
            // What somebody named is watched for as long as that lasts.
            found.watchers.retain(|watcher, (place, marks)| {
                let took_up = following.get(watcher).is_some_and(|(f, _)| *place >= f.named && f.takes(key));
                !took_up || !marks.lock().give_up(*place)
            });
            if found.watchers.is_empty() {
                watched.remove(key);
            }
        }
    }

    /// Tells those who watch these services that there are news.
    pub(crate) fn notify(&self, changed: &[ServiceKey]) {
        if changed.is_empty() {
            return;
        }
        let mut state = self.lock();
        for key in changed {
            for (service, marks) in state.watched.get(key).into_iter().flat_map(|w| w.watchers.values()) {
                marks.set(*service);
            }
            let following = state.following.iter().filter(|(_, (following, _))| following.takes(key));
            let following: Vec<_> =
                following.map(|(n, (f, marks))| (*n, Arc::clone(marks), f.most)).collect();
            for (number, marks, most) in following {
                state.take_up(number, key, &marks, most);
            }
        }
    }
}

/// One watcher's place. Dropping it gives the place up.
#[derive(Debug)]
pub(crate) struct Watching {
    fanout: Arc<Fanout>,
    number: u64,
    marks: Arc<Marks>,
}

impl Watching {
    /// Takes up services as they appear, from now on, and those that are there: look for them after, not before.
    pub(crate) fn follow(&self, following: Following, there: impl FnOnce() -> Vec<ServiceKey>) {
        let most = following.most;
        self.fanout.lock().following.insert(self.number, (following, Arc::clone(&self.marks)));
        let there = there();
        let mut state = self.fanout.lock();
        for key in there {
            state.take_up(self.number, &key, &self.marks, most);
        }
    }

    /// Whether there are more services to follow than it may have.
    pub(crate) fn is_overflown(&self) -> bool {
        self.marks.lock().overflown
    }

    /// A service that has news, and its number among the watcher's services, which begin with those given to
    /// [`Fanout::watch`]. The mark is gone then: look at the service after, not before.
    pub(crate) fn take(&self) -> Option<(usize, ServiceKey)> {
        self.take_prepared().map(|(number, (key, _), _)| (number, key))
    }

    /// As [`Watching::take`], with what all watchers of the service are told, and whether another service had this number until
    /// now.
    pub(super) fn take_prepared(&self) -> Option<(usize, Service, bool)> {
        let mut marked = self.marks.lock();
        loop {
            let number = marked.order.pop_front()?;
            let Some(place) = marked.places.get_mut(number) else { continue };
            place.is_marked = false;
            let is_another = std::mem::take(&mut place.is_another);
            if let Some(service) = &place.service {
                return Some((number, service.clone(), is_another));
            }
        }
    }

    /// Waits until [`Watching::take`] may have something. Wakes up for nothing at times.
    pub(crate) async fn news(&self) {
        self.marks.news.notified().await;
    }

    /// The services.
    pub(crate) fn services(&self) -> Vec<ServiceKey> {
        let marked = self.marks.lock();
        marked.places.iter().filter_map(|place| Some(place.service.as_ref()?.0.clone())).collect()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut state = self.fanout.lock();
        state.watchers -= 1;
        state.following.remove(&self.number);
        for key in self.services() {
            if let Some(watched) = state.watched.get_mut(&key) {
                watched.watchers.remove(&self.number);
                if watched.watchers.is_empty() {
                    state.watched.remove(&key);
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
        std::iter::from_fn(|| watching.take()).map(|(service, _)| service).collect()
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

    #[test]
    fn services_under_a_prefix_are_taken_up_as_they_appear_each_once_and_no_more_than_allowed() {
        let fanout = Arc::new(Fanout::new(9));
        let watching = fanout.watch(vec![key("shop.a")]).unwrap();
        let (namespace, env, prefixes) = ("default".into(), "default".into(), vec!["shop.".into()]);
        let following = Following { namespace, env, prefixes, named: 1, most: 3 };
        watching.follow(following, || vec![key("shop.a"), key("shop.b")]);
        fanout.notify(&[key("shop.c"), key("other"), key("shop.c")]);
        assert_eq!(drain(&watching), [0, 1, 2]);
        assert_eq!(watching.services(), [key("shop.a"), key("shop.b"), key("shop.c")]);
        assert!(!watching.is_overflown());
        fanout.notify(&[key("shop.d")]);
        assert!(watching.is_overflown() && !fanout.lock().watched.contains_key(&key("shop.d")));
        drop(watching);
        assert!(fanout.lock().watched.is_empty() && fanout.lock().following.is_empty());
    }

    #[test]
    fn services_that_are_forgotten_leave_their_places_to_others() {
        let fanout = Arc::new(Fanout::new(9));
        let watching = fanout.watch(vec![key("shop.a")]).unwrap();
        let (namespace, env, prefixes) = ("default".into(), "default".into(), vec!["shop.".into()]);
        watching.follow(Following { namespace, env, prefixes, named: 1, most: 3 }, Vec::new);
        let mut told = Vec::new();
        for n in 0..100 {
            let (come, gone) = (key(&format!("shop.s{n}")), key(&format!("shop.s{}", n + 1)));
            fanout.notify(&[come.clone(), gone.clone()]);
            // What is still to be told is not given up; what was named never is.
            fanout.forget(&[gone.clone(), key("shop.a")]);
            told.extend(
                std::iter::from_fn(|| watching.take_prepared()).map(|(n, (key, _), new)| (n, key, new)),
            );
            fanout.forget(&[come, gone]);
        }
        assert!(!watching.is_overflown());
        assert_eq!(watching.services(), [key("shop.a")]);
        assert_eq!(told.len(), 201);
        assert!(
            told[..3].iter().all(|(.., another)| !another) && told[3..].iter().all(|(.., another)| *another)
        );
        assert_eq!(fanout.lock().watched.len(), 1);
        fanout.notify(&[key("shop.a")]);
        assert_eq!(drain(&watching), [0]);
        drop(watching);
        assert!(fanout.lock().watched.is_empty());
    }
}
