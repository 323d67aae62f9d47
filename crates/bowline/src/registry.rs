//! The way to the registry.

use std::sync::Arc;

use bowline_client::{Channel, ChannelOptions};
use bowline_core::{Result, WrapErr};
use bowline_discovery::{Discovery, DiskSnapshots, Dns, Registrar, Resolver};
use bowline_registry_bowline::{BowlineRegistry, Options};
use bowline_telemetry::CallMetrics;

use crate::RegistrySettings;

/// The two sides of a registry: to find others, and to be found.
pub(crate) type Sides = (Arc<dyn Discovery>, Arc<dyn Registrar>);

/// Prepares the way to the registry that `settings` name. Whether it is up does not matter now.
///
/// # Errors
/// If the target is malformed, or the snapshots' directory cannot be used.
pub(crate) fn connect(settings: &RegistrySettings, env: &str, calls: &CallMetrics) -> Result<Sides> {
    // The registry itself is not found through a registry.
    let resolver = Arc::new(Resolver::new().with_dns(Arc::new(Dns::system()?)));
    let channel = Channel::builder(&settings.target)
        .options(ChannelOptions::default())
        .resolver(resolver)
        .calls(calls.clone())
        .build()
        .context("the registry's target")?;
    let mut options = Options::default();
    options.namespace.clone_from(&settings.namespace);
    env.clone_into(&mut options.env);
    let registry = Arc::new(BowlineRegistry::new([channel.caller()?], options)?);
    let discovery: Arc<dyn Discovery> = match &settings.snapshots {
        None => Arc::clone(&registry) as Arc<dyn Discovery>,
        Some(directory) => {
            Arc::new(DiskSnapshots::open(Arc::clone(&registry) as Arc<dyn Discovery>, directory)?)
        }
    };
    Ok((discovery, registry))
}
