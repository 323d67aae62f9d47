//! Registers the instances of this process, leases its slots and renews all its leases, over one stream.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_core::{Code, Context, Error, Instant, Result};
use bowline_discovery::Backoff;
use bowline_rpc::codegen::buffa::Message;
use bowline_rpc::{Sender, Streaming};
use tokio::sync::{Notify, oneshot};

use crate::api::bowline::registry::v1::{
    KeepAliveRequest, KeepAliveResponse, LeaseSlotRequest, Refusal, RegisterRequest, Registered,
    ReleaseSlotRequest, SlotLeased, SlotReleased, registered, slot_leased, slot_released,
};
use crate::asking::{Asking, Queue};
use crate::convert;
use crate::inner::Inner;

/// The most leases in one message; the rest goes with the next one.
const BATCH: usize = 5_000;

/// The leases to renew, and what is asked for.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    leases: Mutex<HashMap<u64, Lease>>,
    asking: Mutex<Asking>,
    changed: Notify,
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

    fn asking(&self) -> MutexGuard<'_, Asking> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers once, and renews the lease from then on. Returns `None` if it is a lease that is held already.
    pub(crate) async fn register(&self, request: RegisterRequest) -> Result<Option<Hold>> {
        self.ask(request, |asking| &mut asking.registrations).await
    }

    /// Leases a slot once, and renews it from then on.
    pub(crate) async fn lease_slot(&self, request: LeaseSlotRequest) -> Result<(u32, Hold)> {
        self.ask(request, |asking| &mut asking.slots).await
    }

    /// Lets a slot go.
    pub(crate) async fn release_slot(&self, request: ReleaseSlotRequest) -> Result<()> {
        self.ask(request, |asking| &mut asking.releases).await
    }

    async fn ask<Q: Message + Clone, A>(
        &self,
        request: Q,
        queue: impl FnOnce(&mut Asking) -> &mut Queue<Q, A>,
    ) -> Result<A> {
        let answered = queue(&mut self.asking()).push(request)?;
        self.changed.notify_one();
        answered.await.unwrap_or_else(|_| Err(Error::unavailable("the registry client was interrupted")))
    }

    /// The stream broke: nobody who waits has what was asked for.
    fn fail(&self, mut asked: Asking, error: Error) {
        // What was wrong with a message of all is not wrong with each.
        let error = match error.is_invalid() {
            true => Error::unavailable("the keep-alive stream was refused").with_source(error),
            false => error,
        };
        asked.fail(&error);
        // Who hears of it may ask again at once: not under the lock.
        let mut waiting = std::mem::take(&mut *self.asking());
        waiting.fail(&error);
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
            while self.lock().is_empty() && self.asking().is_empty() {
                self.changed.notified().await;
            }
            let (number, _) = inner.nodes.current();
            let mut asked = Asking::default();
            if let Err(error) = self.stream(inner, &mut backoff, &mut asked).await {
                inner.nodes.failed(number);
                let delay = backoff.next(&inner.rng);
                tracing::debug!(%error, ?delay, "the keep-alive stream failed; trying again");
                self.fail(asked, error);
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    // Who asks has waited already.
                    () = self.asked() => {}
                }
            }
        }
    }

    /// Waits until something is asked for.
    async fn asked(&self) {
        while self.asking().is_empty() {
            self.changed.notified().await;
        }
    }

    /// Asks and renews over one stream, until it breaks or nothing is left to renew. `asking` is what is on its way.
    async fn stream(&self, inner: &Inner, backoff: &mut Backoff, asking: &mut Asking) -> Result<()> {
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
                asked = self.send(&requests, asking, now)?;
            }
            let wake = match asked {
                Some(asked) => Some(asked + timeout),
                None => self.lock().values().map(|lease| lease.next).min(),
            };
            let Some(wake) = wake else { return Ok(()) };
            tokio::select! {
                answer = answers.message() => {
                    let answer = answer?.ok_or_else(|| Error::unavailable("the registry ended the keep-alive stream"))?;
                    self.note(inner, answer, asking)?;
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

    /// Sends what is due and what is asked for. Returns when it was, if there was anything.
    fn send(
        &self,
        requests: &Sender<KeepAliveRequest>,
        asking: &mut Asking,
        now: Instant,
    ) -> Result<Option<Instant>> {
        let leases = self.lock();
        let due = leases.iter().filter(|(_, lease)| lease.next <= now).map(|(lease, _)| *lease);
        let lease_ids: Vec<_> = due.take(BATCH).collect();
        drop(leases);
        *asking = self.asking().take();
        if lease_ids.is_empty() && asking.is_empty() {
            return Ok(None);
        }
        requests.try_send(KeepAliveRequest {
            lease_ids,
            registrations: asking.registrations.requests(),
            slots: asking.slots.requests(),
            releases: asking.releases.requests(),
            ..Default::default()
        })?;
        Ok(Some(now))
    }

    fn note(&self, inner: &Inner, answer: KeepAliveResponse, asking: &mut Asking) -> Result<()> {
        for (told, asked, what) in [
            (answer.registered.len(), asking.registrations.len(), "registrations"),
            (answer.slots.len(), asking.slots.len(), "slots"),
            (answer.released.len(), asking.releases.len(), "slots that were let go"),
        ] {
            if told != asked {
                return Err(Error::internal(format!(
                    "the registry answered {told} of {asked} {what}; is it older than this client?"
                )));
            }
        }
        asking.registrations.answer(answer.registered, |answer| registered(inner, answer));
        asking.slots.answer(answer.slots, |answer| leased(inner, answer));
        asking.releases.answer(answer.released, released);
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

/// What the registry says of a registration: what was granted is renewed from now on, unless it is already.
fn registered(inner: &Inner, answer: Registered) -> Result<Option<Hold>> {
    match answer.outcome {
        Some(registered::Outcome::Granted(granted)) => {
            let every = convert::renew_interval(granted.renew_interval.into_option());
            let is_held = inner.keeper.lock().contains_key(&granted.lease_id);
            Ok((!is_held).then(|| inner.keeper.hold(granted.lease_id, every, inner.clock.now())))
        }
        Some(registered::Outcome::Refused(refusal)) => Err(refused(*refusal)),
        None => Err(Error::internal("the registry says nothing of a registration")),
    }
}

/// What it says of a slot that was asked for.
fn leased(inner: &Inner, answer: SlotLeased) -> Result<(u32, Hold)> {
    match answer.outcome {
        Some(slot_leased::Outcome::Granted(granted)) => {
            let every = convert::renew_interval(granted.renew_interval.into_option());
            Ok((granted.slot, inner.keeper.hold(granted.lease_id, every, inner.clock.now())))
        }
        Some(slot_leased::Outcome::Refused(refusal)) => Err(refused(*refusal)),
        None => Err(Error::internal("the registry says nothing of a slot")),
    }
}

/// What it says of a slot that was let go: whether it was this one's no longer is all the same.
fn released(answer: SlotReleased) -> Result<()> {
    match answer.outcome {
        Some(slot_released::Outcome::Released(_)) => Ok(()),
        Some(slot_released::Outcome::Refused(refusal)) => Err(refused(*refusal)),
        None => Err(Error::internal("the registry says nothing of a slot that was let go")),
    }
}

fn refused(refusal: Refusal) -> Error {
    let code = Code::from_number(refusal.code).unwrap_or(Code::Unknown);
    Error::new(code, refusal.message).into_remote().with_reason(refusal.reason).with_domain(refusal.domain)
}

fn unanswered(timeout: Duration) -> Error {
    Error::deadline_exceeded(format!(
        "the registry did not answer over the keep-alive stream within {timeout:?}"
    ))
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
