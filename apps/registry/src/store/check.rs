//! What is done to find out whether an instance is well that cannot say so itself.

use std::time::Duration;

use bowline_core::{Endpoint, Result, Scheme};
use bowline_registry_bowline::api::bowline::registry::v1::health_check::Probe as ProbeWire;
use bowline_registry_bowline::api::bowline::registry::v1::{Instance, registry_error};
use http::uri::PathAndQuery;

use crate::wire::duration;

/// From one probe to the next, at least and at most.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));
/// As Consul's and Nacos' checks, about.
const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(2);
/// The longest: a probe that waits keeps one of a node's places for others.
const MOST_TIMEOUT: Duration = Duration::from_secs(10);
/// Failures in a row that count.
const FAILURES: u32 = 3;

/// A check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is done.
    pub probe: Probe,
    /// Whom it is done to.
    pub endpoint: Endpoint,
    /// From one probe to the next.
    pub interval: Duration,
    /// How long a probe may take.
    pub timeout: Duration,
    /// After how many failures in a row it is unhealthy.
    pub unhealthy_after: u32,
    /// After how many successes in a row it is healthy.
    pub healthy_after: u32,
    /// How long it may be unhealthy before it is removed.
    pub remove_after: Option<Duration>,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A GET of this path.
    Http(PathAndQuery),
    /// A connection.
    Tcp,
    /// The gRPC health protocol, about this service.
    Grpc(String),
}

impl Check {
    /// The check of an instance, if it has one.
    ///
    /// # Errors
    /// `INVALID_INSTANCE` with what is wrong with it.
    pub fn of(instance: &Instance) -> Result<Option<Self>> {
        let check = Self::read(instance)?;
        let most = check.as_ref().map(|check| check.interval.min(MOST_TIMEOUT));
        match (check, most) {
            (Some(Self { timeout, .. }), Some(most)) if timeout > most => {
                Err(registry_error::invalid_instance().with_message(format!(
                    "the check of instance `{}` has a timeout of {timeout:?}; use one up to {most:?}: the interval, and no \
                     more than {MOST_TIMEOUT:?}",
                    instance.id
                )))
            }
            (check, _) => Ok(check),
        }
    }

    /// As [`Check::of`], of an instance that another node took, or an earlier version: with the longest timeout there is, if
    /// it has a longer one.
    ///
    /// # Errors
    /// As [`Check::of`].
    pub fn told(instance: &Instance) -> Result<Option<Self>> {
        let bounded = |check: Self| {
            let timeout = check.timeout.min(check.interval).min(MOST_TIMEOUT);
            Self { timeout, ..check }
        };
        Ok(Self::read(instance)?.map(bounded))
    }

    fn read(instance: &Instance) -> Result<Option<Self>> {
        let Some(sent) = instance.check.as_option() else { return Ok(None) };
        let wrong = |what: &str| {
            registry_error::invalid_instance()
                .with_message(format!("the check of instance `{}` {what}", instance.id))
        };
        let endpoint = instance.endpoints.get(sent.endpoint as usize).ok_or_else(|| {
            wrong("names an endpoint that the instance does not have; count from 0, or leave it out for the first")
        })?;
        let endpoint: Endpoint = endpoint.parse()?;
        let probe = match &sent.probe {
            None => return Err(wrong("has no probe; use `http`, `tcp` or `grpc`")),
            Some(ProbeWire::Tcp(_)) => Probe::Tcp,
            Some(ProbeWire::Grpc(grpc)) => Probe::Grpc(grpc.service.clone()),
            Some(ProbeWire::Http(http)) => {
                let path = if http.path.is_empty() { "/" } else { &http.path };
                let path = path.parse().ok().filter(|_| path.starts_with('/'));
                Probe::Http(path.ok_or_else(|| wrong("has a `path` that is none; begin it with `/`"))?)
            }
        };
        match (endpoint.scheme(), &probe) {
            (Scheme::Http, _) | (Scheme::Https, Probe::Tcp) => {}
            (Scheme::Https, _) => {
                return Err(wrong("needs an endpoint without TLS; use `tcp`, or another endpoint"));
            }
            _ => return Err(wrong("needs an endpoint with a host and a port")),
        }
        let interval = duration(sent.interval.as_option(), "check.interval")?.unwrap_or(INTERVAL);
        if interval < INTERVALS.0 || interval > INTERVALS.1 {
            return Err(wrong(&format!(
                "has an interval of {interval:?}; use {:?} to {:?}",
                INTERVALS.0, INTERVALS.1
            )));
        }
        let timeout = duration(sent.timeout.as_option(), "check.timeout")?.unwrap_or(TIMEOUT.min(interval));
        if timeout.is_zero() {
            return Err(wrong("has a timeout of 0; leave it out for 2s"));
        }
        let or = |given: u32, default: u32| if given == 0 { default } else { given };
        Ok(Some(Self {
            probe,
            endpoint,
            interval,
            timeout,
            unhealthy_after: or(sent.unhealthy_after, FAILURES),
            healthy_after: or(sent.healthy_after, 1),
            remove_after: duration(sent.remove_after.as_option(), "check.remove_after")?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_registry_bowline::api::bowline::registry::v1::{GrpcProbe, HealthCheck, HttpProbe, TcpProbe};

    fn of(
        probe: Option<ProbeWire>,
        endpoint: &str,
        change: impl Fn(&mut HealthCheck),
    ) -> Result<Option<Check>> {
        let mut check = HealthCheck { probe, ..Default::default() };
        change(&mut check);
        let endpoints = vec![endpoint.to_owned()];
        Check::of(&Instance { id: "a".into(), endpoints, check: check.into(), ..Default::default() })
    }

    #[test]
    fn what_is_left_out_has_its_default_and_nonsense_is_refused_with_its_mend() {
        let tcp = || Some(ProbeWire::from(TcpProbe::default()));
        let http = |path: &str| Some(ProbeWire::from(HttpProbe { path: path.into(), ..Default::default() }));
        let grpc = || Some(ProbeWire::from(GrpcProbe::default()));
        let check = of(tcp(), "https://10.0.0.1:443", |_| ()).unwrap().unwrap();
        assert_eq!((check.interval, check.timeout, check.unhealthy_after), (INTERVAL, TIMEOUT, FAILURES));
        assert_eq!(
            of(http(""), "http://a:1", |_| ()).unwrap().unwrap().probe,
            Probe::Http("/".parse().unwrap())
        );
        let seconds = |s: u64| Some(Duration::from_secs(s).into()).into();
        let refused = [
            (of(None, "http://a:1", |_| ()), "has no probe"),
            (of(tcp(), "http://a:1", |c| c.endpoint = 1), "count from 0"),
            (of(tcp(), "unix:/tmp/a", |_| ()), "a host and a port"),
            (of(http("x"), "http://a:1", |_| ()), "begin it with `/`"),
            (of(grpc(), "https://a:1", |_| ()), "without TLS"),
            (of(tcp(), "http://a:1", |c| c.interval = seconds(0)), "use 1s to 600s"),
            (of(tcp(), "http://a:1", |c| c.timeout = seconds(0)), "leave it out"),
            (of(tcp(), "http://a:1", |c| c.timeout = seconds(11)), "up to 10s"),
            (
                of(tcp(), "http://a:1", |c| (c.interval, c.timeout) = (seconds(600), seconds(11))),
                "no more than 10s",
            ),
            (of(tcp(), "http://a:1", |c| (c.interval, c.timeout) = (seconds(1), seconds(2))), "up to 1s"),
        ];
        for (refused, why) in refused {
            let error = refused.unwrap_err();
            assert!(
                registry_error::is_invalid_instance(&error) && error.message().contains(why),
                "{why}: {error}"
            );
        }
        assert_eq!(Check::of(&Instance::default()).unwrap(), None);
        // What is there already is checked all the same.
        let check =
            HealthCheck { probe: tcp(), interval: seconds(600), timeout: seconds(600), ..Default::default() };
        let endpoints = vec!["http://a:1".to_owned()];
        let old = Instance { endpoints, check: check.into(), ..Default::default() };
        assert_eq!(Check::told(&old).unwrap().unwrap().timeout, MOST_TIMEOUT);
    }
}
