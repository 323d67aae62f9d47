//! Who this instance is, as its environment says.

use bowline_core::{Error, Instance, InstanceId, Result, SystemRng, Tenant};

/// An instance of `service`, placed by `BOWLINE_ENV`, `BOWLINE_ZONE`, `BOWLINE_CLUSTER`, `BOWLINE_TENANT` and named by
/// `BOWLINE_INSTANCE_ID` (a pod's name); a random id if that is not set.
///
/// A malformed tenant is refused: an instance that quietly falls back to the base tenant takes production traffic.
pub(crate) fn from_variables(service: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Instance> {
    let mut instance = fallback(service);
    let text = |name: &str| variable(name).unwrap_or_default();
    (instance.env, instance.zone, instance.cluster) =
        (text("BOWLINE_ENV"), text("BOWLINE_ZONE"), text("BOWLINE_CLUSTER"));
    let tenant = text("BOWLINE_TENANT");
    instance.tenant = Tenant::new(&tenant).ok_or_else(|| {
        Error::invalid_argument(format!(
            "BOWLINE_TENANT is `{tenant}`, which is no tenant; use 1 to 63 of a-z, 0-9 and -, not at either end, or unset it"
        ))
    })?;
    match text("BOWLINE_INSTANCE_ID") {
        id if id.is_empty() => {}
        id => instance.id = InstanceId::new(id),
    }
    Ok(instance)
}

/// An instance of which only the service is known.
pub(crate) fn fallback(service: &str) -> Instance {
    Instance::new(service, InstanceId::generate(service, &SystemRng).as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_places_and_names_an_instance() {
        let instance = from_variables("catalog", |name| Some(name.to_lowercase().replace('_', "-"))).unwrap();
        assert_eq!((instance.env.as_str(), instance.zone.as_str()), ("bowline-env", "bowline-zone"));
        assert_eq!(
            (instance.cluster.as_str(), instance.tenant.as_str()),
            ("bowline-cluster", "bowline-tenant")
        );
        assert_eq!(instance.id.as_str(), "bowline-instance-id");
    }

    #[test]
    fn without_an_environment_the_id_is_random_and_the_tenant_the_base() {
        let [a, b] = [(); 2].map(|()| from_variables("catalog", |_| None).unwrap());
        assert!(a.id.as_str().starts_with("catalog-") && a.id != b.id);
        assert!(a.tenant.is_base());
    }

    #[test]
    fn a_malformed_tenant_is_refused() {
        let tenant = |name: &str| (name == "BOWLINE_TENANT").then(|| "Not A Name".to_owned());
        assert!(from_variables("catalog", tenant).unwrap_err().message().contains("BOWLINE_TENANT"));
    }
}
