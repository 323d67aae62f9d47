//! What counts for an operation.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_core::{Error, Operation, Result};

use crate::{
    BreakerOptions, BudgetOptions, BulkheadOptions, HedgeOptions, Rate, RetryOptions, ThrottleOptions,
};

/// A policy of which parts may be left open.
pub trait Layer: Clone + Default {
    /// What is left open here is taken from `below`.
    #[must_use]
    fn over(self, below: &Self) -> Self;
}

/// Policies by operation. What one leaves open, the wider one says: a method's stands over its service's, and that over the
/// one for all (`*`).
///
/// ```
/// use std::time::Duration;
/// use bowline_core::{MethodKind, Operation};
/// use bowline_resilience::{Policies, ServerPolicy};
///
/// let timeout = |ms| ServerPolicy { timeout: Some(Duration::from_millis(ms)), ..ServerPolicy::default() };
/// let policies = Policies::new([
///     ("*".to_owned(), timeout(900)),
///     ("shop.v1.Catalog".to_owned(), timeout(500)),
///     ("/shop.v1.Catalog/GetItem".to_owned(), timeout(100)),
/// ])?;
/// let of = |method| policies.of(&Operation::new("shop.v1.Catalog", method, MethodKind::Unary)).timeout;
/// assert_eq!(of("GetItem"), Some(Duration::from_millis(100)));
/// assert_eq!(of("ListItems"), Some(Duration::from_millis(500)));
/// # Ok::<(), bowline_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies<P> {
    all: P,
    services: BTreeMap<Box<str>, P>,
    methods: BTreeMap<Box<str>, P>,
}

impl<P: Layer> Policies<P> {
    /// By what they are for: `*`, `package.Service` or `/package.Service/Method`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a key that is none of these.
    pub fn new(entries: impl IntoIterator<Item = (String, P)>) -> Result<Self> {
        let mut policies = Self::default();
        for (key, policy) in entries {
            let parts: Vec<&str> = key.split('/').collect();
            match parts.as_slice() {
                ["*"] => policies.all = policy,
                [service] if !service.is_empty() => {
                    policies.services.insert(key.into(), policy);
                }
                ["", service, method] if !service.is_empty() && !method.is_empty() => {
                    policies.methods.insert(key.into(), policy);
                }
                _ => {
                    return Err(Error::invalid_argument(format!(
                        "`{key}` names no operation: write *, package.Service or /package.Service/Method"
                    )));
                }
            }
        }
        Ok(policies)
    }

    /// The policy of an operation.
    pub fn of(&self, operation: &Operation) -> P {
        let own = self.methods.get(operation.path()).cloned().unwrap_or_default();
        let service = self.services.get(operation.service()).cloned().unwrap_or_default();
        own.over(&service).over(&self.all)
    }

    /// What the policies name: services and paths of methods, for telling those that are not there.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.services.keys().chain(self.methods.keys()).map(|name| &**name)
    }
}

/// What a server does with an operation's requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerPolicy {
    /// The most time a call gets.
    pub timeout: Option<Duration>,
    /// Whether it is subject to the adaptive limit. True, if nothing else is said.
    pub admission: Option<bool>,
    /// How many a second there may be of the operation.
    pub rate: Option<Rate>,
    /// How many a second of each caller.
    pub caller_rate: Option<Rate>,
    /// How many a second of each tenant.
    pub tenant_rate: Option<Rate>,
    /// How many at a time.
    pub bulkhead: Option<BulkheadOptions>,
}

impl Layer for ServerPolicy {
    fn over(self, below: &Self) -> Self {
        Self {
            timeout: self.timeout.or(below.timeout),
            admission: self.admission.or(below.admission),
            rate: self.rate.or(below.rate),
            caller_rate: self.caller_rate.or(below.caller_rate),
            tenant_rate: self.tenant_rate.or(below.tenant_rate),
            bulkhead: self.bulkhead.or(below.bulkhead),
        }
    }
}

/// What a client does when it calls an operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientPolicy {
    /// The most time a call gets, all its attempts together.
    pub timeout: Option<Duration>,
    /// The most time an attempt gets of something that may be done twice.
    pub attempt_timeout: Option<Duration>,
    /// Whether it may be done twice, where the proto does not say that it may.
    pub idempotent: Option<bool>,
    /// How it is sent again.
    pub retry: Option<RetryOptions>,
    /// How much may be sent again.
    pub budget: Option<BudgetOptions>,
    /// How the client holds back from a server that refuses.
    pub throttle: Option<ThrottleOptions>,
    /// When an operation that fails is left alone. Not at all, if nothing is said.
    pub breaker: Option<BreakerOptions>,
    /// When it is sent a second time before the first is answered. Not at all, if nothing is said.
    pub hedge: Option<HedgeOptions>,
    /// How old the last good answer to the same request may be that is given if there is no new one. None is given, if nothing is
    /// said or this is zero.
    pub last_good: Option<Duration>,
    /// Whether the same reads at the same time are one. False, if nothing is said.
    pub singleflight: Option<bool>,
}

impl Layer for ClientPolicy {
    fn over(self, below: &Self) -> Self {
        Self {
            timeout: self.timeout.or(below.timeout),
            attempt_timeout: self.attempt_timeout.or(below.attempt_timeout),
            idempotent: self.idempotent.or(below.idempotent),
            retry: self.retry.or(below.retry),
            budget: self.budget.or(below.budget),
            throttle: self.throttle.or(below.throttle),
            breaker: self.breaker.or(below.breaker),
            hedge: self.hedge.or(below.hedge),
            last_good: self.last_good.or(below.last_good),
            singleflight: self.singleflight.or(below.singleflight),
        }
    }
}

/// What a policy's part stands for goes on as it is, with all that it knows, where another policy says the same of it.
///
/// ```
/// use std::sync::Arc;
///
/// let known = Some(Arc::new("what has been learnt"));
/// let same = bowline_resilience::carry_over(Some(5), Some((&Some(5), &known)), |_| Arc::new("nothing"));
/// assert_eq!(same, known);
/// let other = bowline_resilience::carry_over(Some(6), Some((&Some(5), &known)), |_| Arc::new("nothing"));
/// assert_eq!(other, Some(Arc::new("nothing")));
/// ```
pub fn carry_over<O: PartialEq, P: Clone>(
    wanted: Option<O>,
    before: Option<(&Option<O>, &Option<P>)>,
    make: impl FnOnce(O) -> P,
) -> Option<P> {
    match before {
        Some((options, Some(part))) if *options == wanted => Some(part.clone()),
        _ => wanted.map(make),
    }
}

#[cfg(test)]
mod tests {
    use bowline_core::MethodKind;

    use super::*;

    #[test]
    fn what_is_left_open_comes_from_the_wider_policy() {
        let policies = Policies::new([
            ("*".to_owned(), ServerPolicy { admission: Some(false), ..ServerPolicy::default() }),
            (
                "a.B".to_owned(),
                ServerPolicy { timeout: Some(Duration::from_secs(1)), ..ServerPolicy::default() },
            ),
            ("/a.B/C".to_owned(), ServerPolicy { admission: Some(true), ..ServerPolicy::default() }),
        ])
        .unwrap();
        let of = |service, method| {
            let policy = policies.of(&Operation::new(service, method, MethodKind::Unary));
            (policy.timeout.map(|timeout| timeout.as_secs()), policy.admission)
        };
        assert_eq!(of("a.B", "C"), (Some(1), Some(true)));
        assert_eq!(of("a.B", "D"), (Some(1), Some(false)));
        assert_eq!(of("x.Y", "C"), (None, Some(false)));
        assert_eq!(policies.names().collect::<Vec<_>>(), ["a.B", "/a.B/C"]);
    }

    #[test]
    fn a_key_that_names_nothing_is_refused() {
        for key in ["", "/", "/a.B", "/a.B/", "//C", "a.B/C", "/a/b/c"] {
            let error = Policies::new([(key.to_owned(), ServerPolicy::default())]).unwrap_err();
            assert!(error.message().contains("/package.Service/Method"), "{key}");
        }
    }
}
