//! What counts for an operation, in a configuration's words.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_config::duration;
use bowline_core::{Error, Result};
use bowline_resilience::{
    Algorithm, BbrOptions, BreakerOptions, BudgetOptions, BulkheadOptions, ClientPolicy, GradientOptions,
    HedgeOptions, Policies, Rate, RetryOptions, ServerPolicy, ThrottleOptions,
};
use serde::{Deserialize, Serialize};

/// How a server limits the requests in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AdmissionSettings {
    /// By what it does at its best, when the processor is busy or requests wait for it.
    #[default]
    Bbr,
    /// By how latency follows load, always: for what waits for a disk or a database.
    Gradient,
    /// Not at all.
    Off,
}

impl AdmissionSettings {
    pub(crate) fn algorithm(self) -> Option<Algorithm> {
        match self {
            Self::Bbr => Some(Algorithm::Bbr(BbrOptions::default())),
            Self::Gradient => Some(Algorithm::Gradient(GradientOptions::default())),
            Self::Off => None,
        }
    }
}

/// What a server does with an operation's requests. What is left out is said by the wider policy, and at last by the
/// defaults: the adaptive limit, and the server's `unary_timeout`.
///
/// ```yaml
/// server:
///   policies:
///     "*": { timeout: 2s }
///     shop.catalog.v1.CatalogService: { caller_rate: { per_second: 200 } }
///     /shop.catalog.v1.CatalogService/Import: { bulkhead: { concurrency: 2 }, timeout: 1m }
/// ```
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerPolicySettings {
    /// The most time a call gets.
    #[serde(with = "duration::option")]
    pub timeout: Option<Duration>,
    /// Whether the adaptive limit counts for it. True.
    pub admission: Option<bool>,
    /// How many a second there may be.
    pub rate: Option<RateSettings>,
    /// How many a second of each caller.
    pub caller_rate: Option<RateSettings>,
    /// How many a second of each tenant.
    pub tenant_rate: Option<RateSettings>,
    /// How many at a time.
    pub bulkhead: Option<BulkheadSettings>,
}

/// A rate.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RateSettings {
    /// Requests a second; less than one is possible.
    pub per_second: f64,
    /// How many may come at once. One second's.
    #[serde(default)]
    pub burst: Option<u32>,
}

/// A bulkhead.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BulkheadSettings {
    /// How many run at a time.
    pub concurrency: u32,
    /// How many wait. As many as run.
    #[serde(default)]
    pub queue: Option<usize>,
    /// How long one may wait. 100 ms; 5 ms once there is too much to do.
    #[serde(default, with = "duration::option")]
    pub patience: Option<Duration>,
}

/// What a client does when it calls an operation. What is left out is said by the wider policy, and at last by the
/// defaults: up to three attempts within a budget of a fifth, and the throttle.
///
/// ```yaml
/// client:
///   policies:
///     "*": { timeout: 1s }
///     /shop.catalog.v1.CatalogService/GetItem: { attempt_timeout: 200ms, hedge: {}, last_good: 10m }
/// ```
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientPolicySettings {
    /// The most time a call gets, all its attempts together.
    #[serde(with = "duration::option")]
    pub timeout: Option<Duration>,
    /// The most time an attempt gets of what may be done twice.
    #[serde(with = "duration::option")]
    pub attempt_timeout: Option<Duration>,
    /// Whether it may be done twice, where the proto's `idempotency_level` does not say so.
    pub idempotent: Option<bool>,
    /// How it is sent again.
    pub retry: Option<RetrySettings>,
    /// How much may be sent again.
    pub budget: Option<BudgetSettings>,
    /// How the client holds back from a server that refuses.
    pub throttle: Option<ThrottleSettings>,
    /// When an operation that fails is left alone. Not at all, unless it is named.
    pub breaker: Option<BreakerSettings>,
    /// When it is sent a second time before the first is answered. Not at all, unless it is named.
    pub hedge: Option<HedgeSettings>,
    /// How old the last good answer may be that is given where there is no new one. None is given, unless this is named.
    #[serde(with = "duration::option")]
    pub last_good: Option<Duration>,
    /// Whether the same reads at the same time are one. False.
    pub singleflight: Option<bool>,
}

/// Retries.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrySettings {
    /// How often at most, the first time included: 3. 1 turns them off.
    pub attempts: u32,
    /// The longest wait before the second attempt: 25 ms; twice as long before each further one.
    #[serde(with = "duration")]
    pub backoff: Duration,
    /// The longest wait of all: 250 ms.
    #[serde(with = "duration")]
    pub longest: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        let RetryOptions { attempts, backoff, longest, .. } = RetryOptions::default();
        Self { attempts, backoff, longest }
    }
}

/// A budget for retries.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetSettings {
    /// A part of the requests: 0.2.
    pub ratio: f64,
    /// But so many a second at least: 1.
    pub per_second: f64,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        let BudgetOptions { ratio, per_second, .. } = BudgetOptions::default();
        Self { ratio, per_second }
    }
}

/// The throttle.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThrottleSettings {
    /// How many requests are sent for each that is accepted: 2. 0 turns it off.
    pub k: f64,
    /// How long the past is: 10 s.
    #[serde(with = "duration")]
    pub window: Duration,
}

impl Default for ThrottleSettings {
    fn default() -> Self {
        let ThrottleOptions { k, window, .. } = ThrottleOptions::default();
        Self { k, window }
    }
}

/// A breaker.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerSettings {
    /// Which part of the requests must fail: 0.5.
    pub failures: f64,
    /// Of at least so many: 20.
    pub least: u64,
    /// In the last: 10 s.
    #[serde(with = "duration")]
    pub window: Duration,
    /// How long it stays open at first: 5 s.
    #[serde(with = "duration")]
    pub open: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        let BreakerOptions { failures, least, window, open, .. } = BreakerOptions::default();
        Self { failures, least, window, open }
    }
}

/// A hedge.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HedgeSettings {
    /// After as long as such a part of the answers took: 0.95.
    pub quantile: f64,
    /// How many there may be, as a part of the requests: 0.01.
    pub budget: f64,
}

impl Default for HedgeSettings {
    fn default() -> Self {
        let HedgeOptions { quantile, budget, .. } = HedgeOptions::default();
        Self { quantile, budget: budget.ratio }
    }
}

/// Fails with the key's whole name and what it takes.
fn check(fine: bool, place: &str, key: &str, takes: &str) -> Result<()> {
    if fine { Ok(()) } else { Err(Error::invalid_argument(format!("`{place}.{key}` takes {takes}"))) }
}

fn check_time(time: Option<Duration>, place: &str, key: &str) -> Result<()> {
    check(time.is_none_or(|time| !time.is_zero()), place, key, "a time above 0")
}

impl RateSettings {
    fn rate(&self, place: &str, key: &str) -> Result<Rate> {
        let fine = self.per_second.is_finite() && self.per_second > 0.0;
        check(fine, place, &format!("{key}.per_second"), "a number above 0")?;
        check(self.burst != Some(0), place, &format!("{key}.burst"), "a number above 0")?;
        let rate = Rate::per_second(self.per_second);
        Ok(Rate { burst: self.burst.unwrap_or(rate.burst), ..rate })
    }
}

impl BulkheadSettings {
    fn options(&self, place: &str) -> Result<BulkheadOptions> {
        check(self.concurrency > 0, place, "bulkhead.concurrency", "a number above 0")?;
        let options = BulkheadOptions::new(self.concurrency);
        let interval = self.patience.unwrap_or(options.interval);
        Ok(BulkheadOptions {
            queue: self.queue.unwrap_or(options.queue),
            interval,
            target: options.target.min(interval),
            ..options
        })
    }
}

impl ServerPolicySettings {
    fn policy(&self, place: &str) -> Result<ServerPolicy> {
        check_time(self.timeout, place, "timeout")?;
        let rate = |of: &Option<RateSettings>, key| of.as_ref().map(|of| of.rate(place, key)).transpose();
        Ok(ServerPolicy {
            timeout: self.timeout,
            admission: self.admission,
            rate: rate(&self.rate, "rate")?,
            caller_rate: rate(&self.caller_rate, "caller_rate")?,
            tenant_rate: rate(&self.tenant_rate, "tenant_rate")?,
            bulkhead: self.bulkhead.as_ref().map(|bulkhead| bulkhead.options(place)).transpose()?,
        })
    }
}

impl ClientPolicySettings {
    fn policy(&self, place: &str) -> Result<ClientPolicy> {
        check_time(self.timeout, place, "timeout")?;
        check_time(self.attempt_timeout, place, "attempt_timeout")?;
        Ok(ClientPolicy {
            timeout: self.timeout,
            attempt_timeout: self.attempt_timeout,
            idempotent: self.idempotent,
            retry: self.retry.as_ref().map(|retry| retry.options(place)).transpose()?,
            budget: self.budget.as_ref().map(|budget| budget.options(place)).transpose()?,
            throttle: self.throttle.as_ref().map(|throttle| throttle.options(place)).transpose()?,
            breaker: self.breaker.as_ref().map(|breaker| breaker.options(place)).transpose()?,
            hedge: self.hedge.as_ref().map(|hedge| hedge.options(place)).transpose()?,
            last_good: self.last_good,
            singleflight: self.singleflight,
        })
    }
}

impl RetrySettings {
    fn options(&self, place: &str) -> Result<RetryOptions> {
        let Self { attempts, backoff, longest } = *self;
        check((1..=10).contains(&attempts), place, "retry.attempts", "1 to 10; 1 turns retries off")?;
        Ok(RetryOptions { attempts, backoff, longest: longest.max(backoff), ..RetryOptions::default() })
    }
}

impl BudgetSettings {
    fn options(&self, place: &str) -> Result<BudgetOptions> {
        let Self { ratio, per_second } = *self;
        check((0.0..=1.0).contains(&ratio), place, "budget.ratio", "a part from 0 to 1")?;
        let fine = per_second.is_finite() && per_second >= 0.0;
        check(fine, place, "budget.per_second", "a number of 0 or more")?;
        Ok(BudgetOptions { ratio, per_second, ..BudgetOptions::default() })
    }
}

impl ThrottleSettings {
    fn options(&self, place: &str) -> Result<ThrottleOptions> {
        let Self { k, window } = *self;
        let fine = k.is_finite() && (k == 0.0 || k >= 1.0);
        check(fine, place, "throttle.k", "a number of 1 or more; 0 turns it off")?;
        check_time(Some(window), place, "throttle.window")?;
        Ok(ThrottleOptions { k, window, ..ThrottleOptions::default() })
    }
}

impl BreakerSettings {
    fn options(&self, place: &str) -> Result<BreakerOptions> {
        let Self { failures, least, window, open } = *self;
        let fine = failures > 0.0 && failures <= 1.0;
        check(fine, place, "breaker.failures", "a part above 0, up to 1")?;
        check_time(Some(window), place, "breaker.window")?;
        check_time(Some(open), place, "breaker.open")?;
        let longest = BreakerOptions::default().longest.max(open);
        Ok(BreakerOptions { failures, least, window, open, longest })
    }
}

impl HedgeSettings {
    fn options(&self, place: &str) -> Result<HedgeOptions> {
        let Self { quantile, budget } = *self;
        check(quantile > 0.0 && quantile < 1.0, place, "hedge.quantile", "a part between 0 and 1")?;
        check((0.0..=1.0).contains(&budget), place, "hedge.budget", "a part from 0 to 1")?;
        let budget = BudgetOptions { ratio: budget, ..BudgetOptions::HEDGES };
        Ok(HedgeOptions { quantile, budget, ..HedgeOptions::default() })
    }
}

/// All policies of a server.
pub(crate) fn server(settings: &BTreeMap<String, ServerPolicySettings>) -> Result<Policies<ServerPolicy>> {
    let entries: Result<Vec<_>> = settings
        .iter()
        .map(|(key, one)| Ok((key.clone(), one.policy(&format!("server.policies.{key}"))?)))
        .collect();
    Policies::new(entries?).map_err(|error| error.context("server.policies"))
}

/// All policies of a client.
pub(crate) fn client(settings: &BTreeMap<String, ClientPolicySettings>) -> Result<Policies<ClientPolicy>> {
    let entries: Result<Vec<_>> = settings
        .iter()
        .map(|(key, one)| {
            let place = format!("client.policies.{key}");
            let takes = "nothing here: a budget is one for all operations of a target, under `*`";
            check(key == "*" || one.budget.is_none(), &place, "budget", takes)?;
            Ok((key.clone(), one.policy(&place)?))
        })
        .collect();
    Policies::new(entries?).map_err(|error| error.context("client.policies"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: serde::de::DeserializeOwned>(json: &str) -> T {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_named_gets_the_defaults_of_what_is_left_out() {
        let settings = read(
            r#"{ "*": { "timeout": "2s" }, "/a.B/C": { "hedge": {}, "breaker": { "least": 5 }, "retry": { "attempts": 1 } } }"#,
        );
        let policies = client(&settings).unwrap();
        let operation = bowline_core::Operation::new("a.B", "C", bowline_core::MethodKind::Unary);
        let policy = policies.of(&operation);
        assert_eq!(policy.timeout, Some(Duration::from_secs(2)));
        assert_eq!(policy.hedge, Some(HedgeOptions::default()));
        assert_eq!(policy.breaker, Some(BreakerOptions { least: 5, ..BreakerOptions::default() }));
        assert_eq!(policy.retry, Some(RetryOptions { attempts: 1, ..RetryOptions::default() }));
        assert_eq!(policy.throttle, None);

        let settings =
            read(r#"{ "a.B": { "rate": { "per_second": 0.5 }, "bulkhead": { "concurrency": 3 } } }"#);
        let policy = server(&settings).unwrap().of(&operation);
        assert_eq!(policy.rate, Some(Rate { per_second: 0.5, burst: 1 }));
        assert_eq!(policy.bulkhead, Some(BulkheadOptions::new(3)));
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_place() {
        for (json, named) in [
            (r#"{ "*": { "rate": { "per_second": 0 } } }"#, "`server.policies.*.rate.per_second` takes"),
            (
                r#"{ "a.B": { "bulkhead": { "concurrency": 0 } } }"#,
                "`server.policies.a.B.bulkhead.concurrency`",
            ),
            (r#"{ "*": { "timeout": "0ms" } }"#, "`server.policies.*.timeout` takes a time above 0"),
            (r#"{ "a.B/C": {} }"#, "/package.Service/Method"),
        ] {
            let error = server(&read(json)).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        for (json, named) in [
            (
                r#"{ "*": { "retry": { "attempts": 0 } } }"#,
                "`client.policies.*.retry.attempts` takes 1 to 10",
            ),
            (r#"{ "*": { "throttle": { "k": 0.5 } } }"#, "`client.policies.*.throttle.k`"),
            (r#"{ "*": { "hedge": { "quantile": 95 } } }"#, "`client.policies.*.hedge.quantile`"),
            (r#"{ "*": { "budget": { "ratio": 20 } } }"#, "`client.policies.*.budget.ratio`"),
            (r#"{ "a.B": { "budget": {} } }"#, "under `*`"),
        ] {
            let error = client(&read(json)).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        assert!(serde_json::from_str::<ClientPolicySettings>(r#"{ "retries": 3 }"#).is_err());
    }
}
