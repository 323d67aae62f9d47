//! The accept loop, and the end of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::task::Tracker;
use bowline_core::{Context, Endpoint, Error, Result};
use bowline_rpc::Body;
use http::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::{InFlightGuard, Shared, Streams, builder, serve};
use crate::listen::{Io, Listener};
use crate::{Limits, ListenAddr, PeerAddr, Tls};

/// Answers the requests of connections.
pub(crate) trait Handler: Send + Sync + 'static {
    type Future: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static;

    fn call(&self, request: Request<Body>, peer: &PeerAddr, in_flight: InFlightGuard) -> Self::Future;
}

/// A bound listener and its connections.
#[derive(Debug)]
pub struct Connections {
    endpoint: Endpoint,
    connections: Tracker,
    streams: TaskTracker,
    acceptor: Tracker,
    drain: CancellationToken,
    failed: watch::Receiver<Option<String>>,
}

impl Connections {
    /// Listens and starts to accept.
    pub(crate) fn bind<H: Handler>(
        addr: &ListenAddr,
        tls: Option<&Tls>,
        limits: &Limits,
        handler: H,
    ) -> Result<Self> {
        let listener = Listener::bind(addr)?;
        let (acceptor, connections) = (Tracker::new(), Tracker::new());
        let tls = match tls {
            None => None,
            Some(tls) => {
                let (config, reloader) = tls.load()?;
                connections_reload(&acceptor, reloader);
                Some(TlsAcceptor::from(config))
            }
        };
        let endpoint = listener.endpoint(tls.is_some())?;
        let drain = CancellationToken::new();
        let (report, failed) = watch::channel(None);
        let streams = TaskTracker::new();
        let shared = Arc::new(Shared {
            handler,
            builder: builder(limits, Streams::new(streams.clone(), limits)),
            limits: limits.clone(),
            tls,
            drain: drain.clone(),
        });
        let tracker = connections.clone();
        acceptor.spawn(async move {
            if accept(listener, shared, tracker).await.is_err() {
                report.send_replace(Some("the listener is gone".into()));
            }
        });
        Ok(Self { endpoint, connections, streams, acceptor, drain, failed })
    }

    /// Owns a task that is to run as long as it accepts and drains.
    pub(crate) fn own(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.acceptor.spawn(task);
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until the last connection ended after a drain or an abort.
    ///
    /// # Errors
    /// If accepting ended without having been told to.
    pub(crate) async fn ended(&self) -> Result<()> {
        self.acceptor_done().await;
        let why = self.failed.borrow().clone();
        if let Some(why) = why {
            return Err(Error::unavailable(why));
        }
        self.connections.wait().await;
        self.streams.close();
        self.streams.wait().await;
        Ok(())
    }

    /// Stops accepting, asks every connection to end after its requests, and waits for that.
    ///
    /// # Errors
    /// `DEADLINE_EXCEEDED` or `CANCELLED` if `cx` ends first.
    pub async fn drain(&self, cx: &Context) -> Result<()> {
        self.drain.cancel();
        let ended = cx.run(self.ended()).await.and_then(std::convert::identity);
        ended.map_err(|error| error.context(format!("{} connections had not ended", self.connections.len())))
    }

    async fn acceptor_done(&self) {
        let mut failed = self.failed.clone();
        // The loop's end drops the sender.
        while failed.changed().await.is_ok() {}
    }

    /// Ends every connection now. Requests in flight are dropped and their contexts cancelled.
    pub fn abort(&self) {
        self.drain.cancel();
        self.acceptor.abort();
        self.connections.abort();
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.abort();
    }
}

fn connections_reload(tracker: &Tracker, reloader: crate::tls::Reloader) {
    tracker.spawn(reloader.run());
}

/// Accepts until the server drains. What the kernel has accepted by then is served too: those clients have a connection
/// and would see it reset otherwise.
async fn accept<H: Handler>(
    mut listener: Listener,
    shared: Arc<Shared<H>>,
    connections: Tracker,
) -> Result<(), ()> {
    let permits = Arc::new(Semaphore::new(shared.limits.max_connections));
    let drain = &shared.drain;
    loop {
        let permit = tokio::select! {
            biased;
            () = drain.cancelled() => break,
            permit = Arc::clone(&permits).acquire_owned() => permit.map_err(drop)?,
        };
        tokio::select! {
            biased;
            () = drain.cancelled() => break,
            accepted = listener.accept() => match accepted {
                None => return Err(()),
                Some(Ok((io, peer))) => start(&shared, &connections, io, peer, permit),
                Some(Err(error)) => pause_after(&error).await,
            }
        }
    }
    // Whatever waits in the backlog is ready at the first poll.
    while let Some(Some(Ok((io, peer)))) = futures_util::FutureExt::now_or_never(listener.accept()) {
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { break };
        start(&shared, &connections, io, peer, permit);
    }
    Ok(())
}

fn start<H: Handler>(
    shared: &Arc<Shared<H>>,
    connections: &Tracker,
    io: Io,
    peer: PeerAddr,
    permit: OwnedSemaphorePermit,
) {
    let shared = Arc::clone(shared);
    connections.spawn(async move {
        let _permit = permit;
        serve(shared, io, peer).await;
    });
}

/// A connection that died in the backlog is its client's affair. Running out of files is ours: accepting at once would spin.
async fn pause_after(error: &std::io::Error) {
    use std::io::ErrorKind as Kind;
    if matches!(error.kind(), Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted) {
        return;
    }
    tracing::error!(%error, "cannot accept connections, trying again");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
