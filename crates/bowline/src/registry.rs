//! The way to the registry.

use std::sync::Arc;

use bowline_client::{Channel, ChannelOptions, SLOT};
use bowline_core::{Error, Result, WrapErr};
use bowline_discovery::{Discovery, DiskSnapshots, Dns, Registrar, Resolver, Target};
use bowline_registry_bowline::{BowlineRegistry, Options, WithSlot};
use bowline_telemetry::CallMetrics;

use crate::RegistrySettings;
use crate::slots::Slots;

/// The two sides of a registry: to find others, and to be found.
pub(crate) type Sides = (Arc<dyn Discovery>, Arc<dyn Registrar>);

/// The sides of a registry, and who leases slots, if it does.
pub(crate) struct Connected {
    pub(crate) discovery: Arc<dyn Discovery>,
    pub(crate) registrar: Arc<dyn Registrar>,
    pub(crate) slots: Option<Slots>,
}

/// Prepares the way to the registry that `settings` name, by the adapter for its target's scheme. Whether it is up does not
/// matter now.
///
/// # Errors
/// If the target is malformed or needs an adapter that is not built in, the snapshots' directory cannot be used, or slots are
/// wanted of a registry that has none.
pub(crate) fn connect(settings: &RegistrySettings, env: &str, calls: &CallMetrics) -> Result<Connected> {
    let mut slots = None;
    let (discovery, registrar) = match settings.target.split_once("://") {
        Some(("etcd" | "etcds", _)) => etcd(settings, env, calls)?,
        Some(("zookeeper", _)) => zookeeper(settings, env)?,
        Some(("consul", _)) => consul(settings, env, calls)?,
        Some(("eureka", _)) => eureka(settings, env, calls)?,
        Some(("kubernetes", _)) => kubernetes(settings, env, calls)?,
        Some(("nacos", _)) => nacos(settings, env)?,
        _ => {
            let registry = ours(settings, env, calls)?;
            slots = Some(Slots::new(Arc::clone(&registry)));
            let registrar: Arc<dyn Registrar> = match settings.slot {
                true => Arc::new(WithSlot::new(Arc::clone(&registry), SLOT)),
                false => Arc::clone(&registry) as Arc<_>,
            };
            (registry as Arc<_>, registrar)
        }
    };
    if settings.slot && slots.is_none() {
        return Err(Error::invalid_argument(
            "`registry.slot` needs Bowline's own registry, which leases slots; leave it out",
        ));
    }
    let discovery: Arc<dyn Discovery> = match &settings.snapshots {
        None => discovery,
        Some(directory) => Arc::new(DiskSnapshots::open(discovery, directory)?),
    };
    Ok(Connected { discovery, registrar, slots })
}

/// A channel to the registry's servers, which are not found through a registry themselves.
fn channel(target: &str, options: ChannelOptions, calls: &CallMetrics) -> Result<Channel> {
    let resolver = Arc::new(Resolver::new().with_dns(Arc::new(Dns::system()?)));
    let builder = Channel::builder(target).options(options);
    builder.resolver(resolver).calls(calls.clone()).build().context("the registry's target")
}

fn ours(settings: &RegistrySettings, env: &str, calls: &CallMetrics) -> Result<Arc<BowlineRegistry>> {
    let mut options = Options::default();
    options.namespace.clone_from(&settings.namespace);
    env.clone_into(&mut options.env);
    // All that a process says goes to one node, which renews what it granted: so each has a channel of its own.
    let nodes = match settings.target.parse()? {
        Target::Static(nodes) => nodes.iter().map(ToString::to_string).collect(),
        _ => vec![settings.target.clone()],
    };
    let callers = nodes.iter().map(|node| {
        let caller = channel(node, ChannelOptions::default(), calls)?.caller()?;
        match &settings.token {
            Some(token) => caller.bearer(token.expose()).context("the registry's token"),
            None => Ok(caller),
        }
    });
    Ok(Arc::new(BowlineRegistry::new(callers.collect::<Result<Vec<_>>>()?, options)?))
}

#[cfg(feature = "etcd")]
fn etcd(settings: &RegistrySettings, env: &str, calls: &CallMetrics) -> Result<Sides> {
    use bowline_registry_etcd::{EtcdRegistry, Options};

    no_namespace(settings, "set another prefix: etcd://HOST?prefix=/PREFIX")?;
    let (members, mut options) = Options::from_url(&settings.target)?;
    env.clone_into(&mut options.env);
    let members: Vec<_> = members.iter().map(ToString::to_string).collect();
    let channel = channel(&format!("static:///{}", members.join(",")), ChannelOptions::default(), calls)?;
    let registry = Arc::new(EtcdRegistry::new(channel, options)?);
    Ok((Arc::clone(&registry) as Arc<_>, registry))
}

#[cfg(not(feature = "etcd"))]
fn etcd(_: &RegistrySettings, _: &str, _: &CallMetrics) -> Result<Sides> {
    Err(not_built_in("etcd"))
}

#[cfg(feature = "zookeeper")]
fn zookeeper(settings: &RegistrySettings, env: &str) -> Result<Sides> {
    use bowline_registry_zookeeper::{Options, ZookeeperRegistry};

    no_namespace(settings, "set another prefix: zookeeper://HOST/PREFIX")?;
    let (servers, mut options) = Options::from_url(&settings.target)?;
    env.clone_into(&mut options.env);
    let registry = Arc::new(ZookeeperRegistry::new(&servers, options)?);
    Ok((Arc::clone(&registry) as Arc<_>, registry))
}

#[cfg(not(feature = "zookeeper"))]
fn zookeeper(_: &RegistrySettings, _: &str) -> Result<Sides> {
    Err(not_built_in("zookeeper"))
}

#[cfg(feature = "consul")]
fn consul(settings: &RegistrySettings, env: &str, calls: &CallMetrics) -> Result<Sides> {
    use bowline_client::HttpVersion;
    use bowline_registry_consul::{ConsulRegistry, Options};

    no_namespace(settings, "set another environment")?;
    let (agent, mut options) = Options::from_url(&settings.target)?;
    env.clone_into(&mut options.env);
    let connections = ConsulRegistry::CONNECTIONS;
    let http1 =
        ChannelOptions { http: HttpVersion::Http1, http1_connections: connections, ..Default::default() };
    let channel = channel(&agent.to_string(), http1, calls)?;
    let registry = Arc::new(ConsulRegistry::new(channel, &agent.authority(), options)?);
    Ok((Arc::clone(&registry) as Arc<_>, registry))
}

#[cfg(not(feature = "consul"))]
fn consul(_: &RegistrySettings, _: &str, _: &CallMetrics) -> Result<Sides> {
    Err(not_built_in("consul"))
}

#[cfg(feature = "eureka")]
fn eureka(settings: &RegistrySettings, env: &str, calls: &CallMetrics) -> Result<Sides> {
    use bowline_client::HttpVersion;
    use bowline_registry_eureka::{EurekaRegistry, Options};

    no_namespace(settings, "set another environment")?;
    let (servers, mut options) = Options::from_url(&settings.target)?;
    env.clone_into(&mut options.env);
    let server = |server: &bowline_core::Endpoint| {
        let http1 = ChannelOptions { http: HttpVersion::Http1, ..Default::default() };
        Ok((channel(&server.to_string(), http1, calls)?, server.authority()))
    };
    let servers = servers.iter().map(server).collect::<Result<Vec<_>>>()?;
    let registry = Arc::new(EurekaRegistry::new(servers, options)?);
    Ok((Arc::clone(&registry) as Arc<_>, registry))
}

#[cfg(not(feature = "eureka"))]
fn eureka(_: &RegistrySettings, _: &str, _: &CallMetrics) -> Result<Sides> {
    Err(not_built_in("eureka"))
}

#[cfg(feature = "kubernetes")]
fn kubernetes(settings: &RegistrySettings, env: &str, calls: &CallMetrics) -> Result<Sides> {
    use bowline_registry_kubernetes::{Access, KubernetesRegistry, Options};

    no_namespace(settings, "name Kubernetes' own in its address: kubernetes://NAMESPACE")?;
    let mut options = Options::from_url(&settings.target)?;
    env.clone_into(&mut options.env);
    let access = Access::find(&options)?;
    let channel = channel(&access.server().to_string(), access.channel_options(), calls)?;
    let registry = Arc::new(KubernetesRegistry::new(channel, &access, options)?);
    Ok((Arc::clone(&registry) as Arc<_>, registry))
}

#[cfg(not(feature = "kubernetes"))]
fn kubernetes(_: &RegistrySettings, _: &str, _: &CallMetrics) -> Result<Sides> {
    Err(not_built_in("kubernetes"))
}

#[cfg(feature = "nacos")]
fn nacos(settings: &RegistrySettings, env: &str) -> Result<Sides> {
    use bowline_registry_nacos::{NacosRegistry, Options};

    no_namespace(settings, "name Nacos' own in its address: nacos://HOST?namespace=ID")?;
    let (servers, mut options) = Options::from_url(&settings.target)?;
    env.clone_into(&mut options.env);
    let registry = Arc::new(NacosRegistry::new(servers, options)?);
    Ok((Arc::clone(&registry) as Arc<_>, registry))
}

#[cfg(not(feature = "nacos"))]
fn nacos(_: &RegistrySettings, _: &str) -> Result<Sides> {
    Err(not_built_in("nacos"))
}

/// Refuses a namespace, which only our registry has.
#[cfg(any(
    feature = "consul",
    feature = "etcd",
    feature = "eureka",
    feature = "kubernetes",
    feature = "nacos",
    feature = "zookeeper"
))]
fn no_namespace(settings: &RegistrySettings, instead: &str) -> Result<()> {
    if settings.namespace == crate::settings::default_namespace() {
        return Ok(());
    }
    Err(Error::invalid_argument(format!(
        "this registry has no namespaces; leave `namespace` out and {instead}"
    )))
}

#[cfg(not(all(
    feature = "consul",
    feature = "etcd",
    feature = "eureka",
    feature = "kubernetes",
    feature = "nacos",
    feature = "zookeeper"
)))]
fn not_built_in(feature: &str) -> bowline_core::Error {
    bowline_core::Error::failed_precondition(format!(
        "the registry's target begins with `{feature}`, and the adapter to that is not built in; \
         build with the feature `{feature}` of the crate `bowline`"
    ))
}

#[cfg(test)]
mod nodes;

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_telemetry::{Metrics, Side};

    fn connected(target: &str) -> Result<Connected> {
        connected_with(target, false)
    }

    fn connected_with(target: &str, slot: bool) -> Result<Connected> {
        let settings = RegistrySettings {
            target: target.into(),
            namespace: "default".into(),
            token: None,
            snapshots: None,
            slot,
        };
        connect(&settings, "", &CallMetrics::new(&Metrics::new(), Side::Client))
    }

    #[tokio::test]
    async fn the_scheme_of_the_target_chooses_the_adapter() {
        assert!(connected("http://127.0.0.1:1").is_ok_and(|ours| ours.slots.is_some()));
        assert!(connected_with("http://127.0.0.1:1", true).is_ok());
        let schemes = [
            ("consul", cfg!(feature = "consul")),
            ("etcd", cfg!(feature = "etcd")),
            ("eureka", cfg!(feature = "eureka")),
            ("nacos", cfg!(feature = "nacos")),
            ("zookeeper", cfg!(feature = "zookeeper")),
        ];
        for (scheme, is_built_in) in schemes {
            let target = format!("{scheme}://127.0.0.1:1");
            if !is_built_in {
                let error = connected(&target).err().unwrap();
                assert!(error.message().contains(&format!("feature `{scheme}`")), "{error}");
                continue;
            }
            let discovery = connected(&target).unwrap().discovery;
            let cx = bowline_core::Context::background().with_timeout(std::time::Duration::from_millis(1));
            assert!(discovery.watch("s").ready(&cx).await.is_err());
            let error = connected_with(&target, true).err().unwrap();
            assert!(error.message().contains("`registry.slot` needs Bowline's own registry"), "{error}");
            let error = connected(&format!("{target}?x=1")).err().unwrap();
            assert!(error.message().contains("`x` is unknown"), "{error}");
        }
    }

    #[tokio::test]
    async fn kubernetes_is_found_by_a_kubeconfig() {
        let missing = "kubernetes://shop?kubeconfig=/nonexistent";
        let error = connected(missing).err().unwrap();
        if !cfg!(feature = "kubernetes") {
            assert!(error.message().contains("feature `kubernetes`"), "{error}");
            return;
        }
        assert!(error.to_string().contains("no kubeconfig at /nonexistent"), "{error}");
        let path = std::env::temp_dir().join(format!("bowline-kubeconfig-{}", std::process::id()));
        let text = "current-context: c\ncontexts: [{name: c, context: {cluster: c}}]\n\
                    clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n";
        std::fs::write(&path, text).unwrap();
        let target = format!("kubernetes://shop?kubeconfig={}", path.display());
        let discovery = connected(&target).unwrap().discovery;
        std::fs::remove_file(&path).unwrap();
        let cx = bowline_core::Context::background().with_timeout(std::time::Duration::from_millis(1));
        assert!(discovery.watch("s").ready(&cx).await.is_err());
    }
}
