//! The API over the store.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Context, Result};
use bowline_registry_bowline::api::bowline::registry::v1::registry;
use bowline_registry_bowline::api::bowline::registry::v1::{
    ClearOverrideRequest, ClearOverrideResponse, DeregisterRequest, DeregisterResponse, EndProtectionRequest,
    EndProtectionResponse, GetNodeRequest, GetNodeResponse, GetServiceRequest, GetServiceResponse,
    KeepAliveRequest, KeepAliveResponse, LeaseSlotRequest, LeaseSlotResponse, ListServicesRequest,
    ListServicesResponse, ListSlotsRequest, ListSlotsResponse, RegisterRequest, RegisterResponse,
    ReleaseSlotRequest, ReleaseSlotResponse, RenewRequest, RenewResponse, SetOverrideRequest,
    SetOverrideResponse, WatchRequest, WatchResponse, registry_error,
};
use bowline_rpc::Streaming;

use crate::access::Right;
use crate::node::Shared;
use crate::store::{News, Parts, ServiceKey, Slot, check_id, check_scope};
use crate::{keep_alive, watch, wire};

/// How long before its deadline a long poll answers, so that the answer arrives.
const MARGIN: Duration = Duration::from_millis(500);

/// The longest name of a holder, in bytes.
const MAX_HOLDER: usize = 253;

/// `bowline.registry.v1.Registry`.
#[derive(Clone)]
pub(crate) struct Api(Arc<Shared>);

impl Api {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Fails unless the node serves and who asks may do something.
    fn allow(&self, cx: &Context, right: Right, namespace: &str) -> Result<()> {
        self.0.check_serving()?;
        self.0.allow(cx, right, namespace)
    }
}

pub(crate) fn invalid(what: impl Into<std::borrow::Cow<'static, str>>) -> bowline_core::Error {
    registry_error::invalid_request().with_message(what)
}

/// Checks who registers.
pub(crate) fn holder(holder: &str) -> Result<&str> {
    if holder.len() > MAX_HOLDER {
        return Err(invalid(format!("a holder of {} bytes; use up to {MAX_HOLDER}", holder.len())));
    }
    Ok(holder)
}

impl registry::Service for Api {
    async fn register(&self, cx: &Context, req: RegisterRequest) -> Result<RegisterResponse> {
        self.0.check_serving()?;
        let asked = keep_alive::registering(&self.0, &self.0.caller(cx), req)?;
        let granted = self.0.change(|store, now| store.register(asked, now))?;
        Ok(wire::granted(&granted, self.0.epoch))
    }

    async fn keep_alive(
        &self,
        cx: &Context,
        req: Streaming<KeepAliveRequest>,
    ) -> Result<Streaming<KeepAliveResponse>> {
        keep_alive::serve(&self.0, cx, req)
    }

    async fn renew(&self, cx: &Context, req: RenewRequest) -> Result<RenewResponse> {
        self.allow(cx, Right::Register, &req.namespace)?;
        let key = ServiceKey::new(&req.namespace, &req.env, &req.service)?;
        let lease = (req.lease_id != 0).then_some(req.lease_id);
        let ttl = self.0.change(|store, now| store.renew_instance(&key, &req.instance_id, lease, now))?;
        Ok(RenewResponse {
            ttl: bowline_rpc::codegen::buffa::MessageField::some(ttl.into()),
            epoch: self.0.epoch,
            ..Default::default()
        })
    }

    async fn deregister(&self, cx: &Context, req: DeregisterRequest) -> Result<DeregisterResponse> {
        self.allow(cx, Right::Register, &req.namespace)?;
        let key = ServiceKey::new(&req.namespace, &req.env, &req.service)?;
        check_id(&req.instance_id)?;
        let holder = holder(&req.holder)?;
        let removed = self.0.change(|store, now| store.deregister(&key, &req.instance_id, holder, now));
        Ok(DeregisterResponse { removed, ..Default::default() })
    }

    async fn set_override(&self, cx: &Context, req: SetOverrideRequest) -> Result<SetOverrideResponse> {
        self.allow(cx, Right::Operate, &req.namespace)?;
        let key = ServiceKey::new(&req.namespace, &req.env, &req.service)?;
        check_id(&req.instance_id)?;
        let changes = req.changes.into_option().ok_or_else(|| invalid("there are no `changes` to set"))?;
        let changes = wire::changes(changes)?;
        let set = self.0.change(|store, now| store.set_override(&key, &req.instance_id, &changes, now))?;
        tracing::info!(service = %key, instance = req.instance_id, overridden = ?set, "an instance was overridden");
        Ok(SetOverrideResponse { overridden: wire::overridden(&set).into(), ..Default::default() })
    }

    async fn clear_override(&self, cx: &Context, req: ClearOverrideRequest) -> Result<ClearOverrideResponse> {
        self.allow(cx, Right::Operate, &req.namespace)?;
        let key = ServiceKey::new(&req.namespace, &req.env, &req.service)?;
        check_id(&req.instance_id)?;
        let named = Parts { status: req.status, weight: req.weight, metadata: req.metadata };
        let none = Parts { status: false, weight: false, metadata: false };
        let parts = if named == none { Parts::ALL } else { named };
        let cleared = self.0.change(|store, now| store.clear_override(&key, &req.instance_id, parts, now));
        if cleared {
            tracing::info!(service = %key, instance = req.instance_id, ?parts, "an override was taken back");
        }
        Ok(ClearOverrideResponse { cleared, ..Default::default() })
    }

    async fn watch(&self, cx: &Context, req: WatchRequest) -> Result<Streaming<WatchResponse>> {
        self.allow(cx, Right::Read, &req.namespace)?;
        watch::watch(&self.0, &req)
    }

    async fn get_service(&self, cx: &Context, req: GetServiceRequest) -> Result<GetServiceResponse> {
        self.allow(cx, Right::Read, &req.namespace)?;
        let key = ServiceKey::new(&req.namespace, &req.env, &req.service)?;
        let wait = wire::duration(req.wait.as_option(), "wait")?.unwrap_or_default();
        let longest = self.0.config.max_wait;
        if wait > longest {
            return Err(invalid(format!(
                "a wait of {wait:?} is too long; wait up to {longest:?} and ask again"
            )));
        }
        let wait = cx.remaining().map_or(wait, |left| wait.min(left.saturating_sub(MARGIN)));
        let known = (req.revision != 0).then_some(req.revision);
        if known.is_none() || wait.is_zero() {
            return Ok(current(&self.0, &key, known));
        }
        let watching = self.0.fanout.watch(vec![key.clone()])?;
        let changed = async {
            loop {
                if watching.take().is_some() && !current(&self.0, &key, known).unchanged {
                    return;
                }
                watching.news().await;
            }
        };
        tokio::select! {
            biased;
            error = self.0.closed() => return Err(error),
            _ = tokio::time::timeout(wait, changed) => {}
        }
        Ok(current(&self.0, &key, known))
    }

    async fn lease_slot(&self, cx: &Context, req: LeaseSlotRequest) -> Result<LeaseSlotResponse> {
        self.0.check_serving()?;
        let asked = keep_alive::leasing(&self.0, &self.0.caller(cx), req)?;
        let (slot, granted) = self.0.change(|store, now| store.lease_slot(asked, now))?;
        Ok(wire::slot(slot, &granted, self.0.epoch))
    }

    async fn release_slot(&self, cx: &Context, req: ReleaseSlotRequest) -> Result<ReleaseSlotResponse> {
        self.0.check_serving()?;
        let asked = keep_alive::releasing(&self.0, &self.0.caller(cx), req)?;
        Ok(self.0.change(|store, now| asked.release(store, now)))
    }

    async fn list_slots(&self, cx: &Context, req: ListSlotsRequest) -> Result<ListSlotsResponse> {
        self.allow(cx, Right::Read, &req.namespace)?;
        let group = ServiceKey::slots(&req.namespace, &req.env, &req.group)?;
        let slots = self.0.store().slots(&group, self.0.now());
        let told = |slot: Slot| bowline_registry_bowline::api::bowline::registry::v1::Slot {
            slot: slot.slot,
            member: slot.member,
            ..Default::default()
        };
        Ok(ListSlotsResponse { slots: slots.into_iter().map(told).collect(), ..Default::default() })
    }

    async fn get_node(&self, cx: &Context, _req: GetNodeRequest) -> Result<GetNodeResponse> {
        let caller = self.0.caller(cx);
        self.0.access.check_any(&caller, Right::Read)?;
        Ok(wire::node(&self.0, |namespace| self.0.access.may(&caller, Right::Read, namespace)))
    }

    async fn end_protection(&self, cx: &Context, req: EndProtectionRequest) -> Result<EndProtectionResponse> {
        self.0.allow(cx, Right::Operate, &req.namespace)?;
        let key = ServiceKey::new(&req.namespace, &req.env, &req.service)?;
        let removed = self.0.change(|store, now| store.end_protection(&key, &req.zone, now));
        tracing::info!(service = %key, zone = req.zone, removed, "an operator ended a protection");
        Ok(EndProtectionResponse { removed: wire::count(removed), ..Default::default() })
    }

    async fn list_services(&self, cx: &Context, req: ListServicesRequest) -> Result<ListServicesResponse> {
        self.allow(cx, Right::Read, &req.namespace)?;
        let (namespace, env) = check_scope(&req.namespace, &req.env)?;
        let services = self.0.store().services(namespace, env);
        let services = services.iter().map(wire::summary).collect();
        Ok(ListServicesResponse { epoch: self.0.epoch, services, ..Default::default() })
    }
}

/// A service as it is now, without the list if it is at the revision known.
fn current(shared: &Shared, key: &ServiceKey, known: Option<u64>) -> GetServiceResponse {
    let News::List(list) = shared.store().news(key, None) else {
        // Who knows nothing is always told the list.
        return GetServiceResponse { epoch: shared.epoch, ..Default::default() };
    };
    if known == Some(list.revision) {
        let (epoch, revision, digest) = (shared.epoch, list.revision, list.digest);
        let empty = list.empty.into();
        return GetServiceResponse { epoch, revision, digest, empty, unchanged: true, ..Default::default() };
    }
    wire::answer(shared.epoch, &list)
}
