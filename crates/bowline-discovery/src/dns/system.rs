//! Name servers, asked through hickory.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_core::{Error, Result};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;

use super::{Answer, Lookup, ServiceRecord};
use crate::BoxFuture;

/// Asks name servers by UDP, and by TCP where an answer does not fit.
pub struct SystemLookup(TokioResolver);

impl SystemLookup {
    /// The name servers, search domains and host names this machine is configured with.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` if that configuration cannot be read.
    pub fn from_system() -> Result<Self> {
        let mut builder = TokioResolver::builder_tokio()
            .map_err(|e| unusable("the system's DNS configuration (/etc/resolv.conf) cannot be read", e))?;
        let options = options(std::mem::take(builder.options_mut()));
        builder.with_options(options).build().map(Self).map_err(|e| unusable("DNS cannot be set up", e))
    }

    /// Exactly these name servers and no host names of the machine.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` if the resolver cannot be set up.
    pub fn with_servers(servers: impl IntoIterator<Item = SocketAddr>) -> Result<Self> {
        let servers = servers.into_iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        let mut options = options(ResolverOpts::default());
        options.use_hosts_file = hickory_resolver::config::ResolveHosts::Never;
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map(Self)
            .map_err(|e| unusable("DNS cannot be set up", e))
    }
}

fn unusable(what: &'static str, error: NetError) -> Error {
    Error::failed_precondition(format!("{what}: {error}")).with_source(error)
}

fn options(mut options: ResolverOpts) -> ResolverOpts {
    // `Dns` keeps answers and their time to live itself; a second cache would only hide a name's return.
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // Two tries of two seconds: what takes longer is tried again by `Dns`, after a backoff.
    options.timeout = Duration::from_secs(2);
    options.attempts = 1;
    options
}

impl Lookup for SystemLookup {
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Answer<IpAddr>>> {
        Box::pin(async move {
            let found = match self.0.lookup_ip(host).await {
                Ok(found) => found,
                Err(error) => return nothing(error),
            };
            let ttl = left(found.valid_until());
            Ok(Answer { records: found.iter().collect(), ttl })
        })
    }

    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Answer<ServiceRecord>>> {
        Box::pin(async move {
            let found = match self.0.srv_lookup(name).await {
                Ok(found) => found,
                Err(error) => return nothing(error),
            };
            let record = |data: &RData| match data {
                // A target of "." says that the service is decidedly not there.
                RData::SRV(srv) if !srv.target.is_root() => Some(ServiceRecord {
                    priority: srv.priority,
                    weight: srv.weight,
                    port: srv.port,
                    target: Arc::from(srv.target.to_ascii()),
                }),
                _ => None,
            };
            let records = found.answers().iter().filter_map(|r| record(&r.data)).collect();
            Ok(Answer { records, ttl: left(found.valid_until()) })
        })
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

/// "No such records" is an answer; anything else is a failure to get one. A name is asked for again soon, because one
/// that is missing is usually one that is about to appear.
fn nothing<T>(error: NetError) -> Result<Answer<T>> {
    if error.is_no_records_found() || error.is_nx_domain() {
        return Ok(Answer { records: Vec::new(), ttl: Duration::ZERO });
    }
    Err(Error::unavailable(format!("the name server gave no answer: {error}")).with_source(error))
}

impl fmt::Debug for SystemLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemLookup")
    }
}
