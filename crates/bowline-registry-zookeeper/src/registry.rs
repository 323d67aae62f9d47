//! The adapter.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bowline_core::task::Tracker;
use bowline_core::{Code, Context, Endpoint, Error, Instance, Result, SystemRng};
use bowline_discovery::{
    Announce, Announcer, AnnouncerOptions, Backoff, BoxFuture, Discovery, Hold, Hub, Registrar, Registration,
    Watcher, kratos,
};
use tokio::sync::watch;

use crate::link::Link;
use crate::nodes::{self, Place};
use crate::options::Options;
use crate::session::{Session, State};
use crate::source::Source;

/// ZooKeeper as a [`Registrar`] and a [`Discovery`].
///
/// A process has one session over one connection, for whatever it registers and watches. Attempts go on for ever, with
/// exponential backoff and jitter. See the [crate] for what the watchers see when ZooKeeper fails. Wrap it into
/// [`DiskSnapshots`](bowline_discovery::DiskSnapshots) to start while it is gone.
///
/// ```
/// use bowline_core::{Context, Instance};
/// use bowline_discovery::{Discovery, Registrar};
/// use bowline_registry_zookeeper::{Options, ZookeeperRegistry};
///
/// async fn example() -> bowline_core::Result<()> {
///     let (servers, options) = Options::from_url("zookeeper://127.0.0.1:2181")?;
///     let registry = ZookeeperRegistry::new(&servers, options)?;
///     let cx = Context::background().with_timeout(std::time::Duration::from_secs(10));
///     let registration = registry.register(&cx, Instance::new("catalog", "catalog-1")).await?;
///     let catalog = registry.watch("catalog").ready(&cx).await?;
///     registration.deregister(&cx).await
/// }
/// ```
pub struct ZookeeperRegistry {
    zookeeper: Zookeeper,
    announcer: Announcer<Zookeeper>,
    hub: Hub,
}

#[derive(Clone)]
struct Zookeeper(Arc<Shared>);

struct Shared {
    session: Arc<Session>,
    claims: Claims,
    tasks: Tracker,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

/// Which node is whose among the registrations of this process.
#[derive(Default)]
struct Claims(Mutex<HashMap<u64, Claim>>);

#[derive(Clone)]
struct Claim {
    path: String,
    place: Place,
    /// Which hold keeps it: a later one takes the place of an earlier one.
    hold: u64,
}

impl Claims {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Claim>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, holder: u64) -> Option<Claim> {
        self.lock().get(&holder).cloned()
    }

    /// Whether another registration of this process has the node.
    fn is_anothers(&self, holder: u64, path: &str, place: Place) -> bool {
        self.lock().iter().any(|(its, claim)| *its != holder && claim.place == place && claim.path == path)
    }
}

impl ZookeeperRegistry {
    /// ZooKeeper behind these servers, of which the host and the port count. No connection is made before there is something
    /// to do.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if there is no server or an option makes no sense.
    pub fn new(servers: &[Endpoint], options: Options) -> Result<Self> {
        options.check()?;
        if servers.is_empty() {
            return Err(Error::invalid_argument("there is no server of ZooKeeper; name one at least"));
        }
        let mut announcing = AnnouncerOptions::default();
        announcing.patience = options.patience;
        announcing.backoff_first = options.backoff_first;
        announcing.backoff_max = options.backoff_max;
        announcing.lease = options.ttl;
        let servers = servers.iter().map(|server| (server.host().to_owned(), server.port())).collect();
        let session = Arc::new(Session::new(servers, options));
        let shared = Shared { session, claims: Claims::default(), tasks: Tracker::new() };
        let zookeeper = Zookeeper(Arc::new(shared));
        Ok(Self { announcer: Announcer::new(zookeeper.clone(), announcing), zookeeper, hub: Hub::new() })
    }
}

impl fmt::Debug for ZookeeperRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZookeeperRegistry").field("watched", &self.hub.len()).finish_non_exhaustive()
    }
}

impl Zookeeper {
    fn options(&self) -> &Options {
        self.0.session.options()
    }

    fn follow(&self) -> watch::Receiver<State> {
        self.0.session.follow(&self.0.tasks)
    }

    fn path(&self, instance: &Instance) -> String {
        format!("{}/{}/{}", self.options().prefix, instance.service, instance.id.as_str())
    }

    /// The connection, once there is one, within the time of an attempt.
    async fn link(&self) -> Result<Arc<Link>> {
        let mut state = self.follow();
        let found = tokio::time::timeout(self.options().attempt_timeout, async {
            let state = state.wait_for(|state| state.link.is_some()).await;
            state.ok().and_then(|state| state.link.clone())
        });
        match found.await {
            Ok(Some(link)) => Ok(link),
            Ok(None) => Err(Error::unavailable("the registry client has ended")),
            Err(_) => {
                let fault = self.follow().borrow().fault.clone();
                let fault = fault.unwrap_or_else(|| "it did not answer yet".into());
                Err(Error::unavailable(format!("there is no connection to ZooKeeper: {fault}")))
            }
        }
    }

    /// Whether a node is this registration's: as it was told, or by an attempt of which no answer came.
    fn is_ours(&self, holder: u64, path: &str, place: Place) -> bool {
        match self.0.claims.of(holder) {
            Some(claim) if claim.place == place => true,
            _ => self.0.session.is_ours(place.session) && !self.0.claims.is_anothers(holder, path, place),
        }
    }
}

impl Announce for Zookeeper {
    type Hold = Held;

    async fn announce(&self, instance: &Instance, holder: u64, only_if_free: bool) -> Result<Held> {
        let value = kratos::to_json(instance, &self.options().env)?;
        let path = self.path(instance);
        let link = self.link().await?;
        let is_ours = |place| self.is_ours(holder, &path, place);
        let may_take = |place| !only_if_free || is_ours(place);
        let access = nodes::access(self.options());
        let placed = nodes::put(&link, &path, &value, access, &is_ours, &may_take).await?;
        let Some(place) = placed else {
            let what = format!("another process has registered `{}` of `{}`", instance.id, instance.service);
            return Err(Error::new(Code::AlreadyExists, what));
        };
        let mut claims = self.0.claims.lock();
        let hold = claims.get(&holder).map_or(0, |claim| claim.hold + 1);
        claims.insert(holder, Claim { path: path.clone(), place, hold });
        drop(claims);
        Ok(Held { zookeeper: self.clone(), state: self.follow(), holder, path, place, hold })
    }

    async fn withdraw(&self, instance: &Instance, holder: u64) -> Result<()> {
        let path = self.path(instance);
        let link = self.link().await?;
        nodes::remove(&link, &path, instance.id.as_str(), &|place| self.is_ours(holder, &path, place))
            .await?;
        self.0.claims.lock().remove(&holder);
        Ok(())
    }
}

/// A node that lives with the session, until this is dropped.
struct Held {
    zookeeper: Zookeeper,
    state: watch::Receiver<State>,
    holder: u64,
    path: String,
    place: Place,
    hold: u64,
}

impl Hold for Held {
    /// The session ended, or somebody removed the node or took it over.
    async fn lost(&mut self) {
        let session = self.place.session;
        let ttl = self.zookeeper.options().ttl;
        let mut checks = Backoff::new(ttl, ttl);
        let mut sessions = self.state.clone();
        loop {
            // The guard that `wait_for` returns may not be held across an await.
            let ended = async {
                let _ = sessions.wait_for(|state| state.session != session).await;
            };
            tokio::select! {
                () = ended => return,
                () = tokio::time::sleep(checks.next(&SystemRng)) => {
                    let link = self.state.borrow().link.clone();
                    let Some(link) = link else { continue };
                    // That it cannot be asked is the session's trouble.
                    if let Ok(found) = nodes::place(&link, &self.path).await
                        && found != Some(self.place)
                    {
                        return;
                    }
                }
            }
        }
    }
}

impl Drop for Held {
    /// The session lives on for others, so that the node has to be deleted; not as one that is removed on purpose, for nobody
    /// said so.
    fn drop(&mut self) {
        let mut claims = self.zookeeper.0.claims.lock();
        if claims.get(&self.holder).is_none_or(|claim| claim.hold != self.hold) {
            return;
        }
        claims.remove(&self.holder);
        drop(claims);
        let (mut state, options) = (self.state.clone(), self.zookeeper.options());
        let (path, place) = (self.path.clone(), self.place);
        let mut backoff = Backoff::new(options.backoff_first, options.backoff_max);
        self.zookeeper.0.tasks.spawn(async move {
            loop {
                let State { link, session, .. } = state.borrow_and_update().clone();
                if session != place.session {
                    return;
                }
                if let Some(link) = link
                    && nodes::delete(&link, &path, place).await.is_ok()
                {
                    return;
                }
                tokio::select! {
                    changed = state.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(backoff.next(&SystemRng)) => {}
                }
            }
        });
    }
}

impl Registrar for ZookeeperRegistry {
    fn register<'a>(
        &'a self,
        cx: &'a Context,
        instance: Instance,
    ) -> BoxFuture<'a, Result<Box<dyn Registration>>> {
        self.announcer.register(cx, instance)
    }
}

impl Discovery for ZookeeperRegistry {
    fn watch(&self, service: &str) -> Watcher {
        if service.is_empty() || service.contains('/') || matches!(service, "." | "..") {
            let error = Error::invalid_argument(format!("`{service}` is no service: use a name without `/`"));
            return Watcher::failed(service, &error);
        }
        let zookeeper = self.zookeeper.clone();
        self.hub.watch(service, |publisher| async move {
            Source::new(zookeeper.follow(), zookeeper.options(), publisher).run().await;
        })
    }
}
