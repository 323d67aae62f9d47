//! What happens when.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use bowline_core::Instant;
use bowline_registry::store::FactKey;

use super::client::{Request, Response};
use super::node::Beat;
use super::operators::Wish;
use super::persistent::Asked;

#[derive(Debug)]
pub(super) enum Event {
    /// The timer of a node in one of its lives.
    Tick(usize, u64),
    /// Heartbeats reach a node.
    Beats(usize, Vec<Beat>),
    /// A stream between two nodes is there.
    Open(u64),
    /// The next message of a stream, in a direction, may have arrived.
    Arrive(u64, usize),
    /// A node hears that a stream has ended.
    Reset(u64, usize),
    /// A client's timer, by its number.
    Wake(usize, u64),
    /// A request of a client, by number, reaches a node.
    Request { node: usize, client: usize, number: u64, request: Request },
    /// The answer reaches the client.
    Response { node: usize, client: usize, number: u64, response: Response },
    /// Clients start, change, stop, move.
    Work,
    /// Operators look at something.
    Operators,
    /// What one of them wants reaches a node.
    Wish { node: usize, of: FactKey, wish: Wish },
    /// Somebody registers something persistent, or takes it out.
    Persist,
    /// That reaches a node.
    Persistent { node: usize, number: usize, asked: Asked },
    /// Something breaks.
    Break,
    /// What broke is mended.
    Mend(u64),
    /// A node that stood still goes on.
    Resume(usize),
    /// A node starts again.
    Boot(usize),
}

/// Events in the order of their times, and of their making where these are equal.
#[derive(Debug)]
pub(super) struct Events {
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    events: HashMap<u64, Event>,
    made: u64,
    pub(super) now: Instant,
}

impl Events {
    pub(super) fn new(now: Instant) -> Self {
        Self { due: BinaryHeap::new(), events: HashMap::new(), made: 0, now }
    }

    pub(super) fn at(&mut self, at: Instant, event: Event) {
        self.made += 1;
        self.due.push(Reverse((at.max(self.now), self.made)));
        self.events.insert(self.made, event);
    }

    pub(super) fn after(&mut self, time: Duration, event: Event) {
        self.at(self.now + time, event);
    }

    /// The next event; the time is its time then.
    pub(super) fn next(&mut self) -> Option<Event> {
        let Reverse((at, number)) = self.due.pop()?;
        self.now = at;
        self.events.remove(&number)
    }

    /// When the next event is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    pub(super) fn count(&self) -> u64 {
        self.made
    }
}
