//! Which instance gets the next request.
//!
//! Everything here is pure: no I/O, no clock of its own, no randomness of its own. What is known of an instance is a
//! [`Load`], kept by whoever holds the connections; a [`Picker`] compares loads.

mod load;
mod p2c;

pub use load::{InFlight, Load, TAU};
pub use p2c::P2c;

use bowline_core::{Instant, Rng};

/// Something that can be picked.
pub trait Candidate {
    /// What is known of its load.
    fn load(&self) -> &Load;
    /// Its share against the others'; 0 takes no traffic.
    fn weight(&self) -> u32;
    /// Whether it can be reached as far as is known.
    fn is_live(&self) -> bool;
}

impl<C: Candidate> Candidate for std::sync::Arc<C> {
    fn load(&self) -> &Load {
        (**self).load()
    }

    fn weight(&self) -> u32 {
        (**self).weight()
    }

    fn is_live(&self) -> bool {
        (**self).is_live()
    }
}

/// Chooses among candidates.
pub trait Picker: Send + Sync + 'static {
    /// The index of the one to use. One that is not live is chosen only where no live one is left, and one in `tried`
    /// only where there is no other. `None` if there are no candidates.
    fn pick<C: Candidate>(
        &self,
        candidates: &[C],
        tried: &[usize],
        now: Instant,
        rng: &impl Rng,
    ) -> Option<usize>;
}
