//! Slots by which subsets are chosen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bowline_core::Instance;
use bowline_discovery::Target;
use bowline_registry_bowline::{BowlineRegistry, SlotLease};

/// Leases this application's slots among the clients of services: one for each service, however many channels there are.
#[derive(Clone)]
pub(crate) struct Slots {
    registry: Arc<BowlineRegistry>,
    leases: Arc<Mutex<HashMap<String, Weak<SlotLease>>>>,
}

impl Slots {
    pub(crate) fn new(registry: Arc<BowlineRegistry>) -> Self {
        Self { registry, leases: Arc::default() }
    }

    /// The slot of the application at `here` among the clients of `target`, in the group `APPLICATION-of-SERVICE`. `None` if
    /// that is no service of the registry: then the client's name decides.
    pub(crate) fn of(&self, target: &str, here: &Instance) -> Option<Arc<SlotLease>> {
        let Ok(Target::Discovery(service)) = target.parse::<Target>() else { return None };
        let group = format!("{}-of-{service}", here.service);
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = leases.get(&group).and_then(Weak::upgrade) {
            return Some(lease);
        }
        let lease = self.registry.lease_slot(&group, here.id.as_str()).inspect_err(|error| {
            tracing::warn!(%error, group, "no slot is leased; the subset is chosen by the client's name");
        });
        let lease = Arc::new(lease.ok()?);
        leases.retain(|_, lease| lease.strong_count() > 0);
        leases.insert(group, Arc::downgrade(&lease));
        Some(lease)
    }
}

#[cfg(test)]
mod tests {
    use bowline_client::Channel;
    use bowline_registry_bowline::Options;

    use super::*;

    #[tokio::test]
    async fn channels_to_one_service_share_a_slot_for_as_long_as_there_are_any() {
        let caller = Channel::builder("http://127.0.0.1:1").build().unwrap().caller().unwrap();
        let registry = BowlineRegistry::new([caller], Options::default()).unwrap();
        let slots = Slots::new(Arc::new(registry));
        let here = Instance::new("cart", "cart-1");
        let one = slots.of("discovery:///catalog", &here).unwrap();
        let other = slots.of("discovery:///catalog", &here).unwrap();
        assert!(Arc::ptr_eq(&one, &other));
        assert!(!Arc::ptr_eq(&one, &slots.of("discovery:///orders", &here).unwrap()));
        assert!(slots.of("http://127.0.0.1:1", &here).is_none(), "that is no service of the registry");
        drop((one, other));
        assert!(slots.of("discovery:///catalog", &here).is_some());
        assert_eq!(slots.leases.lock().unwrap().len(), 1, "what nobody uses is forgotten");
    }
}
