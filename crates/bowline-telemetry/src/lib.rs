//! What a service tells about itself.
//!
//! - [`logs`]: JSON for machines or text for people, each line with the trace, the request and the tenant it belongs to.
//! - [`Metrics`]: a registry in Prometheus' format, with [`CallMetrics`] for every operation a service serves or calls, and
//!   [`Rejections`] for what was refused.

mod calls;
mod channels;
pub mod logs;
mod metrics;
mod rejections;

pub use calls::{CallMetrics, InFlight, OperationMetrics, Side};
pub use channels::{ChannelMetrics, InstanceCounts};
pub use metrics::Metrics;
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;
pub use rejections::{OperationRejections, Rejections};
