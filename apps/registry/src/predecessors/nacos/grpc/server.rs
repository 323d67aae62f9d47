//! The server that clients of Nacos 2 and 3 connect to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bowline::app::{BoxFuture, Server as AppServer};
use bowline_core::{Context, Endpoint, Error, Result};
use bowline_registry_nacos::api::Payload;
use bowline_registry_nacos::api::wire::{bi_request_stream, request};
use bowline_rpc::{Body, Streaming};
use bowline_server::{ListenAddr, Middleware, Next, PeerAddr, Server, ServerOptions};
use http::{Request, Response};

use super::connection::Hub;
use super::{NacosConfig, requests, stream};
use crate::{Node, watch};

/// A connection is not asked to end for its age: it stands for a client, which would have to register anew.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Serves a node's services by Nacos' gRPC: one of the servers of its application.
///
/// ```no_run
/// use bowline_registry::{Config, Nacos, NacosConfig, Node};
///
/// # fn example() -> bowline_core::Result<()> {
/// let node = Node::new(Config::default())?;
/// let nacos = Nacos::new(&node, NacosConfig::at(([127, 0, 0, 1], 8171).into()))?;
/// # Ok(()) }
/// ```
pub struct Nacos {
    server: Server,
    bound: Option<Endpoint>,
    hub: Arc<Hub>,
}

impl Nacos {
    /// What `node` knows, for Nacos' clients.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if a setting makes no sense.
    pub fn new(node: &Node, config: NacosConfig) -> Result<Self> {
        config.check()?;
        let mut options = ServerOptions::at(&config.listen.to_string())?;
        options.limits.max_connections = config.connections;
        options.limits.max_age = FOR_EVER;
        options.listen = ListenAddr::Tcp(config.listen);
        let hub = Arc::new(Hub::new(node.shared(), config));
        // A stream that takes nothing is not asked anything either: that is for who serves it to notice.
        options.limits.write_timeout = hub.config.patience;
        let api = Api(Arc::clone(&hub));
        let server = Server::new("nacos", options)
            .mount(request::server(api.clone()))
            .mount(bi_request_stream::server(api))
            .middleware(TellPeer(Arc::clone(&hub)));
        Ok(Self { server, bound: None, hub })
    }

    /// Where it listens, once it does.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.bound.as_ref()
    }

    /// How many clients are connected.
    pub fn clients(&self) -> usize {
        self.hub.len()
    }
}

impl fmt::Debug for Nacos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nacos({:?}, {} clients)", self.server, self.hub.len())
    }
}

/// Told to no registry: its clients compute its port from another.
impl AppServer for Nacos {
    fn name(&self) -> &str {
        "nacos"
    }

    fn bind<'a>(&'a mut self, _: &'a Context) -> BoxFuture<'a, Result<Vec<Endpoint>>> {
        Box::pin(async move {
            self.bound = Some(self.server.bind()?);
            Ok(Vec::new())
        })
    }

    fn serve(&self) -> BoxFuture<'static, Result<()>> {
        Box::pin(self.server.serve())
    }

    fn set_ready(&self, ready: bool) {
        self.server.set_ready(ready);
    }

    fn drain<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<()>> {
        // Its streams end when the node is closed.
        Box::pin(self.server.drain(cx))
    }

    fn abort(&self) {
        self.server.abort();
    }
}

/// Both services.
#[derive(Clone)]
struct Api(Arc<Hub>);

/// Whose request it is.
fn peer(cx: &Context) -> Result<std::net::SocketAddr> {
    match cx.value::<PeerAddr>() {
        Some(PeerAddr::Tcp(addr)) => Ok(*addr),
        _ => Err(Error::failed_precondition(
            "Nacos' gRPC is spoken over TCP, where connections have addresses",
        )),
    }
}

impl request::Service for Api {
    async fn request(&self, cx: &Context, payload: Payload) -> Result<Payload> {
        requests::answer(&self.0, peer(cx)?, &payload)
    }
}

impl bi_request_stream::Service for Api {
    async fn request_bi_stream(&self, cx: &Context, said: Streaming<Payload>) -> Result<Streaming<Payload>> {
        Ok(stream::open(Arc::clone(&self.0), peer(cx)?, said))
    }
}

/// Puts into the context of a request whom it comes from, and keeps large answers within their budget.
struct TellPeer(Arc<Hub>);

impl Middleware for TellPeer {
    fn call<'a>(
        &'a self,
        cx: &'a Context,
        request: Request<Body>,
        next: Next<'a>,
    ) -> bowline_rpc::BoxFuture<'a, Result<Response<Body>>> {
        Box::pin(async move {
            let response = match request.extensions().get::<PeerAddr>().cloned() {
                Some(peer) => next.run_with(&cx.with_value(peer), request).await?,
                None => next.run(request).await?,
            };
            watch::bounded(&self.0.shared, response)
        })
    }
}
