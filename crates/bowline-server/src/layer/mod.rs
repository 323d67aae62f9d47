//! Bowline's own layers: tower services over `http::Request<Body>`, nested statically.
//!
//! A layer finds the call's [`Scope`](bowline_rpc::Scope) in the request's extensions, put there before the first layer runs.
//! An error a layer returns is rendered by the outermost one in the request's protocol.

pub mod deadline;
pub mod isolate;
pub mod observe;
pub mod recover;

use bowline_core::Error;
use bowline_rpc::Body;

/// What every layer takes.
pub type Request = http::Request<Body>;
/// What every layer answers.
pub type Response = http::Response<Body>;

/// Implements `Service` for a layer whose readiness is its inner service's.
macro_rules! ready_when_inner_is {
    () => {
        fn poll_ready(
            &mut self,
            task: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), bowline_core::Error>> {
            self.inner.poll_ready(task)
        }
    };
}
pub(crate) use ready_when_inner_is;

/// A service that layers can wrap.
pub trait Inner: tower::Service<Request, Response = Response, Error = Error> {}

impl<S: tower::Service<Request, Response = Response, Error = Error>> Inner for S {}
