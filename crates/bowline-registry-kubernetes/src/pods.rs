//! Instances in the slices that Kubernetes keeps for a Service.

use std::collections::BTreeMap;

use bowline_core::{Endpoint, Instance, InstanceStatus, Tenant};

use crate::api::{self, Condition, EndpointSlice, Port};
use crate::options::Options;

/// Labels of a Service, which Kubernetes copies to its slices, that are fields of every instance.
const ENV: &str = "bowline/env";
const CLUSTER: &str = "bowline/cluster";
const TENANT: &str = "bowline/tenant";
const VERSION: &str = "bowline/version";
const WEIGHT: &str = "bowline/weight";
/// Kubernetes' recommended label for the same.
const APP_VERSION: &str = "app.kubernetes.io/version";
/// Metadata of an instance that is none of the Service's labels.
const NODE: &str = "kubernetes.node";

/// How a port is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Speech {
    Grpc,
    Http,
}

/// By `appProtocol`, else by the port's name up to the first `-`, a custom that service meshes brought up. With it, whether it
/// is over TLS.
fn speech(port: &Port) -> Option<(Speech, bool)> {
    let named = |text: &str| {
        Some(match text.to_ascii_lowercase().as_str() {
            "grpc" | "http2" | "h2c" | "kubernetes.io/h2c" => (Speech::Grpc, false),
            "grpcs" => (Speech::Grpc, true),
            "http" => (Speech::Http, false),
            "https" => (Speech::Http, true),
            _ => return None,
        })
    };
    let name = port.name.as_deref().map(|name| name.split('-').next().unwrap_or(name));
    port.app_protocol.as_deref().and_then(named).or_else(|| name.and_then(named))
}

/// The ports that are used, in order, with whether they are over TLS. Those that the options name; without, those whose
/// protocol is known, gRPC's before HTTP's; without such, the only one.
fn chosen(ports: &[Port], wanted: &[String]) -> Vec<(u16, bool)> {
    let tcp = |port: &&Port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
    let ports: Vec<_> = ports
        .iter()
        .filter(tcp)
        .filter_map(|port| Some((port, port.port.filter(|number| *number != 0)?)))
        .collect();
    let secure = |port: &Port| speech(port).is_some_and(|(_, secure)| secure);
    if !wanted.is_empty() {
        let named = |name: &String| ports.iter().find(|(port, _)| port.name.as_ref() == Some(name));
        return wanted.iter().filter_map(named).map(|(port, number)| (*number, secure(port))).collect();
    }
    let mut known: Vec<_> =
        ports.iter().filter_map(|(port, number)| Some((speech(port)?, *number))).collect();
    known.sort_by_key(|((speech, _), _)| *speech);
    match (known.as_slice(), ports.as_slice()) {
        ([], [(_, only)]) => vec![(*only, false)],
        _ => known.into_iter().map(|((_, secure), number)| (number, secure)).collect(),
    }
}

/// The instances of a slice. Each is found again under its id: one with addresses of two families is in two slices.
pub(crate) fn read(slice: &EndpointSlice, service: &str, options: &Options) -> Vec<Instance> {
    let labels = &slice.metadata.labels;
    let env = if options.env.is_empty() { "default" } else { &options.env };
    if labels.get(ENV).is_some_and(|its| its != env) || slice.endpoints().is_empty() {
        return Vec::new();
    }
    let slice_name = &slice.metadata.name;
    let ports = chosen(slice.ports(), &options.ports);
    if ports.is_empty() {
        tracing::warn!(
            slice = %slice_name, %service,
            "which port to use is not known; give the Service's port an `appProtocol`, or name it by `?port=` in the address"
        );
        return Vec::new();
    }
    let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
    let Some(tenant) = Tenant::new(&label(TENANT)) else {
        tracing::warn!(slice = %slice_name, %service, "the label `{TENANT}` is no tenant");
        return Vec::new();
    };
    let version = labels.get(VERSION).or_else(|| labels.get(APP_VERSION)).cloned().unwrap_or_default();
    let weight = labels.get(WEIGHT).and_then(|weight| weight.parse().ok());
    let of_service = Instance {
        env: options.env.clone(),
        version,
        cluster: label(CLUSTER),
        tenant,
        weight: weight.unwrap_or(Instance::DEFAULT_WEIGHT),
        metadata: metadata(labels),
        ..Instance::new(service, "")
    };
    slice.endpoints().iter().filter_map(|found| instance(&of_service, found, &ports)).collect()
}

fn instance(of_service: &Instance, found: &api::Endpoint, ports: &[(u16, bool)]) -> Option<Instance> {
    let host = found.addresses.first()?;
    let pod = found.target_ref.as_ref().filter(|target| target.kind == "Pod").map(|pod| pod.name.clone());
    // A pod's hostname is its name, for the most part; without any, the address is what tells it from others.
    let id = pod
        .or_else(|| found.hostname.clone())
        .unwrap_or_else(|| Endpoint::http(host, ports[0].0).authority());
    let endpoint = |(port, secure): &(u16, bool)| {
        if *secure { Endpoint::https(host, *port) } else { Endpoint::http(host, *port) }
    };
    let mut instance = Instance {
        id: bowline_core::InstanceId::new(id),
        zone: found.zone.clone().unwrap_or_default(),
        status: match found.conditions.sum() {
            Condition::Ready => InstanceStatus::Up,
            Condition::NotReady => InstanceStatus::Starting,
            Condition::Terminating => InstanceStatus::OutOfService,
        },
        endpoints: ports.iter().map(endpoint).collect(),
        ..of_service.clone()
    };
    instance.metadata.extend(found.node_name.clone().map(|node| (NODE.to_owned(), node)));
    Some(instance)
}

/// The Service's labels, but for those that Kubernetes has a meaning for, and ours.
fn metadata(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_kept = |key: &String| {
        let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
        let is_of = |domain: &str| prefix == domain || prefix.ends_with(&format!(".{domain}"));
        prefix != "bowline" && !is_of("kubernetes.io") && !is_of("k8s.io")
    };
    let kept = labels.iter().filter(|(key, _)| is_kept(key));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Adds what another slice says of the same instance: addresses of another family, or the same again while it moves from one
/// slice to the other. It is up if either says so.
pub(crate) fn merge(known: &mut Instance, other: Instance) {
    if known.status != InstanceStatus::Up {
        known.status = other.status;
    }
    for endpoint in other.endpoints {
        if !known.endpoints.contains(&endpoint) {
            known.endpoints.push(endpoint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn slice(labels: Value, ports: Value, endpoints: Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"name": "s-1", "labels": labels}, "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
        }))
        .unwrap()
    }

    fn ports(ports: Value, wanted: &[&str]) -> Vec<(u16, bool)> {
        let ports: Vec<Port> = serde_json::from_value(ports).unwrap();
        chosen(&ports, &wanted.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_a_pod_is_becomes_an_instance() {
        let labels = json!({
            "kubernetes.io/service-name": "s", "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            "service.kubernetes.io/headless": "", "app.kubernetes.io/version": "1.2", "team": "shop", "bowline/tenant": "canary",
            "bowline/weight": "7", "bowline/cluster": "blue", "example.org/tier": "gold",
        });
        let endpoint = json!({
            "addresses": ["10.0.0.1", "10.0.0.2"], "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "name": "s-abc", "namespace": "n"}, "nodeName": "node-1", "zone": "eu-1a",
        });
        let ports = json!([{"name": "grpc", "port": 9000, "protocol": "TCP"}]);
        let found = read(&slice(labels, ports, json!([endpoint])), "s", &Options::default());
        let expected = Instance {
            version: "1.2".into(),
            zone: "eu-1a".into(),
            cluster: "blue".into(),
            tenant: Tenant::new("canary").unwrap(),
            weight: 7,
            metadata: [("team", "shop"), ("example.org/tier", "gold"), ("kubernetes.node", "node-1")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..Instance::new("s", "s-abc").with_endpoint(Endpoint::http("10.0.0.1", 9000))
        };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn without_a_pod_the_hostname_or_the_address_names_it() {
        let endpoints = json!([{"addresses": ["a.example"], "hostname": "h"}, {"addresses": ["2001:db8::1"]}, {"addresses": []}]);
        let found = read(&slice(json!({}), json!([{"port": 80}]), endpoints), "s", &Options::default());
        let ids: Vec<_> = found.iter().map(|i| i.id.as_str()).collect();
        assert_eq!(ids, ["h", "[2001:db8::1]:80"]);
        assert_eq!(found[0].endpoints, [Endpoint::http("a.example", 80)]);
    }

    #[test]
    fn ports_are_chosen_by_name_by_protocol_or_because_there_is_one() {
        let several = json!([
            {"name": "metrics", "port": 1}, {"name": "http-api", "port": 2}, {"name": "x", "port": 3, "appProtocol": "grpc"},
            {"name": "https", "port": 4}, {"name": "grpc", "port": 5, "protocol": "UDP"}, {"name": "any"},
        ]);
        assert_eq!(ports(several.clone(), &[]), [(3, false), (2, false), (4, true)]);
        assert_eq!(ports(several.clone(), &["metrics", "https"]), [(1, false), (4, true)]);
        assert_eq!(ports(several, &["nothing"]), []);
        assert_eq!(ports(json!([{"name": "main", "port": 1}]), &[]), [(1, false)]);
        assert_eq!(ports(json!([{"name": "a", "port": 1}, {"name": "b", "port": 2}]), &[]), []);
        assert_eq!(ports(json!([{"port": 1, "appProtocol": "https"}]), &[]), [(1, true)]);
    }

    #[test]
    fn another_environment_or_a_malformed_tenant_is_left_out() {
        let endpoints = json!([{"addresses": ["10.0.0.1"]}]);
        let count = |labels: Value, env: &str| {
            let options = Options { env: env.into(), ..Options::default() };
            read(&slice(labels, json!([{"port": 1}]), endpoints.clone()), "s", &options).len()
        };
        assert_eq!((count(json!({}), "prod"), count(json!({"bowline/env": "prod"}), "prod")), (1, 1));
        assert_eq!(
            (count(json!({"bowline/env": "prod"}), ""), count(json!({"bowline/env": "default"}), "")),
            (0, 1)
        );
        assert_eq!(count(json!({"bowline/tenant": "no tenant!"}), ""), 0);
    }

    #[test]
    fn two_families_are_one_instance() {
        let one = |host: &str, status| Instance {
            status,
            ..Instance::new("s", "a").with_endpoint(Endpoint::http(host, 1))
        };
        let mut known = one("10.0.0.1", InstanceStatus::Starting);
        merge(&mut known, one("2001:db8::1", InstanceStatus::Up));
        merge(&mut known, one("10.0.0.1", InstanceStatus::OutOfService));
        assert_eq!((known.endpoints.len(), known.status), (2, InstanceStatus::Up));
    }
}
