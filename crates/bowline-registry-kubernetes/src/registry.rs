//! The adapter.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bowline_core::{Code, Context, Error, Instance, Instant, Result, SystemRng};
use bowline_discovery::{
    Announce, Announcer, AnnouncerOptions, Backoff, BoxFuture, Discovery, Hold, Hub, Registrar, Registration,
    Watcher,
};
use bowline_rpc::Transport;

use crate::access::Access;
use crate::api::{EndpointSlice, Lease};
use crate::client::{Client, Kind};
use crate::form;
use crate::leases::{Leases, is_old};
use crate::options::{Options, Register};
use crate::pod::InPod;
use crate::source::Source;

/// How many old leases are deleted at a time.
const SWEPT: usize = 20;

/// Kubernetes as a [`Registrar`] and a [`Discovery`].
///
/// See the [crate] for who registers, and for what the watchers see when Kubernetes fails. Wrap it into
/// [`DiskSnapshots`](bowline_discovery::DiskSnapshots) to start while it is gone.
///
/// ```
/// use bowline_client::Channel;
/// use bowline_core::Context;
/// use bowline_discovery::Discovery;
/// use bowline_registry_kubernetes::{Access, KubernetesRegistry, Options};
///
/// async fn example() -> bowline_core::Result<()> {
///     let options = Options::from_url("kubernetes://shop")?;
///     let access = Access::find(&options)?;
///     let channel = Channel::builder(access.server().to_string()).options(access.channel_options()).build()?;
///     let registry = KubernetesRegistry::new(channel, &access, options)?;
///     let cx = Context::background().with_timeout(std::time::Duration::from_secs(10));
///     let catalog = registry.watch("catalog").ready(&cx).await?;
///     Ok(())
/// }
/// ```
pub struct KubernetesRegistry {
    client: Arc<Client>,
    /// `None` where Kubernetes itself registers.
    announcer: Option<Announcer<Kubernetes>>,
    hub: Hub,
}

#[derive(Clone)]
struct Kubernetes {
    client: Arc<Client>,
    /// The leases of others that have ids of ours, to see when they are over.
    others: Arc<Mutex<Leases>>,
}

impl KubernetesRegistry {
    /// The API server behind this transport: a channel with [`Access::channel_options`]. No connection is made before there is
    /// something to do.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if an option makes no sense.
    pub fn new(api: impl Transport, access: &Access, options: Options) -> Result<Self> {
        options.check()?;
        let mut announcing = AnnouncerOptions::default();
        announcing.patience = options.patience;
        announcing.backoff_first = options.backoff_first;
        announcing.backoff_max = options.backoff_max;
        announcing.lease = options.ttl;
        let register =
            options.register.unwrap_or(if access.is_pod { Register::Pod } else { Register::Slice });
        let client = Arc::new(Client::new(api, access, options));
        let registry = Kubernetes { client: Arc::clone(&client), others: Arc::default() };
        let announcer = match register {
            Register::Pod => None,
            Register::Slice => Some(Announcer::new(registry, announcing)),
        };
        Ok(Self { announcer, client, hub: Hub::new() })
    }
}

impl fmt::Debug for KubernetesRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("KubernetesRegistry");
        shown
            .field("namespace", &self.client.namespace)
            .field("watched", &self.hub.len())
            .finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// Whether somebody else has the lease and renews it.
    async fn is_taken(&self, name: &str, holder: u64) -> Result<bool> {
        let lease = self.client.lease(name).await?;
        let now = Instant::now();
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        match lease {
            Some(lease) if lease.spec.holder_identity.as_deref() != Some(&form::holder(holder)) => {
                others.follow(name, now);
                others.look(&[lease], now, SystemTime::now());
                Ok(!others.over(now)(name))
            }
            _ => {
                others.forget(name);
                Ok(false)
            }
        }
    }
}

impl Announce for Kubernetes {
    type Hold = Held;

    /// The lease comes first, so that nobody sees a slice without one. Of two that come at once the later one has the lease, and
    /// sees to it that the slice is its own too.
    async fn announce(&self, instance: &Instance, holder: u64, only_if_free: bool) -> Result<Held> {
        let options = &self.client.options;
        let name = form::name(&instance.service, instance.id.as_str());
        // Refused before anything is there.
        form::slice(instance, holder, "", options)?;
        if only_if_free && self.is_taken(&name, holder).await? {
            let what = format!("another process has registered `{}` in Kubernetes", instance.id);
            return Err(Error::new(Code::AlreadyExists, what));
        }
        let lease = self.client.apply(Kind::Lease, form::lease(instance, holder, options)).await?;
        let slice = form::slice(instance, holder, &lease.uid, options)?;
        match self.client.apply(Kind::Slice, slice.clone()).await {
            // What kind of address a slice has cannot be changed, so that another one takes its place.
            Err(error) if error.is_invalid() && self.make_room(&name, &slice).await? => {
                self.client.apply(Kind::Slice, slice).await?;
            }
            result => {
                result?;
            }
        }
        self.others.lock().unwrap_or_else(PoisonError::into_inner).forget(&name);
        let (client, service) = (Arc::clone(&self.client), Arc::clone(&instance.service));
        Ok(Held { client, service, name, holder })
    }

    /// The slice goes first, so that it is seen to be removed, and not to run out.
    async fn withdraw(&self, instance: &Instance, holder: u64) -> Result<()> {
        let name = form::name(&instance.service, instance.id.as_str());
        let held = form::holder(holder);
        let slice: Option<EndpointSlice> = self.client.get(Kind::Slice, &name).await?;
        if let Some(slice) = slice.filter(|slice| form::held_by(slice) == Some(&held)) {
            self.client.delete(Kind::Slice, &slice.metadata).await?;
        }
        let lease = self.client.lease(&name).await?;
        if let Some(lease) = lease.filter(|lease| lease.spec.holder_identity.as_ref() == Some(&held)) {
            self.client.delete(Kind::Lease, &lease.metadata).await?;
        }
        Ok(())
    }
}

impl Kubernetes {
    /// Deletes a slice that has addresses of another kind than the one that is to take its place. Whether there was one.
    async fn make_room(&self, name: &str, wanted: &serde_json::Value) -> Result<bool> {
        let slice: Option<EndpointSlice> = self.client.get(Kind::Slice, name).await?;
        match slice {
            Some(slice) if wanted["addressType"] != slice.address_type.as_str() => {
                self.client.delete(Kind::Slice, &slice.metadata).await?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// A registration that is renewed until this is dropped.
struct Held {
    client: Arc<Client>,
    service: Arc<str>,
    name: String,
    holder: u64,
}

impl Held {
    /// Whether Kubernetes has it yet. That it cannot be asked is no answer.
    async fn is_there(&self, look: bool) -> Result<bool> {
        if !self.client.renew(&self.name, self.holder).await? {
            return Ok(false);
        }
        if !look {
            return Ok(true);
        }
        if self.client.is_to_be_swept(&self.service) {
            self.sweep().await?;
        }
        self.client.slice_is_held_by(&self.name, self.holder).await
    }

    /// Deletes what was not renewed for long: nobody else would.
    async fn sweep(&self) -> Result<()> {
        let client = &self.client;
        let leases = client.list::<Lease>(Kind::Lease, &self.service).await?.items;
        let today = SystemTime::now();
        let ours = leases.iter().filter(|lease| form::is_own_lease(lease));
        let old = ours.filter(|lease| is_old(lease, today, client.options.forget_after));
        for lease in old.take(SWEPT) {
            let name = &lease.metadata.name;
            let slice: Option<EndpointSlice> = client.get(Kind::Slice, name).await?;
            // Who is back meanwhile has changed it, and keeps it.
            client.delete(Kind::Lease, &lease.metadata).await?;
            if let Some(slice) = slice.filter(form::is_own) {
                client.delete(Kind::Slice, &slice.metadata).await?;
            }
            tracing::info!(%name, service = %self.service, "deleted a registration that was not renewed for long");
        }
        Ok(())
    }
}

impl Hold for Held {
    /// Kubernetes does not know it any more, or somebody took the identifier over.
    async fn lost(&mut self) {
        // Up to half of it earlier, so that who started together does not renew together for ever.
        let every = self.client.options.ttl * 4 / 9;
        let mut waits = Backoff::new(every, every);
        for turn in 1_u64.. {
            tokio::time::sleep(waits.next(&SystemRng)).await;
            // Whose the slice is changes rarely, and is asked at every third renewal.
            match self.is_there(turn % 3 == 0).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::debug!(%error, name = %self.name, "renewing in Kubernetes failed; trying again");
                }
            }
        }
    }
}

impl Registrar for KubernetesRegistry {
    fn register<'a>(
        &'a self,
        cx: &'a Context,
        instance: Instance,
    ) -> BoxFuture<'a, Result<Box<dyn Registration>>> {
        match &self.announcer {
            Some(announcer) => announcer.register(cx, instance),
            None => Box::pin(async move {
                tracing::info!(instance = %instance.id, service = %instance.service,
                    "Kubernetes registers what runs in pods, by their readiness");
                Ok(Box::new(InPod::new(instance)) as Box<dyn Registration>)
            }),
        }
    }
}

impl Discovery for KubernetesRegistry {
    fn watch(&self, service: &str) -> Watcher {
        if let Err(error) = form::check_service(service) {
            return Watcher::failed(service, &error);
        }
        let client = Arc::clone(&self.client);
        self.hub.watch(service, |publisher| Source::new(client, publisher).run())
    }
}
