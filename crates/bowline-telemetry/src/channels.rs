//! Metrics of channels, per target.

use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::Metrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    target: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabels {
    target: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MirrorLabels {
    target: String,
    result: &'static str,
}

/// `bowline_client_instances{target, state}`, `bowline_client_ejections_total{target}` and
/// `bowline_client_mirrored_total{target, result}`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChannelFamilies {
    instances: Family<StateLabels, Gauge>,
    ejections: Family<TargetLabels, Counter>,
    mirrored: Family<MirrorLabels, Counter>,
}

impl ChannelFamilies {
    pub(crate) fn register(&self, metrics: &Metrics) {
        metrics.register(
            "bowline_client_instances",
            "Instances that channels know, by state",
            self.instances.clone(),
        );
        metrics.register(
            "bowline_client_ejections",
            "How often an instance was taken out for its failures",
            self.ejections.clone(),
        );
        metrics.register(
            "bowline_client_mirrored",
            "Copies of requests for a shadow, by how they ended",
            self.mirrored.clone(),
        );
    }

    pub(crate) fn channel(&self, target: &str) -> ChannelMetrics {
        let target = target.to_owned();
        let ejections = self.ejections.get_or_create_owned(&TargetLabels { target: target.clone() });
        ChannelMetrics { target, families: self.clone(), ejections, told: Mutex::default() }
    }
}

/// How many instances of a channel are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InstanceCounts {
    /// They take requests.
    pub healthy: usize,
    /// They failed too often, and take none for a time.
    pub ejected: usize,
    /// Their time is over, and one request at a time finds out whether they are well.
    pub probation: usize,
    /// No connection to them can be made.
    pub dead: usize,
}

impl InstanceCounts {
    fn by_state(self) -> [(&'static str, i64); 4] {
        let Self { healthy, ejected, probation, dead } = self;
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        [
            ("healthy", number(healthy)),
            ("ejected", number(ejected)),
            ("probation", number(probation)),
            ("dead", number(dead)),
        ]
    }
}

/// What one channel measures of its instances. Several channels to one target add up; dropped, it counts for nothing.
#[derive(Debug)]
pub struct ChannelMetrics {
    target: String,
    families: ChannelFamilies,
    ejections: Counter,
    told: Mutex<InstanceCounts>,
}

impl ChannelMetrics {
    /// How its instances are now.
    pub fn instances(&self, counts: InstanceCounts) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *told, counts);
        for ((state, now), (_, before)) in counts.by_state().into_iter().zip(before.by_state()) {
            if now != before {
                let labels = StateLabels { target: self.target.clone(), state };
                self.families.instances.get_or_create_owned(&labels).inc_by(now - before);
            }
        }
    }

    /// An instance was taken out.
    pub fn ejected(&self) {
        self.ejections.inc();
    }

    /// A copy for a shadow ended so.
    pub fn mirrored(&self, result: &'static str) {
        let labels = MirrorLabels { target: self.target.clone(), result };
        self.families.mirrored.get_or_create_owned(&labels).inc();
    }
}

impl Drop for ChannelMetrics {
    fn drop(&mut self) {
        self.instances(InstanceCounts::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CallMetrics, Side};

    #[test]
    fn channels_to_one_target_add_up_and_leave_nothing_behind() {
        let metrics = Metrics::new();
        let calls = CallMetrics::new(&metrics, Side::Client);
        let (one, other) = (calls.channel("discovery:///s"), calls.channel("discovery:///s"));
        one.instances(InstanceCounts { healthy: 3, ..InstanceCounts::default() });
        other.instances(InstanceCounts { healthy: 2, ejected: 1, ..InstanceCounts::default() });
        one.instances(InstanceCounts { healthy: 2, dead: 1, ..InstanceCounts::default() });
        one.ejected();
        one.mirrored("answered");
        let page = metrics.encode().unwrap();
        for line in [
            r#"bowline_client_instances{target="discovery:///s",state="healthy"} 4"#,
            r#"bowline_client_instances{target="discovery:///s",state="ejected"} 1"#,
            r#"bowline_client_instances{target="discovery:///s",state="dead"} 1"#,
            r#"bowline_client_ejections_total{target="discovery:///s"} 1"#,
            r#"bowline_client_mirrored_total{target="discovery:///s",result="answered"} 1"#,
        ] {
            assert!(page.contains(line), "{line}\n{page}");
        }
        drop((one, other));
        let page = metrics.encode().unwrap();
        assert!(page.contains(r#"state="healthy"} 0"#) && page.contains(r#"state="dead"} 0"#), "{page}");
    }
}
