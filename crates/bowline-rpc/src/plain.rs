//! Plain HTTP requests, to servers that speak none of our protocols: registries of others.

use std::fmt;
use std::sync::Arc;

use bowline_core::{Context, Error, Operation, Result};
use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};

use crate::{Body, Transport};

/// Sends HTTP requests through a [`Transport`] and reads whole answers. Whoever speaks to an HTTP/1.1 server gives it a
/// channel for that version.
///
/// ```
/// use bowline_core::{Context, MethodKind, Operation, Result};
/// use bowline_rpc::{Plain, Transport};
/// use bytes::Bytes;
///
/// async fn leader(channel: impl Transport) -> Result<Bytes> {
///     let consul = Plain::new(channel, "127.0.0.1:8500", 64 * 1024)?;
///     let operation = Operation::new("consul", "Leader", MethodKind::Unary);
///     let request = http::Request::get("/v1/status/leader").body(Bytes::new()).unwrap_or_default();
///     Ok(consul.send(&Context::background(), operation, request).await?.into_body())
/// }
/// ```
#[derive(Clone)]
pub struct Plain {
    transport: Arc<dyn Transport>,
    authority: Authority,
    limit: usize,
}

impl Plain {
    /// Sends through `transport`. `authority` is what servers see as the host. An answer has at most `limit` bytes.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if `authority` is none.
    pub fn new(transport: impl Transport, authority: &str, limit: usize) -> Result<Self> {
        let authority = authority.parse().map_err(|e| {
            Error::invalid_argument(format!("`{authority}` cannot be sent as a request's authority"))
                .with_source(e)
        })?;
        Ok(Self { transport: Arc::new(transport), authority, limit })
    }

    /// Sends a request, of whose URI the path and the query count, and reads the whole answer, whatever its status. The
    /// context bounds it.
    ///
    /// # Errors
    /// Why the server could not be reached, why the context ended, or that the answer was too long.
    pub async fn send(
        &self,
        cx: &Context,
        operation: Operation,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>> {
        let (mut parts, body) = request.into_parts();
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(self.authority.clone());
        let path = parts.uri.path_and_query().cloned();
        uri.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        // All three parts are there, so that they always make a URI.
        parts.uri = Uri::from_parts(uri).unwrap_or_default();
        let request = Request::from_parts(parts, Body::full(body));
        let answering = async {
            let answer = self.transport.send(cx.clone(), operation, request).await?;
            let (parts, mut body) = answer.into_parts();
            Ok(Response::from_parts(parts, body.collect(self.limit).await?))
        };
        cx.run(answering).await.flatten()
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plain({})", self.authority)
    }
}
