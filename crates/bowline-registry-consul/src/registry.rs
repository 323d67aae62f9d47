//! The adapter.

use std::fmt;
use std::sync::Arc;

use bowline_core::{Code, Context, Error, Instance, Result, SystemRng};
use bowline_discovery::{
    Announce, Announcer, AnnouncerOptions, Backoff, BoxFuture, Discovery, Hold, Hub, Registrar, Registration,
    Watcher,
};
use bowline_rpc::Transport;

use crate::client::Client;
use crate::form;
use crate::options::Options;
use crate::source::Source;

/// Consul as a [`Registrar`] and a [`Discovery`].
///
/// Each registration has a check with a time to live at the agent, and renews it. Attempts go on for ever, with exponential
/// backoff and jitter. See the [crate] for what the watchers see when Consul fails. Wrap it into
/// [`DiskSnapshots`](bowline_discovery::DiskSnapshots) to start while it is gone.
///
/// ```
/// use bowline_core::{Context, Instance};
/// use bowline_discovery::{Discovery, Registrar};
/// use bowline_registry_consul::{ConsulRegistry, Options};
///
/// async fn example(channel: impl bowline_rpc::Transport) -> bowline_core::Result<()> {
///     let (agent, options) = Options::from_url("consul://127.0.0.1:8500")?;
///     // A channel to the agent that speaks HTTP/1.1.
///     let registry = ConsulRegistry::new(channel, &agent.authority(), options)?;
///     let cx = Context::background().with_timeout(std::time::Duration::from_secs(10));
///     let registration = registry.register(&cx, Instance::new("catalog", "catalog-1")).await?;
///     let catalog = registry.watch("catalog").ready(&cx).await?;
///     registration.deregister(&cx).await
/// }
/// ```
pub struct ConsulRegistry {
    client: Arc<Client>,
    announcer: Announcer<Consul>,
    hub: Hub,
}

#[derive(Clone)]
struct Consul(Arc<Client>);

impl ConsulRegistry {
    /// How many connections a channel to the agent needs at the most: one for each service that is followed, and those for
    /// short requests.
    pub const CONNECTIONS: usize = 190;

    /// The agent behind this transport: a channel for HTTP/1.1. `authority` is what the agent sees as the host. No connection
    /// is made before there is something to do.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if an option makes no sense.
    pub fn new(agent: impl Transport, authority: &str, options: Options) -> Result<Self> {
        options.check()?;
        let mut announcing = AnnouncerOptions::default();
        announcing.patience = options.patience;
        announcing.backoff_first = options.backoff_first;
        announcing.backoff_max = options.backoff_max;
        announcing.lease = options.ttl;
        let client = Arc::new(Client::new(agent, authority, options)?);
        Ok(Self {
            announcer: Announcer::new(Consul(Arc::clone(&client)), announcing),
            client,
            hub: Hub::new(),
        })
    }
}

impl fmt::Debug for ConsulRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsulRegistry").field("watched", &self.hub.len()).finish_non_exhaustive()
    }
}

impl Announce for Consul {
    type Hold = Held;

    /// Looking and registering are two requests: of two that come at once, the later one has the identifier.
    async fn announce(&self, instance: &Instance, holder: u64, only_if_free: bool) -> Result<Held> {
        let registration = form::encode(instance, holder, &self.0.options)?;
        let id = instance.id.as_str();
        if only_if_free
            && let Some(held) = self.0.held(id).await?
            && held.is_alive
            && held.by != Some(holder)
        {
            let what = format!("another process has registered `{id}` at this agent");
            return Err(Error::new(Code::AlreadyExists, what));
        }
        self.0.register(registration).await?;
        Ok(Held { client: Arc::clone(&self.0), id: id.to_owned(), holder })
    }

    async fn withdraw(&self, instance: &Instance, holder: u64) -> Result<()> {
        let id = instance.id.as_str();
        match self.0.held(id).await? {
            Some(held) if held.by == Some(holder) => self.0.deregister(id).await,
            _ => Ok(()),
        }
    }
}

/// A registration that is renewed until this is dropped.
struct Held {
    client: Arc<Client>,
    id: String,
    holder: u64,
}

impl Held {
    /// Whether the agent has it yet. That it cannot be asked is no answer.
    async fn is_there(&self, look: bool) -> Result<bool> {
        if look && self.client.held(&self.id).await?.is_none_or(|held| held.by != Some(self.holder)) {
            return Ok(false);
        }
        self.client.renew(&self.id).await
    }
}

impl Hold for Held {
    /// The agent does not know it any more, or somebody took the identifier over.
    async fn lost(&mut self) {
        // Up to half of it earlier, so that who started together does not renew together for ever.
        let every = self.client.options.ttl * 4 / 9;
        let mut waits = Backoff::new(every, every);
        for turn in 1_u64.. {
            tokio::time::sleep(waits.next(&SystemRng)).await;
            // Whose it is changes rarely, and is asked at every third renewal.
            match self.is_there(turn % 3 == 0).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::debug!(%error, id = %self.id, "renewing at Consul failed; trying again")
                }
            }
        }
    }
}

impl Registrar for ConsulRegistry {
    fn register<'a>(
        &'a self,
        cx: &'a Context,
        instance: Instance,
    ) -> BoxFuture<'a, Result<Box<dyn Registration>>> {
        self.announcer.register(cx, instance)
    }
}

impl Discovery for ConsulRegistry {
    fn watch(&self, service: &str) -> Watcher {
        if service.is_empty() {
            return Watcher::failed(service, &Error::invalid_argument("the service to watch has no name"));
        }
        let client = Arc::clone(&self.client);
        self.hub.watch(service, |publisher| Source::new(client, publisher).run())
    }
}
