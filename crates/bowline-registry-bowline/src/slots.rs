//! Slots: a small number for each member of a group.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bowline_core::{Context, Error, Result};
use tokio::sync::watch;

use crate::api::bowline::registry::v1::{LeaseSlotRequest, ReleaseSlotRequest};
use crate::inner::Inner;

/// A slot of a group, leased for as long as this is held. See [`BowlineRegistry::lease_slot`](crate::BowlineRegistry::lease_slot).
///
/// The number may become another one: when the registry was away for longer than the lease, or a partition gave the same
/// number to two. Who uses it follows it with [`SlotLease::changed`]. While the registry is away the last number stays.
pub struct SlotLease {
    group: Arc<str>,
    number: watch::Receiver<Option<u32>>,
    /// Whether it is to be let go.
    letting_go: watch::Sender<bool>,
    _owner: Arc<dyn Any + Send + Sync>,
}

impl SlotLease {
    /// The number; `None` as long as the registry has not given one.
    pub fn number(&self) -> Option<u32> {
        *self.number.borrow()
    }

    /// Follows the number: for those who do not hold the lease.
    pub fn watch(&self) -> watch::Receiver<Option<u32>> {
        self.number.clone()
    }

    /// Waits for a number other than the one that was returned last by this or seen by nobody yet.
    ///
    /// # Errors
    /// `UNAVAILABLE` once the registry's client has ended.
    pub async fn changed(&mut self) -> Result<Option<u32>> {
        self.number.changed().await.map_err(|_| Error::unavailable("the registry client has ended"))?;
        Ok(*self.number.borrow_and_update())
    }

    /// Lets the slot go, so that another member may have it at once.
    ///
    /// # Errors
    /// Why `cx` is done, if the registry did not confirm it before: the lease runs out by itself then.
    pub async fn release(self, cx: &Context) -> Result<()> {
        self.letting_go.send_replace(true);
        let mut number = self.number.clone();
        // It ends with its task.
        cx.run(async move { while number.changed().await.is_ok() {} }).await
    }
}

impl fmt::Debug for SlotLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotLease({:?} of {})", self.number(), self.group)
    }
}

/// A lease, and the task that keeps it.
pub(crate) fn lease(
    inner: Arc<Inner>,
    group: &str,
    member: &str,
    owner: Arc<dyn Any + Send + Sync>,
) -> (SlotLease, impl Future<Output = ()> + Send + 'static) {
    let (number, numbers) = watch::channel(None);
    let (letting_go, let_go) = watch::channel(false);
    let request = LeaseSlotRequest {
        namespace: inner.options.namespace.clone(),
        env: inner.options.env.clone(),
        group: group.to_owned(),
        member: member.to_owned(),
        holder: inner.holder(),
        ttl: inner.options.ttl.map(Into::into).into(),
        ..Default::default()
    };
    let lease = SlotLease { group: group.into(), number: numbers, letting_go, _owner: owner };
    (lease, keep(inner, request, number, let_go))
}

/// Leases and leases again, until nobody wants it any more.
async fn keep(
    inner: Arc<Inner>,
    request: LeaseSlotRequest,
    number: watch::Sender<Option<u32>>,
    mut let_go: watch::Receiver<bool>,
) {
    let mut backoff = inner.backoff();
    // Held until it is let go: that is told to the node that has it, over the same stream.
    let _held = loop {
        let granted = tokio::select! {
            granted = inner.keeper.lease_slot(request.clone()) => granted,
            () = unwanted(&mut let_go) => break None,
        };
        let wait = match granted {
            Ok((slot, mut hold)) => {
                backoff.reset();
                number.send_if_modified(|known| known.replace(slot) != Some(slot));
                tokio::select! {
                    () = hold.lost() => continue,
                    () = unwanted(&mut let_go) => break Some(hold),
                }
            }
            Err(error) => {
                let wait = backoff.next(&inner.rng);
                tracing::debug!(%error, ?wait, group = request.group, "no slot was leased; trying again");
                wait
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = unwanted(&mut let_go) => break None,
        }
    };
    let slot = *number.borrow();
    release(&inner, &request, slot, &let_go).await;
}

/// Waits until it is to be let go, or is dropped.
async fn unwanted(let_go: &mut watch::Receiver<bool>) {
    // An error is a sender that is gone: it was dropped.
    let _ = let_go.wait_for(|let_go| *let_go).await;
}

/// Tells the registry, if it was asked for: what is dropped runs out.
async fn release(
    inner: &Inner,
    request: &LeaseSlotRequest,
    slot: Option<u32>,
    let_go: &watch::Receiver<bool>,
) {
    let Some(slot) = slot.filter(|_| *let_go.borrow()) else { return };
    let mut backoff = inner.backoff();
    // As many times as the lease would live about, and no longer.
    for _ in 0..4 {
        let LeaseSlotRequest { namespace, env, group, holder, .. } = request.clone();
        let request = ReleaseSlotRequest { namespace, env, group, slot, holder, ..Default::default() };
        if inner.keeper.release_slot(request).await.is_ok() {
            return;
        }
        tokio::time::sleep(backoff.next(&inner.rng)).await;
    }
}
