//! Names of the DNS, followed by asking again.

mod lookup;
mod system;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::task::Group;
use bowline_core::{Context, Endpoint, Error, Instance, Result, SystemRng, WrapErr};

use crate::{Backoff, Discovery, DnsName, Hub, Publisher, State, Watcher};
pub use lookup::{Answer, Lookup, ServiceRecord};
pub use system::SystemLookup;

/// An answer is asked for again after its time to live, but neither more often than this...
const MIN_TTL: Duration = Duration::from_secs(1);
/// ... nor less often than this: rollouts move addresses faster than zone files say.
const MAX_TTL: Duration = Duration::from_secs(60);
/// How long one resolution may take, with all the lookups it needs.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How many targets of SRV records are looked up at a time.
const PARALLEL: usize = 8;

/// Follows names of the DNS: what `dns:///` means. A service is a [`DnsName`] as text: `host:port` for its A and AAAA
/// records, `_service._proto.name` for SRV records, of which those of the best priority that have addresses count and
/// weights are kept.
///
/// A name is asked for again when its records' time to live ends, clamped to 1 s to 60 s. When a lookup fails, the last
/// good list stays, stale, and the next attempt follows after a jittered backoff. A name that has no records is a definite
/// "there are none" only as long as there never were any: the DNS cannot say why a name went away, and a broken zone looks
/// the same as a stopped service.
///
/// ```no_run
/// use bowline_core::Context;
/// use bowline_discovery::{Discovery, Dns};
///
/// # async fn example(cx: &Context) -> bowline_core::Result<()> {
/// let dns = Dns::system()?;
/// let snapshot = dns.watch("catalog.local:9000").ready(cx).await?;
/// # Ok(()) }
/// ```
pub struct Dns {
    lookup: Arc<dyn Lookup>,
    hub: Hub,
}

impl Dns {
    /// Asks through `lookup`.
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup, hub: Hub::new() }
    }

    /// Asks the name servers this machine is configured with (`/etc/resolv.conf`, `/etc/hosts`).
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` if that configuration cannot be read.
    pub fn system() -> Result<Self> {
        Ok(Self::new(Arc::new(SystemLookup::from_system()?)))
    }
}

impl Discovery for Dns {
    fn watch(&self, service: &str) -> Watcher {
        let name: DnsName = match service.parse() {
            Ok(name) => name,
            Err(error) => return Watcher::failed(service, &error),
        };
        let lookup = Arc::clone(&self.lookup);
        self.hub.watch(service, |publisher| follow(lookup, name, publisher))
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns").field("hub", &self.hub).finish_non_exhaustive()
    }
}

async fn follow(lookup: Arc<dyn Lookup>, name: DnsName, publisher: Publisher) {
    let mut backoff = Backoff::default();
    loop {
        let delay = match resolve(&lookup, &name, &publisher.current().service).await {
            Ok((instances, ttl)) if !instances.is_empty() || !has_been_live(&publisher) => {
                backoff.reset();
                publisher.publish(instances);
                ttl.clamp(MIN_TTL, MAX_TTL)
            }
            Ok(_) => {
                publisher.fail(&Error::not_found(format!(
                    "`{name}` has no records any more; the last ones are kept"
                )));
                backoff.next(&SystemRng)
            }
            Err(error) => {
                tracing::warn!(%name, %error, "a DNS lookup failed; the last good answer is kept");
                publisher.fail(&error);
                backoff.next(&SystemRng)
            }
        };
        tokio::time::sleep(delay).await;
    }
}

/// Whether there is a list to keep.
fn has_been_live(publisher: &Publisher) -> bool {
    let current = publisher.current();
    !current.instances.is_empty() && matches!(current.state, State::Live | State::Stale { .. })
}

/// One resolution: the instances and for how long they hold.
async fn resolve(
    lookup: &Arc<dyn Lookup>,
    name: &DnsName,
    service: &str,
) -> Result<(Vec<Instance>, Duration)> {
    let cx = Context::background().with_timeout(TIMEOUT);
    let resolved = cx.run(async {
        match name {
            DnsName::Host { host, port } => {
                let answer = lookup.addresses(host).await?;
                let endpoints = answer.records.iter().map(|ip| Endpoint::http(ip.to_string(), *port));
                let instances = endpoints.map(|e| instance(service, e, Instance::DEFAULT_WEIGHT)).collect();
                Ok((instances, answer.ttl))
            }
            DnsName::Srv(name) => resolve_services(lookup, name, service).await,
        }
    });
    resolved
        .await
        .map_err(|e| e.with_message(format!("no name server answered within {TIMEOUT:?}")))
        .and_then(|r| r)
        .with_context(|| format!("resolving `{name}`"))
}

async fn resolve_services(
    lookup: &Arc<dyn Lookup>,
    name: &str,
    service: &str,
) -> Result<(Vec<Instance>, Duration)> {
    let answer = lookup.services(name).await?;
    let mut priorities: Vec<u16> = answer.records.iter().map(|r| r.priority).collect();
    priorities.sort_unstable();
    priorities.dedup();
    for priority in priorities {
        let records: Vec<_> = answer.records.iter().filter(|r| r.priority == priority).cloned().collect();
        // By RFC 2782 a weight of 0 among 0s means "no preference", beside others "hardly ever".
        let unweighted = records.iter().all(|r| r.weight == 0);
        let mut group = Group::new(&Context::background()).with_limit(PARALLEL);
        for record in records {
            let lookup = Arc::clone(lookup);
            group.spawn(|_| async move {
                let answer = lookup.addresses(&record.target).await?;
                Ok((record, answer))
            });
        }
        let (mut instances, mut ttl) = (Vec::new(), answer.ttl);
        for (record, addresses) in group.wait().await? {
            ttl = ttl.min(addresses.ttl);
            let weight = if unweighted { Instance::DEFAULT_WEIGHT } else { u32::from(record.weight).max(1) };
            let endpoints = addresses.records.iter().map(|ip| Endpoint::http(ip.to_string(), record.port));
            instances.extend(endpoints.map(|e| instance(service, e, weight)));
        }
        if !instances.is_empty() {
            return Ok((instances, ttl));
        }
    }
    Ok((Vec::new(), answer.ttl))
}

fn instance(service: &str, endpoint: Endpoint, weight: u32) -> Instance {
    let mut instance = Instance::new(service, endpoint.authority()).with_endpoint(endpoint);
    instance.weight = weight;
    instance
}

#[cfg(test)]
mod tests;
