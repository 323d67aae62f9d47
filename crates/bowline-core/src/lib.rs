//! The vocabulary every bowline crate speaks: what a request carries ([`Context`]), how a failure is told
//! ([`Error`]), where a service lives ([`Instance`], [`Endpoint`]) and what is called ([`Operation`]).
//!
//! Nothing here does I/O. Time and chance are parameters ([`Clock`], [`Rng`]), so that everything built on
//! top can be tested in simulated time and by seed.

mod clock;
mod code;
mod context;
mod criticality;
pub mod current;
mod endpoint;
mod error;
mod identity;
mod instance;
mod metadata;
mod operation;
mod request_id;
mod rng;
pub mod task;
mod tenant;
mod trace;

pub use clock::{Clock, Instant, ManualClock, SystemClock};
pub use code::Code;
pub use context::{Canceller, Context, ContextBuilder, Run};
pub use criticality::Criticality;
pub use endpoint::{Endpoint, Scheme};
pub use error::{BoxError, Error, Result, WrapErr};
pub use identity::Identity;
pub use instance::{Instance, InstanceId, InstanceStatus};
pub use metadata::{GLOBAL_PREFIX, LOCAL_PREFIX, Metadata};
pub use operation::{Idempotency, MethodKind, Operation};
pub use request_id::RequestId;
pub use rng::{Rng, SeededRng, SystemRng};
pub use tenant::Tenant;
pub use trace::TraceContext;
