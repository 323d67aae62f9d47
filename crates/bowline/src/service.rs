//! A service being put together.

use std::sync::Arc;

use bowline_app::App;
use bowline_client::{Channel, ChannelBuilder, ChannelFactory, ChannelOptions, ClientPolicies};
use bowline_core::{Instance, Result};
use bowline_discovery::{Dns, Registrar, Resolver};
use bowline_rpc::Caller;
use bowline_server::{Admin, AdminOptions, Info, ListenAddr, Server};
use bowline_telemetry::logs::LogHandle;
use bowline_telemetry::{CallMetrics, Metrics, Rejections, Side};
use serde_json::{Value, json};

use crate::freshness::Overseen;
use crate::reload::{Reload, Shown};
use crate::slots::Slots;
use crate::{Boot, ClientSettings, Settings};

/// What a service is put together with: servers and channels that share its metrics, its registry and its settings.
pub struct Service {
    boot: Boot,
    settings: Settings,
    config: Shown,
    policies: ClientPolicies,
    metrics: Metrics,
    logs: Option<LogHandle>,
    resolver: Arc<Resolver>,
    registrar: Option<Arc<dyn Registrar>>,
    slots: Option<Slots>,
    calls: CallMetrics,
    rejections: Rejections,
    app: App,
}

impl Service {
    pub(crate) fn new(boot: Boot, settings: Settings, config: Value) -> Result<Self> {
        // A process that logs already, such as a test, goes on as it does.
        let logs = LogHandle::init(&settings.log).ok();
        settings.client.check()?;
        let metrics = Metrics::new();
        let calls = CallMetrics::new(&metrics, Side::Client);
        let rejections = Rejections::new(&metrics, Side::Client);
        let policies = ClientPolicies::new(crate::policy::client(&settings.client.policies)?);
        let app = App::new(boot.name()).options(settings.lifecycle.clone());
        let mut resolver = Resolver::new().with_dns(Arc::new(Dns::system()?));
        let (mut registrar, mut slots) = (None, None);
        if let Some(registry) = &settings.registry {
            let env = app.handle().instance().env.clone();
            let connected = crate::registry::connect(registry, &env, &calls)?;
            resolver = resolver.with_registry(Arc::new(Overseen::new(connected.discovery, &metrics)));
            registrar = Some(connected.registrar);
            slots = connected.slots;
        }
        Ok(Self {
            boot,
            settings,
            config: Shown::new(config),
            policies,
            metrics,
            logs,
            resolver: Arc::new(resolver),
            registrar,
            slots,
            calls,
            rejections,
            app,
        })
    }

    /// The registry of the service's metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Finds instances of services.
    pub fn resolver(&self) -> &Arc<Resolver> {
        &self.resolver
    }

    /// A server with the service's settings, to mount services on.
    ///
    /// # Errors
    /// If the address in the settings is none.
    pub fn server(&self) -> Result<Server> {
        Ok(Server::new(self.boot.name(), self.settings.server.options()?).metrics(&self.metrics))
    }

    /// A channel's builder with the service's settings: for options beyond them.
    pub fn channel(&self, target: &str) -> ChannelBuilder {
        self.way().to(target)
    }

    /// Makes channels after the service was handed over to its application: for targets that are learnt later.
    pub fn channels(&self) -> ChannelFactory {
        let way = self.way();
        Arc::new(move |target| way.to(target).build())
    }

    fn way(&self) -> Way {
        Way {
            settings: self.settings.client.clone(),
            policies: self.policies.clone(),
            here: self.app.handle().instance(),
            resolver: Arc::clone(&self.resolver),
            slots: self.slots.clone(),
            calls: self.calls.clone(),
            rejections: self.rejections.clone(),
        }
    }

    /// What a generated client takes, for `discovery:///name` or another target.
    ///
    /// # Errors
    /// If the target is malformed, or needs a registry that is not configured.
    pub fn caller(&self, target: &str) -> Result<Caller> {
        self.channel(target).build()?.caller()
    }

    /// The application, with this server, the admin listener and the registration: to add what it owns and to run.
    pub fn serve(self, server: Server) -> App {
        let reload = Reload {
            boot: self.boot.clone(),
            server: server.policies(),
            clients: self.policies.clone(),
            shown: self.config.clone(),
        };
        let mut app = self.app.server(server).background("reload", move |cx| reload.run(cx));
        if let Some(admin) = &self.settings.admin {
            let (handle, name) = (app.handle(), self.boot.name().to_owned());
            // Asked when shown: the application is given its version after this.
            let info = Info::new(move || {
                let instance = handle.instance();
                json!({
                    "service": name,
                    "instance": instance.id,
                    "version": instance.version,
                    "env": instance.env,
                    "zone": instance.zone,
                    "cluster": instance.cluster,
                })
            });
            let shown = self.config.clone();
            let listen: Result<ListenAddr> = admin.listen.parse();
            app = match listen {
                Err(error) => app.warm_up("admin listener", move |_| async move { Err(error) }),
                Ok(listen) => app.server(Admin::new(AdminOptions {
                    listen,
                    metrics: self.metrics.clone(),
                    logs: self.logs.clone(),
                    info,
                    config: Info::new(move || shown.now()),
                })),
            };
        }
        match self.registrar {
            None => app,
            Some(registrar) => app.registrar(registrar),
        }
    }
}

/// What all channels of an application have in common.
struct Way {
    settings: ClientSettings,
    policies: ClientPolicies,
    /// Who calls, and from where.
    here: Arc<Instance>,
    resolver: Arc<Resolver>,
    slots: Option<Slots>,
    calls: CallMetrics,
    rejections: Rejections,
}

impl Way {
    fn options(&self, target: &str) -> ChannelOptions {
        let mut options = self.settings.options(target);
        options.balance.client = self.here.id.to_string();
        options.policies = self.policies.clone();
        options.caller = Some(self.here.service.to_string());
        if options.balance.zones.local.is_empty() {
            options.balance.zones.local.clone_from(&self.here.zone);
        }
        options
    }

    fn to(&self, target: &str) -> ChannelBuilder {
        let options = self.options(target);
        // Only who has a subset needs a number to choose it by.
        let lease = match &self.slots {
            Some(slots) if options.balance.subset.is_some() => slots.of(target, &self.here),
            _ => None,
        };
        let builder = Channel::builder(target)
            .options(options)
            .resolver(Arc::clone(&self.resolver))
            .calls(self.calls.clone())
            .rejections(self.rejections.clone());
        match lease {
            Some(lease) => builder.slot(lease.watch(), lease),
            None => builder,
        }
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Service({})", self.boot.name())
    }
}

#[cfg(test)]
mod tests {
    use bowline_config::Loader;

    use super::*;

    fn way(yaml: &str) -> Way {
        let mut here = Instance::new("cart", "cart-1");
        here.zone = "a".into();
        Way {
            policies: ClientPolicies::default(),
            settings: Loader::new().text("test.yaml", yaml).unwrap().load().unwrap(),
            here: Arc::new(here),
            resolver: Arc::default(),
            slots: None,
            calls: CallMetrics::new(&Metrics::new(), Side::Client),
            rejections: Rejections::new(&Metrics::new(), Side::Client),
        }
    }

    #[test]
    fn channels_know_who_calls_and_from_where() {
        let balance = way("{}").options("discovery:///catalog").balance;
        assert_eq!((balance.client.as_str(), balance.zones.local.as_str()), ("cart-1", "a"));
        let balance = way("balance: { zones: { local: b } }").options("discovery:///catalog").balance;
        assert_eq!(balance.zones.local, "b", "settings come first");
    }

    #[test]
    fn a_setting_that_makes_no_sense_keeps_the_service_from_starting() {
        let yaml = "{ server: { listen: 'memory:test' }, client: { balance: { clusters: { blue: -1 } } } }";
        let settings: Settings = Loader::new().text("test.yaml", yaml).unwrap().load().unwrap();
        let error = Service::new(Boot::named("cart"), settings, Value::Null).unwrap_err();
        assert!(error.to_string().contains("balance.clusters.blue is -1"), "{error}");
    }
}
