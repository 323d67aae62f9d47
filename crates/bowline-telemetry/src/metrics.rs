//! A registry in Prometheus' text format.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bowline_core::{Error, Result};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

/// Everything a process measures. A clone is the same registry.
///
/// ```
/// use bowline_telemetry::Metrics;
///
/// let metrics = Metrics::new();
/// let orders = metrics.counter("orders_placed", "Orders placed");
/// orders.inc();
/// assert!(metrics.encode().unwrap().contains("orders_placed_total 1"));
/// ```
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a metric. `name` has the unit and no `_total`; `help` is a sentence without the full stop.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).register(name, help, metric);
    }

    /// Adds a counter and hands it out.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        let counter = Counter::default();
        self.register(name, help, counter.clone());
        counter
    }

    /// Adds a gauge and hands it out.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::default();
        self.register(name, help, gauge.clone());
        gauge
    }

    /// The page that Prometheus reads.
    ///
    /// # Errors
    /// If a metric cannot be written, which is a bug of the metric.
    pub fn encode(&self) -> Result<String> {
        let mut page = String::new();
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut page, &registry)
            .map_err(|e| Error::internal("a metric cannot be written").with_source(e))?;
        Ok(page)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
