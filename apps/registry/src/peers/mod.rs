//! What a node says to the others, and hears from them: no I/O, no tasks, the time is passed in.
//!
//! The nodes of a zone each have a stream to each other. Of each zone one node, the one with the lowest number of those that
//! are heard of, has one to that of each other zone: what it hears there it tells in its own, and the other way round.
//! Nothing is said twice on purpose; what does not arrive is found by comparing.

mod session;
#[cfg(test)]
mod tests;
mod topology;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bowline_core::{Instant, Result};

use crate::store::{FactKey, Store};
use api::SyncMessage;
use session::Session;

/// What nodes say to each other, generated from `bowline/registry/peer/v1/peer.proto`.
pub use crate::proto::bowline::registry::peer::v1 as api;

pub use topology::{Member, Topology, node_number};
pub(crate) use wire::{fact as write_fact, read as read_fact};

/// How soon the one with the lower number of two nodes calls again; and after which time the other one does, for it may be
/// that only that one wants the stream.
const CALL_EVERY: Duration = Duration::from_millis(500);
const CALL_ANYWAY: Duration = Duration::from_secs(1);
/// When a node counts as out of reach: the other one had time to call, too.
const OUT_OF_REACH: Duration = Duration::from_secs(3);
/// How long a node that is out of reach is passed over.
const PASSED_OVER: Duration = Duration::from_secs(10);

/// Names a stream to another node, for as long as this node lives.
pub type StreamId = u64;

/// All streams to other nodes.
#[derive(Debug, Default)]
pub struct Peers {
    streams: BTreeMap<StreamId, Stream>,
    next: StreamId,
    synced: bool,
    ready: bool,
    /// The nodes to have a stream to that there is none to.
    missed: BTreeMap<u64, Missed>,
    /// When this node was first asked to look after its streams.
    began: Option<Instant>,
    /// When there was last a stream to a node, if that is not long ago.
    spoken_to: BTreeMap<u64, Instant>,
}

/// A stream that is missing.
#[derive(Clone, Copy, Debug)]
struct Missed {
    since: Instant,
    called: Option<Instant>,
}

/// What there is to do about other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tended {
    /// Nodes to open a stream to.
    pub call: Vec<u64>,
    /// Streams to end.
    pub close: Vec<StreamId>,
    /// What follows from who is there.
    pub topology: Topology,
}

#[derive(Debug)]
struct Stream {
    session: Session,
    node: u64,
    /// Whether the other node is of the same zone.
    near: bool,
}

impl Peers {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sees to it that the streams are there that should be. To be asked a few times a second.
    pub fn tend(&mut self, own: &Member, others: &[Member], now: Instant) -> Tended {
        self.missed.retain(|_, m| m.since + PASSED_OVER > now);
        let missed = &self.missed;
        let out_of_reach = |node: u64| missed.get(&node).is_some_and(|m| m.since + OUT_OF_REACH <= now);
        let there: BTreeSet<u64> = self.nodes().collect();
        let began = *self.began.get_or_insert(now);
        self.spoken_to.retain(|_, at| *at + OUT_OF_REACH > now);
        self.spoken_to.extend(there.iter().map(|node| (*node, now)));
        // Who has just begun has not met the others yet, and does nothing in their place.
        let spoken_to = &self.spoken_to;
        let is_spoken_to = |node: u64| began + OUT_OF_REACH > now || spoken_to.contains_key(&node);
        let topology = Topology::of(own, others, out_of_reach, is_spoken_to);
        let mut tended = Tended::default();
        // A stream is of no use once there is the one that takes its place.
        let zone_of = |node: u64| others.iter().find(|m| m.owner.node == node).map(|m| m.zone.as_str());
        for (id, stream) in self.streams.iter().filter(|(_, s)| s.session.begins()) {
            let place = if topology.relays { zone_of(stream.node) } else { Some(own.zone.as_str()) };
            let taken = topology.first_of(place).is_none_or(|first| there.contains(&first));
            if taken && !topology.neighbours.contains_key(&stream.node) {
                tended.close.push(*id);
            }
        }
        self.missed.retain(|node, _| !there.contains(node));
        for node in topology.neighbours.keys().copied().filter(|node| !there.contains(node)) {
            let missed = self.missed.entry(node).or_insert(Missed { since: now, called: None });
            let is_own_turn = own.owner.node < node || missed.since + CALL_ANYWAY <= now;
            if is_own_turn && missed.called.is_none_or(|called| called + CALL_EVERY <= now) {
                missed.called = Some(now);
                tended.call.push(node);
            }
        }
        tended.topology = topology;
        tended
    }

    /// A stream to a node begins; `begins` on the side that opened it.
    pub fn open(&mut self, node: u64, near: bool, begins: bool, store: &Store, now: Instant) -> StreamId {
        self.next += 1;
        let mut session = Session::new(begins, now);
        store.removals().for_each(|of| session.mark(&of));
        self.streams.insert(self.next, Stream { session, node, near });
        self.next
    }

    /// A stream has ended.
    pub fn close(&mut self, id: StreamId) {
        self.streams.remove(&id);
    }

    /// The nodes with a stream.
    pub fn nodes(&self) -> impl Iterator<Item = u64> {
        self.streams.values().map(|s| s.node)
    }

    /// This node serves clients from now on.
    pub fn set_ready(&mut self) {
        self.ready = true;
    }

    /// Whether some node that serves clients has said all it knew.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// Whether nothing waits to be said or to be acknowledged.
    pub fn is_idle(&self) -> bool {
        self.streams.values().all(|s| s.session.is_idle())
    }

    /// What this node said itself goes to all.
    pub fn say(&mut self, said: &[FactKey]) {
        for stream in self.streams.values_mut() {
            said.iter().for_each(|of| stream.session.mark(of));
        }
    }

    /// What to send next over a stream.
    pub fn poll(&mut self, id: StreamId, store: &Store, now: Instant) -> Option<SyncMessage> {
        self.streams.get_mut(&id)?.session.poll(self.ready, store, now)
    }

    /// When [`Peers::poll`] may have something though nothing happened.
    pub fn wake(&self, id: StreamId) -> Option<Instant> {
        self.streams.get(&id)?.session.wake()
    }

    /// A message came over a stream. What is news goes on to where nobody else tells it.
    ///
    /// # Errors
    /// `MALFORMED`: the stream has to end.
    pub fn receive(
        &mut self,
        id: StreamId,
        message: SyncMessage,
        store: &mut Store,
        now: Instant,
    ) -> Result<()> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let news = stream.session.receive(message, store, now)?;
        self.synced |= stream.session.is_synced();
        let near = stream.near;
        // From afar it goes to those who are near, and the other way round.
        for stream in self.streams.values_mut().filter(|s| s.near != near) {
            news.iter().for_each(|of| stream.session.mark(of));
        }
        self.say(&store.take_said());
        Ok(())
    }
}
