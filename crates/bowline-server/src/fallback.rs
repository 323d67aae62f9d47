//! What answers requests that no mounted method does.

use bowline_core::{Operation, Result};
use bowline_rpc::{Body, BoxFuture, Scope};
use http::request::Parts;
use http::{Request, Response};

/// Answers requests that lead to no mounted method: a gateway's proxy, a website.
///
/// They pass the same layers as every other request, so a fallback names the operation first.
pub trait Fallback: Send + Sync + 'static {
    /// What the request is about, for metrics, logs and rules; `None` if this fallback does not answer it either.
    ///
    /// The names must come from a small set, such as a route table: each is kept for the life of the process.
    fn resolve(&self, request: &Parts) -> Option<Operation>;

    /// Answers.
    fn call(&self, scope: Scope, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>>>;
}
