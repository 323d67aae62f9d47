//! Registers the instances of this process and renews its leases, over one stream.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_core::{Code, Context, Error, Instant, Result};
use bowline_discovery::Backoff;
use bowline_rpc::codegen::buffa::Message as _;
use bowline_rpc::{Sender, Streaming};
use tokio::sync::{Notify, oneshot};

use crate::api::bowline::registry::v1::registered::Outcome;
use crate::api::bowline::registry::v1::registry::Client;
use crate::api::bowline::registry::v1::{
    KeepAliveRequest, KeepAliveResponse, RegisterRequest, RegisterResponse, Registered,
};
use crate::convert;
use crate::inner::Inner;

/// The most leases in one message; the rest goes with the next one.
const BATCH: usize = 5_000;
/// The most registrations in one message, and the most bytes of them.
const REGISTRATIONS: usize = 500;
const REGISTRATION_BYTES: usize = 1024 * 1024;
/// A registration of more bytes is a call of its own: if it is more than the registry takes, that breaks no stream.
const LARGE: usize = 256 * 1024;

/// The leases to renew, and what is to be registered.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    leases: Mutex<HashMap<u64, Lease>>,
    /// One for each registration of the process at most: who gave up has closed its end.
    wanted: Mutex<Vec<Wanted>>,
    changed: Notify,
}

/// Somebody waits for an instance to be registered.
#[derive(Debug)]
struct Wanted {
    request: RegisterRequest,
    /// `None` where the lease is the one that is held already.
    answer: oneshot::Sender<Result<Option<Hold>>>,
}

#[derive(Debug)]
struct Lease {
    every: Duration,
    next: Instant,
    lost: Option<oneshot::Sender<()>>,
}

/// A lease that is renewed until this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    keeper: Arc<Keeper>,
    lease: u64,
    lost: oneshot::Receiver<()>,
}

impl Keeper {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wanted(&self) -> MutexGuard<'_, Vec<Wanted>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers once, and renews the lease from then on. Returns `None` if it is a lease that is held already.
    pub(crate) async fn register(&self, inner: &Inner, request: RegisterRequest) -> Result<Option<Hold>> {
        if request.encoded_len() as usize > LARGE {
            let register = |client: Client, cx| -> bowline_discovery::BoxFuture<'static, _> {
                Box::pin(async move { client.register(&cx, request).await })
            };
            return Ok(granted(inner, inner.attempt(register).await?));
        }
        let (answer, answered) = oneshot::channel();
        self.wanted().push(Wanted { request, answer });
        self.changed.notify_one();
        answered.await.unwrap_or_else(|_| Err(Error::unavailable("the registry client was interrupted")))
    }

    /// The stream broke: nobody who waits is registered.
    fn fail(&self, asked: Vec<Wanted>, error: Error) {
        // What was wrong with a message of all is not wrong with each.
        let error = match error.is_invalid() {
            true => Error::unavailable("the keep-alive stream was refused").with_source(error),
            false => error,
        };
        let waiting = std::mem::take(&mut *self.wanted());
        for wanted in asked.into_iter().chain(waiting) {
            // Nobody to tell: it is not wanted any more.
            let _ = wanted.answer.send(Err(error.again()));
        }
    }

    /// Renews a lease from now on.
    pub(crate) fn hold(self: &Arc<Self>, lease: u64, every: Duration, now: Instant) -> Hold {
        let (lost, receiver) = oneshot::channel();
        self.lock().insert(lease, Lease { every, next: now + every, lost: Some(lost) });
        self.changed.notify_one();
        Hold { keeper: Arc::clone(self), lease, lost: receiver }
    }

    /// Renews for ever.
    pub(crate) async fn run(&self, inner: &Inner) {
        let mut backoff = inner.backoff();
        loop {
            while self.lock().is_empty() && self.wanted().is_empty() {
                self.changed.notified().await;
            }
            let (number, _) = inner.nodes.current();
            let mut asked = Vec::new();
            if let Err(error) = self.stream(inner, &mut backoff, &mut asked).await {
                inner.nodes.failed(number);
                let delay = backoff.next(&inner.rng);
                tracing::debug!(%error, ?delay, "the keep-alive stream failed; trying again");
                self.fail(asked, error);
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    // Who registers has waited already.
                    () = self.wanting() => {}
                }
            }
        }
    }

    /// Waits until something is to be registered.
    async fn wanting(&self) {
        while self.wanted().is_empty() {
            self.changed.notified().await;
        }
    }

    /// Registers and renews over one stream, until it breaks or nothing is left to renew. `registering` is what is on its
    /// way.
    async fn stream(
        &self,
        inner: &Inner,
        backoff: &mut Backoff,
        registering: &mut Vec<Wanted>,
    ) -> Result<()> {
        let (requests, stream) = Streaming::channel(1);
        let timeout = inner.options.attempt_timeout;
        let (_, client) = inner.nodes.current();
        let cx = Context::background();
        let answers = tokio::time::timeout(timeout, client.keep_alive(&cx, stream));
        let mut answers = answers.await.map_err(|_| unanswered(timeout))??;
        // A new stream may lead to a node that knows none of them; the sooner that is noticed the better.
        let now = inner.clock.now();
        self.lock().values_mut().for_each(|lease| lease.next = now);
        let mut asked: Option<Instant> = None;
        loop {
            let now = inner.clock.now();
            if asked.is_none() {
                asked = self.ask(&requests, registering, now)?;
            }
            let wake = match asked {
                Some(asked) => Some(asked + timeout),
                None => self.lock().values().map(|lease| lease.next).min(),
            };
            let Some(wake) = wake else { return Ok(()) };
            tokio::select! {
                answer = answers.message() => {
                    let answer = answer?.ok_or_else(|| Error::unavailable("the registry ended the keep-alive stream"))?;
                    self.note(inner, answer, registering)?;
                    asked = None;
                    backoff.reset();
                }
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(wake) => {
                    if asked.is_some() {
                        return Err(unanswered(timeout));
                    }
                }
            }
        }
    }

    /// Asks for what is due and what is wanted. Returns when it was, if there was anything.
    fn ask(
        &self,
        requests: &Sender<KeepAliveRequest>,
        registering: &mut Vec<Wanted>,
        now: Instant,
    ) -> Result<Option<Instant>> {
        let leases = self.lock();
        let due = leases.iter().filter(|(_, lease)| lease.next <= now).map(|(lease, _)| *lease);
        let lease_ids: Vec<_> = due.take(BATCH).collect();
        drop(leases);
        self.take_wanted(registering);
        if lease_ids.is_empty() && registering.is_empty() {
            return Ok(None);
        }
        let registrations = registering.iter().map(|wanted| wanted.request.clone()).collect();
        requests.try_send(KeepAliveRequest { lease_ids, registrations, ..Default::default() })?;
        Ok(Some(now))
    }

    /// As many as one message has room for.
    fn take_wanted(&self, into: &mut Vec<Wanted>) {
        let mut wanted = self.wanted();
        wanted.retain(|wanted| !wanted.answer.is_closed());
        let mut bytes = 0;
        let fits = wanted.iter().take(REGISTRATIONS).take_while(|wanted| {
            bytes += wanted.request.encoded_len() as usize;
            bytes <= REGISTRATION_BYTES
        });
        let fits = fits.count();
        into.extend(wanted.drain(..fits));
    }

    fn note(&self, inner: &Inner, answer: KeepAliveResponse, registering: &mut Vec<Wanted>) -> Result<()> {
        if answer.registered.len() != registering.len() {
            let (told, asked) = (answer.registered.len(), registering.len());
            return Err(Error::internal(format!(
                "the registry answered {told} of {asked} registrations; is it older than this client?"
            )));
        }
        for (wanted, registered) in registering.drain(..).zip(answer.registered) {
            // Nobody to tell: it is not wanted any more, and a lease that nobody holds is not renewed.
            let _ = wanted.answer.send(outcome(inner, registered));
        }
        let now = inner.clock.now();
        let mut leases = self.lock();
        for lease in &answer.renewed {
            if let Some(lease) = leases.get_mut(lease) {
                // Up to a tenth earlier, so that who started together does not renew together for ever.
                lease.next = now + lease.every - inner.rng.jitter(lease.every / 10);
            }
        }
        for lease in &answer.unknown {
            if let Some(lost) = leases.remove(lease).and_then(|mut lease| lease.lost.take()) {
                // Nobody to tell: the hold is being dropped.
                let _ = lost.send(());
            }
        }
        Ok(())
    }
}

/// What the registry says of a registration.
fn outcome(inner: &Inner, registered: Registered) -> Result<Option<Hold>> {
    match registered.outcome {
        Some(Outcome::Granted(response)) => Ok(granted(inner, *response)),
        Some(Outcome::Refused(refusal)) => {
            let code = Code::from_number(refusal.code).unwrap_or(Code::Unknown);
            Err(Error::new(code, refusal.message)
                .into_remote()
                .with_reason(refusal.reason)
                .with_domain(refusal.domain))
        }
        None => Err(Error::internal("the registry says nothing of a registration")),
    }
}

/// Renews what was granted, unless it is renewed already.
fn granted(inner: &Inner, response: RegisterResponse) -> Option<Hold> {
    let every = convert::renew_interval(response.renew_interval.into_option());
    let is_held = inner.keeper.lock().contains_key(&response.lease_id);
    (!is_held).then(|| inner.keeper.hold(response.lease_id, every, inner.clock.now()))
}

fn unanswered(timeout: Duration) -> Error {
    Error::deadline_exceeded(format!("the registry did not answer a renewal within {timeout:?}"))
}

impl Hold {
    /// Waits until the registry says that it does not know the lease.
    pub(crate) async fn lost(&mut self) {
        // A sender that is gone without a word means the same: nobody renews this any more.
        let _ = (&mut self.lost).await;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.keeper.lock().remove(&self.lease);
        self.keeper.changed.notify_one();
    }
}
