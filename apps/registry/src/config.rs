//! What a node allows and how patient it is.

use std::time::Duration;

use bowline_core::{Error, Result};
use bowline_registry_bowline::names::is_label;
use serde::{Deserialize, Serialize};

use crate::{AccessConfig, DiskConfig};

/// Settings of a [`Node`](crate::Node). Every one has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Who may do what.
    pub access: AccessConfig,
    /// How much a node takes on.
    pub limits: Limits,
    /// The lease of who asks for none in particular. 30 s, renewed every 10 s: the lease of bilibili discovery and Eureka
    /// is 90 s for renewals every 30 s; a third of that costs little with streams.
    #[serde(with = "bowline_config::duration")]
    pub default_ttl: Duration,
    /// The shortest lease. 1 s.
    #[serde(with = "bowline_config::duration")]
    pub min_ttl: Duration,
    /// The longest lease. 10 min.
    #[serde(with = "bowline_config::duration")]
    pub max_ttl: Duration,
    /// How often a watcher that has no news gets a sign of life. 10 s.
    #[serde(with = "bowline_config::duration")]
    pub heartbeat: Duration,
    /// How long a watcher is left alone after it was told something, so that changes that follow closely go out together.
    /// 50 ms.
    #[serde(with = "bowline_config::duration")]
    pub coalesce: Duration,
    /// The same in a storm of changes, 2 000 and more in a second; in between it grows with them. 500 ms.
    #[serde(with = "bowline_config::duration")]
    pub coalesce_in_storm: Duration,
    /// How long a watcher may take for a whole list while others wait for theirs. 10 s.
    #[serde(with = "bowline_config::duration")]
    pub snapshot_patience: Duration,
    /// The longest wait of a long poll. 60 s.
    #[serde(with = "bowline_config::duration")]
    pub max_wait: Duration,
    /// How long after its start a node says that not everybody may have come back. 30 s, a lease.
    #[serde(with = "bowline_config::duration")]
    pub settle: Duration,
    /// How long it is known why a service that has no instances any more has none. 10 min.
    #[serde(with = "bowline_config::duration")]
    pub forget_after: Duration,
    /// How long nodes may be apart without losing anything of each other. For this long the instances of a lost node are
    /// kept as they are, so that who lives can register with another one; what is gone is remembered for the longest lease
    /// and this time. 5 min.
    #[serde(with = "bowline_config::duration")]
    pub partition_window: Duration,
    /// How long a node may be out of sight and find remembered what went meanwhile: for this long the others keep that, as
    /// long as some node is out of sight, and after their own start, when they do not know who is. 24 h.
    #[serde(with = "bowline_config::duration")]
    pub keep_for_absent: Duration,
    /// Of a hundred instances of a service in a zone, how many have to renew in time; while there are fewer, none of them
    /// is removed for being late. One may always be late. 85, as in Eureka; 0 removes whoever is late.
    pub protection_threshold: u8,
    /// How long an override is kept for an instance that is gone. 1 h, as in Eureka.
    #[serde(with = "bowline_config::duration")]
    pub keep_overrides: Duration,
    /// Where to write down what the node knows, for a start at which no other node can tell; nowhere without.
    pub disk: Option<DiskConfig>,
    /// The environment that Eureka's clients, whose protocol knows none, see and register in. Empty for `default`.
    pub eureka_env: String,
    /// The environment that Nacos' clients, whose protocol knows none, see and register in. Empty for `default`.
    pub nacos_env: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            access: AccessConfig::default(),
            limits: Limits::default(),
            default_ttl: Duration::from_secs(30),
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(600),
            heartbeat: Duration::from_secs(10),
            coalesce: Duration::from_millis(50),
            coalesce_in_storm: Duration::from_millis(500),
            snapshot_patience: Duration::from_secs(10),
            max_wait: Duration::from_secs(60),
            settle: Duration::from_secs(30),
            forget_after: Duration::from_secs(600),
            partition_window: Duration::from_secs(300),
            keep_for_absent: Duration::from_secs(24 * 3600),
            protection_threshold: 85,
            keep_overrides: Duration::from_secs(3600),
            disk: None,
            eureka_env: String::new(),
            nacos_env: String::new(),
        }
    }
}

/// How much a node takes on. What is beyond is refused with an error that names the limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// Services, of all namespaces and environments together. 10 000.
    pub services: usize,
    /// Instances of one service, and slots of one group. 20 000.
    pub instances_per_service: usize,
    /// Instances of all services together. 200 000.
    pub instances: usize,
    /// Groups of slots, of all namespaces and environments together. 10 000; they count to no other limit.
    pub slot_groups: usize,
    /// Slots of all groups together. 200 000; they count to no other limit.
    pub slots: usize,
    /// Bytes of one instance, encoded. 32 KiB. Bowline's clients tell of none that has more than 1 MiB.
    pub instance_bytes: usize,
    /// Entries of an instance's metadata. 64.
    pub metadata_entries: usize,
    /// Endpoints of an instance. 16.
    pub endpoints: usize,
    /// Watch streams and long polls at a time. 20 000.
    pub watchers: usize,
    /// Services that one stream follows. 1 000.
    pub services_per_watch: usize,
    /// Bytes of whole lists on their way to watchers at a time; one list may be larger. 128 MiB.
    pub snapshot_bytes: usize,
    /// Leases that one message renews. 10 000.
    pub leases_per_renewal: usize,
    /// Changes of a service that are kept, so that who comes back later gets those and not the whole list. 1 024.
    pub changes_kept: usize,
    /// Instances with an override, those that are gone included. 20 000.
    pub overrides: usize,
    /// Instances that nodes check. 2 000: each costs a probe every 10 s.
    pub checks: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            services: 10_000,
            instances_per_service: 20_000,
            instances: 200_000,
            slot_groups: 10_000,
            slots: 200_000,
            instance_bytes: 32 * 1024,
            metadata_entries: 64,
            endpoints: 16,
            watchers: 20_000,
            services_per_watch: 1_000,
            snapshot_bytes: 128 * 1024 * 1024,
            leases_per_renewal: 10_000,
            changes_kept: 1_024,
            overrides: 20_000,
            checks: 2_000,
        }
    }
}

impl Config {
    /// How long it is known that something is gone.
    pub(crate) fn keep_removals(&self) -> Duration {
        self.max_ttl + self.partition_window
    }

    /// Checks that the settings go together.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the setting and the mend.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::invalid_argument(format!("the registry's settings: {what}")));
        if self.min_ttl.is_zero() {
            return wrong("`min_ttl` is 0; use 1s or more");
        }
        if !(self.min_ttl..=self.max_ttl).contains(&self.default_ttl) {
            return wrong("`default_ttl` is not between `min_ttl` and `max_ttl`");
        }
        if self.heartbeat.is_zero() {
            return wrong("`heartbeat` is 0; use 10s");
        }
        if self.protection_threshold > 100 {
            return wrong("`protection_threshold` is a percentage; use 0 to 100");
        }
        for (name, env) in [("eureka_env", &self.eureka_env), ("nacos_env", &self.nacos_env)] {
            if !is_label(env) {
                return wrong(&format!(
                    "`{name}` is no environment; use up to 63 of a-z, A-Z, 0-9, `-` and `_`"
                ));
            }
        }
        if let Some(disk) = &self.disk {
            disk.check()?;
        }
        let limits = &self.limits;
        for (name, limit) in [
            ("services", limits.services),
            ("instances_per_service", limits.instances_per_service),
            ("instances", limits.instances),
            ("instance_bytes", limits.instance_bytes),
            ("endpoints", limits.endpoints),
            ("watchers", limits.watchers),
            ("services_per_watch", limits.services_per_watch),
            ("snapshot_bytes", limits.snapshot_bytes),
            ("leases_per_renewal", limits.leases_per_renewal),
        ] {
            if limit == 0 {
                return wrong(&format!("`limits.{name}` is 0, so nothing would be accepted; use 1 or more"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_go_together_and_nonsense_is_refused_with_its_name() {
        Config::default().check().unwrap();
        let mut config = Config { default_ttl: Duration::from_secs(3600), ..Config::default() };
        assert!(config.check().unwrap_err().message().contains("`default_ttl`"));
        config = Config::default();
        config.limits.watchers = 0;
        assert!(config.check().unwrap_err().message().contains("`limits.watchers`"));
    }

    #[test]
    fn unknown_settings_are_refused_and_missing_ones_have_defaults() {
        let config: Config =
            serde_json::from_str(r#"{"default_ttl": "10s", "limits": {"watchers": 7}}"#).unwrap();
        assert_eq!((config.default_ttl, config.limits.watchers), (Duration::from_secs(10), 7));
        assert_eq!(config.heartbeat, Config::default().heartbeat);
        assert!(serde_json::from_str::<Config>(r#"{"default_tll": "10s"}"#).is_err());
    }
}
