//! Renews the leases of this process over one stream.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_core::{Context, Error, Instant, Result};
use bowline_discovery::Backoff;
use bowline_rpc::{Sender, Streaming};
use tokio::sync::{Notify, oneshot};

use crate::api::bowline::registry::v1::{KeepAliveRequest, KeepAliveResponse};
use crate::inner::Inner;

/// The most leases in one message; the rest goes with the next one.
const BATCH: usize = 5_000;

/// The leases to renew.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    leases: Mutex<HashMap<u64, Lease>>,
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
            while self.lock().is_empty() {
                self.changed.notified().await;
            }
            let (number, _) = inner.nodes.current();
            if let Err(error) = self.stream(inner, &mut backoff).await {
                inner.nodes.failed(number);
                let delay = backoff.next(&inner.rng);
                tracing::debug!(%error, ?delay, "renewing leases failed; trying again");
                tokio::time::sleep(delay).await;
            }
        }
    }

    /// Renews over one stream, until it breaks or nothing is left to renew.
    async fn stream(&self, inner: &Inner, backoff: &mut Backoff) -> Result<()> {
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
                asked = self.ask(&requests, now)?;
            }
            let wake = match asked {
                Some(asked) => Some(asked + timeout),
                None => self.lock().values().map(|lease| lease.next).min(),
            };
            let Some(wake) = wake else { return Ok(()) };
            tokio::select! {
                answer = answers.message() => {
                    let answer = answer?.ok_or_else(|| Error::unavailable("the registry ended the keep-alive stream"))?;
                    self.note(inner, &answer);
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

    /// Asks for what is due. Returns when it was, if anything was.
    fn ask(&self, requests: &Sender<KeepAliveRequest>, now: Instant) -> Result<Option<Instant>> {
        let leases = self.lock();
        let due = leases.iter().filter(|(_, lease)| lease.next <= now).map(|(lease, _)| *lease);
        let lease_ids: Vec<_> = due.take(BATCH).collect();
        drop(leases);
        if lease_ids.is_empty() {
            return Ok(None);
        }
        requests.try_send(KeepAliveRequest { lease_ids, ..Default::default() })?;
        Ok(Some(now))
    }

    fn note(&self, inner: &Inner, answer: &KeepAliveResponse) {
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
    }
}

fn unanswered(timeout: Duration) -> Error {
    Error::deadline_exceeded(format!("the registry did not answer a renewal within {timeout:?}"))
}

impl Hold {
    /// The lease.
    pub(crate) fn lease(&self) -> u64 {
        self.lease
    }

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
