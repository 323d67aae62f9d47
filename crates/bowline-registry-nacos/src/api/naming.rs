//! Services and instances.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::payload::{bodies, or_default};
use super::remote::Outcome;

/// [`InstanceRequest::kind`] of a registration.
pub const REGISTER: &str = "registerInstance";
/// [`InstanceRequest::kind`] of its end.
pub const DEREGISTER: &str = "deregisterInstance";
/// [`BatchInstanceRequest::kind`].
pub const BATCH_REGISTER: &str = "batchRegisterInstance";

/// An instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Instance {
    /// Its id; made of address, cluster and service where nobody gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Its host.
    #[serde(deserialize_with = "or_default")]
    pub ip: String,
    /// Its port.
    pub port: u16,
    /// Its share of the traffic. 1.
    pub weight: f64,
    /// Whether it works. True.
    pub healthy: bool,
    /// Whether it is to have traffic; one that is not is told to nobody. True.
    pub enabled: bool,
    /// Whether it lives by being kept alive, instead of for ever. True.
    pub ephemeral: bool,
    /// Its cluster; empty for `DEFAULT`.
    #[serde(deserialize_with = "or_default")]
    pub cluster_name: String,
    /// Group and service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// Anything.
    #[serde(deserialize_with = "or_default")]
    pub metadata: BTreeMap<String, String>,
}

impl Default for Instance {
    fn default() -> Self {
        Self {
            instance_id: None,
            ip: String::new(),
            port: 0,
            weight: 1.0,
            healthy: true,
            enabled: true,
            ephemeral: true,
            cluster_name: String::new(),
            service_name: None,
            metadata: BTreeMap::new(),
        }
    }
}

/// A service with its instances.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceInfo {
    /// The service, without its group over gRPC, with it over HTTP.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// The group.
    #[serde(deserialize_with = "or_default")]
    pub group_name: String,
    /// The clusters that were asked for, with commas; empty for all.
    #[serde(deserialize_with = "or_default")]
    pub clusters: String,
    /// How long it may be remembered, in milliseconds.
    pub cache_millis: u64,
    /// The instances.
    #[serde(deserialize_with = "or_default")]
    pub hosts: Vec<Instance>,
    /// When it was so, in milliseconds since 1970: clients pass over what is older than what they have.
    pub last_ref_time: u64,
    /// Stands for the content; empty where nobody computes it.
    #[serde(deserialize_with = "or_default")]
    pub checksum: String,
    /// Whether the hosts are all there are, the unusable ones included.
    #[serde(rename = "allIPs")]
    pub all_ips: bool,
    /// Whether unhealthy instances are told because too few are healthy.
    pub reach_protection_threshold: bool,
}

/// Requests about one service: who asks, for what, and what else there is to it.
macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
            #[serde(rename_all = "camelCase", default)]
            pub struct $name {
                /// By which its answer names it.
                #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
                pub request_id: String,
                /// The namespace's id; empty or `public` for the default one.
                #[serde(deserialize_with = "or_default")]
                pub namespace: String,
                /// The service.
                #[serde(deserialize_with = "or_default")]
                pub service_name: String,
                /// Its group; empty for `DEFAULT_GROUP`.
                #[serde(deserialize_with = "or_default")]
                pub group_name: String,
                $($(#[$field_doc])* #[serde(deserialize_with = "or_default")] pub $field: $type,)*
            }
        )*
        bodies!($($name),*);
    };
}

requests! {
    /// Registers an instance for as long as the connection lives, or deregisters it.
    InstanceRequest {
        /// [`REGISTER`] or [`DEREGISTER`].
        #[serde(rename = "type")]
        kind: String,
        /// The instance.
        instance: Instance,
    }
    /// Registers or deregisters an instance that outlives its connection.
    PersistentInstanceRequest {
        /// [`REGISTER`] or [`DEREGISTER`].
        #[serde(rename = "type")]
        kind: String,
        /// The instance.
        instance: Instance,
    }
    /// Registers these instances of a service, and no others of this connection.
    BatchInstanceRequest {
        /// [`BATCH_REGISTER`].
        #[serde(rename = "type")]
        kind: String,
        /// The instances.
        instances: Vec<Instance>,
    }
    /// Asks for a service once.
    ServiceQueryRequest {
        /// The clusters wanted, with commas; empty for all.
        cluster: String,
        /// Whether to leave the unhealthy out.
        healthy_only: bool,
    }
    /// Asks for a service and all that changes, or takes that back.
    SubscribeServiceRequest {
        /// Whether it begins.
        subscribe: bool,
        /// The clusters wanted, with commas; empty for all.
        clusters: String,
    }
    /// Asks for the names of a group's services, a page of them.
    ServiceListRequest {
        /// The page, from 1.
        page_no: i64,
        /// How many are on a page.
        page_size: i64,
    }
    /// A subscribed service has changed.
    NotifySubscriberRequest {
        /// As it is now.
        service_info: ServiceInfo,
    }
}

/// Answers with something in them.
macro_rules! responses {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
            #[serde(rename_all = "camelCase", default)]
            pub struct $name {
                /// How it went.
                #[serde(flatten)]
                pub outcome: Outcome,
                $($(#[$field_doc])* #[serde(deserialize_with = "or_default")] pub $field: $type,)*
            }
        )*
        bodies!($($name),*);
    };
}

responses! {
    /// To [`InstanceRequest`] and [`PersistentInstanceRequest`].
    InstanceResponse {
        /// The request's.
        #[serde(rename = "type")]
        kind: String,
    }
    /// To [`BatchInstanceRequest`].
    BatchInstanceResponse {
        /// The request's.
        #[serde(rename = "type")]
        kind: String,
    }
    /// To [`ServiceQueryRequest`].
    QueryServiceResponse {
        /// The service now.
        service_info: ServiceInfo,
    }
    /// To [`SubscribeServiceRequest`].
    SubscribeServiceResponse {
        /// The service now.
        service_info: ServiceInfo,
    }
    /// To [`ServiceListRequest`].
    ServiceListResponse {
        /// How many there are on all pages.
        count: usize,
        /// The services of the page, without their group.
        service_names: Vec<String>,
    }
    /// To [`NotifySubscriberRequest`].
    NotifySubscriberResponse {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Body, ErrorResponse, code};

    /// As Java's client 2.5 writes it.
    const REGISTRATION: &str = r#"{"headers":{},"namespace":"public","serviceName":"s","groupName":"G","type":"registerInstance",
        "instance":{"ip":"10.0.0.1","port":8080,"weight":2.5,"healthy":true,"enabled":true,"ephemeral":true,
        "metadata":{"k":"v"},"instanceHeartBeatInterval":5000,"instanceHeartBeatTimeOut":15000,"ipDeleteTimeout":30000},
        "module":"naming"}"#;

    #[test]
    fn what_clients_write_is_read_with_defaults_for_what_is_missing() {
        let request: InstanceRequest = serde_json::from_str(REGISTRATION).unwrap();
        assert_eq!((&*request.kind, &*request.service_name, request.instance.weight), (REGISTER, "s", 2.5));
        assert_eq!(request.instance.metadata["k"], "v");
        let request: SubscribeServiceRequest =
            serde_json::from_str(r#"{"requestId":null,"clusters":null,"serviceName":"s"}"#).unwrap();
        assert!(!request.subscribe && request.clusters.is_empty());
        let instance: Instance = serde_json::from_str(r#"{"ip":"a","port":1}"#).unwrap();
        assert!(instance.healthy && instance.enabled && instance.ephemeral && instance.weight == 1.0);
    }

    #[test]
    fn answers_say_how_it_went_and_go_there_and_back() {
        let service_info =
            ServiceInfo { name: "s".into(), hosts: vec![Instance::default()], ..Default::default() };
        let sent = QueryServiceResponse { outcome: Outcome::success("7"), service_info };
        let payload = sent.payload().unwrap();
        assert_eq!(QueryServiceResponse::of(&payload).unwrap(), sent);
        let json: serde_json::Value = serde_json::from_slice(&payload.body.value).unwrap();
        assert_eq!((json["resultCode"].clone(), json["success"].clone()), (200.into(), true.into()));
        let error = ErrorResponse { outcome: Outcome::failure(code::NO_RIGHT, "no", "") };
        assert!(!ErrorResponse::of(&error.payload().unwrap()).unwrap().outcome.is_success());
        let wrong = InstanceRequest::of(&payload).unwrap_err();
        assert!(
            wrong.message().contains("`QueryServiceResponse` where a `InstanceRequest` is due"),
            "{wrong}"
        );
    }
}
