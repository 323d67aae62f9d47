//! Services on the network: `call` and `services`.

mod call;
mod services;

use std::sync::Arc;
use std::time::Duration;

use bowline_client::Channel;
use bowline_core::{Context, Error, Result, WrapErr};
use bowline_discovery::{Dns, Resolver};
use bowline_registry_bowline::api::bowline::registry::v1::{ListServicesRequest, ServiceSummary, registry};
use bowline_registry_bowline::{BowlineRegistry, Options};
use bowline_rpc::Caller;

pub(crate) use call::{CallArgs, call};
pub(crate) use services::{ServicesArgs, services};

/// The time the registry gets to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the registry is, and which part of it.
#[derive(clap::Args)]
pub(crate) struct Registry {
    /// The registry's nodes.
    #[arg(long, value_name = "TARGET", default_value = "http://127.0.0.1:7171", env = "BOWLINE_REGISTRY")]
    registry: String,
    /// The namespace to look in.
    #[arg(long, default_value = "default")]
    namespace: String,
    /// The environment to look in.
    #[arg(long, default_value = "default", env = "BOWLINE_ENV")]
    env: String,
}

impl Registry {
    /// A caller of the registry's own API.
    fn caller(&self) -> Result<Caller> {
        let resolver = Resolver::new().with_dns(Arc::new(Dns::system()?));
        let channel = Channel::builder(&self.registry).resolver(Arc::new(resolver)).build();
        channel.context("--registry")?.caller()
    }

    /// Finds instances by it.
    fn resolver(&self) -> Result<Arc<Resolver>> {
        let mut options = Options::default();
        options.namespace.clone_from(&self.namespace);
        options.env.clone_from(&self.env);
        let registry = BowlineRegistry::new([self.caller()?], options)?;
        let resolver = Resolver::new().with_dns(Arc::new(Dns::system()?)).with_registry(Arc::new(registry));
        Ok(Arc::new(resolver))
    }

    /// The services that are registered.
    async fn list(&self) -> Result<Vec<ServiceSummary>> {
        let client = registry::Client::new(self.caller()?);
        let cx = Context::background().with_timeout(PATIENCE);
        let request = ListServicesRequest {
            namespace: self.namespace.clone(),
            env: self.env.clone(),
            ..Default::default()
        };
        let listed = client.list_services(&cx, request).await.map_err(|error| self.unreachable(error))?;
        Ok(listed.services)
    }

    fn unreachable(&self, error: Error) -> Error {
        error.context(format!("asking the registry at {} (another one: --registry TARGET)", self.registry))
    }
}
