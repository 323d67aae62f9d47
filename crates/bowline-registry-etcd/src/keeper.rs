//! Renews the leases of this process over one stream.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_core::{Error, Instant, Result, Rng, SystemRng};
use bowline_discovery::{Backoff, Hold};
use bowline_rpc::{Sender, Streaming};
use tokio::sync::{Notify, oneshot};

use crate::api::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use crate::client::Client;

/// How many renewals wait to be sent; further ones have to wait for those.
const QUEUE: usize = 256;

/// The leases to renew.
#[derive(Default)]
pub(crate) struct Keeper {
    leases: Mutex<Leases>,
    changed: Notify,
}

#[derive(Default)]
struct Leases {
    all: HashMap<i64, Lease>,
    holds: u64,
}

struct Lease {
    /// The hold it belongs to: a later one of the same lease takes its place.
    hold: u64,
    next: Instant,
    /// When it was asked for and not answered yet.
    asked: Option<Instant>,
    lost: Option<oneshot::Sender<()>>,
}

/// A lease that is renewed until this is dropped.
pub(crate) struct Held {
    keeper: Arc<Keeper>,
    client: Arc<Client>,
    lease: i64,
    key: Vec<u8>,
    hold: u64,
    lost: oneshot::Receiver<()>,
}

impl Keeper {
    fn lock(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews a lease from now on, for this key.
    pub(crate) fn hold(self: &Arc<Self>, client: &Arc<Client>, lease: i64, key: Vec<u8>) -> Held {
        let (lost, receiver) = oneshot::channel();
        let mut leases = self.lock();
        leases.holds += 1;
        let hold = leases.holds;
        let next = Instant::now() + every(client);
        leases.all.insert(lease, Lease { hold, next, asked: None, lost: Some(lost) });
        drop(leases);
        self.changed.notify_one();
        Held { keeper: Arc::clone(self), client: Arc::clone(client), lease, key, hold, lost: receiver }
    }

    /// Renews for ever.
    pub(crate) async fn run(&self, client: &Client) {
        let mut backoff = Backoff::new(client.options.backoff_first, client.options.backoff_max);
        loop {
            while self.lock().all.is_empty() {
                self.changed.notified().await;
            }
            if let Err(error) = client.judge(self.stream(client, &mut backoff).await) {
                let delay = backoff.next(&SystemRng);
                tracing::debug!(%error, ?delay, "renewing leases failed; trying again");
                tokio::time::sleep(delay).await;
            }
        }
    }

    /// Renews over one stream, until it breaks or nothing is left to renew.
    async fn stream(&self, client: &Client, backoff: &mut Backoff) -> Result<()> {
        let (requests, stream) = Streaming::channel(QUEUE);
        // etcd answers a stream at its first message only.
        let now = Instant::now();
        for lease in self.lock().all.values_mut() {
            (lease.next, lease.asked) = (now, None);
        }
        self.ask(&requests, now);
        let mut answers = client.keep_alive(stream).await?;
        loop {
            let now = Instant::now();
            self.ask(&requests, now);
            let timeout = client.options.attempt_timeout;
            let wake =
                self.lock().all.values().map(|l| l.asked.map_or(l.next, |asked| asked + timeout)).min();
            let Some(wake) = wake else { return Ok(()) };
            // What found the queue full is due already, and tried again with the next answer, or soon.
            let wake = wake.max(now + Duration::from_millis(10));
            tokio::select! {
                answer = answers.message() => {
                    let answer = answer?.ok_or_else(|| Error::unavailable("etcd ended the keep-alive stream"))?;
                    self.note(client, &answer);
                    backoff.reset();
                }
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(wake) => {
                    let now = Instant::now();
                    if self.lock().all.values().any(|l| l.asked.is_some_and(|asked| asked + timeout <= now)) {
                        return Err(Error::deadline_exceeded(format!("etcd did not answer a renewal within {timeout:?}")));
                    }
                }
            }
        }
    }

    /// Asks for what is due, as far as the queue takes it.
    fn ask(&self, requests: &Sender<LeaseKeepAliveRequest>, now: Instant) {
        let mut leases = self.lock();
        for (id, lease) in leases.all.iter_mut().filter(|(_, l)| l.next <= now && l.asked.is_none()) {
            if requests.try_send(LeaseKeepAliveRequest { ID: *id, ..Default::default() }).is_err() {
                return;
            }
            lease.asked = Some(now);
        }
    }

    fn note(&self, client: &Client, answer: &LeaseKeepAliveResponse) {
        let mut leases = self.lock();
        if answer.TTL > 0 {
            if let Some(lease) = leases.all.get_mut(&answer.ID) {
                // Up to a tenth earlier, so that who started together does not renew together for ever.
                let every = every(client);
                lease.next = Instant::now() + every - SystemRng.jitter(every / 10);
                lease.asked = None;
            }
        } else if let Some(lost) = leases.all.remove(&answer.ID).and_then(|mut lease| lease.lost.take()) {
            // Nobody to tell: the hold is being dropped.
            let _ = lost.send(());
        }
    }
}

fn every(client: &Client) -> Duration {
    client.options.ttl / 3
}

impl Hold for Held {
    /// The lease ran out, or somebody removed the key or took it over.
    async fn lost(&mut self) {
        let mut checks = Backoff::new(self.client.options.ttl, self.client.options.ttl);
        loop {
            tokio::select! {
                // A sender that is gone without a word means the same: nobody renews this any more.
                _ = &mut self.lost => return,
                () = tokio::time::sleep(checks.next(&SystemRng)) => {
                    // That it cannot be asked is the keeper's trouble.
                    if matches!(self.client.has(&self.key, self.lease).await, Ok(false)) {
                        return;
                    }
                }
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut leases = self.keeper.lock();
        if leases.all.get(&self.lease).is_some_and(|lease| lease.hold == self.hold) {
            leases.all.remove(&self.lease);
        }
        drop(leases);
        self.keeper.changed.notify_one();
    }
}
