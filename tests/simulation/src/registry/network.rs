//! What lies between nodes and clients, and how it breaks.

use std::time::Duration;

use bowline_core::{Rng, SeededRng};

/// A place messages go to and come from: a node, or all clients of a zone.
pub(super) type Place = usize;

/// Delays, losses and cuts, each in one direction.
#[derive(Debug)]
pub(super) struct Network {
    places: usize,
    cut: Vec<bool>,
    loss: f64,
}

impl Network {
    pub(super) fn new(places: usize) -> Self {
        Self { places, cut: vec![false; places * places], loss: 0.0 }
    }

    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// Cuts a direction.
    pub(super) fn cut(&mut self, from: Place, to: Place) {
        self.cut[from * self.places + to] = from != to;
    }

    /// Loses this share of what is sent.
    pub(super) fn lose(&mut self, share: f64) {
        self.loss = share;
    }

    /// All is well again.
    pub(super) fn heal(&mut self) {
        self.cut.fill(false);
        self.loss = 0.0;
    }

    pub(super) fn is_cut(&self, from: Place, to: Place) -> bool {
        self.cut[from * self.places + to]
    }

    /// Whether nothing is in the way, in both directions.
    pub(super) fn is_clear(&self, one: Place, other: Place) -> bool {
        self.loss == 0.0 && !self.is_cut(one, other) && !self.is_cut(other, one)
    }

    /// How long a single message takes; `None` if it does not arrive.
    pub(super) fn send(&self, from: Place, to: Place, rng: &SeededRng) -> Option<Duration> {
        let lost = self.is_cut(from, to) || rng.unit() < self.loss;
        (!lost).then(|| delay(rng))
    }

    /// How long a message of a stream takes: what is lost is sent again. `None` while the direction is cut.
    pub(super) fn stream(&self, from: Place, to: Place, rng: &SeededRng) -> Option<Duration> {
        if self.is_cut(from, to) {
            return None;
        }
        let mut time = delay(rng);
        while rng.unit() < self.loss {
            time += Duration::from_millis(200);
        }
        Some(time)
    }
}

/// Mostly a millisecond or two, at times twenty.
fn delay(rng: &SeededRng) -> Duration {
    let tail = if rng.unit() < 0.05 { 20.0 } else { 2.0 };
    Duration::from_micros(200) + Duration::from_secs_f64(rng.unit() * tail / 1000.0)
}
