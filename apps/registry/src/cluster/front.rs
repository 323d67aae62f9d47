//! Where clients find the nodes, for protocols in which one node tells of all.
//!
//! Gossip proves nothing, and clients go where they are told. So whoever is heard of is asked itself, over the port of the streams,
//! for which both sides need a certificate: once in each life, as soon as it serves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Context, Endpoint, Error, Result};
use futures_util::StreamExt;

use super::gossip::Gossip;
use super::link::PATIENCE;
use super::{Links, each};
use crate::peers::api::{WhoRequest, WhoResponse, peer_error};
use crate::peers::{Member, node_number};
use crate::store::Owner;

/// How often those who are new are asked who they are.
const MEET_EVERY: Duration = Duration::from_secs(1);
/// The most nodes that are asked at a time.
const AT_A_TIME: usize = 8;
/// The most nodes that clients are told of.
const MOST: usize = 256;

/// Another node that serves clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) zone: String,
    /// Where clients find it.
    pub(crate) at: Endpoint,
    pub(crate) life: u64,
}

/// What clients are told of the nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Front {
    /// Where all find this node; `None` if no such address is known.
    pub(crate) own: Option<Endpoint>,
    /// The others that are there and serve.
    pub(crate) others: Vec<Served>,
    /// How often the others became different ones.
    pub(crate) changes: u64,
}

/// Who has said who it is. Nothing to tell of who has no address for clients.
type Known = BTreeMap<Owner, Option<Served>>;

impl Links {
    /// Asks who is there and tells clients, for ever.
    pub(super) async fn meet_all(self: Arc<Self>, gossip: Gossip) {
        let (mut known, mut every) = (Known::new(), each(MEET_EVERY));
        loop {
            every.tick().await;
            self.meet(&mut known, &gossip.heard().await.nodes).await;
        }
    }

    /// Asks those of the nodes heard of that have not said yet who they are, and tells clients of all who have.
    async fn meet(&self, known: &mut Known, nodes: &[(Member, SocketAddr)]) {
        let live = nodes.iter().filter(|(member, _)| member.live).take(MOST);
        let live: BTreeMap<Owner, SocketAddr> = live.map(|(member, at)| (member.owner, *at)).collect();
        known.retain(|owner, _| live.contains_key(owner));
        let new: Vec<_> = live.into_iter().filter(|(owner, _)| !known.contains_key(owner)).collect();
        let asked = new.into_iter().map(|(owner, at)| async move { (owner, self.ask(owner, at).await) });
        let mut answers = futures_util::stream::iter(asked).buffer_unordered(AT_A_TIME);
        while let Some((owner, answer)) = answers.next().await {
            match answer {
                Ok(served) => _ = known.insert(owner, served),
                // It is asked again.
                Err(error) => tracing::debug!(?owner, %error, "a node that clients are not told of"),
            }
        }
        let others: Vec<Served> = known.values().flatten().cloned().collect();
        self.shared.front.send_if_modified(|front| {
            let is_other = front.others != others;
            if is_other {
                (front.others, front.changes) = (others, front.changes + 1);
            }
            is_other
        });
    }

    /// Asks a node who it is.
    async fn ask(&self, owner: Owner, at: SocketAddr) -> Result<Option<Served>> {
        let cx = Context::background().with_timeout(PATIENCE);
        let who = self.client(at)?.who(&cx, WhoRequest::default()).await?;
        if who.cluster != self.config.name
            || owner != (Owner { node: node_number(&who.name), life: who.life })
        {
            return Err(
                peer_error::not_a_peer().with_message(format!("another node answers, `{}`", who.name))
            );
        }
        if !who.serving {
            return Err(Error::unavailable("it does not serve yet"));
        }
        if who.clients.is_empty() {
            return Ok(None);
        }
        Ok(Some(Served { zone: who.zone, at: who.clients.parse()?, life: who.life }))
    }

    /// Who this node is.
    pub(super) fn who(&self) -> WhoResponse {
        let (zone, serving) = self.shared.standing();
        let own = self.shared.front.borrow().own.as_ref().map(ToString::to_string);
        WhoResponse {
            cluster: self.config.name.clone(),
            name: self.config.node.clone(),
            zone: zone.into(),
            life: self.shared.epoch,
            clients: own.unwrap_or_default(),
            serving: serving && !self.shared.is_closed(),
            ..Default::default()
        }
    }
}
