//! One node's side of what it says to, and hears from, another one.
//!
//! Two things go on at the same time, on both sides alike:
//!
//! - *Saying what is new.* A change only leaves a mark. When there is room for a message the store is asked what is so by
//!   then: however much changed meanwhile, each thing is said once, and a slow peer costs a mark for each. Few messages are
//!   on their way at a time; each is acknowledged once it is taken in.
//! - *Comparing.* Sums over everything find the services that differ, and these are compared thing by thing. Whatever a
//!   break, a crash or a fault of this program lost is found this way, within a second where all is well.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bowline_core::{Instant, Result};

use super::api::Fact as FactWire;
use super::api::sync_message::Message;
use super::api::{Ack, Buckets, Digest, Facts, Have, ServiceDigest, Services, SyncMessage, UpToDate, Want};
use super::wire::{self, malformed};
use crate::store::{BUCKETS, FactKey, Heard, Kind, ServiceKey, Store};

/// How long after a comparison the next one begins.
const COMPARE_EVERY: Duration = Duration::from_secs(1);
/// How many messages with facts are on their way at a time.
const IN_FLIGHT: u64 = 4;
/// The most facts of one message.
const FACTS: usize = 512;
/// The bytes of facts of one message, about: the least, those of the first, and the most. In between it is as much as the peer
/// takes in [`QUICK`] to [`SLOW`], so that a message never takes so long that the stream counts as silent: 32 KiB of a single
/// instance do at 8 KiB/s.
const FACT_BYTES: (usize, usize, usize) = (4 * 1024, 16 * 1024, 512 * 1024);
/// A message that was taken in so soon may be followed by one twice as large.
const QUICK: Duration = Duration::from_millis(250);
/// And one that took so long, by one half as large.
const SLOW: Duration = Duration::from_secs(1);
/// What an id takes in a comparison, about: the usual ones are shorter.
const ID_BYTES: usize = 64;
/// The most ids that one message compares.
const COMPARED: usize = 2_000;
/// The most marks. With more, all are dropped: the next comparison finds what they stood for.
const MARKS: usize = 300_000;

/// How far this side is with a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// The next one begins then, if this side is the one that begins.
    Next(Instant),
    /// It goes on.
    Running,
}

/// What a node owes its peer at the end of a comparison, once everything before is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Nothing,
    /// That all was compared.
    Compared,
    /// That all is said, once as many marks as this are served.
    UpToDate(u64),
}

/// One side of a stream between two nodes.
#[derive(Debug)]
pub(super) struct Session {
    /// Whether this side began it, and begins the comparisons.
    begins: bool,
    marked: HashSet<FactKey>,
    order: VecDeque<FactKey>,
    /// What did not fit into the last message.
    left: VecDeque<(FactWire, usize)>,
    /// Whether marks were dropped, so that not all that should be is said.
    dropped: bool,
    /// How many marks have been served.
    served: u64,
    /// The last number of facts that were sent, and that were taken in.
    sent: u64,
    acknowledged: u64,
    /// When those that are on their way were sent.
    sent_at: VecDeque<(u64, Instant)>,
    /// The bytes of facts of the next message.
    room: usize,
    /// What to say before anything else.
    replies: VecDeque<Message>,
    /// The services to compare, with the first id.
    compare: VecDeque<(ServiceKey, String)>,
    round: Round,
    owed: Owed,
    /// Whether the peer has what there is to have, and has said it.
    synced: bool,
}

impl Session {
    pub(super) fn new(begins: bool, now: Instant) -> Self {
        Self {
            begins,
            marked: HashSet::new(),
            order: VecDeque::new(),
            left: VecDeque::new(),
            dropped: false,
            served: 0,
            sent: 0,
            acknowledged: 0,
            sent_at: VecDeque::new(),
            room: FACT_BYTES.1,
            replies: VecDeque::new(),
            compare: VecDeque::new(),
            round: Round::Next(now),
            owed: Owed::Nothing,
            synced: false,
        }
    }

    /// Whether this side opened the stream.
    pub(super) fn begins(&self) -> bool {
        self.begins
    }

    /// Something is news for the peer.
    pub(super) fn mark(&mut self, of: &FactKey) {
        if self.marked.len() >= MARKS {
            self.marked.clear();
            self.served += self.order.len() as u64;
            self.order.clear();
            self.dropped = true;
        }
        if self.marked.insert(of.clone()) {
            self.order.push_back(of.clone());
        }
    }

    /// Whether the peer has what there is to have, and has said it.
    pub(super) fn is_synced(&self) -> bool {
        self.synced
    }

    /// Whether nothing waits to be said or to be acknowledged.
    pub(super) fn is_idle(&self) -> bool {
        let said = self.order.is_empty() && self.left.is_empty() && self.replies.is_empty();
        said && self.sent == self.acknowledged
    }

    /// When [`Session::poll`] may have something though nothing happened; `None` for never.
    pub(super) fn wake(&self) -> Option<Instant> {
        match self.round {
            Round::Next(at) if self.begins => Some(at),
            _ => None,
        }
    }

    /// What to send next.
    pub(super) fn poll(&mut self, ready: bool, store: &Store, now: Instant) -> Option<SyncMessage> {
        let message = self.next(ready, store, now)?;
        Some(SyncMessage { message: Some(message), ..Default::default() })
    }

    fn next(&mut self, ready: bool, store: &Store, now: Instant) -> Option<Message> {
        if let Some(reply) = self.replies.pop_front() {
            return Some(reply);
        }
        if let Some((key, from)) = self.compare.pop_front() {
            return Some(self.have(&key, from, store));
        }
        if self.owed == Owed::Compared {
            self.owed = Owed::Nothing;
            return Some(Message::Compared(Box::default()));
        }
        if let Some(facts) = self.facts(store, now) {
            return Some(facts);
        }
        if let Owed::UpToDate(after) = self.owed
            && self.served >= after
            && self.left.is_empty()
        {
            self.owed = Owed::Nothing;
            // What the marks stood for is found by the next comparison; removals are in no sum.
            let dropped = std::mem::take(&mut self.dropped);
            if dropped {
                store.removals().for_each(|of| self.mark(&of));
            }
            let ready = ready && !dropped;
            if self.begins {
                self.round = Round::Next(now + COMPARE_EVERY);
            }
            return Some(up_to_date(ready));
        }
        match self.round {
            Round::Next(at) if self.begins && at <= now => {
                self.round = Round::Running;
                let digest = Digest { root: store.root(), ..Default::default() };
                Some(Message::Digest(Box::new(digest)))
            }
            _ => None,
        }
    }

    fn have(&mut self, key: &ServiceKey, from: String, store: &Store) -> Message {
        let mut versions: Vec<_> =
            store.versions(key).into_iter().map(|(id, kind, v)| (id, kind, v, false)).collect();
        // Whoever has these is not to tell them again and again.
        versions.extend(store.lapsed(key).map(|(id, version)| (id, Kind::Instance, version, true)));
        versions.sort();
        let first = versions.partition_point(|(id, ..)| **id < *from);
        let rest = versions.get(first..).unwrap_or_default();
        // What is known of one id is never divided.
        let mut end = rest.len().min(self.compared());
        while end < rest.len() && rest.get(end).map(|r| &r.0) == rest.get(end - 1).map(|r| &r.0) {
            end += 1;
        }
        let until = rest.get(end).map(|(id, ..)| id.to_string()).unwrap_or_default();
        if !until.is_empty() {
            self.compare.push_front((key.clone(), until.clone()));
        }
        let known = rest.iter().take(end).map(|(id, kind, version, lapsed)| match lapsed {
            true => wire::lapsed(id, *version),
            false => wire::known(id, *kind, Some(*version)),
        });
        let known = known.collect();
        Message::Have(Box::new(Have {
            service: wire::name(key).into(),
            from,
            until,
            known,
            ..Default::default()
        }))
    }

    fn facts(&mut self, store: &Store, now: Instant) -> Option<Message> {
        if self.sent - self.acknowledged >= IN_FLIGHT {
            return None;
        }
        let (mut facts, mut bytes) = (Vec::new(), 0);
        while facts.len() < FACTS && bytes < self.room {
            if let Some((fact, size)) = self.left.pop_front() {
                facts.push(fact);
                bytes += size;
                continue;
            }
            let Some(of) = self.order.pop_front() else { break };
            self.marked.remove(&of);
            self.served += 1;
            self.left.extend(store.facts(&of, now).iter().map(wire::fact));
        }
        if facts.is_empty() {
            return None;
        }
        self.sent += 1;
        self.sent_at.push_back((self.sent, now));
        Some(Message::Facts(Box::new(Facts { number: self.sent, facts, ..Default::default() })))
    }

    /// The peer said something. Returns what was news.
    ///
    /// # Errors
    /// `MALFORMED`: the stream has to end.
    pub(super) fn receive(
        &mut self,
        message: SyncMessage,
        store: &mut Store,
        now: Instant,
    ) -> Result<Vec<FactKey>> {
        match message.message {
            Some(Message::Facts(facts)) => return self.take_in(*facts, store, now),
            Some(Message::Ack(ack)) if ack.number <= self.sent => {
                self.acknowledged = self.acknowledged.max(ack.number);
                self.make_room(now);
            }
            Some(Message::Digest(digest)) => {
                if digest.root == store.root() {
                    self.owed = self.owe();
                } else {
                    let sums = store.buckets().to_vec();
                    let reply = Message::Buckets(Box::new(Buckets { sums, ..Default::default() }));
                    self.replies.push_back(reply);
                }
            }
            Some(Message::Buckets(theirs)) => self.compare_buckets(&theirs, store)?,
            Some(Message::Services(theirs)) => self.compare_services(&theirs, store)?,
            Some(Message::Have(have)) => self.compare_service(&have, store)?,
            Some(Message::Want(want)) => {
                let key = wire::key(want.service.as_option())?;
                for known in &want.known {
                    let (id, kind) = (known.id.as_str().into(), wire::kind(known)?);
                    let of = FactKey { key: key.clone(), id, kind };
                    // It lapsed there; here its owner is heard of.
                    let in_vain = known.lapsed && store.version(&of).is_some_and(|own| !store.is_lost(own));
                    if !in_vain {
                        self.mark(&of);
                    }
                }
            }
            Some(Message::Compared(_)) => {
                self.owed = if self.begins { Owed::Compared } else { self.owe() };
            }
            Some(Message::UpToDate(peer)) => {
                self.synced |= peer.ready;
                if self.begins {
                    self.owed = self.owe();
                }
            }
            // Of a newer program.
            None => {}
            Some(Message::Ack(_) | Message::Hello(_)) => {
                return Err(malformed("the peer said something that makes no sense here"));
            }
        }
        Ok(Vec::new())
    }

    /// Messages are as large as the peer takes them in time.
    fn make_room(&mut self, now: Instant) {
        while let Some((number, sent)) = self.sent_at.front().copied()
            && number <= self.acknowledged
        {
            self.sent_at.pop_front();
            let took = now.saturating_duration_since(sent);
            if took <= QUICK {
                self.room = (self.room * 2).min(FACT_BYTES.2);
            } else if took >= SLOW {
                self.room = (self.room / 2).max(FACT_BYTES.0);
            }
        }
    }

    /// How many ids one message compares.
    fn compared(&self) -> usize {
        (self.room / ID_BYTES).clamp(FACT_BYTES.0 / ID_BYTES, COMPARED)
    }

    /// What is marked now is to be said first.
    fn owe(&self) -> Owed {
        Owed::UpToDate(self.served + self.order.len() as u64)
    }

    fn take_in(&mut self, facts: Facts, store: &mut Store, now: Instant) -> Result<Vec<FactKey>> {
        let mut news = Vec::new();
        for fact in facts.facts {
            // One that makes no sense here, said by a newer program perhaps, is no reason to miss the others.
            let fact = match wire::read(fact) {
                Ok(fact) => fact,
                Err(error) => {
                    tracing::warn!(%error, "another node said something that cannot be understood");
                    continue;
                }
            };
            let of = fact.of.clone();
            match store.hear(fact, now) {
                Heard::News => news.push(of),
                Heard::Known => {}
                Heard::Old => self.mark(&of),
                Heard::Absurd => {
                    tracing::error!(?of, "another node's clock is of another age; it is not believed")
                }
            }
        }
        // Acknowledgements of the last are those of all before.
        self.replies.retain(|reply| !matches!(reply, Message::Ack(_)));
        let ack = Ack { number: facts.number, ..Default::default() };
        self.replies.push_back(Message::Ack(Box::new(ack)));
        Ok(news)
    }

    fn compare_buckets(&mut self, theirs: &Buckets, store: &Store) -> Result<()> {
        if theirs.sums.len() != BUCKETS {
            return Err(malformed(format!("{} sums, and not {BUCKETS}", theirs.sums.len())));
        }
        let mut reply = Services::default();
        for (n, (theirs, own)) in theirs.sums.iter().zip(store.buckets()).enumerate() {
            let Ok(n) = u8::try_from(n) else { continue };
            if theirs == own {
                continue;
            }
            if reply.services.len() >= self.compared() {
                let full = std::mem::take(&mut reply);
                self.replies.push_back(Message::Services(Box::new(full)));
            }
            reply.buckets.push(u32::from(n));
            let services = store.digests(n).map(|(key, digest)| ServiceDigest {
                name: wire::name(key).into(),
                digest,
                ..Default::default()
            });
            reply.services.extend(services);
        }
        reply.last = true;
        self.replies.push_back(Message::Services(Box::new(reply)));
        Ok(())
    }

    fn compare_services(&mut self, theirs: &Services, store: &Store) -> Result<()> {
        let mut told = HashSet::new();
        for service in &theirs.services {
            let key = wire::key(service.name.as_option())?;
            if store.digest(&key) != service.digest {
                self.compare.push_back((key.clone(), String::new()));
            }
            told.insert(key);
        }
        for n in &theirs.buckets {
            let n = u8::try_from(*n).map_err(|_| malformed("a part that there is not"))?;
            for (key, _) in store.digests(n).filter(|(key, _)| !told.contains(key)) {
                // They have nothing of it; or it lapsed there.
                self.compare.push_back((key.clone(), String::new()));
            }
        }
        if theirs.last {
            self.owed = Owed::Compared;
        }
        Ok(())
    }

    /// Marks what is later here, or not there; asks for what is later there, or not here.
    fn compare_service(&mut self, have: &Have, store: &Store) -> Result<()> {
        let key = wire::key(have.service.as_option())?;
        let mut wanted = Vec::new();
        let mut told = HashSet::new();
        for known in &have.known {
            let (kind, theirs) = (wire::kind(known)?, wire::known_version(known)?);
            let of = FactKey { key: key.clone(), id: known.id.as_str().into(), kind };
            match store.version(&of) {
                Some(own) if own > theirs => self.mark(&of),
                // What lapsed there was another node's: it does not end this, once they hear of its owner.
                Some(own) if known.lapsed && own.owner != theirs.owner && !store.is_lost(own) => {
                    self.mark(&of)
                }
                // It lapsed there, and here its owner is heard of: they do not agree on who is lost. If both lost it, it goes.
                Some(own) if known.lapsed && !store.is_lost(own) => {}
                None if known.lapsed => {}
                Some(own) if own == theirs && !known.lapsed => {}
                None if store.has_lapsed(&of, theirs) => wanted.push(wire::lapsed(&of.id, theirs)),
                _ => wanted.push(wire::known(&of.id, kind, None)),
            }
            told.insert(of);
        }
        let among =
            |id: &str| id >= have.from.as_str() && (have.until.is_empty() || id < have.until.as_str());
        for (id, kind, _) in store.versions(&key) {
            if !among(&id) {
                continue;
            }
            let of = FactKey { key: key.clone(), id, kind };
            if !told.contains(&of) {
                self.mark(&of);
            }
        }
        if !wanted.is_empty() {
            let want = Want { service: wire::name(&key).into(), known: wanted, ..Default::default() };
            self.replies.push_back(Message::Want(Box::new(want)));
        }
        Ok(())
    }
}

fn up_to_date(ready: bool) -> Message {
    Message::UpToDate(Box::new(UpToDate { ready, ..Default::default() }))
}
