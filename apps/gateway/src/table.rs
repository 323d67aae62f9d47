//! Which route a request takes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bowline::client::{Channel, ChannelFactory};
use bowline::core::{MethodKind, Operation};
use bowline::prelude::*;
use bowline::rpc::BoxFuture;

use crate::config::Route;

/// A route, ready to use.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    host: Host,
    prefix: String,
    pub(crate) operation: Operation,
    pub(crate) channel: Channel,
    pub(crate) timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Exact(String),
    /// `*.example.com`, kept as `.example.com`.
    Below(String),
    Any,
}

/// The routes of a gateway, the most specific first.
#[derive(Clone, Debug, Default)]
pub struct Table {
    entries: Vec<Arc<Entry>>,
}

impl Table {
    /// Prepares the routes. Those to one target share a channel; a target that `known` has a channel to keeps it, with its
    /// connections.
    ///
    /// # Errors
    /// Which route is wrong, and how.
    pub(crate) fn new(routes: &[Route], channels: &ChannelFactory, known: &Self) -> Result<Self> {
        let mut by_target: HashMap<&str, Channel> = HashMap::new();
        for entry in &known.entries {
            by_target.insert(entry.operation.service(), entry.channel.clone());
        }
        let mut entries = Vec::with_capacity(routes.len());
        for (index, route) in routes.iter().enumerate() {
            let place = || format!("route {} ({})", index + 1, route.prefix);
            let host = host(route.host.as_deref()).with_context(place)?;
            let prefix = prefix(&route.prefix).with_context(place)?;
            let name = service_name(&route.service);
            let channel = match by_target.get(name) {
                Some(channel) => channel.clone(),
                None => {
                    let channel = channels(&route.service).with_context(place)?;
                    by_target.insert(name, channel.clone());
                    channel
                }
            };
            let same = |entry: &Arc<Entry>| entry.host == host && entry.prefix == prefix;
            if entries.iter().any(same) {
                return Err(Error::invalid_argument(format!("{}: an earlier route is the same", place())));
            }
            // What a proxied call is like is not known before its end; nothing may hold up a stream.
            let operation = Operation::new(name, &prefix, MethodKind::BidiStreaming);
            entries.push(Arc::new(Entry { host, prefix, operation, channel, timeout: route.timeout }));
        }
        entries.sort_by_key(|entry| {
            let host = match &entry.host {
                Host::Exact(_) => (0, 0),
                Host::Below(name) => (1, usize::MAX - name.len()),
                Host::Any => (2, 0),
            };
            (host, usize::MAX - entry.prefix.len())
        });
        Ok(Self { entries })
    }

    /// The route for a host (without port) and a path.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<&Arc<Entry>> {
        self.entries.iter().find(|entry| {
            let host_fits = match &entry.host {
                Host::Exact(name) => name.eq_ignore_ascii_case(host),
                Host::Below(suffix) => ends_with_ignoring_case(host, suffix),
                Host::Any => true,
            };
            host_fits && prefix_fits(&entry.prefix, path)
        })
    }
}

fn ends_with_ignoring_case(host: &str, suffix: &str) -> bool {
    host.len() > suffix.len()
        && host.is_char_boundary(host.len() - suffix.len())
        && host[host.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
}

fn prefix_fits(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with(['/', ':']))
}

fn host(host: Option<&str>) -> Result<Host> {
    let wrong =
        |host| Error::invalid_argument(format!("`{host}` is no host: use NAME, *.NAME, or leave it out"));
    match host {
        None | Some("*") => Ok(Host::Any),
        Some(host) => {
            let name = host.strip_prefix("*.").unwrap_or(host);
            if name.is_empty() || name.contains(['*', '/', ':']) {
                return Err(wrong(host));
            }
            Ok(if name.len() < host.len() {
                Host::Below(format!(".{name}"))
            } else {
                Host::Exact(name.to_owned())
            })
        }
    }
}

fn prefix(prefix: &str) -> Result<String> {
    if !prefix.starts_with('/') || prefix.contains(['?', '#', '*', '{']) {
        return Err(Error::invalid_argument(format!(
            "`{prefix}` is no path prefix: it starts with / and is literal"
        )));
    }
    Ok(prefix.to_owned())
}

/// `catalog` of `discovery:///catalog`: what metrics call it.
fn service_name(target: &str) -> &str {
    target.strip_prefix("discovery:///").unwrap_or(target)
}

/// A future of the gateway's.
pub(crate) type Answer = BoxFuture<'static, Result<http::Response<bowline::rpc::Body>>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn table(routes: &[(Option<&str>, &str, &str)]) -> Result<Table> {
        let routes: Vec<_> = routes
            .iter()
            .map(|(host, prefix, service)| Route {
                host: host.map(str::to_owned),
                prefix: (*prefix).into(),
                service: (*service).into(),
                timeout: Duration::from_secs(1),
            })
            .collect();
        let channels: ChannelFactory = Arc::new(|target| Channel::builder(target).build());
        Table::new(&routes, &channels, &Table::default())
    }

    #[tokio::test]
    async fn the_most_specific_host_and_the_longest_prefix_win() {
        let table = table(&[
            (None, "/", "static:///h:1"),
            (None, "/v1", "static:///h:2"),
            (None, "/v1/items", "static:///h:3"),
            (Some("*.example.com"), "/v1", "static:///h:4"),
            (Some("api.example.com"), "/", "static:///h:5"),
            (None, "/a.B/", "static:///h:6"),
        ])
        .unwrap();
        let find = |host, path| table.find(host, path).map(|entry| entry.operation.service().to_owned());
        for (host, path, service) in [
            ("x", "/", 1),
            ("x", "/v10", 1),
            ("x", "/v1", 2),
            ("x", "/v1/item", 2),
            ("x", "/v1/items/7", 3),
            ("x", "/v1/items:batch", 3),
            ("a.example.com", "/v1/items", 4),
            ("example.com", "/v1/items", 3),
            ("API.example.com", "/v1/items", 5),
            ("x", "/a.B/C", 6),
        ] {
            assert_eq!(find(host, path), Some(format!("static:///h:{service}")), "{host}{path}");
        }
    }

    #[tokio::test]
    async fn routes_to_one_service_share_a_channel() {
        let made = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let channels: ChannelFactory = Arc::new(move |target| {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Channel::builder(target).build()
        });
        let route = |prefix: &str, service: &str| Route {
            host: None,
            prefix: prefix.into(),
            service: service.into(),
            timeout: Duration::from_secs(1),
        };
        let (one, other) = ("static:///h:1", "static:///h:2");
        let first = [route("/v1", one), route("/a.B", one), route("/v2", other)];
        let first = Table::new(&first, &channels, &Table::default()).unwrap();
        assert_eq!(made.load(std::sync::atomic::Ordering::Relaxed), 2);
        let second = [route("/v3", one), route("/v4", other)];
        Table::new(&second, &channels, &first).unwrap();
        assert_eq!(made.load(std::sync::atomic::Ordering::Relaxed), 2, "a table that changes keeps them");
    }

    #[tokio::test]
    async fn wrong_routes_are_refused_by_number() {
        for (routes, message) in [
            ([(None, "v1", "static:///h:1"); 1].as_slice(), "route 1 (v1): `v1` is no path prefix"),
            (&[(Some("a*b"), "/", "static:///h:1")], "`a*b` is no host"),
            (&[(None, "/", "nowhere")], "route 1 (/)"),
            (&[(None, "/", "static:///h:1"), (None, "/", "static:///h:2")], "route 2 (/): an earlier route"),
        ] {
            let error = table(routes).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
