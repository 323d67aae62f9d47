//! The stream over which a process keeps what it has: it renews leases, registers, leases slots and lets them go.

use std::sync::Arc;

use bowline_core::{Context, Instant, Result};
use bowline_registry_bowline::api::bowline::registry::v1::{
    KeepAliveRequest, KeepAliveResponse, LeaseSlotRequest, RegisterRequest, ReleaseSlotRequest,
    ReleaseSlotResponse,
};
use bowline_registry_bowline::names::canonical;
use bowline_rpc::Streaming;

use crate::access::{Caller, Right};
use crate::api::{holder, invalid};
use crate::node::Shared;
use crate::store::{Record, Registering, ServiceKey, SlotAsked, Store};
use crate::wire;

/// The most registrations in one message of a stream: the store is kept from others meanwhile.
const MAX_REGISTRATIONS: usize = 1000;

/// The most slots in one message of a stream, and the most that are let go: for each one that is leased, all of its group
/// are looked at.
const MAX_SLOTS: usize = 100;

/// Answers each request of a stream, until it ends or the node goes down.
pub(crate) fn serve(
    shared: &Arc<Shared>,
    cx: &Context,
    requests: Streaming<KeepAliveRequest>,
) -> Result<Streaming<KeepAliveResponse>> {
    shared.check_serving()?;
    let caller = shared.caller(cx);
    shared.access.check_any(&caller, Right::Register)?;
    let state = (Arc::clone(shared), caller, requests);
    Ok(Streaming::new(futures_util::stream::try_unfold(state, |(shared, caller, mut requests)| async move {
        let next = tokio::select! {
            biased;
            error = shared.closed() => return Err(error),
            next = requests.message() => next?,
        };
        let Some(request) = next else { return Ok(None) };
        let response = keep(&shared, &caller, request)?;
        Ok(Some((response, (shared, caller, requests))))
    })))
}

/// Answers one request: all of it at one moment.
fn keep(shared: &Shared, caller: &Caller, request: KeepAliveRequest) -> Result<KeepAliveResponse> {
    let KeepAliveRequest { lease_ids, registrations, slots, releases, .. } = request;
    for (asked, most, what) in [
        (lease_ids.len(), shared.config.limits.leases_per_renewal, "leases at a time; renew"),
        (registrations.len(), MAX_REGISTRATIONS, "registrations at a time; register"),
        (slots.len(), MAX_SLOTS, "slots at a time; lease"),
        (releases.len(), MAX_SLOTS, "slots at a time; let go"),
    ] {
        if asked > most {
            return Err(invalid(format!("{asked} {what} up to {most}")));
        }
    }
    let registrations: Vec<_> = registrations.into_iter().map(|r| registering(shared, caller, r)).collect();
    let slots: Vec<_> = slots.into_iter().map(|slot| leasing(shared, caller, slot)).collect();
    let releases: Vec<_> = releases.into_iter().map(|slot| releasing(shared, caller, slot)).collect();
    let mut response = KeepAliveResponse { epoch: shared.epoch, ..Default::default() };
    shared.change(|store, now| {
        for lease in &lease_ids {
            // What somebody may not renew, he is told nothing of.
            let may = |namespace| shared.access.may(caller, Right::Register, namespace);
            let is_own = shared.access.is_open() || store.lease_namespace(*lease).is_some_and(may);
            match is_own.then(|| store.renew(*lease, now)).flatten() {
                Some(_) => response.renewed.push(*lease),
                None => response.unknown.push(*lease),
            }
        }
        let registered = registrations.into_iter().map(|asked| {
            let outcome = asked.and_then(|asked| store.register(asked, now));
            wire::registered(outcome, shared.epoch)
        });
        response.registered = registered.collect();
        // Who lets one go and wants another may have the same.
        let released = releases
            .into_iter()
            .map(|asked| wire::slot_released(asked.map(|asked| asked.release(store, now))));
        response.released = released.collect();
        let leased = slots.into_iter().map(|asked| {
            let outcome = asked.and_then(|asked| store.lease_slot(asked, now));
            wire::slot_leased(outcome, shared.epoch)
        });
        response.slots = leased.collect();
    });
    Ok(response)
}

/// What somebody asks to register, checked.
///
/// # Errors
/// `NOT_ALLOWED`, or what is malformed.
pub(crate) fn registering(shared: &Shared, caller: &Caller, req: RegisterRequest) -> Result<Registering> {
    shared.access.check(caller, Right::Register, &req.namespace)?;
    let ttl = wire::duration(req.ttl.as_option(), "ttl")?;
    let mut instance =
        req.instance.into_option().ok_or_else(|| invalid("there is no `instance` to register"))?;
    let key = ServiceKey::new(&req.namespace, &instance.env, &instance.service)?;
    instance.env = canonical(&instance.env).into();
    Ok(Registering {
        key,
        record: Arc::new(Record::new(instance, &shared.config.limits)?),
        ttl,
        holder: holder(&req.holder)?.into(),
        sequence: req.sequence,
        only_if_free: req.only_if_free,
    })
}

/// The slot that somebody asks for, checked.
///
/// # Errors
/// As [`registering`].
pub(crate) fn leasing(shared: &Shared, caller: &Caller, req: LeaseSlotRequest) -> Result<SlotAsked> {
    shared.access.check(caller, Right::Register, &req.namespace)?;
    let ttl = wire::duration(req.ttl.as_option(), "ttl")?;
    let group = ServiceKey::slots(&req.namespace, &req.env, &req.group)?;
    let holder = holder(&req.holder)?;
    if holder.is_empty() {
        return Err(invalid("there is no `holder`; name the process by something random"));
    }
    Ok(SlotAsked { group, member: req.member, ttl, holder: holder.into() })
}

/// A slot that is to be let go.
pub(crate) struct Releasing {
    group: ServiceKey,
    slot: u32,
    holder: String,
}

/// The slot that somebody lets go, checked.
///
/// # Errors
/// As [`registering`].
pub(crate) fn releasing(shared: &Shared, caller: &Caller, req: ReleaseSlotRequest) -> Result<Releasing> {
    shared.access.check(caller, Right::Register, &req.namespace)?;
    let group = ServiceKey::slots(&req.namespace, &req.env, &req.group)?;
    let holder = holder(&req.holder)?.to_owned();
    if holder.is_empty() {
        return Err(invalid(
            "there is no `holder`; name the process that has the slot, as when it was leased",
        ));
    }
    Ok(Releasing { group, slot: req.slot, holder })
}

impl Releasing {
    pub(crate) fn release(self, store: &mut Store, now: Instant) -> ReleaseSlotResponse {
        let released = store.release_slot(&self.group, self.slot, &self.holder, now);
        ReleaseSlotResponse { released, ..Default::default() }
    }
}
