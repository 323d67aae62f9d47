//! Instances that tell their slots.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline_core::task::Tracker;
use bowline_core::{Context, Instance, Result, SystemRng};
use bowline_discovery::{Backoff, BoxFuture, Registrar, Registration};
use tokio::sync::watch;

use crate::{BowlineRegistry, SlotLease};

/// How long a registration waits for its slot. 1 s: without one by then it goes on, and tells it later.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long one attempt to tell another slot takes at most.
const UPDATE: Duration = Duration::from_secs(10);

/// Registers instances together with a slot, leased from the group `SERVICE.instances`, which they tell in their metadata:
/// clients choose even subsets by it.
///
/// The slot belongs to the registration: it is let go with it, and told anew when it becomes another number.
///
/// ```
/// use bowline_registry_bowline::{BowlineRegistry, WithSlot};
/// use std::sync::Arc;
///
/// fn registrar(registry: BowlineRegistry) -> WithSlot {
///     WithSlot::new(Arc::new(registry), "slot")
/// }
/// ```
#[derive(Clone)]
pub struct WithSlot {
    registry: Arc<BowlineRegistry>,
    key: Arc<str>,
}

impl WithSlot {
    /// Tells slots under `key` of the metadata: what clients look for.
    pub fn new(registry: Arc<BowlineRegistry>, key: impl Into<Arc<str>>) -> Self {
        Self { registry, key: key.into() }
    }
}

impl Registrar for WithSlot {
    fn register<'a>(
        &'a self,
        cx: &'a Context,
        instance: Instance,
    ) -> BoxFuture<'a, Result<Box<dyn Registration>>> {
        Box::pin(async move {
            let group = format!("{}.instances", instance.service);
            let lease = self.registry.lease_slot(&group, instance.id.as_str())?;
            let mut number = lease.watch();
            let first = number.wait_for(Option::is_some);
            // Whatever keeps it: the registry may be down, and that keeps no service from starting.
            let _ = tokio::time::timeout(PATIENCE, cx.run(first)).await;
            let slot = *number.borrow_and_update();
            let told = Told { instance, slot, key: Arc::clone(&self.key) };
            let registration = self.registry.register(cx, told.with_slot()).await?;
            let state = Arc::new(State { registration, told: tokio::sync::Mutex::new(told) });
            let tasks = Tracker::new();
            tasks.spawn(follow(Arc::clone(&state), number));
            Ok(Box::new(Slotted { state, lease: Mutex::new(Some(lease)), tasks }) as Box<dyn Registration>)
        })
    }
}

impl fmt::Debug for WithSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WithSlot({})", self.key)
    }
}

/// What the registry is to know.
struct Told {
    instance: Instance,
    slot: Option<u32>,
    key: Arc<str>,
}

impl Told {
    fn with_slot(&self) -> Instance {
        let mut instance = self.instance.clone();
        if let Some(slot) = self.slot {
            instance.metadata.insert(self.key.to_string(), slot.to_string());
        }
        instance
    }
}

struct State {
    registration: Box<dyn Registration>,
    /// Held while it is told: the application's news and another slot must not overtake each other.
    told: tokio::sync::Mutex<Told>,
}

/// A registration and its slot.
struct Slotted {
    state: Arc<State>,
    lease: Mutex<Option<SlotLease>>,
    tasks: Tracker,
}

impl Registration for Slotted {
    fn deregister<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.tasks.abort();
            let gone = self.state.registration.deregister(cx).await;
            let lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(lease) = lease {
                // It runs out by itself where the registry cannot be reached.
                let _ = lease.release(cx).await;
            }
            gone
        })
    }

    fn update<'a>(&'a self, cx: &'a Context, instance: Instance) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut told = cx.run(self.state.told.lock()).await?;
            let before = std::mem::replace(&mut told.instance, instance);
            let updated = self.state.registration.update(cx, told.with_slot()).await;
            if updated.as_ref().is_err_and(bowline_core::Error::is_callers_fault) {
                told.instance = before;
            }
            updated
        })
    }
}

impl Drop for Slotted {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

/// Tells each other number, until the registration ends.
async fn follow(state: Arc<State>, mut number: watch::Receiver<Option<u32>>) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
    while number.changed().await.is_ok() {
        loop {
            let slot = *number.borrow_and_update();
            let mut told = state.told.lock().await;
            told.slot = slot;
            let cx = Context::background().with_timeout(UPDATE);
            let Err(error) = state.registration.update(&cx, told.with_slot()).await else { break };
            drop(told);
            tracing::debug!(%error, ?slot, "a slot could not be told; trying again");
            tokio::time::sleep(backoff.next(&SystemRng)).await;
        }
        backoff.reset();
    }
}
