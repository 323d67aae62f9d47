//! The sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bowline::app::{BoxFuture, Server};
use bowline_core::task::Tracker;
use bowline_core::{Context, Endpoint, Error, Result, SystemRng, WrapErr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};

use super::DnsConfig;
use super::answer::answer;
use crate::Node;

/// The most bytes of a query. A name has at most 255; the rest is EDNS.
const QUERY_BYTES: usize = 4096;
/// TCP connections at a time; further ones wait in the kernel's backlog.
const CONNECTIONS: usize = 256;
/// How long a connection may wait for its next query, send one, or take its answer (RFC 7766 leaves it to us).
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves a node's services by DNS: one of the servers of its application.
#[derive(Debug)]
pub struct Dns {
    shared: Arc<Shared>,
    tasks: Tracker,
    bound: Option<SocketAddr>,
    ended: watch::Sender<bool>,
}

#[derive(Debug)]
struct Shared {
    node: Node,
    config: DnsConfig,
}

impl Shared {
    fn answer(&self, query: &[u8], over_udp: bool) -> Option<Vec<u8>> {
        let serves = self.node.shared().check_serving().is_ok();
        answer(query, over_udp, &self.config, &SystemRng, |key| serves.then(|| self.node.list(key)))
    }
}

impl Dns {
    /// Names for what `node` knows.
    pub fn new(node: Node, config: DnsConfig) -> Self {
        let shared = Arc::new(Shared { node, config });
        Self { shared, tasks: Tracker::new(), bound: None, ended: watch::Sender::new(false) }
    }

    /// Where it listens, once it does.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.bound
    }

    async fn listen(&mut self) -> Result<()> {
        let listen = self.shared.config.listen;
        let tcp = TcpListener::bind(listen).await.with_context(|| format!("DNS over TCP at {listen}"))?;
        // With port 0 the second socket takes the first one's.
        let addr = tcp.local_addr().context("DNS over TCP")?;
        let udp = UdpSocket::bind(addr).await.with_context(|| format!("DNS over UDP at {addr}"))?;
        self.bound = Some(addr);
        self.tasks.spawn(datagrams(udp, Arc::clone(&self.shared)));
        self.tasks.spawn(connections(tcp, Arc::clone(&self.shared), self.tasks.clone()));
        Ok(())
    }
}

impl Server for Dns {
    fn name(&self) -> &str {
        "dns"
    }

    fn bind<'a>(&'a mut self, cx: &'a Context) -> BoxFuture<'a, Result<Vec<Endpoint>>> {
        Box::pin(async move {
            cx.run(self.listen()).await.flatten()?;
            Ok(Vec::new())
        })
    }

    fn serve(&self) -> BoxFuture<'static, Result<()>> {
        let mut ended = self.ended.subscribe();
        Box::pin(async move {
            // Dropped with the server at the latest.
            let _ = ended.wait_for(|ended| *ended).await;
            Ok(())
        })
    }

    /// A name server has no health of its own: it answers what the node knows.
    fn set_ready(&self, _: bool) {}

    /// A query is answered as it comes, so that there is nothing to wait for.
    fn drain<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<()>> {
        self.abort();
        Box::pin(async move {
            self.tasks.wait().await;
            Ok(())
        })
    }

    fn abort(&self) {
        self.tasks.abort();
        self.ended.send_replace(true);
    }
}

async fn datagrams(socket: UdpSocket, shared: Arc<Shared>) {
    let mut query = [0; QUERY_BYTES];
    loop {
        match socket.recv_from(&mut query).await {
            Ok((length, peer)) => {
                if let Some(answer) = shared.answer(&query[..length], true)
                    && let Err(error) = socket.send_to(&answer, peer).await
                {
                    tracing::debug!(%peer, %error, "a DNS answer could not be sent");
                }
            }
            // What an earlier answer met on its way comes back here; the socket goes on.
            Err(error) => {
                tracing::debug!(%error, "receiving DNS queries");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn connections(listener: TcpListener, shared: Arc<Shared>, tasks: Tracker) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    // The semaphore is never closed.
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let shared = Arc::clone(&shared);
                tasks.spawn(async move {
                    let _permit = permit;
                    if let Err(error) = queries(stream, &shared).await {
                        tracing::debug!(%peer, %error, "a DNS connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept DNS connections, trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Queries one after the other, each with its length in front (RFC 1035, 4.2.2).
async fn queries(mut stream: TcpStream, shared: &Shared) -> Result<()> {
    let mut query = Vec::new();
    loop {
        let length = match patiently(stream.read_u16()).await {
            Ok(length) => usize::from(length),
            // The peer has asked all it wanted, or asks nothing.
            Err(_) => return Ok(()),
        };
        if length > QUERY_BYTES {
            return Err(Error::invalid_argument(format!("a DNS query of {length} bytes")));
        }
        query.resize(length, 0);
        patiently(stream.read_exact(&mut query)).await?;
        let Some(answer) = shared.answer(&query, false) else { return Ok(()) };
        let length = u16::try_from(answer.len())
            .map_err(|_| Error::internal(format!("a DNS answer of {} bytes", answer.len())))?;
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        patiently(stream.write_all(&framed)).await?;
    }
}

async fn patiently<T>(step: impl Future<Output = std::io::Result<T>>) -> Result<T> {
    match tokio::time::timeout(PATIENCE, step).await {
        Ok(done) => done.context("DNS over TCP"),
        Err(_) => Err(Error::deadline_exceeded("the peer of a DNS connection does not go on")),
    }
}
