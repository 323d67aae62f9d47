//! Which instance gets the next request.
//!
//! Everything here is pure: no I/O, no tasks, no clock of its own, no randomness of its own. What is known of an
//! instance is its [`Load`], kept by whoever holds the connections to it; what may be picked is a [`Candidate`].
//!
//! ```text
//!  per update   instances ──► Index: tenant ──► zone and cluster, with shares ──► subset (immutable)
//!  per request  Index::pick: route of the tenant ──► pool by its share ──► Picker ──► position of a candidate
//!  per end      InFlight::end ──► Load: latency, requests in flight, Health
//!  per interval Ejection::sweep ──► Health: ejected, on probation, healthy (seen by the next pick)
//! ```
//!
//! - An [`Index`] is built anew with each list of instances, after each sweep, and when an instance can no longer be
//!   reached, and swapped in as a whole. A pick reads it: no lock, no allocation, and the same work with one tenant or a
//!   thousand.
//! - State that changes with each request is in the instances' `Load`s, in atomics. An instance that is in the old list
//!   and the new one keeps its `Load`, and with it everything that is known of it.
//! - Time and chance are in the [`Ask`], so that all of this runs in simulated time and by seed.
//!
//! ```
//! use std::sync::Arc;
//!
//! use bowline_balance::{Ask, Candidate, Index, IndexOptions, Load, Outcome, P2c, Request};
//! use bowline_core::{Instance, Instant, SystemRng};
//!
//! struct Node {
//!     instance: Instance,
//!     load: Arc<Load>,
//! }
//!
//! impl Candidate for Node {
//!     fn instance(&self) -> &Instance {
//!         &self.instance
//!     }
//!     fn load(&self) -> &Load {
//!         &self.load
//!     }
//!     fn is_live(&self) -> bool {
//!         true
//!     }
//! }
//!
//! # fn main() -> bowline_core::Result<()> {
//! let node = |id| Node { instance: Instance::new("catalog", id), load: Arc::default() };
//! let nodes = ["catalog-1", "catalog-2"].map(node);
//! let index = Index::build(nodes.into(), &IndexOptions::default(), None, Instant::now());
//!
//! let ask = Ask::new(Instant::now(), &SystemRng);
//! if let Some(position) = index.pick(&P2c, &Request::base(), &ask)? {
//!     let in_flight = index[position].load.begin();
//!     in_flight.end(Outcome::Answered, std::time::Duration::from_millis(3), Instant::now());
//! }
//! # Ok(()) }
//! ```

mod ask;
mod canary;
mod ejection;
mod hash;
mod health;
mod index;
mod load;
mod mirror;
mod picker;
mod pool;
mod probing;
mod request;
mod route;
mod slow_start;
mod subset;
mod zone;

pub use ask::Ask;
pub use canary::Canary;
pub use ejection::{Ejection, Verdicts};
pub use hash::hash_of;
pub use health::{Health, Outcome};
pub use index::{Index, IndexOptions};
pub use load::{InFlight, Load, TAU};
pub use mirror::Mirror;
pub use picker::{ConsistentHash, LeastRequest, P2c, Picker, WeightedRandom, WeightedRoundRobin};
pub use pool::{Field, Pool};
pub use probing::ActiveProbes;
pub use request::{REDIRECTS, Redirect, Request, Unroutable};
pub use slow_start::SlowStart;
pub use subset::{LEAST, SLOT, Subsetting};
pub use zone::{ZonePolicy, Zones};

use bowline_core::Instance;

/// Something that can be picked.
pub trait Candidate {
    /// What it is registered as.
    fn instance(&self) -> &Instance;
    /// What is known of it. The same one over all updates.
    fn load(&self) -> &Load;
    /// Whether it can be reached as far as is known.
    fn is_live(&self) -> bool;
}

impl<C: Candidate> Candidate for std::sync::Arc<C> {
    fn instance(&self) -> &Instance {
        (**self).instance()
    }

    fn load(&self) -> &Load {
        (**self).load()
    }

    fn is_live(&self) -> bool {
        (**self).is_live()
    }
}
