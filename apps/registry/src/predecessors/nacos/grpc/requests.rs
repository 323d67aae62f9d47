//! What clients ask.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use bowline_core::{Code, Error, Result};
use bowline_registry_nacos::api::{
    BATCH_REGISTER, BatchInstanceRequest, BatchInstanceResponse, Body, DEREGISTER, ErrorResponse,
    HealthCheckResponse, Instance, InstanceRequest, InstanceResponse, Outcome, Payload,
    PersistentInstanceRequest, QueryServiceResponse, REGISTER, ServerCheckResponse, ServiceListRequest,
    ServiceListResponse, ServiceQueryRequest, SubscribeServiceRequest, SubscribeServiceResponse, code,
    headers, kind, request_id,
};
use bowline_registry_nacos::names::DEFAULT_GROUP;

use super::super::HOLDER;
use super::super::names::{Name, namespace_of};
use super::super::registry::{self, Address, Registration, Wanted};
use super::connection::{Connection, Hub, Published};
use crate::access::{Caller, Right};
use crate::store::ServiceKey;

/// The most bytes of the clusters that are subscribed to: they are kept with the subscription.
const MAX_CLUSTERS: usize = 1_024;

/// Answers a request. What goes wrong is an answer too.
///
/// # Errors
/// `INTERNAL` if the answer cannot be written.
pub(super) fn answer(hub: &Hub, peer: SocketAddr, payload: &Payload) -> Result<Payload> {
    let id = request_id(payload);
    match run(hub, peer, payload, &id) {
        Ok(answer) => Ok(answer),
        Err(Refused { code, message }) => {
            tracing::debug!(%peer, request = kind(payload), code, message, "a Nacos request was refused");
            ErrorResponse { outcome: Outcome::failure(code, message, id) }.payload()
        }
    }
}

/// Why there is no other answer.
struct Refused {
    code: i32,
    message: String,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let code = match error.code() {
            Code::InvalidArgument | Code::OutOfRange => code::INVALID_PARAM,
            Code::NotFound => code::NOT_FOUND,
            Code::Unauthenticated | Code::PermissionDenied => code::NO_RIGHT,
            Code::ResourceExhausted => code::OVER_THRESHOLD,
            Code::Unavailable => code::INVALID_SERVER_STATUS,
            Code::Unimplemented => code::NOT_IMPLEMENTED,
            _ => code::FAIL,
        };
        Self { code, message: error.public_message().to_owned() }
    }
}

fn run(hub: &Hub, peer: SocketAddr, payload: &Payload, id: &str) -> Result<Payload, Refused> {
    if hub.shared.is_closed() {
        return Err(Error::unavailable("the registry node is going down; try another one").into());
    }
    hub.shared.check_serving()?;
    let outcome = Outcome::success(id);
    let kind = kind(payload);
    if kind == "ServerCheckRequest" {
        let connection_id = hub.name(peer);
        let answer = ServerCheckResponse { outcome, connection_id, support_ability_negotiation: true };
        return Ok(answer.payload()?);
    }
    let Some(connection) = hub.get(peer) else {
        let message = "the connection is not set up; connect anew".to_owned();
        return Err(Refused { code: code::UN_REGISTER, message });
    };
    connection.heard(hub.shared.now());
    let caller = hub.shared.access.caller(headers(payload).get("accessToken").map(String::as_str))?;
    let asker = &Asker { hub, connection: &connection, caller };
    let answer = match kind {
        "HealthCheckRequest" => HealthCheckResponse { outcome }.payload(),
        "InstanceRequest" => instance(asker, InstanceRequest::of(payload)?, outcome),
        "BatchInstanceRequest" => batch(asker, BatchInstanceRequest::of(payload)?, outcome),
        "PersistentInstanceRequest" => persistent(asker, PersistentInstanceRequest::of(payload)?, outcome),
        "ServiceQueryRequest" => query(asker, &ServiceQueryRequest::of(payload)?, outcome),
        "SubscribeServiceRequest" => subscribe(asker, SubscribeServiceRequest::of(payload)?, outcome),
        "ServiceListRequest" => list(asker, &ServiceListRequest::of(payload)?, outcome),
        other => {
            let shown: String = other.chars().take(80).collect();
            let message = format!("`{shown}` is not understood here: this registry does Nacos' naming alone");
            return Err(Refused { code: code::NO_HANDLER, message });
        }
    };
    Ok(answer?)
}

/// Who asks.
struct Asker<'a> {
    hub: &'a Hub,
    connection: &'a Connection,
    caller: Caller,
}

impl Asker<'_> {
    /// The service of a name, if that may be done with it.
    fn key(&self, right: Right, name: &Name, namespace: &str) -> Result<ServiceKey> {
        self.allow(right, namespace)?;
        name.key(&self.hub.shared, namespace)
    }

    fn allow(&self, right: Right, namespace: &str) -> Result<()> {
        self.hub.shared.access.check(&self.caller, right, namespace_of(namespace))
    }
}

fn unknown(kind: &str, known: &str) -> Error {
    let shown: String = kind.chars().take(80).collect();
    Error::invalid_argument(format!("the type `{shown}` is unknown; use {known}"))
}

/// Registers the one instance that a connection has of a service, or deregisters it.
fn instance(asker: &Asker<'_>, request: InstanceRequest, outcome: Outcome) -> Result<Payload> {
    let name = Name::new(&request.group_name, &request.service_name)?;
    let key = asker.key(Right::Register, &name, &request.namespace)?;
    match &*request.kind {
        REGISTER => publish(asker.hub, asker.connection, &key, vec![request.instance])?,
        DEREGISTER => {
            let Instance { ip, port, cluster_name, .. } = &request.instance;
            let address = Address { ip, port: *port, cluster: cluster_name };
            let found = address.find(&asker.hub.shared.store(), &key, &name);
            if let Some(found) = found {
                withdraw(asker.hub, asker.connection, &key, found.record.id());
            }
        }
        other => return Err(unknown(other, "registerInstance or deregisterInstance")),
    }
    InstanceResponse { outcome, kind: request.kind }.payload()
}

fn batch(asker: &Asker<'_>, request: BatchInstanceRequest, outcome: Outcome) -> Result<Payload> {
    if request.kind != BATCH_REGISTER {
        return Err(unknown(&request.kind, BATCH_REGISTER));
    }
    let name = Name::new(&request.group_name, &request.service_name)?;
    let key = asker.key(Right::Register, &name, &request.namespace)?;
    publish(asker.hub, asker.connection, &key, request.instances)?;
    BatchInstanceResponse { outcome, kind: request.kind }.payload()
}

/// Registers these instances of a service, and takes out what else the connection has of it: in Nacos a client says with
/// every request all that it has of a service. None is changed if one of them is malformed.
fn publish(hub: &Hub, connection: &Connection, key: &ServiceKey, given: Vec<Instance>) -> Result<()> {
    if given.iter().any(|instance| !instance.ephemeral) {
        return Err(Error::invalid_argument(
            "instances of a connection are not persistent; send a `PersistentInstanceRequest` for `ephemeral=false`",
        ));
    }
    let registration = |given| {
        let holder = Arc::clone(&connection.name);
        Registration::new(&hub.shared, key.clone(), given, holder, hub.config.lease).map(Arc::new)
    };
    let all: Vec<_> = given.into_iter().map(registration).collect::<Result<_>>()?;
    let ids: BTreeSet<Arc<str>> = all.iter().map(|r| Arc::clone(r.record.id())).collect();
    let mut state = connection.state();
    let others = state.published.len() - state.of(key).count();
    let most = hub.config.instances_per_connection;
    if others + ids.len() > most {
        return Err(Error::resource_exhausted(format!(
            "the connection would have {} instances, and may have {most}; raise `nacos.instances_per_connection` of the registry",
            others + ids.len()
        )));
    }
    for registration in all {
        let granted = registration.put(&hub.shared)?;
        let published = (key.clone(), Arc::clone(registration.record.id()));
        let renewed = hub.shared.now();
        state.published.insert(published, Published { registration, lease: granted.lease, renewed });
    }
    let gone: Vec<Arc<str>> = state.of(key).filter(|id| !ids.contains(*id)).cloned().collect();
    drop(state);
    for id in gone {
        withdraw(hub, connection, key, &id);
    }
    Ok(())
}

/// Takes an instance out, unless another connection has it by now.
fn withdraw(hub: &Hub, connection: &Connection, key: &ServiceKey, id: &Arc<str>) {
    connection.state().published.remove(&(key.clone(), Arc::clone(id)));
    hub.shared.change(|store, now| {
        if store.instance(key, id).is_some_and(|found| found.holder == connection.name) {
            // Without its holder's name: the same connection may register it again.
            store.deregister(key, id, "", now);
        }
    });
}

/// Registers an instance that outlives its connection, or deregisters one.
fn persistent(asker: &Asker<'_>, request: PersistentInstanceRequest, outcome: Outcome) -> Result<Payload> {
    let name = Name::new(&request.group_name, &request.service_name)?;
    let key = asker.key(Right::Register, &name, &request.namespace)?;
    let shared = &asker.hub.shared;
    match &*request.kind {
        REGISTER => {
            let given = Instance { ephemeral: false, ..request.instance };
            Registration::new(shared, key, given, HOLDER.into(), asker.hub.config.lease)?.put(shared)?;
        }
        DEREGISTER => {
            let Instance { ip, port, cluster_name, .. } = &request.instance;
            let address = Address { ip, port: *port, cluster: cluster_name };
            shared.change(|store, now| {
                if let Some(found) = address.find(store, &key, &name) {
                    store.deregister(&key, found.record.id(), "", now);
                }
            });
        }
        other => return Err(unknown(other, "registerInstance or deregisterInstance")),
    }
    InstanceResponse { outcome, kind: request.kind }.payload()
}

fn query(asker: &Asker<'_>, request: &ServiceQueryRequest, outcome: Outcome) -> Result<Payload> {
    let name = Name::new(&request.group_name, &request.service_name)?;
    let key = asker.key(Right::Read, &name, &request.namespace)?;
    let wanted = Wanted { clusters: &request.cluster, healthy_only: request.healthy_only };
    let (_, service_info) = registry::info(&asker.hub.shared, &key, &name, wanted);
    QueryServiceResponse { outcome, service_info }.payload()
}

fn subscribe(asker: &Asker<'_>, request: SubscribeServiceRequest, outcome: Outcome) -> Result<Payload> {
    let name = Name::new(&request.group_name, &request.service_name)?;
    let key = asker.key(Right::Read, &name, &request.namespace)?;
    let length = request.clusters.len();
    if length > MAX_CLUSTERS {
        return Err(Error::invalid_argument(format!(
            "`clusters` has {length} bytes; name clusters in up to {MAX_CLUSTERS}, or none for all"
        )));
    }
    let subject = (key.clone(), request.clusters.clone());
    if request.subscribe {
        asker.connection.subscribe(asker.hub, subject, name.clone())?;
    } else {
        asker.connection.unsubscribe(asker.hub, &subject)?;
    }
    let wanted = Wanted { clusters: &request.clusters, healthy_only: false };
    let (_, service_info) = registry::info(&asker.hub.shared, &key, &name, wanted);
    SubscribeServiceResponse { outcome, service_info }.payload()
}

fn list(asker: &Asker<'_>, request: &ServiceListRequest, outcome: Outcome) -> Result<Payload> {
    asker.allow(Right::Read, &request.namespace)?;
    let group = if request.group_name.is_empty() { DEFAULT_GROUP } else { &request.group_name };
    let page = (request.page_no, request.page_size);
    let (count, service_names) = registry::services(&asker.hub.shared, &request.namespace, group, page)?;
    ServiceListResponse { outcome, count, service_names }.payload()
}
