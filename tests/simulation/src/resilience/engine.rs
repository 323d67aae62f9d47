//! Events in the order of their times.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use bowline_core::Instant;

/// What will happen, and the time that it is. Two events of the same time happen in the order in which they were planned.
pub(crate) struct Engine<E> {
    start: Instant,
    now: Duration,
    planned: BinaryHeap<Reverse<Planned<E>>>,
    number: u64,
}

struct Planned<E> {
    at: Duration,
    number: u64,
    event: E,
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl<E> Eq for Planned<E> {}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Planned<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<E> Engine<E> {
    pub(crate) fn new() -> Self {
        // Any instant will do: only what lies between two of them counts.
        Self { start: Instant::now(), now: Duration::ZERO, planned: BinaryHeap::new(), number: 0 }
    }

    /// The time since the beginning.
    pub(crate) fn time(&self) -> Duration {
        self.now
    }

    /// The time, as the program's own code takes it.
    pub(crate) fn now(&self) -> Instant {
        self.start + self.now
    }

    pub(crate) fn after(&mut self, delay: Duration, event: E) {
        self.at(self.now + delay, event);
    }

    pub(crate) fn at(&mut self, at: Duration, event: E) {
        self.number += 1;
        self.planned.push(Reverse(Planned { at: at.max(self.now), number: self.number, event }));
    }

    /// The next event, if there is one; the time is its time then.
    #[allow(clippy::should_implement_trait, reason = "what is iterated over changes what comes")]
    pub(crate) fn next(&mut self) -> Option<E> {
        let Reverse(next) = self.planned.pop()?;
        self.now = next.at;
        Some(next.event)
    }
}

impl<E> Default for Engine<E> {
    fn default() -> Self {
        Self::new()
    }
}
