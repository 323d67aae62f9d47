//! The way to the registry.

use std::sync::Arc;

use bowline_client::{Channel, ChannelOptions};
use bowline_core::{Error, Result, WrapErr};
use bowline_discovery::{Discovery, DiskSnapshots, Dns, Registrar, Resolver};
use bowline_registry_bowline::{BowlineRegistry, Options};
use bowline_telemetry::CallMetrics;

use crate::RegistrySettings;

/// The two sides of a registry: to find others, and to be found.
pub(crate) type Sides = (Arc<dyn Discovery>, Arc<dyn Registrar>);

/// Prepares the way to the registry that `settings` name, by the adapter for its target's scheme. Whether it is up does not
/// matter now.
///
/// # Errors
/// If the target is malformed or needs an adapter that is not built in, or the snapshots' directory cannot be used.
pub(crate) fn connect(settings: &RegistrySettings, env: &str, calls: &CallMetrics) -> Result<Sides> {
    let (discovery, registrar) = match settings.target.split_once("://") {
        Some(("etcd" | "etcds", _)) => etcd(settings, env, calls)?,
        Some(("nacos", _)) => nacos(settings, env)?,
        _ => ours(settings, env, calls)?,
    };
    let discovery: Arc<dyn Discovery> = match &settings.snapshots {
        None => discovery,
        Some(directory) => Arc::new(DiskSnapshots::open(discovery, directory)?),
    };
    Ok((discovery, registrar))
}

/// A channel to the registry's servers, which are not found through a registry themselves.
fn channel(target: &str, calls: &CallMetrics) -> Result<Channel> {
    let resolver = Arc::new(Resolver::new().with_dns(Arc::new(Dns::system()?)));
    let builder = Channel::builder(target).options(ChannelOptions::default());
    builder.resolver(resolver).calls(calls.clone()).build().context("the registry's target")
}

fn ours(settings: &RegistrySettings, env: &str, calls: &CallMetrics) -> Result<Sides> {
    let channel = channel(&settings.target, calls)?;
    let mut options = Options::default();
    options.namespace.clone_from(&settings.namespace);
    env.clone_into(&mut options.env);
    let registry = Arc::new(BowlineRegistry::new([channel.caller()?], options)?);
    Ok((Arc::clone(&registry) as Arc<_>, registry))
}

#[cfg(feature = "etcd")]
fn etcd(settings: &RegistrySettings, env: &str, calls: &CallMetrics) -> Result<Sides> {
    use bowline_registry_etcd::{EtcdRegistry, Options};

    if settings.namespace != crate::settings::default_namespace() {
        return Err(Error::invalid_argument(
            "etcd has no namespaces; leave `namespace` out and set another prefix: etcd://HOST?prefix=/PREFIX",
        ));
    }
    let (members, mut options) = Options::from_url(&settings.target)?;
    env.clone_into(&mut options.env);
    let members: Vec<_> = members.iter().map(ToString::to_string).collect();
    let channel = channel(&format!("static:///{}", members.join(",")), calls)?;
    let registry = Arc::new(EtcdRegistry::new(channel, options)?);
    Ok((Arc::clone(&registry) as Arc<_>, registry))
}

#[cfg(not(feature = "etcd"))]
fn etcd(_: &RegistrySettings, _: &str, _: &CallMetrics) -> Result<Sides> {
    Err(Error::failed_precondition(
        "the registry is an etcd, and its adapter is not built in; build with the feature `etcd` of the crate `bowline`",
    ))
}

#[cfg(feature = "nacos")]
fn nacos(settings: &RegistrySettings, env: &str) -> Result<Sides> {
    use bowline_registry_nacos::{NacosRegistry, Options};

    if settings.namespace != crate::settings::default_namespace() {
        return Err(Error::invalid_argument(
            "namespaces of Nacos are named in its address; leave `namespace` out: nacos://HOST?namespace=ID",
        ));
    }
    let (servers, mut options) = Options::from_url(&settings.target)?;
    env.clone_into(&mut options.env);
    let registry = Arc::new(NacosRegistry::new(servers, options)?);
    Ok((Arc::clone(&registry) as Arc<_>, registry))
}

#[cfg(not(feature = "nacos"))]
fn nacos(_: &RegistrySettings, _: &str) -> Result<Sides> {
    Err(Error::failed_precondition(
        "the registry is a Nacos, and its adapter is not built in; build with the feature `nacos` of the crate `bowline`",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_telemetry::{Metrics, Side};

    fn connected(target: &str) -> Result<Sides> {
        let settings =
            RegistrySettings { target: target.into(), namespace: "default".into(), snapshots: None };
        connect(&settings, "", &CallMetrics::new(&Metrics::new(), Side::Client))
    }

    #[tokio::test]
    async fn the_scheme_of_the_target_chooses_the_adapter() {
        assert!(connected("http://127.0.0.1:1").is_ok());
        #[cfg(feature = "etcd")]
        {
            let (discovery, _) = connected("etcd://127.0.0.1:1").unwrap();
            let cx = bowline_core::Context::background().with_timeout(std::time::Duration::from_millis(1));
            assert!(discovery.watch("s").ready(&cx).await.is_err());
            assert!(connected("etcd://a?x=1").err().unwrap().message().contains("`x` is unknown"));
        }
        #[cfg(not(feature = "etcd"))]
        {
            let error = connected("etcd://127.0.0.1:1").err().unwrap();
            assert!(error.message().contains("feature `etcd`"), "{error}");
        }
        let nacos = connected("nacos://127.0.0.1:1");
        #[cfg(feature = "nacos")]
        {
            assert!(nacos.is_ok());
            assert!(connected("nacos://a?x=1").err().unwrap().message().contains("`x` is unknown"));
        }
        #[cfg(not(feature = "nacos"))]
        assert!(nacos.err().unwrap().message().contains("feature `nacos`"));
    }
}
