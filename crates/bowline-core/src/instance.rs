//! One running copy of a service.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Endpoint, Rng, Tenant};

/// Names one running copy of a service. Never a host name alone: two copies can share a host.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    /// An id given from outside, such as a pod's name.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// `service-xxxxxxxxxxxxxxxx`, random.
    pub fn generate(service: &str, rng: &impl Rng) -> Self {
        Self(format!("{service}-{:016x}", rng.next_u64()).into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceId({})", self.0)
    }
}

/// Whether an instance wants traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceStatus {
    /// Takes traffic.
    #[default]
    Up,
    /// Registered, not ready yet.
    Starting,
    /// Taken out by an operator or on its way down.
    OutOfService,
}

/// One running copy of a service, as it registers itself and as consumers see it.
///
/// ```
/// use bowline_core::{Endpoint, Instance};
///
/// let instance = Instance::new("catalog", "catalog-1").with_endpoint(Endpoint::http("127.0.0.1", 9001));
/// assert_eq!(instance.weight, Instance::DEFAULT_WEIGHT);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Who it is.
    pub id: InstanceId,
    /// The name consumers ask for.
    pub service: Arc<str>,
    /// Its version, for display and routing.
    #[serde(default)]
    pub version: String,
    /// The deployment environment, such as `prod`. Consumers see their own only.
    #[serde(default)]
    pub env: String,
    /// The availability zone.
    #[serde(default)]
    pub zone: String,
    /// The cluster within the zone.
    #[serde(default)]
    pub cluster: String,
    /// The tenant whose traffic it takes.
    #[serde(default)]
    pub tenant: Tenant,
    /// Its share of the traffic against its peers'. [`Instance::DEFAULT_WEIGHT`] unless set; 0 takes none.
    #[serde(default = "default_weight")]
    pub weight: u32,
    /// Whether it wants traffic.
    #[serde(default)]
    pub status: InstanceStatus,
    /// Where it listens.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// Whatever else is worth telling.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

const fn default_weight() -> u32 {
    Instance::DEFAULT_WEIGHT
}

impl Instance {
    /// 100, so that a weight reads as a percentage of a normal instance.
    pub const DEFAULT_WEIGHT: u32 = 100;

    /// An instance with defaults everywhere else.
    pub fn new(service: impl Into<Arc<str>>, id: impl Into<Arc<str>>) -> Self {
        Self {
            id: InstanceId::new(id),
            service: service.into(),
            version: String::new(),
            env: String::new(),
            zone: String::new(),
            cluster: String::new(),
            tenant: Tenant::base(),
            weight: Self::DEFAULT_WEIGHT,
            status: InstanceStatus::Up,
            endpoints: Vec::new(),
            metadata: BTreeMap::new(),
        }
    }

    /// Adds an endpoint.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoints.push(endpoint);
        self
    }
}
