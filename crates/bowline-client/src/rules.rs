//! What counts for each operation, and what is known of it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bowline_core::{
    Code, Context, Criticality, Error, Idempotency, Instant, MethodKind, Operation, Result, SystemRng,
};
use bowline_resilience::{
    Breaker, Budget, BudgetOptions, ClientPolicy, Hedge, Open, Policies, RetryOptions, Throttle,
    ThrottleOptions, Throttled, Trial, carry_over, reason,
};
use bowline_rpc::headers::IDEMPOTENCY_KEY;
use bowline_telemetry::{CallMetrics, Metrics, OperationMetrics, OperationRejections, Rejections, Side};
use http::{Method, Request};

use crate::ClientPolicies;

/// How long a call that the throttle held back is to wait: in that time a tenth of what the throttle knows is new.
const THROTTLED_FOR: Duration = Duration::from_secs(1);

/// The operations of one target, found by their paths.
pub(crate) struct Operations {
    calls: CallMetrics,
    rejections: Rejections,
    policies: ClientPolicies,
    known: RwLock<Known>,
}

struct Known {
    /// Of which change of the policies this is.
    change: u64,
    policies: Policies<ClientPolicy>,
    /// How much may be sent again, to the target as a whole.
    budget: Arc<Budget>,
    operations: HashMap<String, Arc<Rules>>,
}

/// One operation.
pub(crate) struct Rules {
    pub(crate) metrics: Arc<OperationMetrics>,
    pub(crate) rejections: Arc<OperationRejections>,
    policy: ClientPolicy,
    pub(crate) retry: RetryOptions,
    pub(crate) hedge: Option<Arc<Hedge>>,
    pub(crate) budget: Arc<Budget>,
    throttle: Arc<Throttle>,
    breaker: Option<Arc<Breaker>>,
    /// By the policy, or by the proto.
    idempotent: bool,
    /// By the proto.
    can_repeat: bool,
    /// By the proto: it changes nothing.
    reads: bool,
}

impl Operations {
    pub(crate) fn new(calls: CallMetrics, rejections: Option<Rejections>, policies: ClientPolicies) -> Self {
        let (change, current) = (policies.changes(), policies.current());
        let budget = budget_of(&current);
        let known = RwLock::new(Known { change, policies: current, budget, operations: HashMap::new() });
        let rejections = rejections.unwrap_or_else(|| Rejections::new(&Metrics::new(), Side::Client));
        Self { calls, rejections, policies, known }
    }

    pub(crate) fn of(&self, operation: &Operation) -> Arc<Rules> {
        let change = self.policies.changes();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(rules) = known.operations.get(operation.path()).filter(|_| known.change == change) {
            return Arc::clone(rules);
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.change != change {
            known.take(change, self.policies.current());
        }
        let Known { policies, operations, budget, .. } = &mut *known;
        let new = || Arc::new(self.rules(operation, policies.of(operation), budget));
        Arc::clone(operations.entry(operation.path().to_owned()).or_insert_with(new))
    }

    fn rules(&self, operation: &Operation, policy: ClientPolicy, budget: &Arc<Budget>) -> Rules {
        let nothing = Rules {
            metrics: self.calls.operation(operation),
            rejections: self.rejections.operation(operation),
            retry: RetryOptions::default(),
            hedge: None,
            budget: Arc::clone(budget),
            throttle: Arc::new(Throttle::new(ThrottleOptions::default(), Instant::now())),
            breaker: None,
            idempotent: false,
            can_repeat: operation.idempotency().can_repeat(),
            reads: operation.idempotency() == Idempotency::NoSideEffects,
            policy: ClientPolicy::default(),
        };
        nothing.by(policy, budget)
    }
}

/// The budget is one for all operations of a target, so that what is for all counts.
fn budget_options(policies: &Policies<ClientPolicy>) -> BudgetOptions {
    policies.of(&Operation::new("", "", MethodKind::Unary)).budget.unwrap_or_default()
}

fn budget_of(policies: &Policies<ClientPolicy>) -> Arc<Budget> {
    Arc::new(Budget::new(budget_options(policies), Instant::now()))
}

impl Known {
    /// Takes other policies. What they leave as it was keeps what is known of it.
    fn take(&mut self, change: u64, policies: Policies<ClientPolicy>) {
        if budget_options(&policies) != budget_options(&self.policies) {
            self.budget = budget_of(&policies);
        }
        for (path, rules) in &mut self.operations {
            let names = path.trim_start_matches('/').split_once('/');
            let (service, method) = names.unwrap_or((path, ""));
            let policy = policies.of(&Operation::new(service, method, MethodKind::Unary));
            *rules = Arc::new(rules.by(policy, &self.budget));
        }
        (self.change, self.policies) = (change, policies);
    }
}

impl Rules {
    /// The same operation by another policy. What that says the same of stays as it is.
    fn by(&self, policy: ClientPolicy, budget: &Arc<Budget>) -> Self {
        let (now, before) = (Instant::now(), &self.policy);
        let throttle = policy.throttle.unwrap_or_default();
        let is_same_throttle = throttle == before.throttle.unwrap_or_default();
        Self {
            metrics: Arc::clone(&self.metrics),
            rejections: Arc::clone(&self.rejections),
            retry: policy.retry.unwrap_or_default(),
            hedge: carry_over(policy.hedge, Some((&before.hedge, &self.hedge)), |options| {
                Arc::new(Hedge::new(options, now))
            }),
            budget: Arc::clone(budget),
            throttle: match is_same_throttle {
                true => Arc::clone(&self.throttle),
                false => Arc::new(Throttle::new(throttle, now)),
            },
            breaker: carry_over(policy.breaker, Some((&before.breaker, &self.breaker)), |options| {
                Breaker::new(options, now)
            }),
            idempotent: policy.idempotent.unwrap_or(self.can_repeat),
            can_repeat: self.can_repeat,
            reads: self.reads,
            policy,
        }
    }

    /// The most time that all attempts get together.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.policy.timeout
    }

    /// The most time that one attempt gets.
    pub(crate) fn attempt_timeout(&self) -> Option<Duration> {
        self.policy.attempt_timeout
    }

    /// How old the last good answer may be that stands in for one.
    pub(crate) fn last_good(&self) -> Option<Duration> {
        self.policy.last_good.filter(|age| !age.is_zero())
    }

    /// Whether the same requests at the same time are one.
    pub(crate) fn is_shared(&self) -> bool {
        self.policy.singleflight == Some(true)
    }

    /// Whether a request may be done twice: by the policy or the proto, by HTTP (RFC 9110, 9.2.2), or because it has a key
    /// by which the server tells repetitions. The policy's no is final.
    pub(crate) fn is_idempotent<B>(&self, request: &Request<B>) -> bool {
        if self.idempotent {
            return true;
        }
        let by_method = [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS];
        self.policy.idempotent != Some(false)
            && (by_method.contains(request.method()) || request.headers().contains_key(&IDEMPOTENCY_KEY))
    }

    /// Whether a request changes nothing, so that its answer may be another one's, or an earlier one.
    pub(crate) fn is_read<B>(&self, request: &Request<B>) -> bool {
        self.reads || [Method::GET, Method::HEAD].contains(request.method())
    }

    /// Asks whether a request is to be sent at all.
    ///
    /// # Errors
    /// `CIRCUIT_OPEN` if it would fail, most likely.
    pub(crate) fn ask<'a>(
        &'a self,
        cx: &'a Context,
        fair: Duration,
        criticality: Criticality,
    ) -> Result<Sent<'a>> {
        let now = Instant::now();
        let refused = |after| {
            self.rejections.count(reason::CIRCUIT_OPEN, criticality);
            // Whoever called us asked once, and is not to ask again on its own.
            reason::circuit_open(after).without_retry()
        };
        let trial = match &self.breaker {
            None => None,
            Some(breaker) => Some(breaker.ask(now).map_err(|Open { remaining }| refused(remaining))?),
        };
        let held = self.throttle.ask(criticality, now, &SystemRng);
        held.map_err(|Throttled| refused(THROTTLED_FOR))?;
        Ok(Sent { rules: self, cx, fair, criticality, trial, begun: now, open: true })
    }
}

/// A request on its way, for the throttle and the breaker. Dropped without a word its caller went away, which says nothing;
/// unless its time was over.
pub(crate) struct Sent<'a> {
    rules: &'a Rules,
    cx: &'a Context,
    fair: Duration,
    criticality: Criticality,
    trial: Option<Trial>,
    begun: Instant,
    open: bool,
}

/// A server that did not answer in less than this is not to blame: a caller may give what time it likes, and all callers
/// share what is known of an operation. Where it is a policy that gives less, that is what counts.
pub(crate) const FAIR: Duration = Duration::from_millis(100);

impl Sent<'_> {
    /// It ended with this code; `None` is success.
    pub(crate) fn ended(mut self, code: Option<Code>) {
        self.note(code);
    }

    /// It was not sent after all: there was nobody to send it to.
    pub(crate) fn was_not(mut self) {
        (self.open, self.trial) = (false, None);
        self.rules.throttle.accepted(self.criticality, Instant::now());
    }

    fn note(&mut self, code: Option<Code>) {
        self.open = false;
        let now = Instant::now();
        let code = match code {
            Some(Code::DeadlineExceeded) if self.begun.elapsed() < self.fair => Some(Code::Canceled),
            code => code,
        };
        let refused =
            matches!(code, Some(Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded));
        let failed = refused || matches!(code, Some(Code::Internal | Code::Unknown | Code::DataLoss));
        match refused {
            true => self.rules.throttle.refused(self.criticality, now),
            false => self.rules.throttle.accepted(self.criticality, now),
        }
        match self.trial.take() {
            // It says nothing of the operation.
            Some(trial) if code == Some(Code::Canceled) => drop(trial),
            Some(trial) if failed => trial.failed(now),
            Some(trial) => trial.succeeded(now),
            None => {}
        }
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if self.open {
            let code = self.cx.error().map_or(Code::Canceled, |error: Error| error.code());
            self.note(Some(code));
        }
    }
}
