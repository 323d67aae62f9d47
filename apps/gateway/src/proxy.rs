//! Passing requests on.

use std::sync::{Arc, PoisonError, RwLock};

use bowline::core::Operation;
use bowline::prelude::*;
use bowline::rpc::{Body, Scope};
use bowline::server::{Fallback, PeerAddr};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Request, Uri, Version};
use http_body::Body as _;

use crate::table::{Answer, Entry, Table};

/// Headers that belong to one connection (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The longest body that is kept until the service has answered: 64 KiB, an HTTP/2 stream's first window.
const KEPT_BYTES: u64 = 64 * 1024;

/// Passes requests on by a table that can be exchanged. A clone is the same proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    table: Arc<RwLock<Arc<Table>>>,
    /// What callers speak with the gateway.
    scheme: &'static str,
}

impl Proxy {
    /// Passes on by this table.
    pub fn new(table: Table) -> Self {
        Self { table: Arc::new(RwLock::new(Arc::new(table))), scheme: "http" }
    }

    /// Tells the services that callers speak TLS with the gateway.
    #[must_use]
    pub fn behind_tls(self, tls: bool) -> Self {
        Self { scheme: if tls { "https" } else { "http" }, ..self }
    }

    /// The table in force.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Exchanges the table. Requests under way go on by the old one.
    pub fn set_table(&self, table: Table) {
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }

    fn route(&self, uri: &Uri, headers: &HeaderMap) -> Option<Arc<Entry>> {
        self.table().find(&host(uri, headers), uri.path()).cloned()
    }
}

/// The host a request is for, without its port.
fn host(uri: &Uri, headers: &HeaderMap) -> String {
    if let Some(host) = uri.host() {
        return host.to_owned();
    }
    let header = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match header.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host.to_owned(),
        _ => header.to_owned(),
    }
}

impl Fallback for Proxy {
    fn resolve(&self, request: &Parts) -> Option<Operation> {
        self.route(&request.uri, &request.headers).map(|entry| entry.operation.clone())
    }

    fn call(&self, scope: Scope, request: Request<Body>) -> Answer {
        let Some(entry) = self.route(request.uri(), request.headers()) else {
            // The table changed between the two look-ups.
            return Box::pin(std::future::ready(Err(Error::unavailable(
                "the route was just removed; try again",
            ))));
        };
        let scheme = self.scheme;
        Box::pin(async move {
            // The route's time is how long is waited here. The service is told of the caller's alone: what is called may be a
            // stream, and to a service a deadline is the end of the whole answer.
            let wait = scope.cx.with_timeout(entry.timeout);
            let outbound = outbound(wait.run(kept(request)).await??, scheme)?;
            // The channel learns that an instance took too long, and not that somebody went away.
            let left = wait.remaining().unwrap_or(entry.timeout);
            let answer = entry.channel.send_within(scope.cx.clone(), entry.operation.clone(), outbound, left);
            let mut response = answer.await?;
            strip(response.headers_mut());
            Ok(response)
        })
    }
}

/// A short body of known length is read first. Then the request can be sent again when an instance that is leaving did not
/// begin it (a GOAWAY that crossed it on the way), which a body that is passed through cannot.
async fn kept(request: Request<Body>) -> Result<Request<Body>> {
    let length = request.body().size_hint().exact();
    if length.is_none_or(|length| length > KEPT_BYTES) {
        return Ok(request);
    }
    let (parts, mut body) = request.into_parts();
    let bytes = body.collect(KEPT_BYTES as usize).await?;
    Ok(Request::from_parts(parts, Body::full(bytes)))
}

/// The request as it goes to the service: HTTP/2, without what belonged to the caller's connection.
fn outbound(request: Request<Body>, scheme: &'static str) -> Result<Request<Body>> {
    let (mut parts, body) = request.into_parts();
    let original_host = parts
        .uri
        .authority()
        .and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
        .or_else(|| parts.headers.get(header::HOST).cloned());
    let wants_trailers =
        parts.headers.get(header::TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    strip(&mut parts.headers);
    parts.headers.remove(header::TE);
    parts.headers.remove(header::HOST);
    if wants_trailers {
        parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(PeerAddr::Tcp(peer)) = parts.extensions.get::<PeerAddr>()
        && let Ok(peer) = HeaderValue::from_str(&peer.ip().to_string())
    {
        parts.headers.append(FORWARDED_FOR, peer);
    }
    parts.headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    let mut uri = parts.uri.into_parts();
    uri.scheme = Some(http::uri::Scheme::HTTP);
    uri.authority = original_host
        .as_ref()
        .and_then(|host| http::uri::Authority::try_from(host.as_bytes()).ok())
        .or_else(|| Some(http::uri::Authority::from_static("localhost")));
    if let Some(host) = original_host {
        parts.headers.insert(FORWARDED_HOST, host);
    }
    let uri = Uri::from_parts(uri).context("passing the request's path on")?;
    let mut outbound = Request::new(body);
    *outbound.method_mut() = parts.method;
    *outbound.uri_mut() = uri;
    *outbound.version_mut() = Version::HTTP_2;
    *outbound.headers_mut() = parts.headers;
    Ok(outbound)
}

/// Takes off what belongs to one connection, the headers that `connection` names among it.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}
