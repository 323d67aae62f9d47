//! What a pick is given.

use bowline_core::{Instant, Rng};

/// What a [`Picker`](crate::Picker) is told of a request: time, chance, and what is known of the request itself.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    pub(crate) now: Instant,
    pub(crate) rng: &'a dyn Rng,
    pub(crate) tried: &'a [usize],
    pub(crate) key: Option<u64>,
}

impl<'a> Ask<'a> {
    /// A request for which nothing was tried yet.
    pub fn new(now: Instant, rng: &'a dyn Rng) -> Self {
        Self { now, rng, tried: &[], key: None }
    }

    /// Instances that were tried already, by their positions among the candidates: one of them is picked only where
    /// there is no other.
    #[must_use]
    pub fn without(self, tried: &'a [usize]) -> Self {
        Self { tried, ..self }
    }

    /// What the request is about, as a hash ([`hash_of`](crate::hash_of)): [`ConsistentHash`](crate::ConsistentHash)
    /// gives the same key to the same instance.
    #[must_use]
    pub fn with_key(self, key: u64) -> Self {
        Self { key: Some(key), ..self }
    }

    /// When it is asked.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Where chance comes from.
    pub fn rng(&self) -> &'a dyn Rng {
        self.rng
    }

    /// Positions of those that were tried.
    pub fn tried(&self) -> &'a [usize] {
        self.tried
    }

    /// What the request is about, if it says.
    pub fn key(&self) -> Option<u64> {
        self.key
    }

    /// A number below `bound`; 0 if that is 0.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        ((u128::from(self.rng.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

impl std::fmt::Debug for Ask<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ask").field("tried", &self.tried).field("key", &self.key).finish_non_exhaustive()
    }
}
