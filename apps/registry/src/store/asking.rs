//! What is asked of its owner before it counts.
//!
//! Removals are remembered for the longest lease and the partition window, and longer while somebody is out of sight; but a node
//! that starts again, or has too many, has forgotten them. So another one that was away may have, and tell of, what went
//! meanwhile, and nobody would know any more. So who is told of a version that it must have had,
//! for it knew its owner for long enough after that was said, and does not have it, takes it in only if the owner says it
//! again; while the owner is lost, it is gone. The question goes from node to node, and in each comparison anew. The owner
//! says it again, with a new version, or takes it out if it has not heard of its holder for as long itself.

use std::time::Duration;

use bowline_core::Instant;

use super::service::Registration;
use super::{FactKey, Gone, Heard, Store, Version};

/// How long after it was said everybody has heard what an owner says that is well known. To ask in vain costs a new version.
const HEARD: Duration = Duration::from_secs(2);
/// What arrives this long after a pause was sent after it: nobody waits longer for an answer.
const STALE: Duration = Duration::from_secs(5);

impl Store {
    /// What is not here was said at that time, and the node that tells of it hears of its owner, or not. If it has been here it
    /// went, and that is forgotten: what to answer then.
    pub(super) fn doubt(
        &mut self,
        of: &FactKey,
        (version, said, is_heard_of): (Version, Instant, bool),
        now: Instant,
    ) -> Option<Heard> {
        let known = self.owners.known_until(version.owner, now);
        if version.owner == self.own() || known.is_none_or(|known| known < said + HEARD) {
            return None;
        }
        if is_heard_of || self.owners.is_live(version.owner) {
            return Some(Heard::Asked);
        }
        // Nobody can say that it is there, until its owner is back.
        self.bury(of, version, Gone::expired(true), now);
        Some(Heard::Old)
    }

    /// Another node asks whether something is so.
    pub(super) fn hear_asked(&mut self, of: &FactKey, version: Version, now: Instant) -> Heard {
        let known = self.get(&of.key, &of.id);
        match known {
            Some(known) if known.version > version => Heard::Old,
            Some(known) if version.owner == self.own() && !self.is_silent(known, now) => {
                self.insist(of, now);
                Heard::Known
            }
            _ if version.owner == self.own() => {
                self.bury(of, version, Gone::expired(false), now);
                self.said.push(of.clone());
                Heard::Known
            }
            _ => Heard::Asked,
        }
    }

    /// Whether an instance of this node, though it is kept, was not heard of for longer than anybody would know that it is gone.
    pub(super) fn is_silent(&self, of: &Registration, now: Instant) -> bool {
        let heard = self.heard_from(of);
        heard + self.config.keep_removals() <= now || self.stale.is_some_and(|(began, _)| heard <= began)
    }

    /// This node stood still for so long that others may have forgotten what went meanwhile.
    pub(super) fn forget_what_is_known(&mut self, time: Duration, now: Instant) {
        self.stale = Some((now.checked_sub(time).unwrap_or(now), now + STALE));
        self.owners.stood_still(time, now);
    }
}
