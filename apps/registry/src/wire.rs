//! From what the store says to what goes over the wire.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Error, Result};
use bowline_registry_bowline::api::bowline::registry::v1 as wire;
use bowline_registry_bowline::api::bowline::registry::v1::watch_response::Event;
use bowline_registry_bowline::api::bowline::registry::v1::{
    Delta, Entry, GetServiceResponse, Removal, RemovalReason, ServiceSummary, SnapshotPart, Synced,
    WatchResponse, registered, registry_error, slot_leased, slot_released,
};
use bowline_rpc::codegen::buffa::MessageField;
use bowline_rpc::codegen::buffa_types::google::protobuf;

use crate::Node;
use crate::node::Shared;
use crate::store::{Changes, Granted, List, Override, Protected, Record, Summary};

/// The most bytes of entries in one message, about: a quarter of the limit that gRPC's implementations share.
const PART_BYTES: usize = 1024 * 1024;

fn entry(record: &Record) -> Entry {
    Entry {
        instance: record.instance().clone().into(),
        hash: record.hash(),
        overridden: record.overridden().map(|o| overridden(o)).into(),
        ..Default::default()
    }
}

/// A lease as it is sent.
pub(crate) fn granted(of: &Granted, epoch: u64) -> wire::RegisterResponse {
    wire::RegisterResponse {
        lease_id: of.lease,
        ttl: MessageField::some(of.ttl.into()),
        renew_interval: MessageField::some((of.ttl / 3).into()),
        epoch,
        ..Default::default()
    }
}

/// A slot as it is sent.
pub(crate) fn slot(slot: u32, of: &Granted, epoch: u64) -> wire::LeaseSlotResponse {
    wire::LeaseSlotResponse {
        slot,
        lease_id: of.lease,
        ttl: MessageField::some(of.ttl.into()),
        renew_interval: MessageField::some((of.ttl / 3).into()),
        epoch,
        ..Default::default()
    }
}

/// What became of a registration, as it is sent over a stream.
pub(crate) fn registered(outcome: Result<Granted>, epoch: u64) -> wire::Registered {
    let outcome = match outcome {
        Ok(of) => registered::Outcome::from(granted(&of, epoch)),
        Err(error) => registered::Outcome::from(refusal(&error)),
    };
    wire::Registered { outcome: Some(outcome), ..Default::default() }
}

/// What became of a slot that was asked for.
pub(crate) fn slot_leased(outcome: Result<(u32, Granted)>, epoch: u64) -> wire::SlotLeased {
    let outcome = match outcome {
        Ok((number, of)) => slot_leased::Outcome::from(slot(number, &of, epoch)),
        Err(error) => slot_leased::Outcome::from(refusal(&error)),
    };
    wire::SlotLeased { outcome: Some(outcome), ..Default::default() }
}

/// What became of a slot that was to be let go.
pub(crate) fn slot_released(outcome: Result<wire::ReleaseSlotResponse>) -> wire::SlotReleased {
    let outcome = match outcome {
        Ok(released) => slot_released::Outcome::from(released),
        Err(error) => slot_released::Outcome::from(refusal(&error)),
    };
    wire::SlotReleased { outcome: Some(outcome), ..Default::default() }
}

fn refusal(error: &Error) -> wire::Refusal {
    wire::Refusal {
        code: error.code().number(),
        reason: error.reason().into(),
        domain: error.domain().into(),
        message: error.public_message().into(),
        ..Default::default()
    }
}

/// An override as it is sent.
pub(crate) fn overridden(of: &Override) -> wire::Override {
    wire::Override {
        status: of.status.unwrap_or_default().into(),
        weight: of.weight,
        metadata: of.metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        sequence: of.sequence,
        ..Default::default()
    }
}

/// An override as it was sent.
///
/// # Errors
/// `INVALID_REQUEST` for a status this node does not know.
pub(crate) fn changes(sent: wire::Override) -> Result<Override> {
    let status = sent.status.as_known().ok_or_else(|| {
        registry_error::invalid_request().with_message("the override's status is unknown to this node")
    })?;
    Ok(Override {
        status: Some(status).filter(|s| *s != wire::InstanceStatus::INSTANCE_STATUS_UNSPECIFIED),
        weight: sent.weight,
        metadata: sent.metadata.into_iter().collect(),
        sequence: 0,
    })
}

/// Who went, as it is sent.
pub(crate) fn removals<'a>(removed: impl IntoIterator<Item = &'a (Arc<str>, RemovalReason)>) -> Vec<Removal> {
    removed
        .into_iter()
        .map(|(id, reason)| Removal { id: id.to_string(), reason: (*reason).into(), ..Default::default() })
        .collect()
}

/// A whole list in parts.
pub(crate) struct Parts<'a> {
    list: &'a List,
    next: usize,
    first: bool,
}

impl<'a> Parts<'a> {
    pub(crate) fn new(list: &'a List) -> Self {
        Self { list, next: 0, first: true }
    }

    /// The next part; `None` after the last one. There is at least one.
    pub(crate) fn next(&mut self) -> Option<SnapshotPart> {
        if !self.first && self.next >= self.list.records.len() {
            return None;
        }
        let mut part = SnapshotPart { first: self.first, ..Default::default() };
        let mut bytes = 0;
        while bytes < PART_BYTES
            && let Some(record) = self.list.records.get(self.next)
        {
            part.entries.push(entry(record));
            bytes += record.size();
            self.next += 1;
        }
        self.first = false;
        Some(part)
    }
}

/// A response about a list or a part of it.
pub(crate) fn of_list(service: &str, epoch: u64, list: &List, event: Event) -> WatchResponse {
    WatchResponse {
        service: service.into(),
        epoch,
        revision: list.revision,
        digest: list.digest,
        empty: list.empty.into(),
        event: Some(event),
        ..Default::default()
    }
}

/// Changes as a response. `None` if they are too large for one: then the whole list goes, in parts.
pub(crate) fn delta(service: &str, epoch: u64, changes: &Changes) -> Option<WatchResponse> {
    if changes.upserted.iter().map(|r| r.size()).sum::<usize>() > PART_BYTES {
        return None;
    }
    let delta = Delta {
        from_revision: changes.from_revision,
        upserted: changes.upserted.iter().map(|r| entry(r)).collect(),
        removed: removals(&changes.removed),
        ..Default::default()
    };
    Some(WatchResponse {
        service: service.into(),
        epoch,
        revision: changes.revision,
        digest: changes.digest,
        empty: changes.empty.into(),
        event: Some(Event::Delta(Box::new(delta))),
        ..Default::default()
    })
}

/// SYNCED.
pub(crate) fn synced(settling: bool) -> Event {
    Event::Synced(Box::new(Synced { settling, ..Default::default() }))
}

/// SYNCED of all there is under the prefixes.
pub(crate) fn all_synced(epoch: u64, settling: bool) -> WatchResponse {
    WatchResponse { epoch, event: Some(synced(settling)), ..Default::default() }
}

/// A sign of life.
pub(crate) fn heartbeat(epoch: u64) -> WatchResponse {
    WatchResponse { epoch, ..Default::default() }
}

/// A list as the answer to who polls.
pub(crate) fn answer(epoch: u64, list: &List) -> GetServiceResponse {
    GetServiceResponse {
        epoch,
        revision: list.revision,
        digest: list.digest,
        empty: list.empty.into(),
        entries: list.records.iter().map(|r| entry(r)).collect(),
        ..Default::default()
    }
}

/// A number as it is sent.
pub(crate) fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

/// How a node is, to who may read these namespaces.
pub(crate) fn node(shared: &Arc<Shared>, may_read: impl Fn(&str) -> bool) -> wire::GetNodeResponse {
    let stats = Node::from(Arc::clone(shared)).stats();
    let (zone, serving) = shared.standing();
    let (mut protected, now) = (shared.store().protected(), shared.now());
    protected.retain(|of| may_read(of.key.namespace()));
    let protection = |of: Protected| wire::Protection {
        namespace: of.key.namespace().into(),
        env: of.key.env().into(),
        service: of.key.service().into(),
        zone: of.zone.to_string(),
        lasts: MessageField::some(now.saturating_duration_since(of.since).into()),
        expected: count(of.expected),
        overdue: count(of.overdue),
        ..Default::default()
    };
    wire::GetNodeResponse {
        epoch: shared.epoch,
        zone: zone.into(),
        serving,
        services: count(stats.services),
        instances: count(stats.instances),
        leases: count(stats.leases),
        orphans: count(stats.orphans),
        watchers: count(stats.watchers),
        streams: count(stats.streams),
        protected: protected.into_iter().map(protection).collect(),
        ..Default::default()
    }
}

pub(crate) fn summary(summary: &Summary) -> ServiceSummary {
    ServiceSummary {
        service: summary.key.service().into(),
        instances: count(summary.instances),
        up: count(summary.up),
        revision: summary.revision,
        ..Default::default()
    }
}

/// A duration that was sent, if one was.
pub(crate) fn duration(sent: Option<&protobuf::Duration>, what: &str) -> Result<Option<Duration>> {
    let convert = |d: &protobuf::Duration| {
        Duration::try_from(d.clone()).map_err(|e| {
            let message = format!("`{what}` is no usable duration: {e}; write it like 30s");
            registry_error::invalid_request().with_message(message)
        })
    };
    sent.map(convert).transpose()
}
