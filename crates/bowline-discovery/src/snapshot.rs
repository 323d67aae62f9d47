//! What is known about a service at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Error, Instance, InstanceId, Instant};

/// `UNAVAILABLE` with the reason `NO_INSTANCE`, to be asked again in 1 s: whoever is started is seen by then. Callers are not told why.
pub fn no_instance(why: String) -> Error {
    Error::unavailable(why)
        .with_public_message("no instance of the service is available")
        .with_reason("NO_INSTANCE")
        .with_retry_after(Duration::from_secs(1))
}

/// The instances of one service at one moment. Immutable and shared.
///
/// An instance that did not change between two snapshots of a watcher is the same [`Arc`] in both, so that a diff can
/// compare pointers first.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// The service.
    pub service: Arc<str>,
    /// Its instances, sorted by id, each id once.
    pub instances: Arc<[Arc<Instance>]>,
    /// Grows by one with every change that the watcher's publisher makes. Comparable between snapshots of one watcher
    /// only; a registry's own revisions are its adapter's business.
    pub revision: u64,
    /// How far the list can be trusted.
    pub state: State,
    /// What the source last failed with, while it fails. For display.
    pub fault: Option<Arc<str>>,
}

/// How far a [`Snapshot`] can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is known yet: no answer came so far. The list is empty.
    Pending,
    /// As the source says it is now.
    Live,
    /// The source fails; this is what it said last.
    Stale {
        /// When the source began to fail.
        since: Instant,
    },
    /// Read from disk; the source did not answer yet.
    Disk {
        /// How old the list was when it was read, by the wall clock.
        age: Duration,
    },
    /// The source says, definitely, that there are none.
    Empty(Emptiness),
}

/// Why a source says that a service has no instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Emptiness {
    /// The source has never heard of the service.
    Unknown,
    /// The last instance deregistered.
    Cancelled,
    /// The last instance's lease ran out.
    Expired,
}

impl State {
    /// Whether there was an answer, be it an old one or an empty one.
    pub fn is_ready(&self) -> bool {
        !matches!(self, Self::Pending)
    }

    /// Whether the source stands behind it at this moment.
    pub fn is_current(&self) -> bool {
        matches!(self, Self::Live | Self::Empty(_))
    }
}

impl Snapshot {
    /// Nothing known yet.
    pub fn pending(service: impl Into<Arc<str>>) -> Self {
        Self {
            service: service.into(),
            instances: Arc::default(),
            revision: 0,
            state: State::Pending,
            fault: None,
        }
    }

    /// A list the source stands behind; [`Emptiness::Unknown`] if it is empty. Of instances with the same id the last one
    /// counts.
    ///
    /// ```
    /// use bowline_core::Instance;
    /// use bowline_discovery::{Snapshot, State};
    ///
    /// let snapshot = Snapshot::live("catalog", [Instance::new("catalog", "b"), Instance::new("catalog", "a")]);
    /// assert_eq!(snapshot.state, State::Live);
    /// assert_eq!(snapshot.instances[0].id.as_str(), "a");
    /// ```
    pub fn live(service: impl Into<Arc<str>>, instances: impl IntoIterator<Item = Instance>) -> Self {
        let instances = collect(instances, &[]);
        let state = if instances.is_empty() { State::Empty(Emptiness::Unknown) } else { State::Live };
        Self { instances, revision: 1, state, ..Self::pending(service) }
    }

    /// The instance with this id.
    pub fn get(&self, id: &InstanceId) -> Option<&Arc<Instance>> {
        let at = self.instances.binary_search_by(|i| i.id.cmp(id)).ok()?;
        self.instances.get(at)
    }

    /// The error for a call that finds nothing to call: says what is known about the service.
    pub fn unavailable(&self) -> Error {
        let service = &self.service;
        let why = match &self.state {
            State::Pending => "its discovery has not answered yet; check that the registry is reachable",
            State::Empty(Emptiness::Unknown) => {
                "the registry does not know it; check the name and that it is started"
            }
            State::Empty(Emptiness::Cancelled) => "its last instance deregistered; start one",
            State::Empty(Emptiness::Expired) => {
                "the lease of its last instance ran out; look why it died or lost the registry"
            }
            State::Live | State::Stale { .. } | State::Disk { .. } => "none of its instances can be used",
        };
        let fault = self.fault.as_ref().map(|f| format!(" (last failure: {f})")).unwrap_or_default();
        no_instance(format!("no instance of `{service}`: {why}{fault}"))
    }
}

/// Sorts by id, drops all but the last of each id, and keeps the `Arc` of what is in `previous` unchanged.
pub(crate) fn collect(
    instances: impl IntoIterator<Item = Instance>,
    previous: &[Arc<Instance>],
) -> Arc<[Arc<Instance>]> {
    let unique: BTreeMap<InstanceId, Instance> =
        instances.into_iter().map(|instance| (instance.id.clone(), instance)).collect();
    unique
        .into_values()
        .map(|instance| {
            let same = previous
                .binary_search_by(|p| p.id.cmp(&instance.id))
                .ok()
                .and_then(|at| previous.get(at))
                .filter(|p| ***p == instance);
            same.map_or_else(|| Arc::new(instance), Arc::clone)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn instances() -> impl Strategy<Value = Vec<Instance>> {
        let one = ("[a-e]{1,2}", 0..3_u32).prop_map(|(id, weight)| {
            let mut instance = Instance::new("s", id);
            instance.weight = weight;
            instance
        });
        proptest::collection::vec(one, 0..12)
    }

    proptest! {
        #[test]
        fn a_list_is_sorted_has_each_id_once_and_keeps_what_did_not_change(old in instances(), new in instances()) {
            let before = collect(old, &[]);
            let after = collect(new.clone(), &before);
            prop_assert!(after.windows(2).all(|w| w[0].id < w[1].id));
            for instance in after.iter() {
                let last = new.iter().rev().find(|i| i.id == instance.id);
                prop_assert_eq!(last, Some(&**instance));
                if let Some(was) = before.iter().find(|b| b.id == instance.id) {
                    prop_assert_eq!(Arc::ptr_eq(was, instance), was == instance);
                }
            }
            prop_assert!(new.iter().all(|i| after.iter().any(|a| a.id == i.id)));
        }
    }

    #[test]
    fn an_instance_is_found_by_its_id() {
        let snapshot = Snapshot::live("s", ["c", "a", "b"].map(|id| Instance::new("s", id)));
        assert_eq!(snapshot.get(&InstanceId::new("b")).map(|i| i.id.as_str()), Some("b"));
        assert!(snapshot.get(&InstanceId::new("d")).is_none());
    }

    #[test]
    fn the_error_says_what_is_known_about_the_service() {
        let error = Snapshot::live("catalog", []).unavailable();
        assert!(error.is_temporary());
        assert!(error.message().contains("`catalog`") && error.message().contains("does not know it"));
        assert!(!error.public_message().contains("catalog"), "what we are made of is for the log");
    }
}
