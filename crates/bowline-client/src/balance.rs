//! How a channel chooses among instances.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_balance::{
    ActiveProbes, Ask, Canary, Candidate, ConsistentHash, Ejection, Field, IndexOptions, LEAST, LeastRequest,
    P2c, Picker, SlowStart, Subsetting, WeightedRandom, WeightedRoundRobin, Zones, hash_of,
};

use bowline_core::{Context, Error, GLOBAL_PREFIX, InstanceId, LOCAL_PREFIX, Result, Rng, SystemRng, Tenant};

/// Who of those that may take a request gets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PickerKind {
    /// Of two by chance the one that is expected to answer sooner: [`P2c`].
    #[default]
    P2c,
    /// Of two by chance the one with fewer requests in flight: [`LeastRequest`].
    LeastRequest,
    /// One after the other: [`WeightedRoundRobin`].
    WeightedRoundRobin,
    /// By chance: [`WeightedRandom`].
    WeightedRandom,
    /// The same key to the same instance, unless that has more than its share: [`ConsistentHash`].
    ConsistentHash {
        /// The metadata key whose value is hashed, such as `x-md-global-user`. What was set for the call comes before
        /// what came in with the request. A request without it goes anywhere.
        key: String,
    },
}

impl PickerKind {
    /// What the request is about, where that decides who gets it.
    pub(crate) fn key(&self, cx: &Context) -> Option<u64> {
        let Self::ConsistentHash { key } = self else { return None };
        cx.outgoing().get(key).or_else(|| cx.metadata().get(key)).map(hash_of)
    }
}

impl Picker for PickerKind {
    fn pick<C: Candidate>(&self, field: &Field<'_, C>, ask: &Ask<'_>) -> Option<usize> {
        match self {
            Self::P2c => P2c.pick(field, ask),
            Self::LeastRequest => LeastRequest.pick(field, ask),
            Self::WeightedRoundRobin => WeightedRoundRobin.pick(field, ask),
            Self::WeightedRandom => WeightedRandom.pick(field, ask),
            Self::ConsistentHash { .. } => ConsistentHash::default().pick(field, ask),
        }
    }
}

/// How a channel chooses among the instances of its service. What the parts do is said by `bowline-balance`.
///
/// The defaults: a tenant's requests go to its own instances, else to the base's; production's to nobody but the base;
/// of two by chance the better one gets a request; who fails is ejected for a time; new instances warm up; those
/// of a list that nobody confirms any more are asked whether they are there.
///
/// ```
/// use bowline_client::{Balance, ChannelOptions, PickerKind};
///
/// let balance = Balance { picker: PickerKind::LeastRequest, ..Balance::default() };
/// let options = ChannelOptions { balance, ..ChannelOptions::default() };
/// assert!(options.balance.check().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Balance {
    /// Who gets a request. [`PickerKind::P2c`].
    pub picker: PickerKind,
    /// How many instances of each cluster to connect to, [`LEAST`] (20) at least; all without it. The others are
    /// connected to only while less than half of these can be used.
    pub subset: Option<usize>,
    /// This client's own name, by which its subset is chosen while it has no slot
    /// ([`ChannelBuilder::slot`](crate::ChannelBuilder::slot)): the application's instance id. Random if empty.
    pub client: String,
    /// The caller's own zone, and how much of the traffic stays there. Without a zone of its own all are alike.
    pub zones: Zones,
    /// What each cluster of a zone gets against the others; by their size where none is named.
    pub clusters: BTreeMap<String, f64>,
    /// How new instances begin. Over 30 s, from a tenth of their weight.
    pub slow_start: SlowStart,
    /// Who is taken out for a time because of its failures; nobody without it.
    pub ejection: Option<Ejection>,
    /// Which instances are asked, over gRPC's health service, whether they are there; none without it. HTTP/1.1 has no
    /// such question that every server knows: with it nobody is asked.
    pub probes: Option<ActiveProbes>,
    /// A tenant's request is served by its own instances or fails with `TENANT_UNROUTABLE`; it does not go to the
    /// base. Off.
    pub strict: bool,
    /// Which requests of production become those of the canary's tenant. They go to the base where the canary has no
    /// instance, in strict channels too: nobody asked for them to be another's. None.
    pub canary: Option<Canary>,
    /// Which requests of production are sent once more to a shadow. None.
    pub mirror: Option<Mirroring>,
}

impl Default for Balance {
    fn default() -> Self {
        Self {
            picker: PickerKind::default(),
            subset: None,
            client: String::new(),
            zones: Zones::default(),
            clusters: BTreeMap::new(),
            slow_start: SlowStart::default(),
            ejection: Some(Ejection::default()),
            probes: Some(ActiveProbes::default()),
            strict: false,
            canary: None,
            mirror: None,
        }
    }
}

/// Copies of requests of production for a shadow system, whose answers nobody waits for.
///
/// Only requests whose body is in memory are copied. A copy is marked with the shadow's tenant and goes to that tenant's
/// own instances alone: without any, nothing is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirroring {
    /// Whose the copies are.
    pub tenant: Tenant,
    /// How many of 100 requests are copied.
    pub percent: f64,
    /// The most copies a second, with a burst of one second's.
    pub per_second: f64,
    /// How long a copy may take. 1 s: a shadow that is slow must not hold memory.
    pub timeout: Duration,
    /// How many copies are under way at the same time; what comes beyond is not copied. 64.
    pub at_once: usize,
}

impl Mirroring {
    /// Copies to `tenant`, with the defaults for how long and how many at a time.
    pub fn new(tenant: Tenant, percent: f64, per_second: f64) -> Self {
        Self { tenant, percent, per_second, timeout: Duration::from_secs(1), at_once: 64 }
    }
}

impl Balance {
    /// Whether the values make sense.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`; the message names the field below `balance`, the cause and the mend.
    pub fn check(&self) -> Result<()> {
        if let PickerKind::ConsistentHash { key } = &self.picker {
            is_metadata("picker.consistent_hash.key", key)?;
        }
        if let Some(size) = self.subset {
            let mend = format!("use {LEAST} or more, or leave it out to connect to all");
            require(size >= LEAST, "subset", &size, &mend)?;
        }
        for (cluster, weight) in &self.clusters {
            let is_weight = weight.is_finite() && *weight >= 0.0;
            require(is_weight, &format!("clusters.{cluster}"), weight, "use a number from 0 on")?;
        }
        for (zone, callers) in &self.zones.callers {
            let is_count = callers.is_finite() && *callers >= 0.0;
            require(is_count, &format!("zones.callers.{zone}"), callers, "use a number from 0 on")?;
        }
        let SlowStart { minimum, aggression, .. } = self.slow_start;
        require((0.0..=1.0).contains(&minimum), "slow_start.minimum", &minimum, "use a number from 0 to 1")?;
        let is_above_0 = aggression.is_finite() && aggression > 0.0;
        require(is_above_0, "slow_start.aggression", &aggression, "use a number above 0")?;
        self.ejection.as_ref().map_or(Ok(()), check_ejection)?;
        if let Some(probes) = &self.probes {
            require(
                probes.at_once > 0,
                "probes.at_once",
                &probes.at_once,
                "use 1 or more, or turn them off",
            )?;
            require(!probes.quiet.is_zero(), "probes.quiet", &"0s", "use 1ms or more")?;
        }
        if let Some(canary) = &self.canary {
            is_tenant("canary.tenant", &canary.tenant)?;
            is_percentage("canary.percent", canary.percent)?;
            canary.key.as_ref().map_or(Ok(()), |key| is_metadata("canary.key", key))?;
        }
        if let Some(mirror) = &self.mirror {
            is_tenant("mirror.tenant", &mirror.tenant)?;
            is_percentage("mirror.percent", mirror.percent)?;
            let rate = mirror.per_second;
            require(rate.is_finite() && rate > 0.0, "mirror.per_second", &rate, "use a number above 0")?;
            require(mirror.at_once > 0, "mirror.at_once", &mirror.at_once, "use 1 or more")?;
            require(!mirror.timeout.is_zero(), "mirror.timeout", &"0s", "use 1ms or more")?;
        }
        Ok(())
    }

    /// As the index takes them; `slot` is this client's number, if it has one.
    pub(crate) fn index(&self, slot: Option<u32>) -> IndexOptions {
        let subset = match (self.subset, slot) {
            (None, _) => Subsetting::Everyone,
            (Some(size), Some(client)) => Subsetting::Slots { client, size },
            (Some(size), None) => Subsetting::Scores { client: self.client.clone(), size },
        };
        IndexOptions {
            subset,
            zones: self.zones.clone(),
            clusters: self.clusters.clone(),
            slow_start: self.slow_start,
            seed: SystemRng.next_u64(),
        }
    }

    /// With a name for the client, if it has none.
    pub(crate) fn named(mut self) -> Self {
        if self.client.is_empty() {
            self.client = InstanceId::generate("client", &SystemRng).to_string();
        }
        self
    }
}

fn check_ejection(ejection: &Ejection) -> Result<()> {
    require(!ejection.interval.is_zero(), "ejection.interval", &"0s", "use 1ms or more")?;
    require(!ejection.base.is_zero(), "ejection.base", &"0s", "use 1ms or more")?;
    let deviations = ejection.deviations;
    let is_distance = deviations.is_finite() && deviations >= 0.0;
    require(is_distance, "ejection.deviations", &deviations, "use a number from 0 on")?;
    is_percentage("ejection.percentage", f64::from(ejection.percentage))?;
    is_percentage("ejection.failure_percentage", f64::from(ejection.failure_percentage))
}

fn require(holds: bool, key: &str, value: &dyn std::fmt::Display, mend: &str) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::invalid_argument(format!("balance.{key} is {value}, which makes no sense: {mend}")))
}

fn is_percentage(key: &str, value: f64) -> Result<()> {
    require((0.0..=100.0).contains(&value), key, &value, "use a number from 0 to 100")
}

fn is_tenant(key: &str, tenant: &Tenant) -> Result<()> {
    require(!tenant.is_base(), key, &"production itself", "name another tenant")
}

fn is_metadata(key: &str, name: &str) -> Result<()> {
    let mend = format!("use a metadata key, which begins with {GLOBAL_PREFIX} or {LOCAL_PREFIX}");
    require(
        name.starts_with(GLOBAL_PREFIX) || name.starts_with(LOCAL_PREFIX),
        key,
        &format!("`{name}`"),
        &mend,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense() {
        Balance::default().check().unwrap();
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name_with_the_mend() {
        type Change = fn(&mut Balance);
        let cases: [(Change, &str); 12] = [
            (|b| b.subset = Some(5), "balance.subset is 5"),
            (
                |b| b.picker = PickerKind::ConsistentHash { key: "user".into() },
                "picker.consistent_hash.key is `user`",
            ),
            (|b| b.clusters = [("a".into(), -1.0)].into(), "balance.clusters.a is -1"),
            (|b| b.zones.callers = [("a".into(), f64::NAN)].into(), "balance.zones.callers.a is NaN"),
            (|b| b.slow_start.minimum = 2.0, "balance.slow_start.minimum is 2"),
            (|b| b.slow_start.aggression = 0.0, "balance.slow_start.aggression is 0"),
            (
                |b| b.ejection = Some(Ejection { percentage: 101, ..Ejection::default() }),
                "ejection.percentage is 101",
            ),
            (
                |b| b.ejection = Some(Ejection { interval: Duration::ZERO, ..Ejection::default() }),
                "ejection.interval is 0s",
            ),
            (
                |b| b.probes = Some(ActiveProbes { at_once: 0, ..ActiveProbes::default() }),
                "probes.at_once is 0",
            ),
            (
                |b| b.canary = Some(Canary { tenant: Tenant::base(), percent: 1.0, key: None }),
                "canary.tenant is production itself",
            ),
            (
                |b| b.mirror = Some(Mirroring::new(Tenant::new("s").unwrap(), 101.0, 1.0)),
                "mirror.percent is 101",
            ),
            (
                |b| b.mirror = Some(Mirroring::new(Tenant::new("s").unwrap(), 1.0, 0.0)),
                "mirror.per_second is 0",
            ),
        ];
        for (change, told) in cases {
            let mut balance = Balance::default();
            change(&mut balance);
            let error = balance.check().unwrap_err();
            assert!(error.message().contains(told), "{error}");
            assert!(error.message().contains(": use") || error.message().contains(": name"), "{error}");
        }
    }
}
