//! How calls choose among instances, as settings say it.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_client::{
    ActiveProbes, Balance, Canary, Ejection, Mirroring, PickerKind, SlowStart, ZonePolicy, Zones,
};
use bowline_config::duration;
use bowline_core::Tenant;
use serde::{Deserialize, Serialize};

/// Settings all of which may be left out: those above come before those below.
macro_rules! partial {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<$type>,)*
        }

        impl Layer for $name {
            fn over(self, below: Self) -> Self {
                Self { $($field: Layer::over(self.$field, below.$field),)* }
            }
        }
    };
}

/// What lies over something else, field by field.
trait Layer {
    fn over(self, below: Self) -> Self;
}

/// What is replaced as a whole.
macro_rules! whole {
    ($($type:ty),*) => {
        $(impl Layer for $type {
            fn over(self, _: Self) -> Self {
                self
            }
        })*
    };
}

whole!(bool, u32, usize, f64, String, Duration, Tenant, PickerSettings, PolicySettings, BTreeMap<String, f64>);

impl<T: Layer> Layer for Option<T> {
    fn over(self, below: Self) -> Self {
        match (self, below) {
            (Some(above), Some(below)) => Some(above.over(below)),
            (above, below) => above.or(below),
        }
    }
}

partial! {
    /// How calls choose among the instances of a service; what is left out is as the defaults of [`Balance`] say.
    ///
    /// ```yaml
    /// client:
    ///   balance:
    ///     ejection: { base: 1m }
    ///   targets:
    ///     discovery:///catalog:
    ///       balance: { picker: { consistent_hash: { key: x-md-global-user } }, subset: 40 }
    /// ```
    BalanceSettings {
        /// Who gets a request: `p2c` (the default), `least_request`, `weighted_round_robin`, `weighted_random`, or
        /// `consistent_hash` with the metadata `key` whose value is hashed.
        picker: PickerSettings,
        /// How many instances of each cluster to connect to, 20 or more. All.
        subset: usize,
        /// How zones share the traffic.
        zones: ZoneSettings,
        /// What each cluster of a zone gets against the others. By their size.
        clusters: BTreeMap<String, f64>,
        /// How new instances begin.
        slow_start: SlowStartSettings,
        /// Who is taken out for its failures.
        ejection: EjectionSettings,
        /// Who is asked whether it is there.
        probes: ProbeSettings,
        /// Whether a tenant's requests fail rather than go to the base. False.
        strict: bool,
        /// Which requests of production become another tenant's. None.
        canary: CanarySettings,
        /// Which requests of production are sent once more to a shadow. None.
        mirror: MirrorSettings,
    }
}

partial! {
    /// Zones, as Envoy shares traffic among them.
    ZoneSettings {
        /// The caller's own zone: where the application is (`BOWLINE_ZONE`).
        local: String,
        /// `local_first` (the default), or `everywhere`.
        policy: PolicySettings,
        /// How many callers there are in each zone. As many in each.
        callers: BTreeMap<String, f64>,
        /// With fewer instances zones are not looked at. 6.
        at_least: usize,
    }
}

partial! {
    /// How the weight of a new instance grows.
    SlowStartSettings {
        /// How long it takes; 0 turns it off. 30 s.
        #[serde(with = "duration::option")]
        window: Duration,
        /// What it begins with, as a part of its weight. 0.1.
        minimum: f64,
        /// 1 grows in a straight line, more faster at first. 1.
        aggression: f64,
    }
}

partial! {
    /// Who is taken out for its failures, and for how long.
    EjectionSettings {
        /// Whether anybody is. True.
        enabled: bool,
        /// Failures in a row. 5; 0 turns the rule off.
        consecutive: u32,
        /// Gateway errors in a row. 5; 0 turns the rule off.
        consecutive_gateway: u32,
        /// How often rates are looked at. 10 s.
        #[serde(with = "duration::option")]
        interval: Duration,
        /// How long the first ejection is; the n-th is n times as long. 30 s.
        #[serde(with = "duration::option")]
        base: Duration,
        /// The longest one. 5 min.
        #[serde(with = "duration::option")]
        longest: Duration,
        /// How many of 100 instances may be out, one in any case. 10.
        percentage: u32,
        /// How far below the mean a rate of success is too low, in standard deviations. 1.9.
        deviations: f64,
        /// From how many requests an interval on a rate counts. 100.
        rate_requests: u32,
        /// In how many instances there must be as many. 5.
        rate_hosts: usize,
        /// Which percentage of failures is too much by itself. 85.
        failure_percentage: u32,
        /// From how many requests an interval on that counts. 50.
        failure_requests: u32,
    }
}

partial! {
    /// Who is asked whether it is there: those of a list that the registry no longer confirms.
    ProbeSettings {
        /// Whether anybody is. True.
        enabled: bool,
        /// How long an instance was not heard from before it is asked. 10 s.
        #[serde(with = "duration::option")]
        quiet: Duration,
        /// How many are asked at the same time. 4.
        at_once: usize,
    }
}

partial! {
    /// A part of production's requests for a new version.
    CanarySettings {
        /// Under which tenant the new version is registered.
        tenant: Tenant,
        /// How many of 100 requests. 0.
        percent: f64,
        /// The metadata key whose values are divided; without it each request on its own.
        key: String,
    }
}

partial! {
    /// Copies of production's requests for a shadow.
    MirrorSettings {
        /// Under which tenant the shadow is registered.
        tenant: Tenant,
        /// How many of 100 requests. 0: nothing is copied.
        percent: f64,
        /// The most copies a second. 10.
        per_second: f64,
        /// How long a copy may take. 1 s.
        #[serde(with = "duration::option")]
        timeout: Duration,
        /// How many are under way at the same time. 64.
        at_once: usize,
    }
}

/// See [`PickerKind`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PickerSettings {
    /// The better of two by chance.
    P2c,
    /// The less busy of two by chance.
    LeastRequest,
    /// One after the other.
    WeightedRoundRobin,
    /// By chance.
    WeightedRandom,
    /// The same key to the same instance.
    ConsistentHash {
        /// The metadata key whose value is hashed.
        key: String,
    },
}

/// See [`ZonePolicy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicySettings {
    /// The own zone first.
    LocalFirst,
    /// All alike.
    Everywhere,
}

impl BalanceSettings {
    /// These over others: what is left out here is as it is there, field by field.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Layer::over(self, below)
    }

    /// As a channel takes them. Whether they make sense is [`Balance::check`]'s to say.
    pub fn balance(&self) -> Balance {
        let defaults = Balance::default();
        let zones = self.zones.clone().unwrap_or_default();
        Balance {
            picker: self.picker.clone().map(Into::into).unwrap_or_default(),
            subset: self.subset,
            zones: zones.zones(),
            clusters: self.clusters.clone().unwrap_or_default(),
            slow_start: self.slow_start.clone().unwrap_or_default().slow_start(),
            ejection: self.ejection.clone().unwrap_or_default().ejection(),
            probes: self.probes.clone().unwrap_or_default().probes(),
            strict: self.strict.unwrap_or(defaults.strict),
            canary: self.canary.as_ref().map(CanarySettings::canary),
            mirror: self.mirror.as_ref().and_then(MirrorSettings::mirror),
            client: defaults.client,
        }
    }
}

impl From<PickerSettings> for PickerKind {
    fn from(picker: PickerSettings) -> Self {
        match picker {
            PickerSettings::P2c => Self::P2c,
            PickerSettings::LeastRequest => Self::LeastRequest,
            PickerSettings::WeightedRoundRobin => Self::WeightedRoundRobin,
            PickerSettings::WeightedRandom => Self::WeightedRandom,
            PickerSettings::ConsistentHash { key } => Self::ConsistentHash { key },
        }
    }
}

impl ZoneSettings {
    fn zones(self) -> Zones {
        let defaults = Zones::default();
        Zones {
            local: self.local.unwrap_or(defaults.local),
            callers: self.callers.unwrap_or(defaults.callers),
            policy: match self.policy {
                None => defaults.policy,
                Some(PolicySettings::LocalFirst) => ZonePolicy::LocalFirst,
                Some(PolicySettings::Everywhere) => ZonePolicy::Everywhere,
            },
            at_least: self.at_least.unwrap_or(defaults.at_least),
        }
    }
}

impl SlowStartSettings {
    fn slow_start(self) -> SlowStart {
        let defaults = SlowStart::default();
        SlowStart {
            window: self.window.unwrap_or(defaults.window),
            minimum: self.minimum.unwrap_or(defaults.minimum),
            aggression: self.aggression.unwrap_or(defaults.aggression),
        }
    }
}

impl EjectionSettings {
    fn ejection(self) -> Option<Ejection> {
        let defaults = Ejection::default();
        self.enabled.unwrap_or(true).then(|| Ejection {
            consecutive: self.consecutive.unwrap_or(defaults.consecutive),
            consecutive_gateway: self.consecutive_gateway.unwrap_or(defaults.consecutive_gateway),
            interval: self.interval.unwrap_or(defaults.interval),
            base: self.base.unwrap_or(defaults.base),
            longest: self.longest.unwrap_or(defaults.longest),
            percentage: self.percentage.unwrap_or(defaults.percentage),
            deviations: self.deviations.unwrap_or(defaults.deviations),
            rate_requests: self.rate_requests.unwrap_or(defaults.rate_requests),
            rate_hosts: self.rate_hosts.unwrap_or(defaults.rate_hosts),
            failure_percentage: self.failure_percentage.unwrap_or(defaults.failure_percentage),
            failure_requests: self.failure_requests.unwrap_or(defaults.failure_requests),
        })
    }
}

impl ProbeSettings {
    fn probes(self) -> Option<ActiveProbes> {
        let defaults = ActiveProbes::default();
        self.enabled.unwrap_or(true).then(|| ActiveProbes {
            quiet: self.quiet.unwrap_or(defaults.quiet),
            at_once: self.at_once.unwrap_or(defaults.at_once),
        })
    }
}

impl CanarySettings {
    fn canary(&self) -> Canary {
        Canary {
            // Without a name it is production, which the check refuses by name.
            tenant: self.tenant.clone().unwrap_or_default(),
            percent: self.percent.unwrap_or(0.0),
            key: self.key.clone(),
        }
    }
}

impl MirrorSettings {
    /// `None` where nothing is copied.
    fn mirror(&self) -> Option<Mirroring> {
        let percent = self.percent.filter(|percent| *percent != 0.0)?;
        let tenant = self.tenant.clone().unwrap_or_default();
        let defaults = Mirroring::new(tenant, percent, self.per_second.unwrap_or(10.0));
        Some(Mirroring {
            timeout: self.timeout.unwrap_or(defaults.timeout),
            at_once: self.at_once.unwrap_or(defaults.at_once),
            ..defaults
        })
    }
}
