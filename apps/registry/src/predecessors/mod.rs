//! The protocols of the registries that came before, on the same data: whatever is registered by one of them, or by
//! `bowline.registry.v1`, is visible by all. `docs/registry.md` has the mappings.

mod discovery;
mod eureka;
mod params;

use std::sync::Arc;

use bowline_core::{Operation, Result};
use bowline_rpc::{Body, BoxFuture, Scope};
use bowline_server::Fallback;
use http::header::{CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};

use crate::node::Shared;

/// What an instance says that only the protocol it was registered with has a place for is kept in its metadata, as JSON,
/// under names with this prefix. The other protocols here leave it out.
const RESERVED: &str = "bowline.";
/// Where Eureka's own fields are kept.
const EUREKA: &str = "bowline.eureka";

/// Answers under `/discovery/` and `/eureka/`.
pub(crate) struct Predecessors {
    shared: Arc<Shared>,
    discovery: discovery::Operations,
    eureka: eureka::Operations,
}

impl Predecessors {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, discovery: discovery::Operations::new(), eureka: eureka::Operations::new() }
    }
}

impl Fallback for Predecessors {
    fn resolve(&self, request: &Parts) -> Option<Operation> {
        let discovery = self.discovery.resolve(request.uri.path()).map(|(_, operation)| operation);
        discovery.or_else(|| self.eureka.resolve(&request.method, request.uri.path()))
    }

    fn call(&self, scope: Scope, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>>> {
        let shared = Arc::clone(&self.shared);
        match self.discovery.resolve(request.uri().path()) {
            Some((method, _)) => {
                Box::pin(async move { Ok(discovery::call(&shared, method, &scope, request).await) })
            }
            None => Box::pin(async move { Ok(eureka::call(&shared, &scope, request).await) }),
        }
    }
}

/// An answer without a body.
fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// An answer.
fn answer(status: StatusCode, content_type: &'static str, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Host and port under which the caller reached this node: the only name of it that is known to work for the caller.
fn authority(uri: &Uri, headers: &HeaderMap) -> String {
    let header = || headers.get(HOST).and_then(|value| value.to_str().ok()).map(str::to_owned);
    uri.authority().map(ToString::to_string).or_else(header).unwrap_or_default()
}
