//! What keeps a service up when something fails: its own overload, its callers' floods, its dependencies' faults.
//!
//! Everything here is a state machine: time and chance are passed in, so that all of it runs in simulated time and by seed.
//! The pipelines of server and client put them around calls.
//!
//! ```text
//!  server   Admission (adaptive limit by criticality) ─► TokenBucket, KeyedBuckets ─► Bulkhead ─► deadline ─► handler
//!  client   Throttle, Breaker ─► attempts: RetryOptions within a Budget, Hedge ─► pick ─► connection
//! ```
//!
//! - **Permits are guards.** What was taken is given back when the guard is dropped: by the end of a call, a panic, or a
//!   future that nobody polls any more.
//! - **What is refused says why**, and when to come again: [`reason`].
//! - **[`Policies`]** say per operation what counts. All of it is on with defaults, but what costs something: hedges,
//!   bulkheads, rates, breakers, last good answers.

mod admission;
mod breaker;
mod budget;
mod bulkhead;
mod cpu;
mod hedge;
#[cfg(loom)]
#[cfg(test)]
mod models;
mod policy;
mod rate;
pub mod reason;
mod retry;
mod sync;
mod throttle;
mod window;

pub use admission::{Admission, Algorithm, Arrival, BbrOptions, Ended, GradientOptions, Overloaded, Permit};
pub use breaker::{Breaker, BreakerOptions, Open, Trial};
pub use budget::{Budget, BudgetOptions};
pub use bulkhead::{Bulkhead, BulkheadOptions, Entry, Full, Slot, Wait};
pub use cpu::{CPU_INTERVAL, CpuLoad, CpuMeter};
pub use hedge::{Hedge, HedgeOptions};
pub use policy::{ClientPolicy, Layer, Policies, ServerPolicy, carry_over};
pub use rate::{KeyedBuckets, Limited, Rate, TokenBucket};
pub use retry::{Failure, GiveUp, Pushback, RetryOptions};
pub use throttle::{Throttle, ThrottleOptions, Throttled};
