//! Metrics of calls, per operation.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bowline_core::{Code, Operation};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::channels::ChannelFamilies;
use crate::{ChannelMetrics, Metrics};

/// 1 ms to 10 s, fine where services live and coarse where they fail.
const BUCKETS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Which side of a call measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that answers.
    Server,
    /// The one that asks.
    Client,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    service: String,
    method: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    service: String,
    method: String,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DegradedLabels {
    service: String,
    method: String,
    how: &'static str,
}

#[derive(Clone)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(BUCKETS)
    }
}

/// Requests, errors and durations of every operation: `bowline_server_calls_total{service, method, code}`,
/// `bowline_server_duration_seconds{service, method}`, `bowline_server_in_flight{service, method}`; the same with `client`
/// on the other side, which measures its channels too: see [`CallMetrics::channel`].
#[derive(Clone, Debug)]
pub struct CallMetrics {
    calls: Family<OutcomeLabels, Counter>,
    durations: Family<OperationLabels, Histogram, Buckets>,
    in_flight: Family<OperationLabels, Gauge>,
    degraded: Family<DegradedLabels, Counter>,
    channels: ChannelFamilies,
}

impl std::fmt::Debug for Buckets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Buckets")
    }
}

impl CallMetrics {
    /// Registers the families of one side.
    pub fn new(metrics: &Metrics, side: Side) -> Self {
        let (prefix, verb) = match side {
            Side::Server => ("bowline_server", "answered"),
            Side::Client => ("bowline_client", "made"),
        };
        let this = Self {
            calls: Family::default(),
            durations: Family::new_with_constructor(Buckets),
            in_flight: Family::default(),
            degraded: Family::default(),
            channels: ChannelFamilies::default(),
        };
        if side == Side::Client {
            this.channels.register(metrics);
        }
        metrics.register(
            &format!("{prefix}_degraded"),
            "Calls whose answer was less than what was asked for, and by what",
            this.degraded.clone(),
        );
        metrics.register(
            &format!("{prefix}_calls"),
            &format!("Calls {verb}, by outcome"),
            this.calls.clone(),
        );
        metrics.register(
            &format!("{prefix}_duration_seconds"),
            &format!("How long calls {verb} took"),
            this.durations.clone(),
        );
        metrics.register(
            &format!("{prefix}_in_flight"),
            &format!("Calls being {verb} right now"),
            this.in_flight.clone(),
        );
        this
    }

    /// The metrics of one channel: `bowline_client_instances{target, state}`, `bowline_client_ejections_total{target}` and
    /// `bowline_client_mirrored_total{target, result}`.
    pub fn channel(&self, target: &str) -> ChannelMetrics {
        self.channels.channel(target)
    }

    /// The metrics of one operation. Keep it: the look-up by name happens here and not per call.
    pub fn operation(&self, operation: &Operation) -> Arc<OperationMetrics> {
        let labels = OperationLabels {
            service: operation.service().to_owned(),
            method: operation.method().to_owned(),
        };
        Arc::new(OperationMetrics {
            calls: self.calls.clone(),
            by_code: Default::default(),
            duration: self.durations.get_or_create_owned(&labels),
            in_flight: self.in_flight.get_or_create_owned(&labels),
            degraded: self.degraded.clone(),
            labels,
        })
    }
}

/// The metrics of one operation.
#[derive(Debug)]
pub struct OperationMetrics {
    labels: OperationLabels,
    calls: Family<OutcomeLabels, Counter>,
    /// By code's number; 0 is success. Each appears on the page with its first call.
    by_code: [OnceLock<Counter>; 17],
    duration: Histogram,
    in_flight: Gauge,
    degraded: Family<DegradedLabels, Counter>,
}

impl OperationMetrics {
    /// A call begins. The guard counts it as in flight and records how it ended; dropped without a word, as cancelled.
    pub fn start(self: &Arc<Self>) -> InFlight {
        self.in_flight.inc();
        InFlight { operation: Arc::clone(self), ended: false }
    }

    /// An answer was less than what was asked for: something stood in for it or for a part of it.
    pub fn degraded(&self, how: &'static str) {
        let OperationLabels { service, method } = self.labels.clone();
        self.degraded.get_or_create_owned(&DegradedLabels { service, method, how }).inc();
    }

    fn record(&self, code: Option<Code>, took: Duration) {
        let number = code.map_or(0, |code| code as usize);
        if let Some(counter) = self.by_code.get(number) {
            counter
                .get_or_init(|| {
                    let labels = OutcomeLabels {
                        service: self.labels.service.clone(),
                        method: self.labels.method.clone(),
                        code: code.map_or("OK", Code::as_str),
                    };
                    self.calls.get_or_create_owned(&labels)
                })
                .inc();
        }
        self.duration.observe(took.as_secs_f64());
    }
}

/// A call being measured.
#[derive(Debug)]
pub struct InFlight {
    operation: Arc<OperationMetrics>,
    ended: bool,
}

impl InFlight {
    /// Its answer is less than what was asked for.
    pub fn degraded(&self, how: &'static str) {
        self.operation.degraded(how);
    }

    /// The call ended: with `code`, or well.
    pub fn end(mut self, code: Option<Code>, took: Duration) {
        self.ended = true;
        self.operation.record(code, took);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.operation.in_flight.dec();
        if !self.ended {
            self.operation.record(Some(Code::Canceled), Duration::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_core::MethodKind;

    #[test]
    fn a_call_is_counted_by_its_outcome() {
        let metrics = Metrics::new();
        let calls = CallMetrics::new(&metrics, Side::Server);
        let operation = calls.operation(&Operation::new("a.B", "C", MethodKind::Unary));
        operation.start().end(None, Duration::from_millis(3));
        operation.start().end(Some(Code::NotFound), Duration::from_millis(3));
        let running = operation.start();
        let page = metrics.encode().unwrap();
        for line in [
            r#"bowline_server_calls_total{service="a.B",method="C",code="OK"} 1"#,
            r#"bowline_server_calls_total{service="a.B",method="C",code="NOT_FOUND"} 1"#,
            r#"bowline_server_in_flight{service="a.B",method="C"} 1"#,
            r#"bowline_server_duration_seconds_bucket{le="0.005",service="a.B",method="C"} 2"#,
        ] {
            assert!(page.contains(line), "{line}\n{page}");
        }
        drop(running);
        let page = metrics.encode().unwrap();
        assert!(
            page.contains(r#"code="CANCELLED"} 1"#)
                && page.contains(r#"in_flight{service="a.B",method="C"} 0"#)
        );
    }
}
