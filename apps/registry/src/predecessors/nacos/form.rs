//! Parameters of Nacos' HTTP, whose names are the same in every version of it.

use std::collections::BTreeMap;

use bowline_core::Result;
use bowline_registry_nacos::api::Instance;

use super::super::params::{Params, invalid};
use super::names::Name;
use super::registry::Address;
use crate::node::Shared;
use crate::store::ServiceKey;

/// What a request says of a service, and of an instance in it.
pub(super) struct Form<'a> {
    pub(super) params: &'a Params,
    pub(super) name: Name,
    pub(super) key: ServiceKey,
}

impl<'a> Form<'a> {
    /// Reads which service is meant.
    ///
    /// # Errors
    /// `INVALID_REQUEST` or `INVALID_NAME`.
    pub(super) fn read(shared: &Shared, params: &'a Params) -> Result<Self> {
        let name = Name::new(params.text("groupName"), params.required("serviceName")?)?;
        let key = name.key(shared, params.text("namespaceId"))?;
        Ok(Self { params, name, key })
    }

    /// Which instance is meant.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming the parameter.
    pub(super) fn address(&self) -> Result<Address<'a>> {
        self.params.required("port")?;
        let (ip, port) = (self.params.required("ip")?, self.params.number("port")?);
        Ok(Address { ip, port, cluster: self.cluster() })
    }

    fn cluster(&self) -> &'a str {
        self.params.either("clusterName", "cluster")
    }

    /// The whole instance.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming the parameter.
    pub(super) fn instance(&self) -> Result<Instance> {
        let Address { ip, port, cluster } = self.address()?;
        Ok(Instance {
            ip: ip.to_owned(),
            port,
            cluster_name: cluster.to_owned(),
            weight: self.weight()?.unwrap_or(1.0),
            healthy: self.truth("healthy")?.unwrap_or(true),
            enabled: self.enabled()?.unwrap_or(true),
            ephemeral: self.truth("ephemeral")?.unwrap_or(true),
            metadata: metadata(self.params.text("metadata"))?,
            ..Default::default()
        })
    }

    /// The weight, if it is said.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if it is no number.
    pub(super) fn weight(&self) -> Result<Option<f64>> {
        match self.params.text("weight") {
            "" => Ok(None),
            _ => self.params.number("weight").map(Some),
        }
    }

    /// Whether it is to have traffic, if that is said: the older name for it counts too.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if it is no truth value.
    pub(super) fn enabled(&self) -> Result<Option<bool>> {
        Ok(self.truth("enabled")?.or(self.truth("enable")?))
    }

    fn truth(&self, name: &str) -> Result<Option<bool>> {
        match self.params.text(name) {
            "" => Ok(None),
            "true" | "yes" | "on" | "y" | "t" => Ok(Some(true)),
            "false" | "no" | "off" | "n" | "f" => Ok(Some(false)),
            other => {
                let shown: String = other.chars().take(80).collect();
                Err(invalid(format!("the parameter `{name}` is `{shown}`; use true or false")))
            }
        }
    }
}

/// Metadata as it is given: a JSON object of texts, or `k=v,k=v`.
///
/// # Errors
/// `INVALID_REQUEST` if it is neither.
pub(super) fn metadata(text: &str) -> Result<BTreeMap<String, String>> {
    if text.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    if let Ok(metadata) = serde_json::from_str(text) {
        return Ok(metadata);
    }
    let pairs = text.split(',').map(|pair| match pair.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() && !value.contains('=') => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(invalid("the parameter `metadata` is neither a JSON object of texts nor `k=v,k=v`")),
    });
    pairs.collect()
}
