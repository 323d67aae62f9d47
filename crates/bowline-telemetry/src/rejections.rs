//! Metrics of requests that were refused before they did anything.

use std::sync::{Arc, OnceLock};

use bowline_core::{Criticality, Operation};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::{Metrics, Side};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    service: String,
    method: String,
    reason: &'static str,
    criticality: &'static str,
}

/// Refused requests by operation, reason and criticality: `bowline_server_rejected_total`, `bowline_client_rejected_total`.
#[derive(Clone, Debug)]
pub struct Rejections(Family<Labels, Counter>);

impl Rejections {
    /// Registers the family of one side.
    pub fn new(metrics: &Metrics, side: Side) -> Self {
        let (prefix, what) = match side {
            Side::Server => ("bowline_server", "Requests refused before anything was done for them"),
            Side::Client => ("bowline_client", "Requests that were not sent"),
        };
        let family = Family::default();
        metrics.register(&format!("{prefix}_rejected"), what, family.clone());
        Self(family)
    }

    /// Those of one operation. Keep it: the look-up by name happens here and not per request.
    pub fn operation(&self, operation: &Operation) -> Arc<OperationRejections> {
        Arc::new(OperationRejections {
            family: self.0.clone(),
            service: operation.service().to_owned(),
            method: operation.method().to_owned(),
            known: [const { OnceLock::new() }; KNOWN],
        })
    }
}

/// Refused requests of one operation.
#[derive(Debug)]
pub struct OperationRejections {
    family: Family<Labels, Counter>,
    service: String,
    method: String,
    /// Each appears on the page with its first request. They fill from the front.
    known: [OnceLock<Known>; KNOWN],
}

/// How many are found without a look-up by name: those of four reasons.
const KNOWN: usize = 16;

#[derive(Debug)]
struct Known {
    reason: &'static str,
    criticality: Criticality,
    counter: Counter,
}

impl OperationRejections {
    /// One was refused for `reason`.
    pub fn count(&self, reason: &'static str, criticality: Criticality) {
        for known in &self.known {
            let known = known.get_or_init(|| self.known(reason, criticality));
            // Nearly always it is the very same text.
            let is_same = std::ptr::eq(known.reason, reason) || known.reason == reason;
            if is_same && known.criticality == criticality {
                known.counter.inc();
                return;
            }
        }
        self.known(reason, criticality).counter.inc();
    }

    fn known(&self, reason: &'static str, criticality: Criticality) -> Known {
        let labels = Labels {
            service: self.service.clone(),
            method: self.method.clone(),
            reason,
            criticality: criticality.as_str(),
        };
        Known { reason, criticality, counter: self.family.get_or_create_owned(&labels) }
    }
}

#[cfg(test)]
mod tests {
    use bowline_core::MethodKind;

    use super::*;

    #[test]
    fn each_reason_is_counted_apart() {
        let metrics = Metrics::new();
        let rejections = Rejections::new(&metrics, Side::Server);
        let operation = rejections.operation(&Operation::new("a.B", "C", MethodKind::Unary));
        for _ in 0..3 {
            operation.count("OVERLOADED", Criticality::Sheddable);
        }
        operation.count("OVERLOADED", Criticality::Critical);
        operation.count("RATELIMITED", Criticality::Critical);
        // More than there are places for.
        for reason in ["A", "B", "C", "D", "E"] {
            for criticality in Criticality::ALL {
                operation.count(reason, criticality);
                operation.count(reason, criticality);
            }
        }
        let page = metrics.encode().unwrap();
        let line = |rest: &str| {
            page.lines().any(|line| line.starts_with("bowline_server_rejected_total{") && line.contains(rest))
        };
        assert!(line(r#"reason="OVERLOADED",criticality="SHEDDABLE"} 3"#), "{page}");
        assert!(line(r#"reason="OVERLOADED",criticality="CRITICAL"} 1"#), "{page}");
        assert!(line(r#"reason="RATELIMITED",criticality="CRITICAL"} 1"#), "{page}");
        for reason in ["A", "E"] {
            assert!(line(&format!(r#"reason="{reason}",criticality="CRITICAL_PLUS"}} 2"#)), "{page}");
        }
    }
}
