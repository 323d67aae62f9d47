//! What of Kubernetes' API is read here: `discovery.k8s.io/v1`, `coordination.k8s.io/v1` and the metadata of all objects. The
//! fields and what their absence means are those of Kubernetes' API reference.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Meta {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    /// Where a list goes on.
    #[serde(rename = "continue")]
    pub(crate) next: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// An object of which nothing but the metadata matters.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Object {
    pub(crate) metadata: Meta,
}

#[derive(Debug, Deserialize)]
pub(crate) struct List<T> {
    pub(crate) metadata: Meta,
    pub(crate) items: Vec<T>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EndpointSlice {
    pub(crate) metadata: Meta,
    pub(crate) address_type: String,
    // A slice without either has null.
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<Port>>,
}

impl EndpointSlice {
    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        self.endpoints.as_deref().unwrap_or_default()
    }

    pub(crate) fn ports(&self) -> &[Port] {
        self.ports.as_deref().unwrap_or_default()
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Endpoint {
    /// They are of one endpoint: the first one is used.
    pub(crate) addresses: Vec<String>,
    pub(crate) conditions: Conditions,
    pub(crate) hostname: Option<String>,
    pub(crate) target_ref: Option<Reference>,
    pub(crate) node_name: Option<String>,
    pub(crate) zone: Option<String>,
}

/// `serving` is not read: new calls go to who is ready.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Conditions {
    ready: Option<bool>,
    terminating: Option<bool>,
}

/// How an endpoint is, in the words of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Takes traffic: also while it is terminating, where its Service publishes addresses that are not ready.
    Ready,
    /// Does not take traffic yet, or for now.
    NotReady,
    /// Is on its way out; whether it yet answers does not matter to new calls.
    Terminating,
}

impl Conditions {
    /// `ready` that is not told is true, `terminating` that is not told is false.
    pub(crate) fn sum(&self) -> Condition {
        match (self.ready, self.terminating.unwrap_or(false)) {
            (Some(true), _) | (None, false) => Condition::Ready,
            (_, true) => Condition::Terminating,
            (Some(false), false) => Condition::NotReady,
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Reference {
    pub(crate) kind: String,
    pub(crate) name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Port {
    pub(crate) name: Option<String>,
    /// `TCP` if it is left out.
    pub(crate) protocol: Option<String>,
    /// Any, if it is left out.
    pub(crate) port: Option<u16>,
    pub(crate) app_protocol: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Lease {
    pub(crate) metadata: Meta,
    pub(crate) spec: LeaseSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LeaseSpec {
    pub(crate) holder_identity: Option<String>,
    pub(crate) lease_duration_seconds: Option<u32>,
    pub(crate) renew_time: Option<String>,
}

/// What an error says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    pub(crate) message: String,
    pub(crate) code: u16,
}

/// One line of a watch.
#[derive(Debug, Deserialize)]
pub(crate) struct Event<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(borrow)]
    pub(crate) object: &'a serde_json::value::RawValue,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_mean_what_the_api_says() {
        let sum = |text: &str| serde_json::from_str::<Conditions>(text).unwrap().sum();
        for ready in [
            "{}",
            r#"{"ready":null}"#,
            r#"{"ready":true,"serving":true,"terminating":false}"#,
            // The Service publishes addresses that are not ready.
            r#"{"ready":true,"serving":false,"terminating":true}"#,
        ] {
            assert_eq!(sum(ready), Condition::Ready, "{ready}");
        }
        for not in [r#"{"ready":false}"#, r#"{"ready":false,"serving":true,"terminating":null}"#] {
            assert_eq!(sum(not), Condition::NotReady, "{not}");
        }
        for end in [r#"{"ready":false,"serving":true,"terminating":true}"#, r#"{"terminating":true}"#] {
            assert_eq!(sum(end), Condition::Terminating, "{end}");
        }
    }

    #[test]
    fn a_slice_with_neither_endpoints_nor_ports_is_read() {
        let slice: EndpointSlice = serde_json::from_str(
            r#"{"metadata":{"name":"x"},"endpoints":null,"ports":null,"addressType":"IPv4"}"#,
        )
        .unwrap();
        assert!(slice.endpoints().is_empty() && slice.ports().is_empty());
    }
}
