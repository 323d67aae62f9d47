//! EndpointSlices and leases of processes that register themselves.
//!
//! What such a slice holds in Kubernetes' own fields is for others, kube-proxy for one; Bowline reads the instance as a whole from
//! an annotation, in the form of Kratos' other registries.

use std::net::IpAddr;
use std::time::SystemTime;

use bowline_core::{Error, Instance, InstanceStatus, Result, Scheme};
use bowline_discovery::kratos;
use serde_json::{Value, json};

use crate::api::{EndpointSlice, Lease};
use crate::options::Options;
use crate::time;

/// The Service that a slice is of. Kubernetes' own label.
pub(crate) const SERVICE: &str = "kubernetes.io/service-name";
/// Whose slice it is. Kubernetes' own label; controllers leave those of others alone.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(crate) const US: &str = "bowline";
/// Kubernetes' recommended label for the same, at other objects.
const LEASE_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The instance, as JSON.
const INSTANCE: &str = "bowline/instance";
/// The lease that the slice hangs on.
const LEASE: &str = "bowline/lease";
/// Whose registration it is.
const HOLDER: &str = "bowline/holder";
/// The longest value of a label.
const LABEL: usize = 63;
/// How much of the service's name and the id a slice's name shows.
const SHOWN: usize = 180;

/// Whether a service's name can be the value of a label, which is what slices are found by.
pub(crate) fn check_service(service: &str) -> Result<()> {
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = service.as_bytes();
    let valid = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if bytes.len() <= LABEL && is_end(bytes.first()) && is_end(bytes.last()) && bytes.iter().all(valid) {
        return Ok(());
    }
    Err(Error::invalid_argument(format!(
        "the service `{}` has no place in Kubernetes; use a name of 1 to {LABEL} of a-z, A-Z, 0-9, `-`, `_` and `.` that begins \
         and ends with a letter or a digit",
        service.escape_debug()
    )))
}

/// The name of an instance's slice and lease: the same for the same instance, and another one for another.
pub(crate) fn name(service: &str, id: &str) -> String {
    let mut name = String::from(US);
    for byte in format!("-{service}-{id}").bytes().take(SHOWN) {
        let shown = if byte.is_ascii_alphanumeric() { char::from(byte.to_ascii_lowercase()) } else { '-' };
        name.push(shown);
    }
    format!("{name}-{:016x}", hash(&[service, "/", id]))
}

/// FNV-1a, which is the same in every version of this program.
fn hash(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

pub(crate) fn holder(holder: u64) -> String {
    format!("{holder:x}")
}

/// A lease that was renewed just now.
pub(crate) fn lease(instance: &Instance, by: u64, options: &Options) -> Value {
    let now = time::print(SystemTime::now());
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name(&instance.service, instance.id.as_str()),
            "labels": { SERVICE: instance.service, LEASE_MANAGED_BY: US },
        },
        "spec": {
            "holderIdentity": holder(by),
            "leaseDurationSeconds": options.ttl.as_secs(),
            "acquireTime": now,
            "renewTime": now,
        },
    })
}

/// A slice that hangs on the lease with this `uid`.
///
/// # Errors
/// `INVALID_ARGUMENT` for what has no place in Kubernetes.
pub(crate) fn slice(instance: &Instance, by: u64, lease_uid: &str, options: &Options) -> Result<Value> {
    check_service(&instance.service)?;
    let value = kratos::to_json(instance, &options.env)?;
    let name = name(&instance.service, instance.id.as_str());
    let (family, endpoints, ports) = native(instance, options);
    Ok(json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "labels": { SERVICE: instance.service, MANAGED_BY: US },
            "annotations": {
                INSTANCE: String::from_utf8_lossy(&value), LEASE: name, HOLDER: holder(by),
            },
            // Whoever deletes the lease, deletes the slice.
            "ownerReferences": [
                { "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "name": name, "uid": lease_uid },
            ],
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": ports,
    }))
}

/// What Kubernetes itself can say of an instance: its first endpoint that is an address others may reach. Names are not said,
/// for nobody reads them; loopback and the like would be refused.
fn native(instance: &Instance, options: &Options) -> (&'static str, Value, Value) {
    let reachable = instance.endpoints.iter().filter(|endpoint| endpoint.port() != 0).find_map(|endpoint| {
        let address: IpAddr = endpoint.host().parse().ok()?;
        is_reachable(address).then_some((endpoint, address))
    });
    let Some((endpoint, address)) = reachable else { return ("IPv4", json!([]), json!([])) };
    let is_up = instance.status == InstanceStatus::Up;
    let mut told = json!({
        "addresses": [address.to_string()],
        "conditions": { "ready": is_up, "serving": is_up, "terminating": false },
    });
    if !instance.zone.is_empty() {
        told["zone"] = instance.zone.as_str().into();
    }
    let protocol = if endpoint.scheme() == Scheme::Https { "https" } else { "kubernetes.io/h2c" };
    let name = options.ports.first().map_or("", String::as_str);
    let port = json!({ "name": name, "port": endpoint.port(), "protocol": "TCP", "appProtocol": protocol });
    (if address.is_ipv4() { "IPv4" } else { "IPv6" }, json!([told]), json!([port]))
}

/// What the API server takes in a slice.
fn is_reachable(address: IpAddr) -> bool {
    let is_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.to_ipv4_mapped().is_some(),
    };
    !(is_local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// A slice of a process that registered itself.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) lease: String,
    /// If this side can use it.
    pub(crate) instance: Option<Instance>,
}

/// Who holds the slice, if it is of this kind.
pub(crate) fn held_by(slice: &EndpointSlice) -> Option<&str> {
    slice.metadata.annotations.get(HOLDER).map(String::as_str)
}

/// Whether a slice is of this kind.
pub(crate) fn is_own(slice: &EndpointSlice) -> bool {
    slice.metadata.labels.get(MANAGED_BY).is_some_and(|by| by == US)
}

/// Whether a lease is that of such a slice, and not somebody else's with the same service.
pub(crate) fn is_own_lease(lease: &Lease) -> bool {
    lease.metadata.labels.get(LEASE_MANAGED_BY).is_some_and(|by| by == US)
}

/// Reads a slice of this kind; `None` for those of others.
pub(crate) fn own(slice: &EndpointSlice, service: &str, env: &str) -> Option<Own> {
    let meta = &slice.metadata;
    if !is_own(slice) {
        return None;
    }
    let lease = meta.annotations.get(LEASE).unwrap_or(&meta.name).clone();
    let value = meta.annotations.get(INSTANCE).map_or("", String::as_str);
    let instance = kratos::from_json(value.as_bytes(), service, env).unwrap_or_else(|error| {
        tracing::warn!(slice = %meta.name, %error, "an instance in Kubernetes cannot be used");
        None
    });
    Some(Own { lease, instance })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_core::Endpoint;

    fn of(instance: &Instance) -> EndpointSlice {
        serde_json::from_value(slice(instance, 255, "uid", &Options::default()).unwrap()).unwrap()
    }

    #[test]
    fn an_instance_goes_there_and_back() {
        let instance = Instance::new("s", "10.0.0.1:80@größe").with_endpoint(Endpoint::unix("/run/s"));
        let slice = of(&instance);
        let read = own(&slice, "s", "").unwrap();
        assert_eq!((read.instance, read.lease.as_str()), (Some(instance), slice.metadata.name.as_str()));
        assert_eq!(held_by(&slice), Some("ff"));
        assert!(own(&slice, "s", "elsewhere").unwrap().instance.is_none());
        assert!(own(&EndpointSlice::default(), "s", "").is_none());
    }

    #[test]
    fn names_are_valid_and_tell_instances_apart() {
        let long = "x".repeat(400);
        let names =
            [name("s", "a.b"), name("s", "a-b"), name("s-a", "b"), name("S", "größe"), name("s", &long)];
        for (n, one) in names.iter().enumerate() {
            let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            assert!(one.len() <= 253 && one.bytes().all(valid) && !one.ends_with('-'), "{one}");
            assert!(!names[n + 1..].contains(one), "{one}");
        }
        assert_eq!(name("s", "a"), name("s", "a"));
    }

    #[test]
    fn others_are_told_the_first_address_that_they_can_reach() {
        let instance = Instance::new("s", "a")
            .with_endpoint(Endpoint::http("127.0.0.1", 80))
            .with_endpoint(Endpoint::http("host", 80))
            .with_endpoint(Endpoint::https("2001:db8::1", 443));
        let told = slice(&instance, 1, "uid", &Options::default()).unwrap();
        assert_eq!(told["addressType"], "IPv6");
        assert_eq!(told["endpoints"][0]["addresses"], json!(["2001:db8::1"]));
        assert_eq!((&told["ports"][0]["port"], &told["ports"][0]["name"]), (&json!(443), &json!("")));
        let none = slice(&Instance::new("s", "a"), 1, "uid", &Options::default()).unwrap();
        assert_eq!((&none["endpoints"], &none["addressType"]), (&json!([]), &json!("IPv4")));
    }

    #[test]
    fn a_service_that_can_be_no_label_is_refused_with_the_mend() {
        for service in ["", "-a", "a-", "a/b", "ä", &"x".repeat(64)] {
            let error = slice(&Instance::new(service, "a"), 1, "", &Options::default()).unwrap_err();
            assert!(error.is_invalid() && error.message().contains("use a name of 1 to 63"), "{error}");
        }
        assert!(check_service("shop.Catalog_1").is_ok());
    }
}
