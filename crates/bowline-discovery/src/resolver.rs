//! From a target to a watcher.

use std::fmt;
use std::sync::Arc;

use bowline_core::{Error, Result};

use crate::{Discovery, Static, Target, Watcher};

/// Knows which [`Discovery`] answers which kind of [`Target`]. Fixed targets need none.
///
/// ```
/// use bowline_discovery::{Memory, Resolver};
/// use std::sync::Arc;
///
/// let resolver = Resolver::new().with_registry(Arc::new(Memory::new()));
/// assert!(resolver.watch(&"discovery:///catalog".parse().unwrap()).is_ok());
/// assert!(resolver.watch(&"dns:///catalog:80".parse().unwrap()).is_err());
/// ```
#[derive(Clone, Default)]
pub struct Resolver {
    registry: Option<Arc<dyn Discovery>>,
    dns: Option<Arc<dyn Discovery>>,
}

impl Resolver {
    /// A resolver of fixed targets.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers `discovery:///`.
    #[must_use]
    pub fn with_registry(mut self, registry: Arc<dyn Discovery>) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Answers `dns:///`; usually [`Dns`](crate::Dns).
    #[must_use]
    pub fn with_dns(mut self, dns: Arc<dyn Discovery>) -> Self {
        self.dns = Some(dns);
        self
    }

    /// Starts to follow a target. Call it within a tokio runtime.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` if nothing answers this kind of target.
    pub fn watch(&self, target: &Target) -> Result<Watcher> {
        let missing = |what: &str| {
            Error::failed_precondition(format!("`{target}` cannot be resolved: no {what} is configured"))
        };
        match target {
            Target::Discovery(service) => {
                Ok(self.registry.as_ref().ok_or_else(|| missing("registry"))?.watch(service))
            }
            Target::Dns(name) => {
                Ok(self.dns.as_ref().ok_or_else(|| missing("DNS resolver"))?.watch(&name.to_string()))
            }
            Target::Static(endpoints) => {
                Ok(Static::new(endpoints.iter().cloned()).watch(&target.to_string()))
            }
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("registry", &self.registry.is_some())
            .field("dns", &self.dns.is_some())
            .finish()
    }
}
