//! What every service can be told, in the same words.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bowline_app::Lifecycle;
use bowline_client::ChannelOptions;
use bowline_config::{ByteSize, Secret, duration};
use bowline_core::{Endpoint, Result, WrapErr};
use bowline_discovery::Target;
use bowline_server::{Limits, ServerOptions, Tls};
use bowline_telemetry::logs::LogConfig;
use serde::{Deserialize, Serialize};

use crate::BalanceSettings;
use crate::policy::{self, AdmissionSettings, ClientPolicySettings, ServerPolicySettings};

/// The part of a configuration that is the same for every service. All of it has defaults but the address.
///
/// ```yaml
/// service:
///   server: { listen: 127.0.0.1:9001 }
///   admin: { listen: 127.0.0.1:9101 }
///   registry: { target: http://127.0.0.1:7171, snapshots: data/registry }
///   log: { level: info }
/// ```
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The service's own port.
    pub server: ServerSettings,
    /// The operator's port; none without it.
    #[serde(default)]
    pub admin: Option<AdminSettings>,
    /// Where to register and to find others; without it `discovery:///` targets are refused.
    #[serde(default)]
    pub registry: Option<RegistrySettings>,
    /// Calls to others.
    #[serde(default)]
    pub client: ClientSettings,
    /// Logs.
    #[serde(default)]
    pub log: LogConfig,
    /// Bounds on starting and stopping.
    #[serde(default)]
    pub lifecycle: Lifecycle,
}

/// A listener for requests.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// `IP:PORT`, `unix:/PATH` or `memory:NAME`.
    pub listen: String,
    /// What is told to the registry, where it differs from the bound address.
    #[serde(default)]
    pub advertise: Option<Endpoint>,
    /// Certificate and key; plain text without.
    #[serde(default)]
    pub tls: Option<TlsSettings>,
    /// The most time a unary call gets. 30 s.
    #[serde(default = "half_a_minute", with = "duration")]
    pub unary_timeout: Duration,
    /// The most time a stream gets. None.
    #[serde(default, with = "duration::option")]
    pub stream_timeout: Option<Duration>,
    /// Whether callers are strangers, whose `x-md-*` headers are not believed. False.
    #[serde(default)]
    pub edge: bool,
    /// How the requests in flight are limited: `bbr`, `gradient` or `off`. `bbr`.
    #[serde(default)]
    pub admission: AdmissionSettings,
    /// What counts for each operation: for `*`, `package.Service` or `/package.Service/Method`.
    #[serde(default)]
    pub policies: BTreeMap<String, ServerPolicySettings>,
    /// The most bytes of a message. 4 MiB.
    #[serde(default = "four_mebibytes")]
    pub max_body: ByteSize,
    /// The most connections. 10 000.
    #[serde(default = "ten_thousand")]
    pub max_connections: usize,
    /// When a connection is asked to end, give or take 10 %. 30 min.
    #[serde(default = "half_an_hour", with = "duration")]
    pub max_connection_age: Duration,
}

const fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

const fn half_an_hour() -> Duration {
    Duration::from_secs(1800)
}

const fn four_mebibytes() -> ByteSize {
    ByteSize::mib(4)
}

const fn ten_thousand() -> usize {
    10_000
}

impl ServerSettings {
    /// As the server takes them.
    ///
    /// # Errors
    /// If the address is none, or a policy makes no sense.
    pub fn options(&self) -> Result<ServerOptions> {
        let mut options = ServerOptions::at(&self.listen)?;
        options.admission = self.admission.algorithm();
        options.policies = policy::server(&self.policies)?;
        options.advertise.clone_from(&self.advertise);
        options.tls = self.tls.as_ref().map(|tls| Tls {
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
            client_ca: tls.client_ca.clone(),
        });
        options.unary_timeout = Some(self.unary_timeout);
        options.stream_timeout = self.stream_timeout;
        options.edge = self.edge;
        options.limits = Limits {
            body_bytes: usize::try_from(self.max_body.as_u64()).unwrap_or(usize::MAX),
            max_connections: self.max_connections,
            max_age: self.max_connection_age,
            ..Limits::default()
        };
        Ok(options)
    }
}

/// A certificate in PEM files.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key's file.
    pub key: PathBuf,
    /// Authorities whose certificates clients must show.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

/// A listener for operators.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AdminSettings {
    /// `IP:PORT`: loopback, unless something keeps strangers away.
    pub listen: String,
}

/// The registry: Bowline's, or another one whose adapter is built in by a feature of this crate.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrySettings {
    /// Its nodes: `http://HOST:PORT`, `static:///A:1,B:2` or `dns:///NAME:PORT` for Bowline's. With the feature of the
    /// same name, also `consul://HOST:PORT`, `etcd://HOST:PORT`, `eureka://HOST:PORT`, `kubernetes://NAMESPACE`,
    /// `nacos://HOST:PORT` and `zookeeper://HOST:PORT`; docs/registries.md has their forms.
    pub target: String,
    /// Which namespace to register and look in.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// What Bowline's own registry asks for, where it asks for a token. Others have their own in the target.
    #[serde(default)]
    pub token: Option<Secret>,
    /// Where to keep what was last known of services, to start from while the registry is down.
    #[serde(default)]
    pub snapshots: Option<PathBuf>,
    /// Whether an instance leases a small number of its own and tells it in its metadata, so that subsets of it are even.
    /// Bowline's own registry only. False.
    #[serde(default)]
    pub slot: bool,
}

pub(crate) fn default_namespace() -> String {
    "default".into()
}

/// Calls to other services.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientSettings {
    /// Time to connect. 1 s.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// The time a call gets whose context has no deadline. 30 s.
    #[serde(with = "duration")]
    pub default_timeout: Duration,
    /// Which instances get requests.
    pub balance: BalanceSettings,
    /// What counts for each operation that is called: for `*`, `package.Service` or `/package.Service/Method`.
    pub policies: BTreeMap<String, ClientPolicySettings>,
    /// What is other for some targets, such as `discovery:///catalog`: what is left out there is as above.
    pub targets: BTreeMap<String, TargetSettings>,
}

/// What is other for one target.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TargetSettings {
    /// Which instances get requests, field by field over those of all targets.
    pub balance: BalanceSettings,
}

impl Default for ClientSettings {
    fn default() -> Self {
        let ChannelOptions { connect_timeout, default_timeout, .. } = ChannelOptions::default();
        let (balance, policies, targets) = Default::default();
        Self { connect_timeout, default_timeout, balance, policies, targets }
    }
}

impl ClientSettings {
    /// As a channel to `target` takes them. Whether they make sense is [`ClientSettings::check`]'s to say.
    pub fn options(&self, target: &str) -> ChannelOptions {
        let is_meant = |(named, _): &(&String, _)| *named == target || is_same(named, target);
        let own = self.targets.iter().find(is_meant).map(|(_, own)| own.balance.clone());
        ChannelOptions {
            connect_timeout: self.connect_timeout,
            default_timeout: self.default_timeout,
            balance: own.unwrap_or_default().over(self.balance.clone()).balance(),
            policies: policy::client(&self.policies).unwrap_or_default().into(),
            ..ChannelOptions::default()
        }
    }

    /// Whether they make sense.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, naming the key, the cause and the mend.
    pub fn check(&self) -> Result<()> {
        self.balance.balance().check().context("the settings `client`")?;
        policy::client(&self.policies)?;
        for target in self.targets.keys() {
            let named = || format!("the settings `client.targets.{target}`");
            target.parse::<Target>().with_context(named)?;
            self.options(target).balance.check().with_context(named)?;
        }
        Ok(())
    }
}

/// Whether two texts name the same target.
fn is_same(one: &str, other: &str) -> bool {
    let parsed = |text: &str| text.parse::<Target>().ok();
    parsed(one).is_some_and(|target| parsed(other) == Some(target))
}

#[cfg(test)]
mod tests {
    use bowline_client::{PickerKind, Zones};
    use bowline_config::Loader;

    use super::*;

    fn settings(yaml: &str) -> Result<ClientSettings> {
        Loader::new().text("test.yaml", yaml)?.load()
    }

    const YAML: &str = "
connect_timeout: 2s
balance:
  picker: least_request
  zones: { local: a }
  ejection: { base: 1m, percentage: 20 }
  canary: { tenant: canary, percent: 5 }
targets:
  discovery:///catalog:
    balance:
      picker: { consistent_hash: { key: x-md-global-user } }
      ejection: { base: 10s }
      canary: { percent: 0 }
  discovery:///orders:
    balance: { ejection: { enabled: false }, probes: { enabled: false }, strict: true, subset: 40 }
";

    #[test]
    fn what_a_target_leaves_out_is_as_it_is_for_all() {
        let settings = settings(YAML).unwrap();
        settings.check().unwrap();
        let other = settings.options("discovery:///other").balance;
        assert_eq!(other.picker, PickerKind::LeastRequest);
        assert_eq!(other.zones, Zones { local: "a".into(), ..Zones::default() });
        assert_eq!(other.canary.as_ref().map(|canary| canary.percent), Some(5.0));

        let catalog = settings.options("discovery:///catalog");
        assert_eq!(catalog.connect_timeout, Duration::from_secs(2));
        assert_eq!(catalog.balance.picker, PickerKind::ConsistentHash { key: "x-md-global-user".into() });
        let ejection = catalog.balance.ejection.unwrap();
        assert_eq!((ejection.base, ejection.percentage), (Duration::from_secs(10), 20));
        let canary = catalog.balance.canary.unwrap();
        assert_eq!((canary.tenant.as_str(), canary.percent), ("canary", 0.0));
        assert_eq!(catalog.balance.zones.local, "a");

        let orders = settings.options("discovery:///orders").balance;
        assert!(orders.ejection.is_none() && orders.probes.is_none() && orders.strict);
        assert_eq!(orders.subset, Some(40));
    }

    #[test]
    fn without_settings_channels_are_as_their_own_defaults_say() {
        let settings = settings("{}").unwrap();
        assert_eq!(settings.options("discovery:///catalog").balance, bowline_client::Balance::default());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key_and_the_mend() {
        let refused = |yaml: &str| match settings(yaml) {
            Err(error) => error.to_string(),
            Ok(settings) => settings.check().unwrap_err().to_string(),
        };
        for (yaml, told) in [
            ("balance: { subset: 3 }", "client`: balance.subset is 3, which makes no sense: use 20 or more"),
            (
                "targets: { 'discovery:///a': { balance: { canary: { percent: 5 } } } }",
                "client.targets.discovery:///a`: balance.canary.tenant is production itself",
            ),
            ("targets: { catalog: {} }", "use discovery:///catalog"),
            ("balance: { picker: fastest }", "least_request"),
            ("balance: { ejection: { bse: 10s } }", "base"),
            ("balance: { ejection: { base: 10 } }", "unit"),
            ("balance: { mirror: { tenant: Shadow } }", "not a tenant name"),
        ] {
            let error = refused(yaml);
            assert!(error.contains(told), "{yaml}: {error}");
        }
    }

    #[test]
    fn what_was_said_is_shown() {
        let shown = bowline_config::redacted(&settings(YAML).unwrap()).unwrap();
        let catalog = &shown["targets"]["discovery:///catalog"]["balance"];
        assert_eq!(catalog["ejection"]["base"], "10s");
        assert_eq!(shown["balance"]["picker"], "least_request");
    }
}
