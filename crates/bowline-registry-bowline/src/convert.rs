//! Instances here and on the wire.

use std::time::Duration;

use bowline_core::{Error, Instance, InstanceId, InstanceStatus, Result, Tenant};

use bowline_rpc::codegen::buffa_types::google::protobuf;

use crate::api::bowline::registry::v1 as wire;
use crate::names::canonical;

/// What the registry grants to who asks for nothing in particular.
pub(crate) const DEFAULT_TTL: Duration = Duration::from_secs(30);

/// How often to renew a lease.
pub(crate) fn renew_interval(sent: Option<protobuf::Duration>) -> Duration {
    sent.and_then(|interval| interval.try_into().ok()).unwrap_or(DEFAULT_TTL / 3)
}

/// As it is sent. `env` is the environment of who has none of its own.
pub(crate) fn to_wire(instance: &Instance, env: &str) -> wire::Instance {
    use wire::InstanceStatus as Status;
    let status = match instance.status {
        InstanceStatus::Up => Status::INSTANCE_STATUS_UP,
        InstanceStatus::Starting => Status::INSTANCE_STATUS_STARTING,
        InstanceStatus::OutOfService => Status::INSTANCE_STATUS_OUT_OF_SERVICE,
    };
    wire::Instance {
        id: instance.id.as_str().into(),
        service: instance.service.as_ref().into(),
        env: canonical(env_of(instance, env)).into(),
        version: instance.version.clone(),
        zone: instance.zone.clone(),
        cluster: instance.cluster.clone(),
        tenant: instance.tenant.as_str().into(),
        weight: Some(instance.weight),
        status: status.into(),
        endpoints: instance.endpoints.iter().map(ToString::to_string).collect(),
        metadata: instance.metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        ..Default::default()
    }
}

/// The environment an instance is registered in.
pub(crate) fn env_of<'a>(instance: &'a Instance, env: &'a str) -> &'a str {
    if instance.env.is_empty() { env } else { &instance.env }
}

/// As it was registered. `env` is the environment that is watched, in the form this side writes it.
///
/// # Errors
/// `INVALID_ARGUMENT` for what this version cannot use, such as an endpoint of an unknown scheme.
pub(crate) fn from_wire(instance: wire::Instance, env: &str) -> Result<Instance> {
    let status = match instance.status.as_known() {
        Some(wire::InstanceStatus::INSTANCE_STATUS_STARTING) => InstanceStatus::Starting,
        Some(wire::InstanceStatus::INSTANCE_STATUS_OUT_OF_SERVICE) => InstanceStatus::OutOfService,
        // Also what a newer registry may say: taking traffic is what instances are there for.
        _ => InstanceStatus::Up,
    };
    let tenant = Tenant::new(&instance.tenant)
        .ok_or_else(|| Error::invalid_argument(format!("`{}` is no tenant", instance.tenant)))?;
    let endpoints = instance.endpoints.iter().map(|e| e.parse()).collect::<Result<_>>()?;
    Ok(Instance {
        id: InstanceId::new(instance.id),
        service: instance.service.into(),
        version: instance.version,
        env: if instance.env == canonical(env) { env.to_owned() } else { instance.env },
        zone: instance.zone,
        cluster: instance.cluster,
        tenant,
        weight: instance.weight.unwrap_or(Instance::DEFAULT_WEIGHT),
        status,
        endpoints,
        metadata: instance.metadata.into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_core::Endpoint;

    #[test]
    fn an_instance_goes_there_and_back() {
        let mut instance = Instance::new("catalog", "c-1").with_endpoint(Endpoint::http("::1", 80));
        instance.weight = 0;
        instance.tenant = Tenant::new("canary").unwrap();
        instance.metadata.insert("k".into(), "größer".into());
        for status in [InstanceStatus::Up, InstanceStatus::Starting, InstanceStatus::OutOfService] {
            instance.status = status;
            for (own, watched) in [("", ""), ("", "default"), ("prod", "prod"), ("", "prod")] {
                instance.env = own.into();
                let back = from_wire(to_wire(&instance, watched), watched).unwrap();
                assert_eq!(back, Instance { env: watched.into(), ..instance.clone() });
            }
        }
    }

    #[test]
    fn what_others_leave_out_has_its_default_and_what_is_unusable_is_an_error() {
        let wire = wire::Instance { id: "a".into(), service: "s".into(), ..Default::default() };
        assert_eq!(from_wire(wire.clone(), "").unwrap(), Instance::new("s", "a"));
        let wire = wire::Instance { endpoints: vec!["quic://a:1".into()], ..wire };
        assert!(from_wire(wire, "").unwrap_err().message().contains("unknown scheme"));
    }
}
