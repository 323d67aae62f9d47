//! Which of two states of the same thing is the later, for nodes that have not heard of each other for a while.

use std::fmt;

/// A node of the cluster in one of its lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// The node, for ever: made from its name.
    pub node: u64,
    /// Another one after each start, and a larger one as long as the node's clock is right.
    pub life: u64,
}

/// When something was said, and by whom. Of two versions the greater counts.
///
/// `clock` is Lamport's (Time, Clocks, and the Ordering of Events in a Distributed System, 1978): what a node says is later
/// than all it has heard before. So whoever changes something it knows is right, and of two that did not know of each other
/// everybody takes the same one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// Later than everything its owner had heard of.
    pub clock: u64,
    /// Who said it: for an instance, the node with its lease.
    pub owner: Owner,
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}/{:x}", self.node, self.life)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{:?}", self.clock, self.owner)
    }
}

/// How far a clock may be ahead of another one's: more than nodes ever say, and far from the end of the numbers.
const FAR: u64 = 1 << 44;

/// A node's clock.
#[derive(Debug)]
pub(super) struct Clock {
    own: Owner,
    last: u64,
}

impl Clock {
    pub(super) fn new(own: Owner, first: u64) -> Self {
        Self { own, last: first }
    }

    pub(super) fn own(&self) -> Owner {
        self.own
    }

    /// The latest there was.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The version of what this node says now.
    pub(super) fn tick(&mut self) -> Version {
        self.last = self.last.saturating_add(1);
        Version { clock: self.last, owner: self.own }
    }

    /// Another node said something. Returns whether that can be.
    pub(super) fn hear(&mut self, version: Version) -> bool {
        let can_be = version.clock <= self.last.saturating_add(FAR);
        if can_be {
            self.last = self.last.max(version.clock);
        }
        can_be
    }
}
