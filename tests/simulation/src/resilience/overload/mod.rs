//! More is asked of a server than it can do.
//!
//! A server with eight processors does what it admitted in the order in which it came; a request takes 2 ms and an
//! exponential 6 ms of a processor, so that 1,000 a second are the most. Callers come at random, more of them than
//! there is capacity, and give up after a second. A refused request costs a hundredth of a served one.

mod findings;
pub(crate) mod peers;
mod server;

use std::time::Duration;

use bowline_core::Criticality;

pub use findings::section;
pub(crate) use server::{CALLERS, Load, Others, SURGE, Seen, run};

/// What decides in the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shedder {
    /// Bowline's.
    Ours,
    /// Bowline's, by gradient.
    Gradient,
    /// None: all is admitted, and done although its caller gave up.
    None,
    /// aegis' BBR, as published.
    Aegis,
    /// go-zero's adaptive shedder, as published.
    GoZero,
}

impl Shedder {
    pub(crate) const ALL: [Self; 5] = [Self::Ours, Self::Gradient, Self::None, Self::Aegis, Self::GoZero];

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::Gradient)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "Bowline",
            Self::Gradient => "Bowline, gradient",
            Self::None => "no limiter",
            Self::Aegis => "aegis BBR",
            Self::GoZero => "go-zero",
        }
    }
}

/// How many of 100 requests are of each criticality, from the lowest.
pub(crate) const MIX: [(Criticality, u64); 4] = [
    (Criticality::Sheddable, 25),
    (Criticality::SheddablePlus, 20),
    (Criticality::Critical, 50),
    (Criticality::CriticalPlus, 5),
];

/// What the server can do at most, per second.
pub(crate) const CAPACITY: f64 = 1_000.0;

/// How long callers wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
