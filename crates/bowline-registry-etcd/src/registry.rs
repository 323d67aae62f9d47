//! The adapter.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bowline_core::task::{Tracker, contain};
use bowline_core::{Code, Context, Error, Instance, Result, SystemRng};
use bowline_discovery::{
    Announce, Announcer, AnnouncerOptions, Backoff, BoxFuture, Discovery, Hub, Registrar, Registration,
    Watcher, kratos,
};
use bowline_rpc::Transport;

use crate::client::{Client, Held as Place};
use crate::keeper::{Held, Keeper};
use crate::keys;
use crate::options::Options;
use crate::source::Source;

/// etcd as a [`Registrar`] and a [`Discovery`].
///
/// Every registration has a lease of its own; all leases of a process are renewed over one stream. Attempts go on for ever,
/// with exponential backoff and jitter. See the [crate] for what the watchers see when etcd fails. Wrap it into
/// [`DiskSnapshots`](bowline_discovery::DiskSnapshots) to start while it is gone.
///
/// ```
/// use bowline_core::{Context, Instance};
/// use bowline_discovery::{Discovery, Registrar};
/// use bowline_registry_etcd::{EtcdRegistry, Options};
///
/// async fn example(channel: impl bowline_rpc::Transport) -> bowline_core::Result<()> {
///     let registry = EtcdRegistry::new(channel, Options::default())?;
///     let cx = Context::background().with_timeout(std::time::Duration::from_secs(10));
///     let registration = registry.register(&cx, Instance::new("catalog", "catalog-1")).await?;
///     let catalog = registry.watch("catalog").ready(&cx).await?;
///     registration.deregister(&cx).await
/// }
/// ```
pub struct EtcdRegistry {
    etcd: Etcd,
    announcer: Announcer<Etcd>,
    hub: Hub,
}

#[derive(Clone)]
struct Etcd(Arc<Shared>);

struct Shared {
    client: Arc<Client>,
    keeper: Arc<Keeper>,
    is_keeping: AtomicBool,
    tasks: Tracker,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl EtcdRegistry {
    /// etcd behind this transport: a channel to its members. No connection is made before there is something to do.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if an option makes no sense.
    pub fn new(members: impl Transport, options: Options) -> Result<Self> {
        options.check()?;
        let mut announcing = AnnouncerOptions::default();
        announcing.patience = options.patience;
        announcing.backoff_first = options.backoff_first;
        announcing.backoff_max = options.backoff_max;
        announcing.lease = options.ttl;
        let client = Arc::new(Client::new(Arc::new(members), options)?);
        let etcd = Etcd(Arc::new(Shared {
            client,
            keeper: Arc::default(),
            is_keeping: AtomicBool::new(false),
            tasks: Tracker::new(),
        }));
        Ok(Self { announcer: Announcer::new(etcd.clone(), announcing), etcd, hub: Hub::new() })
    }
}

impl fmt::Debug for EtcdRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdRegistry").field("watched", &self.hub.len()).finish_non_exhaustive()
    }
}

impl Etcd {
    /// Starts to renew leases, once there is one.
    fn keep(&self) {
        if self.0.is_keeping.swap(true, Ordering::Relaxed) {
            return;
        }
        let (client, keeper) = (Arc::clone(&self.0.client), Arc::clone(&self.0.keeper));
        self.0.tasks.spawn(async move {
            let mut backoff = Backoff::default();
            while let Err(error) = contain(keeper.run(&client)).await {
                tracing::error!(%error, "renewing leases panicked; starting it again");
                tokio::time::sleep(backoff.next(&SystemRng)).await;
            }
        });
    }

    fn key(&self, instance: &Instance) -> Vec<u8> {
        keys::key(&self.0.client.options.prefix, &instance.service, instance.id.as_str())
    }
}

impl Announce for Etcd {
    type Hold = Held;

    async fn announce(&self, instance: &Instance, holder: u64, only_if_free: bool) -> Result<Held> {
        let client = &self.0.client;
        let value = kratos::to_json(instance, &client.options.env)?;
        let (key, lease) = (self.key(instance), lease(holder));
        client.grant(lease).await?;
        if only_if_free {
            if let Place::ByAnother = client.put_if_free(&key, &value, lease).await? {
                let what =
                    format!("another process has registered `{}` of `{}`", instance.id, instance.service);
                return Err(Error::new(Code::AlreadyExists, what));
            }
        } else {
            client.put(&key, &value, lease).await?;
        }
        self.keep();
        Ok(self.0.keeper.hold(client, lease, key))
    }

    async fn withdraw(&self, instance: &Instance, holder: u64) -> Result<()> {
        // The lease stays, and runs out: by that watchers tell this from a death.
        self.0.client.delete(&self.key(instance), lease(holder)).await
    }
}

/// A registration's lease has its number, so that an attempt of which no answer came can be taken up, or back.
fn lease(holder: u64) -> i64 {
    i64::try_from(holder).unwrap_or(i64::MAX)
}

impl Registrar for EtcdRegistry {
    fn register<'a>(
        &'a self,
        cx: &'a Context,
        instance: Instance,
    ) -> BoxFuture<'a, Result<Box<dyn Registration>>> {
        self.announcer.register(cx, instance)
    }
}

impl Discovery for EtcdRegistry {
    fn watch(&self, service: &str) -> Watcher {
        if service.is_empty() || service.contains('/') {
            let error = Error::invalid_argument(format!("`{service}` is no service: use a name without `/`"));
            return Watcher::failed(service, &error);
        }
        let client = Arc::clone(&self.etcd.0.client);
        self.hub.watch(service, |publisher| Source::new(client, publisher).run())
    }
}
