//! The protocols of the registries that came before, on the same data: whatever is registered by one of them, or by
//! `bowline.registry.v1`, is visible by all. `docs/registry.md` has the mappings.

mod discovery;
mod eureka;
pub(crate) mod nacos;
mod params;

use std::sync::Arc;

use bowline_core::{Code, Error, Operation, Result};
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
/// Where Nacos' own fields are kept.
const NACOS: &str = "bowline.nacos";

/// Answers under `/discovery/`, `/eureka/` and `/nacos/`.
pub(crate) struct Predecessors {
    shared: Arc<Shared>,
    discovery: discovery::Operations,
    eureka: eureka::Operations,
    nacos: nacos::Operations,
}

impl Predecessors {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            discovery: discovery::Operations::new(),
            eureka: eureka::Operations::new(),
            nacos: nacos::Operations::new(),
        }
    }
}

impl Fallback for Predecessors {
    fn resolve(&self, request: &Parts) -> Option<Operation> {
        let (method, path) = (&request.method, request.uri.path());
        let discovery = self.discovery.resolve(path).map(|(_, operation)| operation);
        let nacos = || self.nacos.resolve(method, path).map(|(_, operation)| operation);
        discovery.or_else(nacos).or_else(|| self.eureka.resolve(method, path))
    }

    fn call(&self, scope: Scope, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>>> {
        let shared = Arc::clone(&self.shared);
        let path = request.uri().path();
        if let Some((method, _)) = self.discovery.resolve(path) {
            return Box::pin(async move { Ok(discovery::call(&shared, method, &scope, request).await) });
        }
        if let Some((method, _)) = self.nacos.resolve(request.method(), path) {
            return Box::pin(async move { Ok(nacos::call(&shared, method, &scope, request).await) });
        }
        Box::pin(async move { Ok(eureka::call(&shared, &scope, request).await) })
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

/// The status of an error, where the protocol tells errors by that.
fn http_status(error: &Error) -> StatusCode {
    match error.code() {
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted if error.reason() == "BODY_TOO_LARGE" => StatusCode::PAYLOAD_TOO_LARGE,
        Code::ResourceExhausted | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Host and port under which the caller reached this node: the only name of it that is known to work for the caller.
fn authority(uri: &Uri, headers: &HeaderMap) -> String {
    let header = || headers.get(HOST).and_then(|value| value.to_str().ok()).map(str::to_owned);
    uri.authority().map(ToString::to_string).or_else(header).unwrap_or_default()
}
