//! A registry in Prometheus' text format.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bowline_core::{Error, Result};
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
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

    /// Adds a family of gauges that are asked for whenever the page is read: for what changes by itself, such as an age.
    /// Each value comes with the value of `label` that tells it from the others.
    ///
    /// ```
    /// use bowline_telemetry::Metrics;
    ///
    /// let metrics = Metrics::new();
    /// metrics.gauges("tide_metres", "The tide", "harbour", || vec![("north".to_owned(), 2.5)]);
    /// assert!(metrics.encode().unwrap().contains("tide_metres{harbour=\"north\"} 2.5"));
    /// ```
    pub fn gauges(
        &self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl Fn() -> Vec<(String, f64)> + Send + Sync + 'static,
    ) {
        self.register(name, help, Gauges { label, values });
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

struct Gauges<F> {
    label: &'static str,
    values: F,
}

impl<F: Fn() -> Vec<(String, f64)>> EncodeMetric for Gauges<F> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (name, value) in (self.values)() {
            encoder.encode_family(&[(self.label, name)])?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

impl<F> fmt::Debug for Gauges<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gauges by {}", self.label)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
