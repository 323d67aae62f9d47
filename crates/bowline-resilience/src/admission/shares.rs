//! Who has how much of it.

use crate::sync::atomic::{AtomicU32, Ordering};

/// Requests in flight by key, for telling who has more than a fair share. Keys are hashes; two that fall together
/// share a share, which costs them nothing but the advantage.
#[derive(Debug)]
pub(crate) struct Shares {
    slots: Box<[AtomicU32]>,
    active: AtomicU32,
}

/// How many keys are told apart. To loom each is a thing to try orders of.
const SLOTS: usize = if cfg!(loom) { 2 } else { 256 };

impl Shares {
    pub(crate) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| AtomicU32::new(0)).collect(), active: AtomicU32::new(0) }
    }

    pub(crate) fn slot(key: u64) -> u16 {
        // The highest bits are as good as any of a hash.
        (key >> 56) as u16 % SLOTS as u16
    }

    pub(crate) fn begin(&self, slot: u16) {
        if self.slots[usize::from(slot)].fetch_add(1, Ordering::Relaxed) == 0 {
            self.active.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn end(&self, slot: u16) {
        if self.slots[usize::from(slot)].fetch_sub(1, Ordering::Relaxed) == 1 {
            self.active.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether who asks has less than its share of `limit`, all that are active having the same. Nobody has if there is
    /// only one.
    pub(crate) fn has_less(&self, slot: u16, limit: u32) -> bool {
        let own = self.slots[usize::from(slot)].load(Ordering::Relaxed);
        let active = self.active.load(Ordering::Relaxed) + u32::from(own == 0);
        active > 1 && own < limit / active
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.active.load(Ordering::Relaxed) == 0
            && self.slots.iter().all(|slot| slot.load(Ordering::Relaxed) == 0)
    }
}
