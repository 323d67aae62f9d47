//! The adapter.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bowline_core::task::{Tracker, contain};
use bowline_core::{Code, Context, Error, Instance, Result, SystemRng};
use bowline_discovery::{
    Announce, Announcer, AnnouncerOptions, Backoff, BoxFuture, Discovery, Hold, Hub, Registrar, Registration,
    Watcher,
};
use bowline_rpc::{Plain, Transport};
use tokio::sync::{Notify, watch};

use crate::client::{ANSWER, Client};
use crate::form;
use crate::options::Options;
use crate::poller::{self, News};
use crate::source::Source;

/// Eureka as a [`Registrar`] and a [`Discovery`].
///
/// Attempts go on for ever, with exponential backoff and jitter. Whoever watches shares one copy of what the servers tell. See
/// the [crate] for what the watchers see when Eureka fails. Wrap it into
/// [`DiskSnapshots`](bowline_discovery::DiskSnapshots) to start while it is gone.
///
/// ```
/// use bowline_core::{Context, Instance};
/// use bowline_discovery::{Discovery, Registrar};
/// use bowline_registry_eureka::{EurekaRegistry, Options};
///
/// async fn example(channel: impl bowline_rpc::Transport) -> bowline_core::Result<()> {
///     let (servers, options) = Options::from_url("eureka://127.0.0.1:8761/eureka")?;
///     // A channel to each server that speaks HTTP/1.1.
///     let registry = EurekaRegistry::new([(channel, servers[0].authority())], options)?;
///     let cx = Context::background().with_timeout(std::time::Duration::from_secs(10));
///     let registration = registry.register(&cx, Instance::new("catalog", "catalog-1")).await?;
///     let catalog = registry.watch("catalog").ready(&cx).await?;
///     registration.deregister(&cx).await
/// }
/// ```
pub struct EurekaRegistry {
    eureka: Eureka,
    announcer: Announcer<Eureka>,
    hub: Hub,
}

#[derive(Clone)]
struct Eureka(Arc<Shared>);

struct Shared {
    client: Arc<Client>,
    /// The last `lastDirtyTimestamp` that was said.
    dirty: AtomicU64,
    news: watch::Sender<News>,
    wanted: Arc<Notify>,
    is_polling: AtomicBool,
    tasks: Tracker,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl EurekaRegistry {
    /// The servers behind these transports, channels for HTTP/1.1, each with what it sees as its host. The first one is asked for
    /// as long as it answers, then the next one. No connection is made before there is something to do.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if there is no server or an option makes no sense.
    pub fn new<T: Transport>(
        servers: impl IntoIterator<Item = (T, String)>,
        options: Options,
    ) -> Result<Self> {
        options.check()?;
        let plain = |(transport, authority): (T, String)| Plain::new(transport, &authority, ANSWER);
        let servers = servers.into_iter().map(plain).collect::<Result<Vec<_>>>()?;
        if servers.is_empty() {
            return Err(Error::invalid_argument("there is no server of Eureka; name one at least"));
        }
        let mut announcing = AnnouncerOptions::default();
        announcing.patience = options.patience;
        announcing.backoff_first = options.backoff_first;
        announcing.backoff_max = options.backoff_max;
        // Servers let a registration live for twice its time.
        announcing.lease = options.ttl * 2;
        let eureka = Eureka(Arc::new(Shared {
            client: Arc::new(Client::new(servers, options)?),
            dirty: AtomicU64::new(0),
            news: watch::Sender::default(),
            wanted: Arc::default(),
            is_polling: AtomicBool::new(false),
            tasks: Tracker::new(),
        }));
        Ok(Self { announcer: Announcer::new(eureka.clone(), announcing), eureka, hub: Hub::new() })
    }
}

impl fmt::Debug for EurekaRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EurekaRegistry").field("watched", &self.hub.len()).finish_non_exhaustive()
    }
}

impl Eureka {
    /// A timestamp that is later than any that was said here, and than `known`.
    fn later(&self, known: u64) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(known.saturating_add(1));
        let next = |said: u64| now.max(said.saturating_add(1));
        let (order, dirty) = (Ordering::Relaxed, &self.0.dirty);
        // It never refuses, so that both arms hold what was said before.
        next(dirty.fetch_update(order, order, |said| Some(next(said))).unwrap_or_else(|said| said))
    }

    fn body(&self, instance: &Instance, holder: u64, dirty: u64, is_leaving: bool) -> Result<Vec<u8>> {
        let Options { env, ttl, .. } = &self.0.client.options;
        let registration = form::Registration { holder, env, ttl_seconds: ttl.as_secs(), dirty, is_leaving };
        form::encode(instance, &registration)
    }

    /// Starts to ask, once somebody watches.
    fn follow(&self) -> watch::Receiver<News> {
        let news = self.0.news.subscribe();
        self.0.wanted.notify_one();
        if !self.0.is_polling.swap(true, Ordering::Relaxed) {
            let (client, sender, wanted) =
                (Arc::clone(&self.0.client), self.0.news.clone(), Arc::clone(&self.0.wanted));
            self.0.tasks.spawn(async move {
                let mut backoff = Backoff::default();
                loop {
                    let polling = poller::run(Arc::clone(&client), sender.clone(), Arc::clone(&wanted));
                    if let Err(error) = contain(polling).await {
                        tracing::error!(%error, "asking Eureka panicked; starting it again");
                    }
                    tokio::time::sleep(backoff.next(&SystemRng)).await;
                }
            });
        }
        news
    }
}

impl Announce for Eureka {
    type Hold = Held;

    /// Looking and registering are two requests: of two that come at once, the later one has the identifier.
    async fn announce(&self, instance: &Instance, holder: u64, only_if_free: bool) -> Result<Held> {
        // What has no place is refused before anything is asked.
        self.body(instance, holder, 0, false)?;
        let (service, id) = (&*instance.service, instance.id.as_str());
        let client = &self.0.client;
        let held = client.held(service, id).await?;
        if only_if_free && held.as_ref().is_some_and(|held| held.holder() != Some(holder)) {
            let what = format!("another process has registered `{id}` of `{service}`");
            return Err(Error::new(Code::AlreadyExists, what));
        }
        // Servers keep what was said later, by whatever clock.
        let dirty = self.later(held.map_or(0, |held| held.last_dirty_timestamp));
        client.register(service, self.body(instance, holder, dirty, false)?).await?;
        Ok(Held { client: Arc::clone(client), service: service.into(), id: id.into(), holder, dirty })
    }

    async fn withdraw(&self, instance: &Instance, holder: u64) -> Result<()> {
        let (service, id) = (&*instance.service, instance.id.as_str());
        let client = &self.0.client;
        let Some(held) = client.held(service, id).await?.filter(|held| held.holder() == Some(holder)) else {
            return Ok(());
        };
        // By that watchers tell this from a death, as with Netflix' client, which says so too before it leaves.
        let dirty = self.later(held.last_dirty_timestamp);
        client.register(service, self.body(instance, holder, dirty, true)?).await?;
        client.cancel(service, id).await
    }
}

/// A registration that is renewed until this is dropped.
struct Held {
    client: Arc<Client>,
    service: Arc<str>,
    id: String,
    holder: u64,
    dirty: u64,
}

impl Held {
    /// Whether the servers have it yet. That they cannot be asked is no answer.
    async fn is_there(&self, look: bool) -> Result<bool> {
        if look {
            let held = self.client.held(&self.service, &self.id).await?;
            if held.is_none_or(|held| held.holder() != Some(self.holder)) {
                return Ok(false);
            }
        }
        self.client.renew(&self.service, &self.id, self.dirty).await
    }
}

impl Hold for Held {
    /// The servers do not know it any more, or somebody took the identifier over.
    async fn lost(&mut self) {
        // Up to half of it earlier, so that who started together does not renew together for ever: a third on average.
        let every = self.client.options.ttl * 4 / 9;
        let mut waits = Backoff::new(every, every);
        for turn in 1_u64.. {
            tokio::time::sleep(waits.next(&SystemRng)).await;
            // Whose it is changes rarely, and is asked at every third renewal.
            match self.is_there(turn % 3 == 0).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::debug!(%error, id = %self.id, "renewing at Eureka failed; trying again")
                }
            }
        }
    }
}

impl Registrar for EurekaRegistry {
    fn register<'a>(
        &'a self,
        cx: &'a Context,
        instance: Instance,
    ) -> BoxFuture<'a, Result<Box<dyn Registration>>> {
        self.announcer.register(cx, instance)
    }
}

impl Discovery for EurekaRegistry {
    fn watch(&self, service: &str) -> Watcher {
        if service.is_empty() || service.contains('/') {
            let error = Error::invalid_argument(format!("`{service}` is no service: use a name without `/`"));
            return Watcher::failed(service, &error);
        }
        let eureka = self.eureka.clone();
        self.hub.watch(service, |publisher| async move {
            Source::new(eureka.follow(), &eureka.0.client.options, publisher).run().await;
        })
    }
}
