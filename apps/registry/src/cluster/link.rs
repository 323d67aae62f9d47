//! One stream to another node, from either side.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bowline_client::{Channel, ChannelOptions};
use bowline_core::{Context, Error, Result, WrapErr};
use bowline_rpc::{Sender, ServiceDef, Streaming};

use super::Links;
use crate::peers::api::sync_message::Message;
use crate::peers::api::{Hello, SyncMessage, WhoRequest, WhoResponse, peer, peer_error};
use crate::peers::node_number;

/// Silence after which a stream counts as broken: its one end compares once a second, and the other one answers.
const SILENT: Duration = Duration::from_secs(5);
/// How long a node has to answer a call.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// Under what an error tells the life of the node that answers.
const LIFE: &str = "life";
/// Messages that wait for the connection.
const WAITING: usize = 4;

/// Takes calls of other nodes.
#[derive(Clone)]
pub(super) struct Inbound(Arc<Links>);

impl Inbound {
    pub(super) fn service(links: &Arc<Links>) -> ServiceDef {
        peer::server(Self(Arc::clone(links)))
    }
}

impl peer::Service for Inbound {
    async fn sync(&self, _: &Context, mut req: Streaming<SyncMessage>) -> Result<Streaming<SyncMessage>> {
        let theirs = hello_of(&mut req).await?;
        let node = self.0.check(&theirs, None)?;
        let (sender, stream) = Streaming::channel(WAITING);
        sender.try_send(self.0.hello(0))?;
        let (links, near) = (Arc::clone(&self.0), theirs.zone == self.0.config.zone);
        self.0.tasks.spawn(async move { links.run(node, near, false, sender, req).await });
        Ok(stream)
    }

    async fn who(&self, _: &Context, _: WhoRequest) -> Result<WhoResponse> {
        Ok(self.0.who())
    }
}

async fn hello_of(stream: &mut Streaming<SyncMessage>) -> Result<Hello> {
    let first = tokio::time::timeout(PATIENCE, stream.message()).await;
    match first.map_err(|_| Error::deadline_exceeded(format!("the node said nothing for {PATIENCE:?}")))?? {
        Some(SyncMessage { message: Some(Message::Hello(hello)), .. }) => Ok(*hello),
        _ => Err(peer_error::malformed().with_message("the node did not say who it is")),
    }
}

impl Links {
    fn hello(&self, called: u64) -> SyncMessage {
        let hello = Hello {
            cluster: self.config.name.clone(),
            name: self.config.node.clone(),
            zone: self.config.zone.clone(),
            life: self.shared.epoch,
            called,
            ..Default::default()
        };
        SyncMessage { message: Some(Message::Hello(Box::new(hello))), ..Default::default() }
    }

    /// Whether the other one is who it should be. Returns its number.
    fn check(&self, theirs: &Hello, expected: Option<u64>) -> Result<u64> {
        let own = &self.config;
        let not_a_peer = |what: String| Err(peer_error::not_a_peer().with_message(what));
        if theirs.cluster != own.name {
            return not_a_peer(format!(
                "the node `{}` belongs to the cluster `{}` and `{}` to `{}`: name the same cluster, or other seeds",
                theirs.name, theirs.cluster, own.node, own.name
            ));
        }
        let (node, this) = (node_number(&theirs.name), self.shared.own().owner.node);
        // Before anything else: the streams of who was not meant go on.
        if theirs.called != 0 && theirs.called != this {
            return not_a_peer(format!("the node here is `{}`, and another one was called", own.node));
        }
        if node == this {
            return Err(peer_error::name_taken()
                .with_message(format!("two nodes are called `{}`: give each a name of its own", theirs.name))
                .with_metadata(LIFE, self.shared.epoch.to_string()));
        }
        if expected.is_some_and(|expected| expected != node) {
            return not_a_peer(format!("another node than was called answers as `{}`", theirs.name));
        }
        Ok(node)
    }

    /// Calls a node and speaks to it for as long as that goes.
    pub(super) async fn call(self: Arc<Self>, node: u64, addr: SocketAddr) {
        let called = self.dial(node, addr).await;
        // Whoever comes next may call again.
        self.calling.lock().unwrap_or_else(PoisonError::into_inner).remove(&node);
        match called {
            Ok((sender, stream, near)) => self.run(node, near, true, sender, stream).await,
            Err(error) if peer_error::is_not_a_peer(&error) || peer_error::is_name_taken(&error) => {
                tracing::error!(%addr, %error, "a node that is none of this cluster");
            }
            Err(error) => tracing::debug!(%addr, %error, "a node does not answer"),
        }
    }

    /// Whether the node at an address says itself that it has this one's name, and began before. This one says so of itself as
    /// well, wherever it is reached.
    pub(super) async fn is_rivalled(&self, addr: SocketAddr) -> bool {
        let Err(error) = self.dial(self.shared.own().owner.node, addr).await else { return false };
        let said = error.metadata().get(LIFE).and_then(|life| life.parse::<u64>().ok());
        let is_elder = peer_error::is_name_taken(&error) && said.is_some_and(|life| life < self.shared.epoch);
        if !is_elder {
            tracing::warn!(%addr, %error, "it is gossiped that another node has this one's name; it does not say so itself");
        }
        is_elder
    }

    /// A way to a node, for one purpose.
    pub(super) fn client(&self, addr: SocketAddr) -> Result<peer::Client> {
        let tls = self.client_tls();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let options = ChannelOptions { tls, ..ChannelOptions::default() };
        let channel = Channel::builder(format!("{scheme}://{addr}")).options(options).build()?;
        Ok(peer::Client::new(channel.caller()?))
    }

    async fn dial(
        &self,
        node: u64,
        addr: SocketAddr,
    ) -> Result<(Sender<SyncMessage>, Streaming<SyncMessage>, bool)> {
        let client = self.client(addr)?;
        let (sender, requests) = Streaming::channel(WAITING);
        sender.try_send(self.hello(node))?;
        let cx = Context::background();
        let answer = tokio::time::timeout(PATIENCE, client.sync(&cx, requests)).await;
        let mut stream = answer
            .map_err(|_| Error::deadline_exceeded("the node does not answer"))?
            .context("calling a node")?;
        let theirs = hello_of(&mut stream).await?;
        self.check(&theirs, Some(node))?;
        Ok((sender, stream, theirs.zone == self.config.zone))
    }

    /// Speaks and listens until either fails.
    async fn run(
        self: Arc<Self>,
        node: u64,
        near: bool,
        begins: bool,
        sender: Sender<SyncMessage>,
        stream: Streaming<SyncMessage>,
    ) {
        let (id, wake, mut closed) = self.open(node, near, begins);
        tracing::info!(node = format_args!("{node:016x}"), near, begins, "speaking to another node");
        let ended = tokio::select! {
            ended = self.speak(id, &wake, sender) => ended,
            ended = self.listen(id, stream) => ended,
            _ = closed.changed() => Ok(()),
        };
        self.close(id);
        let node = format_args!("{node:016x}");
        match ended {
            Ok(()) => tracing::info!(node, "the stream to another node has ended"),
            Err(error) => tracing::warn!(node, %error, "the stream to another node broke"),
        }
    }

    async fn speak(&self, id: u64, wake: &tokio::sync::Notify, sender: Sender<SyncMessage>) -> Result<()> {
        loop {
            let (message, next) =
                self.shared.with_peers(|peers, store, now| (peers.poll(id, store, now), peers.wake(id)));
            if let Some(message) = message {
                let sent = tokio::time::timeout(SILENT, sender.send(message)).await;
                sent.map_err(|_| Error::deadline_exceeded(format!("it took nothing for {SILENT:?}")))??;
                continue;
            }
            let next = next.map(tokio::time::sleep_until);
            tokio::select! {
                () = wake.notified() => {}
                () = async { match next { Some(next) => next.await, None => std::future::pending().await } } => {}
            }
        }
    }

    async fn listen(&self, id: u64, mut stream: Streaming<SyncMessage>) -> Result<()> {
        loop {
            let message = tokio::time::timeout(SILENT, stream.message()).await;
            let message = message
                .map_err(|_| Error::deadline_exceeded(format!("it said nothing for {SILENT:?}")))??;
            let Some(message) = message else { return Ok(()) };
            self.shared.hear(id, message)?;
        }
    }
}
