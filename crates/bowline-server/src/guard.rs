//! Who gets in: the adaptive limit, rates, bulkheads, timeouts, by the policy of each operation.
//!
//! This is decided from a request's head alone, before its context is made and before its body is read: what is refused
//! must cost next to nothing, for it comes when there is least to spare.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bowline_balance::hash_of;
use bowline_core::{Criticality, Error, Instant, MethodKind, Operation, Result};
use bowline_resilience::{
    Admission, Arrival, Bulkhead, KeyedBuckets, Limited, Permit, Policies, ServerPolicy, TokenBucket,
    carry_over,
};
use bowline_rpc::headers::{CALLER, CRITICALITY, TENANT};
use bowline_rpc::{Body, Protocol, Routes};
use bowline_telemetry::{Metrics, OperationRejections, Rejections, Side};
use http::{HeaderMap, Response};

use crate::PeerAddr;
use crate::refusal::{Answers, Refusal, Why};

/// Services that are asked how this one is. They are never shed: who is refused an answer takes it for dead.
const ABOUT_ITSELF: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// What guards all operations of a server.
pub(crate) struct Guards {
    admission: Option<Arc<Admission>>,
    rejections: Rejections,
    answers: Arc<Answers>,
    /// What counts where no policy says otherwise: for unary calls, and for streams.
    defaults: (Option<Duration>, Option<Duration>),
    operations: Vec<Operation>,
    /// Whether these are all operations there are, so that a policy for another one is a mistake.
    strict: bool,
    table: ArcSwap<Table>,
}

struct Table {
    policies: Policies<ServerPolicy>,
    routes: Vec<Arc<Guard>>,
    /// Of operations that a fallback answers: as many as it names.
    others: Mutex<HashMap<String, Arc<Guard>>>,
}

/// What guards one operation.
pub(crate) struct Guard {
    operation: Operation,
    policy: ServerPolicy,
    pub(crate) timeout: Option<Duration>,
    admission: Option<Arc<Admission>>,
    hash: u64,
    /// Whether its caller sends a stream. Then it is over with its first step, as far as the limit is concerned: how long one lasts
    /// says nothing of how busy the service is. All others count until the head of their answer.
    pub(crate) streams: bool,
    rate: Option<Arc<TokenBucket>>,
    callers: Option<Arc<KeyedBuckets>>,
    tenants: Option<Arc<KeyedBuckets>>,
    pub(crate) bulkhead: Option<Bulkhead>,
    rejections: Arc<OperationRejections>,
    answers: Arc<Answers>,
}

impl Guards {
    pub(crate) fn new(
        routes: &Routes,
        policies: Policies<ServerPolicy>,
        defaults: (Option<Duration>, Option<Duration>),
        admission: Option<Arc<Admission>>,
        strict: bool,
        metrics: &Metrics,
    ) -> Result<Self> {
        let operations: Vec<Operation> = routes.iter().map(|route| route.operation().clone()).collect();
        let rejections = Rejections::new(metrics, Side::Server);
        let table = Table { policies: Policies::default(), routes: Vec::new(), others: Mutex::default() };
        let table = ArcSwap::from_pointee(table);
        let answers = Arc::default();
        let this = Self { admission, rejections, answers, defaults, operations, strict, table };
        this.set(policies)?;
        Ok(this)
    }

    /// Takes other policies. What they leave as it was goes on with the tokens and places that it has.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if one names what is not there: it would protect nothing.
    pub(crate) fn set(&self, policies: Policies<ServerPolicy>) -> Result<()> {
        let is_there =
            |name: &str| self.operations.iter().any(|op| [op.service(), op.path()].contains(&name));
        if let Some(unknown) = policies.names().find(|name| self.strict && !is_there(name)) {
            let mounted: BTreeSet<&str> = self.operations.iter().map(Operation::service).collect();
            let mounted = mounted.into_iter().collect::<Vec<_>>().join(", ");
            return Err(Error::invalid_argument(format!(
                "a policy names {unknown}, which is not mounted; there are {mounted}"
            )));
        }
        let before = self.table.load();
        let now = Instant::now();
        let taken = |operation: &Operation, before: Option<&Arc<Guard>>| {
            Arc::new(self.guard(operation, policies.of(operation), before, now))
        };
        let routes = self.operations.iter().enumerate();
        let routes = routes.map(|(index, operation)| taken(operation, before.routes.get(index))).collect();
        let others = before.others.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let others = others.into_iter().map(|(path, guard)| (path, taken(&guard.operation, Some(&guard))));
        let others = Mutex::new(others.collect());
        self.table.store(Arc::new(Table { policies, routes, others }));
        Ok(())
    }

    /// What guards an operation by a policy, with what is known by the one `before`.
    fn guard(
        &self,
        operation: &Operation,
        policy: ServerPolicy,
        before: Option<&Arc<Guard>>,
        now: Instant,
    ) -> Guard {
        let streams = operation.kind() != MethodKind::Unary;
        let default = if streams { self.defaults.1 } else { self.defaults.0 };
        let about_itself = ABOUT_ITSELF.contains(&operation.service());
        let admitted = policy.admission.unwrap_or(true) && !about_itself;
        let keyed = |rate| Arc::new(KeyedBuckets::new(rate, KeyedBuckets::MOST, now));
        let bucket = |rate| Arc::new(TokenBucket::new(rate, now));
        let about = if about_itself { ServerPolicy::default() } else { policy.clone() };
        Guard {
            operation: operation.clone(),
            // How long a stream lasts is not said by what is for calls.
            timeout: if streams { default } else { policy.timeout.or(default) },
            admission: self.admission.clone().filter(|_| admitted),
            hash: hash_of(operation.path()),
            streams: operation.kind().client_streams() && self.operations.contains(operation),
            rate: carry_over(about.rate, before.map(|b| (&b.policy.rate, &b.rate)), bucket),
            callers: carry_over(
                about.caller_rate,
                before.map(|b| (&b.policy.caller_rate, &b.callers)),
                keyed,
            ),
            tenants: carry_over(
                about.tenant_rate,
                before.map(|b| (&b.policy.tenant_rate, &b.tenants)),
                keyed,
            ),
            bulkhead: carry_over(
                about.bulkhead,
                before.map(|b| (&b.policy.bulkhead, &b.bulkhead)),
                |options| Bulkhead::new(options, now),
            ),
            rejections: self.rejections.operation(operation),
            answers: Arc::clone(&self.answers),
            policy,
        }
    }

    /// What guards an operation: by its place among the routes, or by its name.
    pub(crate) fn of(&self, route: Option<usize>, operation: &Operation) -> Arc<Guard> {
        let table = self.table.load();
        if let Some(guard) = route.and_then(|route| table.routes.get(route)) {
            return Arc::clone(guard);
        }
        let mut others = table.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guard) = others.get(operation.path()) {
            return Arc::clone(guard);
        }
        let guard = Arc::new(self.guard(operation, table.policies.of(operation), None, Instant::now()));
        others.insert(operation.path().to_owned(), Arc::clone(&guard));
        guard
    }
}

impl Guard {
    /// Lets a request in, or says why not. Where there is a limit, the permit is to be kept until the call ends.
    pub(crate) fn admit(
        &self,
        headers: &HeaderMap,
        peer: &PeerAddr,
        now: Instant,
    ) -> Result<Option<Permit>, Refusal> {
        let permit = match &self.admission {
            None => None,
            Some(admission) => {
                let criticality = criticality(headers);
                let arrival =
                    Arrival { now, criticality, caller: caller_hash(headers, peer), operation: self.hash };
                let admitted = admission.admit(&arrival);
                Some(admitted.map_err(|_| self.refuse(Why::Overloaded, criticality))?)
            }
        };
        // Here nothing was done for it yet, nor taken from a rate. It may still find none when it comes to enter.
        if self.bulkhead.as_ref().is_some_and(|bulkhead| bulkhead.is_full(now)) {
            return Err(self.refuse(Why::NoPlace, criticality(headers)));
        }
        if self.rate.is_some() || self.callers.is_some() || self.tenants.is_some() {
            self.check_rates(headers, peer, now)?;
        }
        Ok(permit)
    }

    fn check_rates(&self, headers: &HeaderMap, peer: &PeerAddr, now: Instant) -> Result<(), Refusal> {
        let refused = |why| {
            move |Limited { retry_after }| {
                let refusal = Refusal::limited(why, retry_after);
                self.rejections.count(refusal.reason(), criticality(headers));
                refusal
            }
        };
        // The narrowest first: who is refused for itself takes nothing from the others, and who is refused for the others'
        // sake has spent nothing of its own.
        let back = |taken: &Option<Arc<TokenBucket>>| taken.iter().for_each(|bucket| bucket.give_back());
        let caller = match &self.callers {
            None => None,
            Some(callers) => {
                Some(callers.take(caller_hash(headers, peer), now).map_err(refused(Why::Caller))?)
            }
        };
        let tenant = match &self.tenants {
            None => None,
            Some(tenants) => {
                let tenant = headers.get(TENANT).and_then(|name| name.to_str().ok()).unwrap_or_default();
                let taken = tenants.take(hash_of(tenant), now).inspect_err(|_| back(&caller));
                Some(taken.map_err(refused(Why::Tenant))?)
            }
        };
        match &self.rate {
            None => Ok(()),
            Some(rate) => {
                let taken = rate.take(now).inspect_err(|_| [&caller, &tenant].into_iter().for_each(back));
                taken.map_err(refused(Why::Operation))
            }
        }
    }

    /// Turns a request away, and counts it.
    pub(crate) fn refuse(&self, why: Why, criticality: Criticality) -> Refusal {
        let refusal = Refusal::new(why);
        self.rejections.count(refusal.reason(), criticality);
        refusal
    }

    /// What who was turned away is told, by a request of `protocol` with these headers.
    pub(crate) fn answer(&self, refusal: Refusal, protocol: Protocol, headers: &HeaderMap) -> Response<Body> {
        self.answers.to(protocol, headers, refusal)
    }
}

/// How much a request says that it matters.
pub(crate) fn criticality(headers: &HeaderMap) -> Criticality {
    let named = headers.get(&CRITICALITY).and_then(|name| name.to_str().ok());
    named.and_then(Criticality::parse).unwrap_or_default()
}

/// Who calls: by its name, which our channels tell; else by its address, of IPv6 the network that one caller has.
fn caller_hash(headers: &HeaderMap, peer: &PeerAddr) -> u64 {
    match (headers.get(&CALLER).and_then(|name| name.to_str().ok()), peer) {
        (Some(name), _) if !name.is_empty() => hash_of(name),
        (_, PeerAddr::Tcp(address)) => match address.ip() {
            IpAddr::V4(ip) => hash_of(ip.octets()),
            IpAddr::V6(ip) => hash_of(&ip.octets()[..8]),
        },
        (_, PeerAddr::Local) => 0,
    }
}
