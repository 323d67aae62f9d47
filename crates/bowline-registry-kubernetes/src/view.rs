//! What is known of one service's slices: a pure state machine over lists and events.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use bowline_core::{Instance, InstanceStatus, Instant};

use crate::api::{EndpointSlice, Lease};
use crate::form::{self, Own};
use crate::leases::Leases;
use crate::options::Options;
use crate::pods;

pub(crate) struct View {
    service: String,
    options: Options,
    slices: BTreeMap<String, Slice>,
    pub(crate) leases: Leases,
}

enum Slice {
    /// Of a process that registered itself.
    Own(Own),
    /// Of Kubernetes, or of whoever else keeps one.
    Of(Vec<Instance>),
}

/// What there is now.
pub(crate) struct Current {
    /// By a name for each that is the same the next time.
    pub(crate) instances: BTreeMap<String, Instance>,
    /// The names of those that died.
    pub(crate) died: BTreeSet<String>,
}

impl View {
    pub(crate) fn new(service: &str, options: &Options) -> Self {
        Self {
            service: service.to_owned(),
            options: options.clone(),
            slices: BTreeMap::new(),
            leases: Leases::default(),
        }
    }

    /// One slice is there, or changed.
    pub(crate) fn set(&mut self, slice: &EndpointSlice, now: Instant) {
        let read = self.read(slice, now);
        let before = self.slices.insert(slice.metadata.name.clone(), read);
        self.settle(before);
    }

    /// One slice is gone.
    pub(crate) fn remove(&mut self, name: &str) {
        let before = self.slices.remove(name);
        self.settle(before);
    }

    /// Takes a whole list.
    pub(crate) fn replace(&mut self, listed: &[EndpointSlice], now: Instant) {
        self.slices.clear();
        for slice in listed {
            let read = self.read(slice, now);
            self.slices.insert(slice.metadata.name.clone(), read);
        }
        let wanted: BTreeSet<&str> = self.slices.values().filter_map(Slice::lease).collect();
        self.leases.retain(|name| wanted.contains(name));
    }

    fn read(&mut self, slice: &EndpointSlice, now: Instant) -> Slice {
        match form::own(slice, &self.service, &self.options.env) {
            Some(own) => {
                self.leases.follow(&own.lease, now);
                Slice::Own(own)
            }
            None => Slice::Of(pods::read(slice, &self.service, &self.options)),
        }
    }

    /// Forgets the lease of a slice that is no more, unless it is another's too.
    fn settle(&mut self, before: Option<Slice>) {
        let Some(lease) = before.as_ref().and_then(Slice::lease) else { return };
        if !self.slices.values().any(|slice| slice.lease() == Some(lease)) {
            self.leases.forget(lease);
        }
    }

    /// Takes the leases that there are now.
    pub(crate) fn look(&mut self, leases: &[Lease], now: Instant) {
        self.leases.look(leases, now, SystemTime::now());
    }

    /// What there is now. A pod that registered itself as well is there once, with what it says of itself; whether it takes
    /// traffic is for both to say.
    pub(crate) fn current(&self, now: Instant) -> Current {
        let mut pods: BTreeMap<&str, Instance> = BTreeMap::new();
        for found in self.slices.values().flat_map(Slice::found) {
            match pods.get_mut(found.id.as_str()) {
                Some(known) => pods::merge(known, found.clone()),
                None => {
                    pods.insert(found.id.as_str(), found.clone());
                }
            }
        }
        let mut by_address: BTreeMap<String, &str> = BTreeMap::new();
        for (id, pod) in &pods {
            by_address.extend(pod.endpoints.iter().map(|endpoint| (endpoint.authority(), *id)));
        }
        let mut current = Current { instances: BTreeMap::new(), died: BTreeSet::new() };
        let mut doubled = BTreeSet::new();
        let is_over = self.leases.over(now);
        for (name, own) in self.slices.iter().filter_map(|(name, slice)| Some((name, slice.own()?))) {
            let Some(mut instance) = own.instance.clone() else { continue };
            let name = format!("slice/{name}");
            if is_over(&own.lease) {
                current.died.insert(name);
                continue;
            }
            let pod = instance.endpoints.iter().find_map(|endpoint| by_address.get(&endpoint.authority()));
            if let Some(pod) = pod {
                doubled.insert(*pod);
                let status = pods.get(pod).map_or(InstanceStatus::Up, |pod| pod.status);
                if instance.status == InstanceStatus::Up {
                    instance.status = status;
                }
            }
            current.instances.insert(name, instance);
        }
        let once = pods.iter().filter(|(id, _)| !doubled.contains(*id));
        current.instances.extend(once.map(|(id, pod)| (format!("pod/{id}"), pod.clone())));
        current
    }
}

impl Slice {
    fn own(&self) -> Option<&Own> {
        match self {
            Self::Own(own) => Some(own),
            Self::Of(_) => None,
        }
    }

    fn lease(&self) -> Option<&str> {
        self.own().map(|own| own.lease.as_str())
    }

    fn found(&self) -> &[Instance] {
        match self {
            Self::Own(_) => &[],
            Self::Of(found) => found,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_core::Endpoint;
    use serde_json::{Value, json};

    fn own(instance: &Instance) -> EndpointSlice {
        let slice = form::slice(instance, 1, "uid", &Options::default()).unwrap();
        serde_json::from_value(slice).unwrap()
    }

    fn pods(name: &str, endpoints: Value) -> EndpointSlice {
        let ports = json!([{"name": "grpc", "port": 80}]);
        serde_json::from_value(json!({"metadata": {"name": name}, "ports": ports, "endpoints": endpoints}))
            .unwrap()
    }

    fn pod(name: &str, address: &str, ready: bool) -> Value {
        json!({"addresses": [address], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": name}})
    }

    fn seen(view: &View, now: Instant) -> Vec<(String, InstanceStatus, usize)> {
        let found = view.current(now).instances.into_values();
        found.map(|i| (i.id.to_string(), i.status, i.endpoints.len())).collect()
    }

    #[test]
    fn several_slices_are_one_list_and_a_pod_of_two_families_is_there_once() {
        let now = Instant::now();
        let mut view = View::new("s", &Options::default());
        view.set(&pods("s-4", json!([pod("a", "10.0.0.1", true), pod("b", "10.0.0.2", false)])), now);
        view.set(&pods("s-6", json!([pod("a", "2001:db8::1", true)])), now);
        let (up, starting) = (InstanceStatus::Up, InstanceStatus::Starting);
        assert_eq!(seen(&view, now), [("a".into(), up, 2), ("b".into(), starting, 1)]);
        view.remove("s-4");
        assert_eq!(seen(&view, now), [("a".into(), up, 1)]);
        view.replace(&[], now);
        assert!(seen(&view, now).is_empty() && view.current(now).died.is_empty());
    }

    #[test]
    fn a_pod_that_registered_itself_is_there_once_and_takes_traffic_if_both_say_so() {
        let now = Instant::now();
        let mut view = View::new("s", &Options::default());
        let mut itself = Instance::new("s", "me").with_endpoint(Endpoint::http("10.0.0.1", 80));
        itself.weight = 7;
        view.set(&own(&itself), now);
        view.set(&pods("s-4", json!([pod("a", "10.0.0.1", false), pod("b", "10.0.0.2", true)])), now);
        let expected =
            [("b".to_owned(), InstanceStatus::Up, 1), ("me".to_owned(), InstanceStatus::Starting, 1)];
        assert_eq!(seen(&view, now), expected);
        assert_eq!(view.current(now).instances.values().map(|i| i.weight).min(), Some(7));
    }

    #[test]
    fn who_does_not_renew_died_and_was_not_removed() {
        let (now, instance) = (Instant::now(), Instance::new("s", "me"));
        let mut view = View::new("s", &Options::default());
        view.set(&own(&instance), now);
        assert_eq!(seen(&view, now).len(), 1);
        let later = now + std::time::Duration::from_secs(60);
        let current = view.current(later);
        assert!(current.instances.is_empty());
        assert_eq!(
            current.died.into_iter().collect::<Vec<_>>(),
            [format!("slice/{}", form::name("s", "me"))]
        );
        view.remove(&form::name("s", "me"));
        assert!(view.leases.is_empty() && view.current(later).died.is_empty());
    }
}
