//! The adapter.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bowline_core::task::{Tracker, contain};
use bowline_core::{Clock, Context, Error, Instance, Result, Rng, SystemClock, SystemRng};
use bowline_discovery::{BoxFuture, Discovery, Hub, Registrar, Registration, Watcher};
use bowline_rpc::Caller;
use tokio::sync::{Mutex, watch};

use crate::agent::{Agent, Status, Wish};
use crate::inner::Inner;
use crate::keeper::Keeper;
use crate::names;
use crate::nodes::Nodes;
use crate::options::Options;
use crate::session::Session;
use crate::slots::{self, SlotLease};
use crate::subscriptions::Subscriptions;

/// Bowline's registry as a [`Registrar`] and a [`Discovery`].
///
/// All registrations of a process are renewed over one stream and all its watches share another. Each is opened again for
/// ever, with exponential backoff and jitter, on the next node if there are several; a registration that the registry lost
/// is made again. While the registry is gone the last lists stay, stale; see the [crate] for what happens when it comes
/// back empty. Wrap it into [`DiskSnapshots`](bowline_discovery::DiskSnapshots) to start while it is gone.
///
/// Dropping it ends its watches; registrations live until they are dropped themselves.
///
/// ```
/// use bowline_discovery::{Discovery, Registrar};
/// use bowline_registry_bowline::{BowlineRegistry, Options};
/// use bowline_rpc::Caller;
///
/// async fn example(caller: Caller) -> bowline_core::Result<()> {
///     let registry = BowlineRegistry::new([caller], Options::default())?;
///     let cx = bowline_core::Context::background().with_timeout(std::time::Duration::from_secs(10));
///     let instance = bowline_core::Instance::new("catalog", "catalog-1");
///     let registration = registry.register(&cx, instance).await?;
///     let catalog = registry.watch("catalog").ready(&cx).await?;
///     registration.deregister(&cx).await
/// }
/// ```
pub struct BowlineRegistry {
    owner: Arc<Owner>,
    hub: Hub,
    is_watching: Arc<AtomicBool>,
    watching: Tracker,
}

/// The tasks of the registrations: they end when the adapter and all registrations are dropped.
pub(crate) struct Owner {
    inner: Arc<Inner>,
    tasks: Tracker,
    is_keeping: AtomicBool,
}

impl Owner {
    /// Renews leases from now on.
    fn keep(&self) {
        if !self.is_keeping.swap(true, Ordering::Relaxed) {
            let inner = Arc::clone(&self.inner);
            self.tasks.spawn(supervise(Arc::clone(&inner), move || {
                let inner = Arc::clone(&inner);
                async move { inner.keeper.run(&inner).await }
            }));
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl Drop for BowlineRegistry {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl BowlineRegistry {
    /// The registry behind these callers, one per node. No connection is made before there is something to do.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if there is no caller, or an option makes no sense.
    pub fn new(nodes: impl IntoIterator<Item = Caller>, options: Options) -> Result<Self> {
        Self::with(nodes, options, Arc::new(SystemClock), Arc::new(SystemRng))
    }

    /// As [`BowlineRegistry::new`], with another clock and other randomness. The clock must go as tokio's does, whose
    /// timers are used.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if there is no caller, or an option makes no sense.
    pub fn with(
        nodes: impl IntoIterator<Item = Caller>,
        options: Options,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Result<Self> {
        options.check()?;
        let callers: Vec<_> = nodes.into_iter().collect();
        // Clients spread over the nodes.
        let nodes = Nodes::new(callers, rng.below(usize::from(u16::MAX)))?;
        let inner = Inner {
            nodes,
            options,
            clock,
            rng,
            keeper: Arc::new(Keeper::default()),
            subscriptions: Arc::new(Subscriptions::default()),
        };
        let owner =
            Owner { inner: Arc::new(inner), tasks: Tracker::new(), is_keeping: AtomicBool::new(false) };
        Ok(Self {
            owner: Arc::new(owner),
            hub: Hub::new(),
            is_watching: Arc::default(),
            watching: Tracker::new(),
        })
    }
}

impl BowlineRegistry {
    /// Leases a slot of a group: the smallest number that no other member has. `member` names this one and whoever replaces
    /// it, who inherits the slot; empty for none. It is asked for in the background, for ever, and renewed until the result
    /// is released or dropped.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the group is no name that a service could have.
    pub fn lease_slot(&self, group: &str, member: &str) -> Result<SlotLease> {
        if !names::is_service(group) {
            return Err(Error::invalid_argument(format!(
                "`{group}` is no group of slots: use 1 to 253 of a-z, A-Z, 0-9, `-`, `_` and `.`"
            )));
        }
        self.owner.keep();
        let inner = Arc::clone(&self.owner.inner);
        let (lease, task) = slots::lease(inner, group, member, Arc::clone(&self.owner) as Arc<_>);
        self.owner.tasks.spawn(task);
        Ok(lease)
    }
}

impl fmt::Debug for BowlineRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.owner.inner;
        f.debug_struct("BowlineRegistry")
            .field("nodes", &inner.nodes)
            .field("watched", &self.hub.len())
            .finish()
    }
}

/// Runs what must not end: after a panic, again.
async fn supervise<Fut: Future<Output = ()>>(inner: Arc<Inner>, run: impl Fn() -> Fut) {
    let mut backoff = inner.backoff();
    while let Err(error) = contain(run()).await {
        tracing::error!(%error, "the registry client panicked; starting it again");
        tokio::time::sleep(backoff.next(&inner.rng)).await;
    }
}

impl Discovery for BowlineRegistry {
    fn watch(&self, service: &str) -> Watcher {
        if !names::is_service(service) {
            let error = Error::invalid_argument(format!(
                "`{service}` is no service: use 1 to 253 of a-z, A-Z, 0-9, `-`, `_` and `.`"
            ));
            return Watcher::failed(service, &error);
        }
        self.hub.watch(service, |publisher| {
            let inner = Arc::clone(&self.owner.inner);
            if !self.is_watching.swap(true, Ordering::Relaxed) {
                let inner = Arc::clone(&inner);
                self.watching
                    .spawn(supervise(Arc::clone(&inner), move || Session::new(Arc::clone(&inner)).run()));
            }
            let service = service.to_owned();
            async move {
                let most = inner.options.max_services;
                match inner.subscriptions.add(&service, publisher.clone(), most) {
                    Ok(_subscription) => std::future::pending().await,
                    Err(error) => {
                        publisher.fail(&error);
                        std::future::pending().await
                    }
                }
            }
        })
    }
}

impl Registrar for BowlineRegistry {
    fn register<'a>(
        &'a self,
        cx: &'a Context,
        instance: Instance,
    ) -> BoxFuture<'a, Result<Box<dyn Registration>>> {
        Box::pin(async move {
            cx.check()?;
            let owner = Arc::clone(&self.owner);
            owner.keep();
            let inner = &owner.inner;
            let patience = inner.options.patience;
            let holder = inner.holder();
            let (wish, wishes) = watch::channel(Wish::Announced(Arc::new(instance.clone()), 1));
            let (status_sender, status) = watch::channel(Status::default());
            let agent = Agent { inner: Arc::clone(inner), wishes, status: status_sender, holder };
            owner.tasks.spawn(agent.run());
            let registered = Registered { instance, wish, status, updating: Mutex::new(1), _owner: owner };
            let patience = cx.with_timeout(patience);
            match registered.taken(&patience, 1).await {
                Ok(()) => {}
                // A registry that is down must not keep a service from starting: whoever knows its address can use it, and
                // it is announced as soon as the registry is back.
                Err(error) if cx.error().is_none() && (error.is_timeout() || error.is_temporary()) => {
                    tracing::warn!(%error, instance = %registered.instance.id, "not registered yet; trying on");
                }
                Err(error) => {
                    registered.wish.send_replace(Wish::Gone);
                    return Err(error);
                }
            }
            Ok(Box::new(registered) as Box<_>)
        })
    }
}

/// An instance that is announced.
struct Registered {
    instance: Instance,
    wish: watch::Sender<Wish>,
    status: watch::Receiver<Status>,
    /// The number of the last wish; held while one is made and waited for, so that answers are told apart.
    updating: Mutex<u64>,
    _owner: Arc<Owner>,
}

impl Registered {
    fn name(&self) -> String {
        format!("`{}` of `{}`", self.instance.id, self.instance.service)
    }

    /// Waits for a status.
    async fn status(&self, wanted: impl FnMut(&Status) -> bool) -> Result<Status> {
        let mut status = self.status.clone();
        let status = status.wait_for(wanted).await.map(|status| status.clone());
        status.map_err(|_| Error::unavailable("the registry client has ended"))
    }

    /// Waits until the registry has taken or refused a wish.
    async fn taken(&self, cx: &Context, number: u64) -> Result<()> {
        let decided = |s: &Status| {
            s.taken >= number || s.ended.is_some() || s.refused.as_ref().is_some_and(|r| r.0 >= number)
        };
        let decision = match cx.run(self.status(decided)).await {
            Ok(decision) => decision?,
            Err(done) => return Err(self.too_late(done, "has not taken")),
        };
        match decision.refused.filter(|refused| refused.0 == number) {
            Some((_, error)) => Err(error.again().context(format!("the registry refused {}", self.name()))),
            None if decision.taken >= number => Ok(()),
            None => Err(gone(&self.name())),
        }
    }

    /// The error for a context that was done first: with what the registry last failed with.
    fn too_late(&self, done: Error, what: &str) -> Error {
        let trouble = self.status.borrow().trouble.as_ref().map(|error| format!(": {error}"));
        let trouble = trouble.unwrap_or_else(|| ": it has not answered".into());
        done.with_message(format!("the registry {what} {} in time{trouble}", self.name()))
    }
}

fn gone(name: &str) -> Error {
    Error::failed_precondition(format!("{name} is deregistered; register it anew"))
}

impl Registration for Registered {
    fn deregister<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.wish.send_replace(Wish::Gone);
            match cx.run(self.status(|s| s.ended.is_some())).await {
                Ok(Ok(Status { ended: Some(true), .. })) => Ok(()),
                Ok(Err(error)) => Err(error),
                Ok(Ok(_)) => Err(Error::unavailable(format!(
                    "the registry did not confirm that {} is gone; its lease has run out by now",
                    self.name()
                ))),
                Err(done) => Err(self.too_late(done, "did not confirm the end of")),
            }
        })
    }

    fn update<'a>(&'a self, cx: &'a Context, instance: Instance) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if (&instance.id, &instance.service, &instance.env)
                != (&self.instance.id, &self.instance.service, &self.instance.env)
            {
                return Err(Error::invalid_argument(format!(
                    "{} cannot become `{}` of `{}` by an update; register that one",
                    self.name(),
                    instance.id,
                    instance.service
                )));
            }
            let mut number = cx.run(self.updating.lock()).await?;
            *number += 1;
            let wish = Wish::Announced(Arc::new(instance), *number);
            let announced = self.wish.send_if_modified(|current| {
                let is_announced = matches!(current, Wish::Announced(..));
                if is_announced {
                    *current = wish;
                }
                is_announced
            });
            if !announced {
                return Err(gone(&self.name()));
            }
            self.taken(cx, *number).await
        })
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registered({})", self.name())
    }
}
