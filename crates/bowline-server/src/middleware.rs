//! What a service's author adds to the pipeline.

use std::sync::Arc;

use bowline_core::{Context, Result};
use bowline_rpc::{Body, BoxFuture, Scope};
use http::{Request, Response};

use crate::pipeline::Endpoint;

/// A step around every call, between bowline's own layers and the method.
///
/// It is called once per request, unary or streaming, whatever the protocol. An error becomes the response in the protocol's
/// form. Costs one allocation per call and middleware. The request's extensions have its [`PeerAddr`](crate::PeerAddr).
///
/// ```
/// use bowline_core::{Context, Error, Result};
/// use bowline_rpc::{Body, BoxFuture};
/// use bowline_server::{Middleware, Next};
///
/// struct ReadOnly;
///
/// impl Middleware for ReadOnly {
///     fn call<'a>(
///         &'a self,
///         cx: &'a Context,
///         request: http::Request<Body>,
///         next: Next<'a>,
///     ) -> BoxFuture<'a, Result<http::Response<Body>>> {
///         Box::pin(async move {
///             match cx.operation().map(|op| op.method()) {
///                 Some("Delete") => Err(Error::permission_denied("this deployment is read-only")),
///                 _ => next.run(request).await,
///             }
///         })
///     }
/// }
/// ```
pub trait Middleware: Send + Sync + 'static {
    /// Handles a call, usually by running the rest of the pipeline.
    fn call<'a>(
        &'a self,
        cx: &'a Context,
        request: Request<Body>,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<Response<Body>>>;
}

/// The rest of the pipeline.
pub struct Next<'a> {
    pub(crate) cx: &'a Context,
    pub(crate) rest: &'a [Arc<dyn Middleware>],
    pub(crate) endpoint: &'a Endpoint,
}

impl<'a> Next<'a> {
    /// Goes on with the same context.
    ///
    /// # Errors
    /// Where an inner middleware fails, or a fallback does. A method's error is a response already.
    pub async fn run(self, request: Request<Body>) -> Result<Response<Body>> {
        match self.rest.split_first() {
            None => self.endpoint.call(request).await,
            Some((first, rest)) => first.call(self.cx, request, Next { rest, ..self }).await,
        }
    }

    /// Goes on with another context, such as one with an identity.
    ///
    /// # Errors
    /// As [`Next::run`].
    pub async fn run_with(self, cx: &Context, mut request: Request<Body>) -> Result<Response<Body>> {
        if let Some(scope) = request.extensions_mut().get_mut::<Scope>() {
            scope.cx = cx.clone();
        }
        Next { cx, rest: self.rest, endpoint: self.endpoint }.run(request).await
    }
}

impl std::fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Next({} more)", self.rest.len())
    }
}
