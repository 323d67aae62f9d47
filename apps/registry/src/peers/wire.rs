//! Facts as they are sent from node to node.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::Result;
use bowline_registry_bowline::api::bowline::registry::v1 as client;
use bowline_rpc::codegen::buffa::Message as _;

use super::api as wire;
use super::api::fact::Said as SaidWire;
use super::api::peer_error;
use crate::Limits;
use crate::store::{Announced, Fact, FactKey, Gone, Kind, Owner, Record, Said, ServiceKey, Version};

pub(super) fn malformed(what: impl Into<std::borrow::Cow<'static, str>>) -> bowline_core::Error {
    peer_error::malformed().with_message(what)
}

pub(super) fn name(key: &ServiceKey) -> wire::ServiceName {
    wire::ServiceName {
        namespace: key.namespace().into(),
        env: key.env().into(),
        service: key.service().into(),
        ..Default::default()
    }
}

pub(super) fn key(name: Option<&wire::ServiceName>) -> Result<ServiceKey> {
    let name = name.ok_or_else(|| malformed("there is no service"))?;
    ServiceKey::told(&name.namespace, &name.env, &name.service)
}

fn version(of: Version) -> wire::Version {
    let Version { clock, owner } = of;
    wire::Version { clock, node: owner.node, life: owner.life, ..Default::default() }
}

fn version_of(sent: Option<&wire::Version>) -> Result<Version> {
    let sent = sent.ok_or_else(|| malformed("there is no version"))?;
    Ok(Version { clock: sent.clock, owner: Owner { node: sent.node, life: sent.life } })
}

pub(super) fn known(id: &str, kind: Kind, of: Option<Version>) -> wire::Known {
    let kind = match kind {
        Kind::Instance => wire::Kind::KIND_INSTANCE,
        Kind::Override => wire::Kind::KIND_OVERRIDE,
    };
    wire::Known { id: id.into(), kind: kind.into(), version: of.map(version).into(), ..Default::default() }
}

/// What lapsed at a version.
pub(super) fn lapsed(id: &str, of: Version) -> wire::Known {
    wire::Known { lapsed: true, ..known(id, Kind::Instance, Some(of)) }
}

pub(super) fn kind(known: &wire::Known) -> Result<Kind> {
    match known.kind.as_known() {
        Some(wire::Kind::KIND_INSTANCE) => Ok(Kind::Instance),
        Some(wire::Kind::KIND_OVERRIDE) => Ok(Kind::Override),
        _ => Err(malformed("a fact of an unknown kind")),
    }
}

pub(super) fn known_version(known: &wire::Known) -> Result<Version> {
    version_of(known.version.as_option())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A fact as it is sent, and its size, about.
pub(crate) fn fact(of: &Fact) -> (wire::Fact, usize) {
    let (said, size) = match &of.said {
        Said::Here(announced) => {
            let instance = announced.record.instance().encode_to_vec();
            let size = instance.len();
            let here = wire::Here {
                instance,
                holder: announced.holder.to_string(),
                sequence: announced.sequence,
                ttl_ms: millis(announced.ttl),
                age_ms: millis(announced.age),
                said_ms: millis(announced.said),
                registered: (announced.registered != of.version)
                    .then(|| version(announced.registered))
                    .into(),
                ..Default::default()
            };
            (SaidWire::Here(Box::new(here)), size)
        }
        Said::Gone(gone, age) => {
            let gone = wire::Gone {
                reason: gone.reason as i32,
                holder: gone.holder.to_string(),
                lapsed: gone.lapsed,
                age_ms: millis(*age),
                ..Default::default()
            };
            (SaidWire::Gone(Box::new(gone)), 0)
        }
        Said::Overridden { overridden, forgotten } => {
            let changes = crate::wire::overridden(overridden).encode_to_vec();
            let size = changes.len();
            let overridden = wire::Overridden { changes, forgotten: *forgotten, ..Default::default() };
            (SaidWire::Overridden(Box::new(overridden)), size)
        }
    };
    let sent = wire::Fact {
        service: name(&of.of.key).into(),
        id: of.of.id.to_string(),
        version: version(of.version).into(),
        said: Some(said),
        ..Default::default()
    };
    (sent, size + 128)
}

/// A fact that was sent.
pub(crate) fn read(sent: wire::Fact) -> Result<Fact> {
    let key = key(sent.service.as_option())?;
    let version = version_of(sent.version.as_option())?;
    let id: Arc<str> = sent.id.into();
    crate::store::check_id(&id)?;
    let (kind, said) = match sent.said.ok_or_else(|| malformed("a fact that says nothing"))? {
        SaidWire::Here(here) => (Kind::Instance, Said::Here(announced(&key, &id, version, *here)?)),
        SaidWire::Gone(gone) => {
            let reason = [
                client::RemovalReason::REMOVAL_REASON_CANCELLED,
                client::RemovalReason::REMOVAL_REASON_EXPIRED,
            ];
            let reason = reason.into_iter().find(|r| *r as i32 == gone.reason);
            let reason = reason.ok_or_else(|| malformed("something went for an unknown reason"))?;
            let cancelled = reason == client::RemovalReason::REMOVAL_REASON_CANCELLED;
            if (!cancelled && !gone.holder.is_empty()) || (cancelled && gone.lapsed) {
                return Err(malformed("something went in two ways at once"));
            }
            let age = Duration::from_millis(gone.age_ms);
            let holder = crate::api::holder(&gone.holder)?.into();
            (Kind::Instance, Said::Gone(Gone { reason, holder, lapsed: gone.lapsed }, age))
        }
        SaidWire::Overridden(said) => {
            let changes = client::Override::decode_from_slice(&said.changes)
                .map_err(|e| malformed("an override that cannot be read").with_source(e))?;
            let overridden = crate::wire::changes(changes)?;
            let overridden = crate::store::Override { sequence: version.clock, ..overridden };
            let said = Said::Overridden { overridden: Arc::new(overridden), forgotten: said.forgotten };
            (Kind::Override, said)
        }
    };
    Ok(Fact { of: FactKey { key, id, kind }, version, said })
}

/// What is checked of an instance that another node took: its form. How much of what it may have, that node has decided.
fn limits() -> Limits {
    Limits {
        instance_bytes: usize::MAX,
        endpoints: usize::MAX,
        metadata_entries: usize::MAX,
        ..Limits::default()
    }
}

fn announced(key: &ServiceKey, id: &Arc<str>, said_at: Version, here: wire::Here) -> Result<Announced> {
    let instance = client::Instance::decode_from_slice(&here.instance)
        .map_err(|e| malformed("an instance that cannot be read").with_source(e))?;
    let is_it = instance.id == **id && (instance.service.is_empty() || instance.service == key.service());
    if !is_it {
        let (own, service) = (&instance.id, &instance.service);
        return Err(malformed(format!("the instance `{id}` of {key} calls itself `{own}` of `{service}`")));
    }
    let registered = match here.registered.as_option() {
        None => said_at,
        registered => version_of(registered)?,
    };
    Ok(Announced {
        registered,
        record: Arc::new(Record::told(instance, &limits())?),
        holder: crate::api::holder(&here.holder)?.into(),
        sequence: here.sequence,
        ttl: Duration::from_millis(here.ttl_ms),
        age: Duration::from_millis(here.age_ms),
        said: Duration::from_millis(here.said_ms),
    })
}
