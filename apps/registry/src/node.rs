//! A node: the store, who watches it, and the task that lets leases run out.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bowline_core::{Clock, Context, Error, Instant, Result, Rng, SystemClock, SystemRng};
use bowline_registry_bowline::api::bowline::registry::v1::registry;
use bowline_rpc::ServiceDef;
use bowline_server::{Fallback, Middleware};
use bowline_telemetry::Metrics;
use tokio::sync::{Notify, watch};

use crate::Config;
use crate::access::{Access, Guard, Right};
use crate::api::Api;
use crate::cluster::{Front, Links};
use crate::peers::{Member, Peers, node_number};
use crate::predecessors::Predecessors;
use crate::store::{Counts, List, News, Owner, ServiceKey, Store};
use crate::watch::{Admission, Fanout, Pace};

/// How many leases run out at a time before others get to the store again.
const BATCH: usize = 1_000;
/// How often a node looks after its store, at least.
const LOOK: Duration = Duration::from_millis(500);
/// How often what lost nodes left behind is swept.
const SWEEP: Duration = Duration::from_secs(10);

/// A registry node. A clone is the same node.
///
/// Mount [`Node::service_def`] on a server and run [`Node::run`] beside it; without the latter no lease ever runs out.
///
/// ```
/// use bowline_registry::{Config, Node};
///
/// let node = Node::new(Config::default())?;
/// let service = node.service_def();
/// assert_eq!(service.name(), "bowline.registry.v1.Registry");
/// # Ok::<_, bowline_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Node(Arc<Shared>);

/// What the parts of a node share. The store's lock is held for look-ups and changes only, never across an await.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) epoch: u64,
    pub(crate) access: Access,
    pub(crate) fanout: Arc<Fanout>,
    pub(crate) admission: Arc<Admission>,
    clock: Arc<dyn Clock>,
    started: Instant,
    started_at: SystemTime,
    pub(crate) own: Member,
    store: Mutex<Store>,
    pub(crate) peers: Mutex<Peers>,
    /// The streams to other nodes, if there may be some.
    pub(crate) links: OnceLock<Weak<Links>>,
    /// Where clients find the nodes.
    pub(crate) front: watch::Sender<Front>,
    /// Whether it has what there is to have.
    pub(crate) serving: watch::Sender<bool>,
    /// Another node said something.
    pub(crate) heard: Notify,
    /// Whether this node, of all, takes out what lost nodes leave behind.
    pub(crate) sweeps: AtomicBool,
    /// Whether what it knows may be written down: not over a file that is of no use and could not be put aside.
    pub(crate) writes: AtomicBool,
    /// Whether it has been run: what it knows is its own then, and not only what it found.
    was_run: AtomicBool,
    pace: Mutex<Pace>,
    /// A lease may run out earlier than was thought.
    sooner: Notify,
    closed: watch::Sender<bool>,
}

/// What a node holds at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Services, those without instances included as long as they are remembered.
    pub services: usize,
    /// Instances.
    pub instances: usize,
    /// Instances with an override, those that are gone included.
    pub overrides: usize,
    /// Watch streams and long polls.
    pub watchers: usize,
    /// Instances whose leases are on this node.
    pub leases: usize,
    /// Instances whose node is lost, and that nobody has claimed yet.
    pub orphans: usize,
    /// Services in zones of whose instances none is removed for being late.
    pub protected: usize,
    /// Streams to other nodes.
    pub streams: usize,
}

impl Node {
    /// A node in a new life.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the settings do not go together.
    pub fn new(config: Config) -> Result<Self> {
        Self::with(config, Arc::new(SystemClock), &SystemRng)
    }

    /// As [`Node::new`], with another clock and other randomness. Leases follow the clock's monotonic time; its wall time
    /// is part of the epoch.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the settings do not go together.
    pub fn with(config: Config, clock: Arc<dyn Clock>, rng: &dyn Rng) -> Result<Self> {
        Self::make(config, None, clock, rng)
    }

    /// A node of a cluster, in a new life. It serves nobody before [`Cluster`](crate::Cluster) has found out what there is.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the settings do not go together.
    pub fn named(config: Config, name: &str, zone: &str) -> Result<Self> {
        if name.is_empty() {
            return Err(Error::invalid_argument("the registry's settings: a node of a cluster needs a name"));
        }
        Self::make(config, Some((name, zone)), Arc::new(SystemClock), &SystemRng)
    }

    fn make(
        config: Config,
        named: Option<(&str, &str)>,
        clock: Arc<dyn Clock>,
        rng: &dyn Rng,
    ) -> Result<Self> {
        config.check()?;
        let epoch = epoch(&*clock, rng);
        let owner = Owner { node: named.map_or(0, |(name, _)| node_number(name)), life: epoch };
        let zone = named.map(|(_, zone)| zone.to_owned()).unwrap_or_default();
        Ok(Self(Arc::new(Shared {
            own: Member { owner, zone, live: true },
            peers: Mutex::new(Peers::new()),
            links: OnceLock::new(),
            front: watch::Sender::new(Front::default()),
            serving: watch::Sender::new(named.is_none()),
            heard: Notify::new(),
            epoch,
            access: Access::new(&config.access)?,
            fanout: Arc::new(Fanout::new(config.limits.watchers)),
            admission: Arc::new(Admission::new(config.limits.snapshot_bytes, config.snapshot_patience)),
            started: clock.now(),
            pace: Mutex::new(Pace::new(config.coalesce, config.coalesce_in_storm, clock.now())),
            started_at: clock.wall(),
            store: Mutex::new(Store::of(config.clone(), owner)),
            sooner: Notify::new(),
            closed: watch::Sender::new(false),
            // Who is alone has nobody else to do it.
            sweeps: AtomicBool::new(named.is_none()),
            writes: AtomicBool::new(true),
            was_run: AtomicBool::new(false),
            clock,
            config,
        })))
    }

    /// The service to mount.
    pub fn service_def(&self) -> ServiceDef {
        registry::server(Api::new(Arc::clone(&self.0)))
    }

    /// Finds out who asks, by the token that is shown, and keeps large answers within `limits.snapshot_bytes`. Add it to the
    /// server: without it everybody is taken for somebody without a token.
    pub fn guard(&self) -> impl Middleware {
        Guard(Arc::clone(&self.0))
    }

    /// Answers in the protocols of the registries before this one: bilibili discovery under `/discovery/`, Eureka under
    /// `/eureka/`, the HTTP of Nacos under `/nacos/`. Set it as the server's fallback.
    pub fn predecessors(&self) -> impl Fallback {
        Predecessors::new(Arc::clone(&self.0))
    }

    /// Takes in what was written down in an earlier life, if the settings name a file. To be called before the node serves.
    /// A file that is not whole or of another version is put aside as `.broken`: the node starts without, and its clients
    /// come back.
    pub fn restore(&self) {
        let Some(disk) = &self.0.config.disk else { return };
        match self.0.read_back(disk) {
            Ok(0) => {}
            Ok(facts) => {
                tracing::info!(facts, file = %disk.file.display(), "what was written down is taken in")
            }
            Err(error) => {
                tracing::error!(%error, "what was written down is of no use; starting without");
                self.0.put_aside(disk);
            }
        }
    }

    /// Lets leases run out, checks persistent instances, and writes down what there is where the settings say so, until `cx`
    /// is done.
    ///
    /// # Errors
    /// Why `cx` is done. It ends for nothing else.
    pub async fn run(&self, cx: &Context) -> Result<()> {
        self.0.was_run.store(true, Ordering::Relaxed);
        let checks = crate::checks::run(Arc::clone(&self.0));
        let tended = cx.run(async { tokio::join!(self.0.expire(), checks).0 });
        let ended = match &self.0.config.disk {
            None => tended.await,
            Some(disk) => tokio::join!(tended, self.0.write_down(cx, disk)).0,
        };
        // From now on nobody looks: to have stood still means nothing any more.
        self.0.store().rest();
        ended
    }

    /// Writes down what there is now, if the settings name a file and the node was run: to be called once the servers have
    /// drained, for who leaves meanwhile must not be back after a restart.
    pub async fn keep(&self) {
        let was_run = self.0.was_run.load(Ordering::Relaxed);
        if let Some(disk) = self.0.config.disk.as_ref().filter(|_| was_run) {
            self.0.write_once(disk).await;
        }
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.0)
    }

    /// Waits until the node serves: at once if it is alone, else once it has what there is to have.
    pub async fn serves(&self) {
        let mut serving = self.0.serving.subscribe();
        // The sender lives as long as the node.
        let _ = serving.wait_for(|serving| *serving).await;
    }

    /// Ends all watches, long polls, keep-alive streams and Nacos' connections, so that a server can drain: their clients go
    /// to another node or come back later. New ones end at once; single requests are still answered.
    pub fn close(&self) {
        self.0.closed.send_replace(true);
    }

    /// This life of the node.
    pub fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// A service's instances now, for who has no token to show.
    pub(crate) fn list(&self, key: &ServiceKey) -> Arc<List> {
        let nobody = self.0.access.caller(None);
        if nobody.and_then(|nobody| self.0.access.check(&nobody, Right::Read, key.namespace())).is_err() {
            return Arc::new(List::unknown());
        }
        match self.0.store().news(key, None) {
            News::List(list) => list,
            // Who knows nothing is always told the list.
            News::None | News::Changes(_) => Arc::new(List::unknown()),
        }
    }

    /// What it holds now.
    pub fn stats(&self) -> Stats {
        let store = self.0.store();
        let Counts { services, instances, overrides, leases } = store.counts();
        let (orphans, protected) = (store.orphans(), store.protected().len());
        drop(store);
        let (watchers, streams) = (self.0.fanout.len(), self.0.peers().nodes().count());
        Stats { services, instances, overrides, watchers, leases, orphans, protected, streams }
    }

    /// Tells in `metrics` what the node holds.
    pub fn tell(&self, metrics: &Metrics) {
        let node = Arc::downgrade(&self.0);
        let told = move || {
            let Some(shared) = node.upgrade() else { return Vec::new() };
            let stats = Self(shared).stats();
            let counts = [
                ("services", stats.services),
                ("instances", stats.instances),
                ("overrides", stats.overrides),
                ("watchers", stats.watchers),
                ("leases", stats.leases),
                ("orphans", stats.orphans),
                ("protected", stats.protected),
                ("streams", stats.streams),
            ];
            counts.map(|(what, count)| (what.to_owned(), count as f64)).to_vec()
        };
        let help = "How much the registry node holds: `leases` of its own, `orphans` of lost nodes, `protected` services \
            in zones, `streams` to other nodes";
        metrics.gauges("bowline_registry_holds", help, "what", told);
    }
}

impl From<Arc<Shared>> for Node {
    fn from(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({:016x}, {:?})", self.0.epoch, self.stats())
    }
}

/// The time of the start, so that epochs of a node grow as long as its clock does, with chance in the last bits, so that
/// two nodes started together differ. Never 0, which stands for "none".
fn epoch(clock: &dyn Clock, rng: &dyn Rng) -> u64 {
    let since = clock.wall().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX >> 12);
    (micros << 12 | (rng.next_u64() & 0xfff)).max(1)
}

impl Shared {
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// A time as others write it, since 1970. Told by the monotonic clock, so that it grows for the life of the node.
    pub(crate) fn unix_time(&self, at: Instant) -> Duration {
        let started = self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        match at.checked_duration_since(self.started) {
            Some(since) => started + since,
            None => started.saturating_sub(self.started - at),
        }
    }

    /// Whether it started so lately that not everybody may have come back.
    pub(crate) fn is_settling(&self) -> bool {
        self.now() < self.started + self.config.settle
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        // A panic cannot leave the store half changed in a way that matters more than going on.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long to leave a watcher alone that was told something now.
    pub(crate) fn pause(&self) -> Duration {
        self.pace().pause(self.now())
    }

    /// Changes the store and tells those who watch what changed.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Store, Instant) -> T) -> T {
        let (result, said) = self.apply(|store, now| {
            let result = change(store, now);
            (result, store.take_said())
        });
        if !said.is_empty()
            && let Some(links) = self.links.get().and_then(Weak::upgrade)
        {
            self.peers().say(&said);
            links.wake();
        }
        result
    }

    pub(crate) fn apply<T>(&self, change: impl FnOnce(&mut Store, Instant) -> T) -> T {
        let (mut store, now) = (self.store(), self.now());
        // Before anything else: whoever is late for that is not late.
        if let Some(gap) = store.awake(now) {
            tracing::warn!(?gap, "this process stood still; leases have that much more time");
        }
        let (due, before) = (store.next_expiry(), store.changes());
        let result = change(&mut store, now);
        let (changed, next) = (store.take_changed(), store.next_expiry());
        let forgotten = store.take_forgotten();
        let changes = store.changes() - before;
        drop(store);
        if changes > 0 {
            self.pace().count(usize::try_from(changes).unwrap_or(usize::MAX), now);
        }
        self.fanout.forget(&forgotten);
        self.fanout.notify(&changed);
        if next.is_some_and(|next| due.is_none_or(|due| next < due)) {
            self.sooner.notify_one();
        }
        result
    }

    /// Whether the node is going down.
    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Takes out what lost nodes left behind, if that is this node's to do.
    fn sweep(&self) {
        if !self.sweeps.load(Ordering::Relaxed) {
            return;
        }
        let lapsed = self.change(|store, now| store.sweep(now, &SystemRng));
        if lapsed > 0 {
            tracing::warn!(lapsed, "instances of lost nodes that nobody claimed are taken out");
        }
    }

    /// Waits until the node is closed and says so.
    pub(crate) async fn closed(&self) -> Error {
        let mut closed = self.closed.subscribe();
        // The sender lives as long as `self`.
        let _ = closed.wait_for(|closed| *closed).await;
        Error::unavailable("the registry node is going down; try another one or come back later")
    }

    async fn expire(&self) {
        let mut swept = self.now();
        loop {
            let expired = self.change(|store, now| store.expire(now, BATCH));
            if expired > 0 {
                tracing::info!(expired, "leases ran out");
            }
            if expired == BATCH {
                // The rest is due as well; but others want the store too.
                tokio::task::yield_now().await;
                continue;
            }
            let now = self.now();
            if swept + SWEEP <= now {
                swept = now;
                self.sweep();
            }
            // There is more to do than leases, and a pause is noticed by not having looked.
            let next = self.store().next_expiry().unwrap_or(now + LOOK).min(now + LOOK);
            tokio::select! {
                () = self.sooner.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }
}
