//! A node among others.
//!
//! Who is there is found by gossip ([`chitchat`], over UDP); what is so goes over one gRPC stream between two nodes, at the
//! same number of a TCP port. What is said there is [`crate::peers`]' business; here are the sockets and the tasks.

mod config;
mod front;
mod gossip;
mod link;
mod place;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline::app::{BoxFuture, Server};
use bowline_client::ClientTls;
use bowline_core::task::Tracker;
use bowline_core::{Context, Endpoint, Error, Result, WrapErr};
use bowline_server::{ServerOptions, Tls};
use tokio::sync::{Notify, watch};

use crate::Node;
use crate::node::Shared;
use crate::peers::{Member, StreamId};
pub use config::{ClusterConfig, ClusterTls};
pub(crate) use front::Front;
use gossip::{Gossip, Heard, Rivals};
use link::Inbound;

/// How often a node looks who is there.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often it looks whether another one has its name.
const RIVALS_EVERY: Duration = Duration::from_secs(2);

/// How long a node that goes waits for the others to take in what it said last.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A stream to another node.
struct Link {
    node: u64,
    wake: Arc<Notify>,
    /// Its tasks end with it.
    _open: watch::Sender<()>,
}

/// What the parts of a cluster's node share.
pub(crate) struct Links {
    config: ClusterConfig,
    shared: Arc<Shared>,
    links: Mutex<BTreeMap<StreamId, Link>>,
    calling: Mutex<BTreeMap<u64, SocketAddr>>,
    tasks: Tracker,
}

impl Links {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<StreamId, Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is something to say.
    pub(crate) fn wake(&self) {
        self.lock().values().for_each(|link| link.wake.notify_one());
    }

    /// A stream to a node is there; an older one to the same node ends.
    fn open(&self, node: u64, near: bool, begins: bool) -> (StreamId, Arc<Notify>, watch::Receiver<()>) {
        let (open, closed) = watch::channel(());
        let wake = Arc::new(Notify::new());
        wake.notify_one();
        // Under one lock: of two that open at the same time, neither would see the other.
        let mut links = self.lock();
        let old: Vec<_> = links.iter().filter(|(_, l)| l.node == node).map(|(id, _)| *id).collect();
        old.iter().for_each(|id| _ = links.remove(id));
        let id = self.shared.with_peers(|peers, store, now| {
            old.into_iter().for_each(|id| peers.close(id));
            peers.open(node, near, begins, store, now)
        });
        links.insert(id, Link { node, wake: Arc::clone(&wake), _open: open });
        drop(links);
        (id, wake, closed)
    }

    fn close(&self, id: StreamId) {
        self.lock().remove(&id);
        self.shared.with_peers(|peers, _, _| peers.close(id));
    }

    /// Sees to it that the streams are there that should be.
    fn tend(self: &Arc<Self>, heard: Heard) {
        let Heard { nodes, lives } = heard;
        let others: Vec<Member> = nodes.iter().map(|(member, _)| member.clone()).collect();
        let tended = self.shared.tend(&others, lives);
        tended.close.into_iter().for_each(|id| self.close(id));
        for node in tended.call {
            let Some((_, addr)) = nodes.iter().find(|(m, _)| m.owner.node == node) else { continue };
            let mut calling = self.calling.lock().unwrap_or_else(PoisonError::into_inner);
            if calling.insert(node, *addr).is_some() {
                continue;
            }
            drop(calling);
            let (links, addr) = (Arc::clone(self), *addr);
            self.tasks.spawn(async move { links.call(node, addr).await });
        }
    }

    /// Looks who is there, for ever.
    async fn look(self: Arc<Self>, gossip: Gossip) {
        let mut every = each(LOOK_EVERY);
        loop {
            every.tick().await;
            self.tend(gossip.heard().await);
        }
    }

    /// Looks whether another process has this node's name, until one does.
    async fn look_for_rivals(self: Arc<Self>, gossip: Gossip, ended: watch::Sender<Ended>) {
        let (mut rivals, mut every) = (Rivals::default(), each(RIVALS_EVERY));
        loop {
            every.tick().await;
            // Anybody can gossip.
            if let Some(elder) = rivals.settled(&gossip, self.shared.now()).await
                && self.is_rivalled(elder).await
            {
                ended.send_replace(Ended::Rivalled(elder));
                return;
            }
        }
    }

    /// Serves once another node has told what there is, or after a while.
    async fn learn(self: Arc<Self>) {
        let within = self.config.sync_within;
        if tokio::time::timeout(within, self.shared.synced()).await.is_err() {
            tracing::warn!(
                ?within,
                "no other node told what there is; this node serves what it knows itself"
            );
        }
        self.shared.serve();
    }

    fn client_tls(&self) -> Option<ClientTls> {
        self.config.tls.as_ref().map(|tls| ClientTls {
            ca: tls.ca.clone(),
            identity: Some((tls.certificate.clone(), tls.key.clone())),
            server_name: tls.server_name.clone(),
        })
    }
}

/// Ticks from now on, and not faster after a pause.
fn each(period: Duration) -> tokio::time::Interval {
    let mut every = tokio::time::interval(period);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    every
}

/// A node's place among others: one of the servers of its application.
pub struct Cluster {
    links: Arc<Links>,
    server: bowline_server::Server,
    gossip: Option<Gossip>,
    ended: watch::Sender<Ended>,
}

/// Whether a node has left, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    No,
    Aborted,
    /// Another process has its name, and is there.
    Rivalled(SocketAddr),
}

impl Cluster {
    /// The place of `node`, which has to have been made for this configuration.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the configuration is wrong: see [`ClusterConfig::check`].
    pub fn new(node: &Node, config: ClusterConfig) -> Result<Self> {
        config.check()?;
        let mut options = ServerOptions::at(&config.listen.to_string())?;
        options.tls = config.tls.as_ref().map(|tls| Tls {
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
            client_ca: Some(tls.ca.clone()),
        });
        let shared = node.shared();
        let links = Arc::new(Links {
            config,
            shared: Arc::clone(&shared),
            links: Mutex::default(),
            calling: Mutex::default(),
            tasks: Tracker::new(),
        });
        shared.join(&links)?;
        let server = bowline_server::Server::new("peers", options).mount(Inbound::service(&links));
        Ok(Self { links, server, gossip: None, ended: watch::Sender::new(Ended::No) })
    }

    /// Where clients find this node, for those who ask another one for all: bilibili discovery's. They are not told of it without.
    #[must_use]
    pub fn clients_at(self, at: Endpoint) -> Self {
        self.links.shared.front.send_modify(|front| front.own = Some(at));
        self
    }

    async fn start(&mut self) -> Result<()> {
        self.server.bind().context("the cluster's address")?;
        let gossip = Gossip::start(&self.links.config, self.links.shared.own()).await?;
        let links = &self.links;
        links.tasks.spawn(Arc::clone(links).look(gossip.clone()));
        links.tasks.spawn(Arc::clone(links).meet_all(gossip.clone()));
        links.tasks.spawn(Arc::clone(links).look_for_rivals(gossip.clone(), self.ended.clone()));
        links.tasks.spawn(Arc::clone(links).learn());
        self.gossip = Some(gossip);
        Ok(())
    }
}

impl Server for Cluster {
    fn name(&self) -> &str {
        "peers"
    }

    fn bind<'a>(&'a mut self, cx: &'a Context) -> BoxFuture<'a, Result<Vec<Endpoint>>> {
        Box::pin(async move {
            cx.run(self.start()).await.flatten()?;
            Ok(Vec::new())
        })
    }

    fn serve(&self) -> BoxFuture<'static, Result<()>> {
        let (server, mut ended) = (self.server.serve(), self.ended.subscribe());
        let node = self.links.config.node.clone();
        Box::pin(async move {
            tokio::select! {
                served = server => served,
                ended = ended.wait_for(|ended| *ended != Ended::No) => match ended.map(|ended| *ended) {
                    Ok(Ended::Rivalled(elder)) => Err(Error::failed_precondition(format!(
                        "the node at {elder} is called `{node}` as well, and was there first; give every node a \
                         `cluster.node` of its own"
                    ))),
                    _ => Ok(()),
                },
            }
        })
    }

    fn set_ready(&self, ready: bool) {
        self.server.set_ready(ready);
    }

    fn drain<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<()>> {
        // What was said last is on its way within moments; the streams themselves never end.
        Box::pin(async move {
            let _ = tokio::time::timeout(LAST_WORDS, self.links.shared.said()).await;
            Server::abort(self);
            Ok(())
        })
    }

    fn is_for_operators(&self) -> bool {
        // It goes last: what clients say while they leave has to reach the other nodes.
        true
    }

    fn abort(&self) {
        self.links.tasks.abort();
        self.server.abort();
        self.ended.send_replace(Ended::Aborted);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // They hold each other: nothing else ends them.
        Server::abort(self);
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({}, {})", self.links.config.name, self.links.config.node)
    }
}

fn node_without_name() -> Error {
    Error::invalid_argument(
        "the node was made without a name; make it with `Node::named`, for the cluster's settings",
    )
}
