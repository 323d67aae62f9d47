//! A call's attempts: how often it is sent, when, and for how long each.
//!
//! What provably was not begun is sent elsewhere by [`Nodes::deliver`](crate::nodes::Nodes), as part of one attempt. Here it
//! is about what may have been begun, or was refused: it is sent again if that does no harm, within the budget, to another
//! instance. And only by whoever is next to the failure: what was given up here tells its callers not to try on their own,
//! or each layer of them would multiply it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline_core::{Code, Context, Criticality, Error, Instance, Instant, Result, SystemRng};
use bowline_resilience::{Failure, GiveUp, Hedge, Pushback, reason};
use bowline_rpc::Body;
use bowline_rpc::headers::{PREVIOUS_ATTEMPTS, RETRY_PUSHBACK, forbids_retry, retry_after};
use http::{HeaderValue, Request};
use tokio::time::sleep;

use crate::attempt::{Answer, Call, Delivered, Failed, copy_of};
use crate::nodes::Nodes;
use crate::rules::Rules;

/// Sends calls to one target by the rules of their operations.
pub(crate) struct Governor<'a> {
    pub(crate) nodes: &'a Nodes,
    pub(crate) rules: &'a Rules,
}

impl Governor<'_> {
    /// Sends a call as often as it takes and may be.
    pub(crate) async fn send(&self, call: &Call<'_>, request: Box<Request<Body>>) -> Result<Answer> {
        let criticality = criticality(call.cx);
        if call.cx.remaining() == Some(Duration::ZERO) {
            self.rules.rejections.count(reason::DEADLINE_EXCEEDED, criticality);
            let late = Error::deadline_exceeded("the deadline had passed before the call was sent");
            return Err(late.with_reason(reason::DEADLINE_EXCEEDED));
        }
        self.rules.budget.deposit(Instant::now());
        let idempotent = self.rules.is_idempotent(&request);
        let delivered = self.attempt(call, request, &[], idempotent, criticality).await?;
        match delivered.failure() {
            None => delivered.result.map_err(|failed| failed.error),
            // Failures are rare, and what follows is large.
            Some(failure) => Box::pin(self.again(call, delivered, failure, idempotent, criticality)).await,
        }
    }

    /// What is done about a failure that may be one of the moment.
    async fn again(
        &self,
        call: &Call<'_>,
        mut delivered: Delivered,
        mut failure: Failure,
        idempotent: bool,
        criticality: Criticality,
    ) -> Result<Answer> {
        let mut tried: Vec<Arc<Instance>> = Vec::new();
        let mut made = 0;
        loop {
            made += 1;
            tried.extend(delivered.on());
            let Some(mut request) = delivered.copy.take() else {
                // It is a stream, of which a part is gone.
                return self.given_up(delivered.result, GiveUp::NotIdempotent, criticality);
            };
            // What one server asks for says nothing of the others.
            if !failure.begun && self.nodes.has_untried(call, &tried) {
                failure.pushback = failure.pushback.filter(|pushback| *pushback == Pushback::Never);
            }
            let (budget, remaining, now) = (&self.rules.budget, call.cx.remaining(), Instant::now());
            let again =
                self.rules.retry.again(&failure, idempotent, made, remaining, budget, now, &SystemRng);
            let delay = match again {
                Ok(delay) => delay,
                Err(why) => return self.given_up(delivered.result, why, criticality),
            };
            let last = match delivered.result {
                Ok(answer) => answer.into_error(),
                Err(failed) => failed.error,
            };
            call.cx.run(sleep(delay)).await?;
            request.headers_mut().insert(PREVIOUS_ATTEMPTS, HeaderValue::from(made));
            delivered = match self.attempt(call, request, &tried, idempotent, criticality).await {
                Ok(delivered) => delivered,
                // It is held back now: what it was about says more.
                Err(_) => return Err(last.without_retry()),
            };
            failure = match delivered.failure() {
                None => return delivered.result.map_err(|failed| failed.error),
                Some(failure) => failure,
            };
        }
    }

    /// One attempt, if the throttle and the breaker let it through.
    async fn attempt(
        &self,
        call: &Call<'_>,
        request: Box<Request<Body>>,
        tried: &[Arc<Instance>],
        idempotent: bool,
        criticality: Criticality,
    ) -> Result<Delivered> {
        let time = self.rules.attempt_timeout().filter(|_| idempotent);
        let fair = time.map_or(call.fair, |time| call.within(time).fair);
        let sent = self.rules.ask(call.cx, fair, criticality)?;
        let begun = Instant::now();
        let delivered = match idempotent && (time.is_some() || self.rules.hedge.is_some()) {
            false => self.nodes.deliver(call, request, tried).await,
            true => Box::pin(self.bounded(call, time, fair, request, tried)).await,
        };
        match &delivered.result {
            Ok(answer) => {
                let code = answer.head();
                if let (Some(hedge), None) = (&self.rules.hedge, code) {
                    hedge.answered(begun.elapsed(), Instant::now());
                }
                match is_about_the_caller(answer) {
                    true => sent.was_not(),
                    false => sent.ended(code),
                }
            }
            Err(failed) if failed.on.is_none() => {
                let known = [reason::NO_INSTANCE, reason::TENANT_UNROUTABLE];
                if let Some(why) = known.into_iter().find(|why| *why == failed.error.reason()) {
                    self.rules.rejections.count(why, criticality);
                }
                sent.was_not();
            }
            Err(failed) if is_our_own(&failed.error) => sent.was_not(),
            Err(failed) => sent.ended(Some(failed.error.code())),
        }
        Ok(delivered)
    }

    /// An attempt of what may be done twice: with a time of its own, or a second request beside it.
    async fn bounded(
        &self,
        call: &Call<'_>,
        time: Option<Duration>,
        fair: Duration,
        request: Box<Request<Body>>,
        tried: &[Arc<Instance>],
    ) -> Delivered {
        let cx = time.map_or_else(|| call.cx.clone(), |time| call.cx.with_timeout(time));
        let call = Call { cx: &cx, fair, ..*call };
        let (copy, second) = (copy_of(&request), copy_of(&request));
        let picked = Mutex::new(None);
        let call = &Call { picked: Some(&picked), ..call };
        let delivering = async {
            match (&self.rules.hedge, second) {
                (Some(hedge), Some(second)) => self.hedged(hedge, call, request, second, tried).await,
                _ => self.nodes.deliver(call, request, tried).await,
            }
        };
        // Whoever waits for the call bounds it by its own time; this is the attempt's.
        match cx.run(delivering).await {
            Ok(delivered) => delivered,
            Err(error) => Delivered { result: Err(Failed::in_vain(error, taken(&picked))), copy },
        }
    }

    /// A request, and a second one to another instance if the first is late. Who loses is dropped.
    async fn hedged(
        &self,
        hedge: &Hedge,
        call: &Call<'_>,
        request: Box<Request<Body>>,
        second: Box<Request<Body>>,
        tried: &[Arc<Instance>],
    ) -> Delivered {
        let Some(delay) = hedge.begin(Instant::now()) else {
            return self.nodes.deliver(call, request, tried).await;
        };
        let mut first = std::pin::pin!(self.nodes.deliver(call, request, tried));
        tokio::select! {
            biased;
            delivered = &mut first => return delivered,
            () = sleep(delay) => {}
        }
        if !hedge.fire(Instant::now()) {
            return first.await;
        }
        let mut tried = tried.to_vec();
        tried.extend(call.picked.and_then(taken));
        // Whoever gives up both gave up the first: it held the request for longer.
        let beside = Call { picked: None, ..*call };
        let mut second = std::pin::pin!(self.nodes.deliver(&beside, second, &tried));
        let (one, first_is_left) = tokio::select! {
            delivered = &mut first => (delivered, false),
            delivered = &mut second => (delivered, true),
        };
        if one.result.is_ok() && one.failure().is_none() {
            return one;
        }
        // It failed: the other one may not.
        let other = if first_is_left { first.await } else { second.await };
        if other.failure().is_some() && one.result.is_ok() { one } else { other }
    }

    /// What the caller gets of a call that is not sent again.
    fn given_up(
        &self,
        result: Result<Answer, Box<Failed>>,
        why: GiveUp,
        criticality: Criticality,
    ) -> Result<Answer> {
        if why == GiveUp::Budget {
            self.rules.rejections.count(reason::BUDGET_EXHAUSTED, criticality);
        }
        match (result, why) {
            (result, GiveUp::Final) => result.map_err(|failed| failed.error),
            (Ok(mut answer), _) => {
                answer.headers_mut().insert(RETRY_PUSHBACK, HeaderValue::from_static("-1"));
                Ok(answer)
            }
            (Err(failed), GiveUp::Budget) => Err(reason::budget_exhausted(failed.error).without_retry()),
            (Err(failed), _) => Err(failed.error.without_retry()),
        }
    }
}

/// Whether the server refused a request for what it is, too large for one, or for whose it is: to send it again would be of no use,
/// and it says nothing of what becomes of others'.
fn is_about_the_caller(answer: &Answer) -> bool {
    if answer.head() != Some(Code::ResourceExhausted) {
        return false;
    }
    match answer.told().map_or("", Error::reason) {
        reason::RATELIMITED => true,
        reason::OVERLOADED => false,
        // An overload is over after some time, and says after which.
        _ => come_again(answer).is_none(),
    }
}

/// When to send a request again, if the server says so.
fn come_again(answer: &Answer) -> Option<Duration> {
    answer.told().and_then(Error::retry_after).or_else(|| retry_after(answer.headers()))
}

/// Whether a failed attempt met a limit of this channel's, and no server's.
fn is_our_own(error: &Error) -> bool {
    error.code() == Code::ResourceExhausted
}

/// Who was picked last.
fn taken(picked: &Mutex<Option<Arc<Instance>>>) -> Option<Arc<Instance>> {
    picked.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Delivered {
    /// On which instance it failed.
    fn on(&self) -> Option<Arc<Instance>> {
        match &self.result {
            Ok(answer) => Some(Arc::clone(&answer.on)),
            Err(failed) => failed.on.clone(),
        }
    }

    /// How it failed, if that may be of the moment.
    fn failure(&self) -> Option<Failure> {
        let (code, begun, pushback) = match &self.result {
            Ok(answer) => {
                let code = answer.head()?;
                // A server that ran out of time worked for all of it: it would again.
                if !matches!(code, Code::Unavailable | Code::ResourceExhausted) {
                    return None;
                }
                if is_about_the_caller(answer) {
                    return None;
                }
                let pushback = match forbids_retry(answer.headers()) {
                    true => Some(Pushback::Never),
                    false => come_again(answer).map(Pushback::After),
                };
                let why = answer.told().map_or("", Error::reason);
                // Who has too much to do has done nothing. It says so itself, with the time to come again: a server that
                // passes on what another one said to it has begun.
                let refused = why == reason::OVERLOADED && answer.headers().contains_key(RETRY_PUSHBACK);
                (code, !refused, pushback)
            }
            // To come again would be to wait in the queue that is full.
            Err(failed) if is_our_own(&failed.error) => return None,
            Err(failed) => (failed.error.code(), failed.begun.is_possible(), None),
        };
        Some(Failure { code, begun, pushback })
    }
}

/// How much a call matters: what was set for it, or what came in.
fn criticality(cx: &Context) -> Criticality {
    let set = cx.outgoing().get(Criticality::KEY).and_then(Criticality::parse);
    set.unwrap_or_else(|| Criticality::of(cx.metadata()))
}
