//! The adapter.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bowline_core::task::Tracker;
use bowline_core::{Code, Context, Endpoint, Error, Instance, Result, Rng, SystemRng};
use bowline_discovery::{
    Announce, Announcer, AnnouncerOptions, BoxFuture, Discovery, Hold, Hub, Registrar, Registration, Watcher,
};

use crate::api::{
    DEREGISTER, InstanceRequest, InstanceResponse, QueryServiceResponse, REGISTER, ServiceQueryRequest,
};
use crate::convert::{self, Holder, Written};
use crate::options::Options;
use crate::session::{Session, Shared};
use crate::source::Source;

/// Nacos as a [`Registrar`] and a [`Discovery`].
///
/// Attempts go on for ever, with exponential backoff and jitter. See the [crate] for the layout and for what the watchers see
/// when Nacos fails. Wrap it into [`DiskSnapshots`](bowline_discovery::DiskSnapshots) to start while it is gone.
///
/// ```
/// use bowline_core::{Context, Endpoint, Instance};
/// use bowline_discovery::{Discovery, Registrar};
/// use bowline_registry_nacos::{NacosRegistry, Options};
///
/// async fn example() -> bowline_core::Result<()> {
///     let (servers, options) = Options::from_url("nacos://127.0.0.1:8848")?;
///     let registry = NacosRegistry::new(servers, options)?;
///     let cx = Context::background().with_timeout(std::time::Duration::from_secs(10));
///     let instance = Instance::new("catalog", "catalog-1").with_endpoint(Endpoint::http("10.0.0.1", 8000));
///     let registration = registry.register(&cx, instance).await?;
///     let catalog = registry.watch("catalog").ready(&cx).await?;
///     registration.deregister(&cx).await
/// }
/// ```
pub struct NacosRegistry {
    nacos: Nacos,
    announcer: Announcer<Nacos>,
    hub: Hub,
}

#[derive(Clone)]
struct Nacos(Arc<Lanes>);

/// The connections of a process. The first one is for watching too.
struct Lanes {
    shared: Arc<Shared>,
    state: Mutex<State>,
    tasks: Tracker,
}

struct State {
    lanes: Vec<Arc<Lane>>,
    /// Where each registration is, by its number.
    places: HashMap<u64, Place>,
}

/// Where a registration is.
#[derive(Clone)]
struct Place {
    lane: Arc<Lane>,
    service: Arc<str>,
    /// Grows with each time that it is registered: an earlier hold has no say any more.
    times: u64,
    /// What was sent last.
    sent: Option<Written>,
}

/// A connection that is made anew when it breaks.
pub(crate) struct Lane {
    shared: Arc<Shared>,
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
    next: AtomicUsize,
    /// The services of which there is an instance here.
    taken: Mutex<BTreeSet<Arc<str>>>,
}

impl Lane {
    fn new(shared: &Arc<Shared>) -> Self {
        // Processes do not all begin with the same server.
        let next = AtomicUsize::new((SystemRng.next_u64() % 1_024) as usize);
        Self {
            shared: Arc::clone(shared),
            session: tokio::sync::Mutex::default(),
            next,
            taken: Mutex::default(),
        }
    }

    pub(crate) fn options(&self) -> &Options {
        &self.shared.options
    }

    /// The connection, made if there is none.
    ///
    /// # Errors
    /// Why the server whose turn it is could not be reached.
    pub(crate) async fn session(&self) -> Result<Arc<Session>> {
        let mut session = self.session.lock().await;
        if let Some(open) = session.as_ref().filter(|session| !session.has_ended()) {
            return Ok(Arc::clone(open));
        }
        // The old one is ended before there is another.
        *session = None;
        let servers = &self.shared.servers;
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % servers.len().max(1);
        let server =
            servers.get(turn).ok_or_else(|| Error::invalid_argument("there is no server of Nacos"))?;
        let open = Session::open(&self.shared, server).await;
        let open = Arc::new(open.map_err(|e| e.context(format!("connecting to Nacos at {server}")))?);
        *session = Some(Arc::clone(&open));
        Ok(open)
    }

    /// The connection, if there is one.
    async fn open_session(&self) -> Option<Arc<Session>> {
        self.session.lock().await.clone().filter(|session| !session.has_ended())
    }

    fn taken(&self) -> MutexGuard<'_, BTreeSet<Arc<str>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl Lanes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first one.
    fn first(&self) -> Arc<Lane> {
        let mut state = self.state();
        if state.lanes.is_empty() {
            state.lanes.push(Arc::new(Lane::new(&self.shared)));
        }
        Arc::clone(&state.lanes[0])
    }

    /// A place for a registration: where it is, or the first connection without an instance of the service.
    fn place(&self, instance: &Instance, number: u64) -> Place {
        self.first();
        let mut state = self.state();
        if let Some(place) = state.places.get_mut(&number) {
            place.times += 1;
            return place.clone();
        }
        let service = &instance.service;
        let free = state.lanes.iter().find(|lane| !lane.taken().contains(service)).cloned();
        let lane = free.unwrap_or_else(|| {
            let lane = Arc::new(Lane::new(&self.shared));
            state.lanes.push(Arc::clone(&lane));
            lane
        });
        lane.taken().insert(Arc::clone(service));
        let place = Place { lane, service: Arc::clone(service), times: 1, sent: None };
        state.places.insert(number, place.clone());
        place
    }

    /// Gives a registration's place up, unless it was registered again since. One that was not even tried leaves it to the
    /// time before.
    fn leave(&self, number: u64, times: u64, was_tried: bool) -> Option<Place> {
        let mut state = self.state();
        let place = state.places.get_mut(&number).filter(|place| place.times == times)?;
        if !was_tried && times > 1 {
            place.times -= 1;
            return None;
        }
        state.places.remove(&number)
    }

    /// What is left of a place is free for others. A connection that nobody needs is ended; the first one stays.
    fn free(&self, place: &Place) {
        place.lane.taken().remove(&place.service);
        let mut state = self.state();
        let first = state.lanes.first().cloned();
        state.lanes.retain(|lane| {
            first.as_ref().is_some_and(|first| Arc::ptr_eq(first, lane)) || !lane.taken().is_empty()
        });
    }

    fn request(&self, kind: &str, written: &Written, nth: usize) -> InstanceRequest {
        InstanceRequest {
            namespace: self.shared.options.namespace.clone(),
            group_name: self.shared.options.group.clone(),
            service_name: written.services[nth].clone(),
            kind: kind.to_owned(),
            instance: written.instance(nth),
            ..Default::default()
        }
    }

    async fn send(&self, session: &Session, kind: &str, written: &Written) -> Result<()> {
        for nth in 0..written.services.len() {
            let _: InstanceResponse = session.ask(&self.request(kind, written, nth)).await?;
        }
        Ok(())
    }

    /// How many instances of a service this process has registered.
    fn own(&self, service: &str) -> usize {
        self.state().places.values().filter(|place| &*place.service == service).count()
    }

    /// Who has an instance's id in Nacos, the latest of them; and how many instances there are of its service.
    async fn holder(
        &self,
        session: &Session,
        instance: &Instance,
        written: &Written,
    ) -> Result<(Option<Holder>, usize)> {
        let options = &self.shared.options;
        let request = ServiceQueryRequest {
            namespace: options.namespace.clone(),
            group_name: options.group.clone(),
            service_name: written.services[0].clone(),
            ..Default::default()
        };
        let info = session.ask::<QueryServiceResponse>(&request).await?.service_info;
        let env = if instance.env.is_empty() { &options.env } else { &instance.env };
        let read =
            info.hosts.iter().filter_map(|host| convert::read(host, &instance.service, env).ok().flatten());
        let holder = read.filter(|read| read.instance.id == instance.id).map(|read| read.holder).max();
        Ok((holder, info.hosts.len()))
    }
}

impl NacosRegistry {
    /// Nacos at these addresses, which are those of its HTTP. No connection is made before there is something to do.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if an option makes no sense or there is no address.
    pub fn new(servers: Vec<Endpoint>, options: Options) -> Result<Self> {
        options.check()?;
        if servers.is_empty() {
            return Err(Error::invalid_argument("there is no address of Nacos; give at least one"));
        }
        let mut announcing = AnnouncerOptions::default();
        announcing.patience = options.patience;
        announcing.backoff_first = options.backoff_first;
        announcing.backoff_max = options.backoff_max;
        announcing.lease = options.check;
        let shared = Arc::new(Shared::new(servers, options));
        let state = Mutex::new(State { lanes: Vec::new(), places: HashMap::new() });
        let nacos = Nacos(Arc::new(Lanes { shared, state, tasks: Tracker::new() }));
        Ok(Self { announcer: Announcer::new(nacos.clone(), announcing), nacos, hub: Hub::new() })
    }
}

impl fmt::Debug for NacosRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NacosRegistry").field("watched", &self.hub.len()).finish_non_exhaustive()
    }
}

fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Announce for Nacos {
    type Hold = Held;

    async fn announce(&self, instance: &Instance, number: u64, only_if_free: bool) -> Result<Held> {
        let lanes = &self.0;
        let holder = Holder { since: now_millis(), number };
        let written = convert::write(instance, &lanes.shared.options.env, holder)?;
        let place = lanes.place(instance, number);
        // Until it is registered this gives the place up when dropped.
        let mut held = Held {
            lanes: Arc::clone(lanes),
            times: place.times,
            instance: instance.clone(),
            written,
            holder,
            session: None,
        };
        let session = place.lane.session().await?;
        if only_if_free
            && let (Some(other), _) = lanes.holder(&session, instance, &held.written).await?
            && other.number != number
        {
            let what = format!("another process has registered `{}` of `{}`", instance.id, instance.service);
            return Err(Error::new(Code::AlreadyExists, what));
        }
        held.session = Some(Arc::clone(&session));
        // One that moved is not where it was; Nacos would not know the two for one.
        if let Some(before) = place.sent.filter(|before| !before.is_at(&held.written)) {
            lanes.send(&session, DEREGISTER, &before).await?;
        }
        if let Some(place) = lanes.state().places.get_mut(&number) {
            place.sent = Some(held.written.clone());
        }
        lanes.send(&session, REGISTER, &held.written).await?;
        Ok(held)
    }

    async fn withdraw(&self, instance: &Instance, number: u64) -> Result<()> {
        let lanes = &self.0;
        let Some(place) = lanes.state().places.get(&number).cloned() else { return Ok(()) };
        // With its connection it went already. Nacos takes out what this connection registered, and nobody else's.
        if let Some(session) = place.lane.open_session().await {
            let written = convert::write(instance, &lanes.shared.options.env, Holder { since: 0, number })?;
            lanes.send(&session, DEREGISTER, &written).await?;
        }
        lanes.state().places.remove(&number);
        lanes.free(&place);
        Ok(())
    }
}

/// A registration that lasts until this is dropped, or its connection breaks.
struct Held {
    lanes: Arc<Lanes>,
    times: u64,
    instance: Instance,
    written: Written,
    holder: Holder,
    session: Option<Arc<Session>>,
}

impl Hold for Held {
    /// The connection broke, Nacos has lost the instance, or somebody took its id over.
    async fn lost(&mut self) {
        let Some(session) = self.session.clone() else { return };
        let mut instances = self.lanes.own(&self.instance.service);
        loop {
            // All of a service are asked for to find one, and each of them asks: so that it is not too much for many.
            let check = self
                .lanes
                .shared
                .options
                .check
                .saturating_mul(1 + u32::try_from(instances / 50).unwrap_or(u32::MAX));
            tokio::select! {
                () = session.ended() => return,
                () = tokio::time::sleep(check - SystemRng.jitter(check / 2)) => {
                    // That it cannot be asked is the connection's trouble.
                    let found = self.lanes.holder(&session, &self.instance, &self.written).await;
                    let Ok((holder, count)) = found else { continue };
                    if holder.is_none_or(|holder| holder.number != self.holder.number) {
                        return;
                    }
                    instances = count;
                }
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let lanes = Arc::clone(&self.lanes);
        let was_tried = self.session.is_some();
        let Some(place) = lanes.leave(self.holder.number, self.times, was_tried) else { return };
        let Some(session) = self.session.take().filter(|session| !session.has_ended()) else {
            return lanes.free(&place);
        };
        if tokio::runtime::Handle::try_current().is_err() {
            return lanes.free(&place);
        }
        // The connection lives on for others, so that it has to be said. Until then nobody else uses the place.
        let (written, id) = (self.written.clone(), self.instance.id.clone());
        let ending = Arc::clone(&lanes);
        lanes.tasks.spawn(async move {
            if let Err(error) = ending.send(&session, DEREGISTER, &written).await {
                tracing::debug!(instance = %id, %error, "an instance that is gone could not be deregistered");
            }
            ending.free(&place);
        });
    }
}

impl Registrar for NacosRegistry {
    fn register<'a>(
        &'a self,
        cx: &'a Context,
        instance: Instance,
    ) -> BoxFuture<'a, Result<Box<dyn Registration>>> {
        self.announcer.register(cx, instance)
    }
}

impl Discovery for NacosRegistry {
    fn watch(&self, service: &str) -> Watcher {
        if service.is_empty() || service.contains("@@") {
            let error =
                Error::invalid_argument(format!("`{service}` is no service: use a name without `@@`"));
            return Watcher::failed(service, &error);
        }
        let lane = self.nacos.0.first();
        self.hub.watch(service, |publisher| Source::new(lane, publisher).run())
    }
}
