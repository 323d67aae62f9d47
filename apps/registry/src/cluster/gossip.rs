//! Who is there: by chitchat, which gossips over UDP and tells by the rhythm of heartbeats who is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Error, Instant, Result};
use chitchat::transport::UdpTransport;
use chitchat::{
    ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, ProtocolVersion, spawn_chitchat,
};

use super::ClusterConfig;
use crate::peers::{Member, node_number};
use crate::store::Owner;

/// How often a node gossips. A node that dies is lost after about eight of the intervals at which it was heard of.
const INTERVAL: Duration = Duration::from_millis(250);
/// The interval that is assumed before any was seen.
const INITIAL: Duration = Duration::from_millis(500);
/// A pause longer than this says nothing about the rhythm.
const LONGEST: Duration = Duration::from_secs(3);
/// How long a lost node is remembered, so that it is called as soon as it is back.
const REMEMBER: Duration = Duration::from_secs(3600);
/// How long two of one name are there before one of them gives way: an earlier life of this node is lost sooner.
const RIVALRY: Duration = Duration::from_secs(10);
/// Where its zone stands among what a node tells of itself.
const ZONE: &str = "zone";

/// Knows who is there. A clone is the same one; it ends when the last is dropped.
#[derive(Clone)]
pub(super) struct Gossip {
    handle: Arc<ChitchatHandle>,
    own: Owner,
}

impl Gossip {
    /// Begins to gossip.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the address cannot be listened at.
    pub(super) async fn start(config: &ClusterConfig, own: &Member) -> Result<Self> {
        let settings = ChitchatConfig {
            chitchat_id: ChitchatId::new(config.node.as_str(), own.owner.life, config.reached_at()),
            cluster_id: config.name.clone(),
            gossip_interval: INTERVAL,
            listen_addr: config.listen,
            seed_nodes: config.seeds.clone(),
            failure_detector_config: FailureDetectorConfig::new(8.0, 100, LONGEST, INITIAL, REMEMBER),
            marked_for_deletion_grace_period: REMEMBER,
            catchup_callback: None,
            extra_liveness_predicate: None,
            protocol_version: ProtocolVersion::V0,
        };
        let told = vec![(ZONE.to_owned(), own.zone.clone())];
        let handle = spawn_chitchat(settings, told, &UdpTransport).await.map_err(|e| {
            let listen = config.listen;
            Error::unavailable(format!("the cluster cannot gossip at {listen} over UDP: {e:#}"))
        })?;
        Ok(Self { handle: Arc::new(handle), own: own.owner })
    }

    /// Who is there besides this process.
    pub(super) async fn heard(&self) -> Heard {
        let chitchat = self.handle.chitchat();
        let chitchat = chitchat.lock().await;
        let live: Vec<&ChitchatId> = chitchat.live_nodes().collect();
        let mut latest: BTreeMap<u64, (Member, SocketAddr)> = BTreeMap::new();
        let mut lives = BTreeSet::new();
        for (id, state) in chitchat.node_states() {
            let owner = Owner { node: node_number(&id.node_id), life: id.generation_id };
            // Before its zone is known, nothing follows from its being there.
            let Some(zone) = state.get(ZONE).filter(|_| owner != self.own) else { continue };
            let member = Member { owner, zone: zone.to_owned(), live: live.contains(&id) };
            if member.live {
                lives.insert(owner);
            }
            if owner.node == self.own.node {
                continue;
            }
            let entry =
                latest.entry(owner.node).or_insert_with(|| (member.clone(), id.gossip_advertise_addr));
            // A life that is lost is no rival to one that is not, even if a clock that jumped made its number larger.
            if (member.live, member.owner.life) > (entry.0.live, entry.0.owner.life) {
                *entry = (member, id.gossip_advertise_addr);
            }
        }
        Heard { nodes: latest.into_values().collect(), lives }
    }
}

/// Who is there besides a process.
pub(super) struct Heard {
    /// The other nodes, each in its latest life, and where they are.
    pub(super) nodes: Vec<(Member, SocketAddr)>,
    /// All lives that are heard of: of two processes of one name both have what was registered with them, until one of them ends.
    pub(super) lives: BTreeSet<Owner>,
}

/// Finds out whether another process has this node's name.
#[derive(Debug, Default)]
pub(super) struct Rivals {
    since: Option<(SocketAddr, Instant)>,
}

impl Rivals {
    /// Where the one is that began before this node and has been there beside it for [`RIVALRY`]: of two the younger gives way.
    pub(super) async fn settled(&mut self, gossip: &Gossip, now: Instant) -> Option<SocketAddr> {
        let chitchat = gossip.handle.chitchat();
        let chitchat = chitchat.lock().await;
        let own = chitchat.self_chitchat_id();
        let elder = chitchat.live_nodes().find(|id| {
            // Who listens where this node does was here before it.
            let is_elsewhere = id.gossip_advertise_addr != own.gossip_advertise_addr;
            id.node_id == own.node_id && id.generation_id < own.generation_id && is_elsewhere
        });
        let elder = elder.map(|id| id.gossip_advertise_addr);
        self.since = elder.map(|elder| match self.since {
            Some((known, since)) if known == elder => (known, since),
            _ => (elder, now),
        });
        self.since
            .filter(|(_, since)| now.saturating_duration_since(*since) >= RIVALRY)
            .map(|(elder, _)| elder)
    }
}

impl Drop for Gossip {
    fn drop(&mut self) {
        // The last of two: this one and the handle's own count are gone with it.
        if Arc::strong_count(&self.handle) == 1 {
            self.handle.abort();
        }
    }
}
