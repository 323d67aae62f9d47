//! What clients ask.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use bowline_core::{Code, Error, Result};
use bowline_registry_nacos::api::{
    BATCH_REGISTER, BatchInstanceRequest, BatchInstanceResponse, Body, DEREGISTER, ErrorResponse,
    HealthCheckResponse, Instance, InstanceRequest, InstanceResponse, Outcome, Payload,
    PersistentInstanceRequest, QueryServiceResponse, REGISTER, ServerCheckResponse, ServiceListRequest,
    ServiceListResponse, ServiceQueryRequest, SubscribeServiceRequest, SubscribeServiceResponse, code, kind,
    request_id,
};
use bowline_registry_nacos::names::DEFAULT_GROUP;

use super::super::names::Name;
use super::super::registry::{self, Address, Registration, Wanted};
use super::connection::{Connection, Hub, Published};
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
    let answer = match kind {
        "HealthCheckRequest" => HealthCheckResponse { outcome }.payload(),
        "InstanceRequest" => instance(hub, &connection, InstanceRequest::of(payload)?, outcome),
        "BatchInstanceRequest" => batch(hub, &connection, BatchInstanceRequest::of(payload)?, outcome),
        "PersistentInstanceRequest" => persistent(PersistentInstanceRequest::of(payload)?),
        "ServiceQueryRequest" => query(hub, &ServiceQueryRequest::of(payload)?, outcome),
        "SubscribeServiceRequest" => {
            subscribe(hub, &connection, SubscribeServiceRequest::of(payload)?, outcome)
        }
        "ServiceListRequest" => list(hub, &ServiceListRequest::of(payload)?, outcome),
        other => {
            let shown: String = other.chars().take(80).collect();
            let message = format!("`{shown}` is not understood here: this registry does Nacos' naming alone");
            return Err(Refused { code: code::NO_HANDLER, message });
        }
    };
    Ok(answer?)
}

fn unknown(kind: &str, known: &str) -> Error {
    let shown: String = kind.chars().take(80).collect();
    Error::invalid_argument(format!("the type `{shown}` is unknown; use {known}"))
}

/// Registers the one instance that a connection has of a service, or deregisters it.
fn instance(
    hub: &Hub,
    connection: &Connection,
    request: InstanceRequest,
    outcome: Outcome,
) -> Result<Payload> {
    let name = Name::new(&request.group_name, &request.service_name)?;
    let key = name.key(&hub.shared, &request.namespace)?;
    match &*request.kind {
        REGISTER => publish(hub, connection, &key, vec![request.instance])?,
        DEREGISTER => {
            let Instance { ip, port, cluster_name, .. } = &request.instance;
            let address = Address { ip, port: *port, cluster: cluster_name };
            let found = address.find(&hub.shared.store(), &key, &name);
            if let Some(found) = found {
                withdraw(hub, connection, &key, found.record.id());
            }
        }
        other => return Err(unknown(other, "registerInstance or deregisterInstance")),
    }
    InstanceResponse { outcome, kind: request.kind }.payload()
}

fn batch(
    hub: &Hub,
    connection: &Connection,
    request: BatchInstanceRequest,
    outcome: Outcome,
) -> Result<Payload> {
    if request.kind != BATCH_REGISTER {
        return Err(unknown(&request.kind, BATCH_REGISTER));
    }
    let name = Name::new(&request.group_name, &request.service_name)?;
    let key = name.key(&hub.shared, &request.namespace)?;
    publish(hub, connection, &key, request.instances)?;
    BatchInstanceResponse { outcome, kind: request.kind }.payload()
}

/// Registers these instances of a service, and takes out what else the connection has of it: in Nacos a client says with
/// every request all that it has of a service. None is changed if one of them is malformed.
fn publish(hub: &Hub, connection: &Connection, key: &ServiceKey, given: Vec<Instance>) -> Result<()> {
    let registration = |given| {
        let holder = Arc::clone(&connection.name);
        Registration::new(&hub.shared, key.clone(), given, holder, hub.config.lease).map(Arc::new)
    };
    let all: Vec<_> = given.into_iter().map(registration).collect::<Result<_>>()?;
    let ids: BTreeSet<Arc<str>> = all.iter().map(|r| Arc::clone(r.record.id())).collect();
    let mut state = connection.state();
    let others = state.published.keys().filter(|(other, _)| other != key).count();
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
    let own = state.published.keys().filter(|(own, id)| own == key && !ids.contains(id));
    let gone: Vec<Arc<str>> = own.map(|(_, id)| Arc::clone(id)).collect();
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

fn persistent(request: PersistentInstanceRequest) -> Result<Payload> {
    let shown: String = request.service_name.chars().take(80).collect();
    Err(Error::unimplemented(format!(
        "persistent instances (`ephemeral=false`) are not kept here; register `{shown}` with an ephemeral one"
    )))
}

fn query(hub: &Hub, request: &ServiceQueryRequest, outcome: Outcome) -> Result<Payload> {
    let name = Name::new(&request.group_name, &request.service_name)?;
    let key = name.key(&hub.shared, &request.namespace)?;
    let wanted = Wanted { clusters: &request.cluster, healthy_only: request.healthy_only };
    let (_, service_info) = registry::info(&hub.shared, &key, &name, wanted);
    QueryServiceResponse { outcome, service_info }.payload()
}

fn subscribe(
    hub: &Hub,
    connection: &Connection,
    request: SubscribeServiceRequest,
    outcome: Outcome,
) -> Result<Payload> {
    let name = Name::new(&request.group_name, &request.service_name)?;
    let key = name.key(&hub.shared, &request.namespace)?;
    let length = request.clusters.len();
    if length > MAX_CLUSTERS {
        return Err(Error::invalid_argument(format!(
            "`clusters` has {length} bytes; name clusters in up to {MAX_CLUSTERS}, or none for all"
        )));
    }
    let subject = (key.clone(), request.clusters.clone());
    if request.subscribe {
        connection.subscribe(hub, subject, name.clone())?;
    } else {
        connection.unsubscribe(hub, &subject)?;
    }
    let wanted = Wanted { clusters: &request.clusters, healthy_only: false };
    let (_, service_info) = registry::info(&hub.shared, &key, &name, wanted);
    SubscribeServiceResponse { outcome, service_info }.payload()
}

fn list(hub: &Hub, request: &ServiceListRequest, outcome: Outcome) -> Result<Payload> {
    let group = if request.group_name.is_empty() { DEFAULT_GROUP } else { &request.group_name };
    let page = (request.page_no, request.page_size);
    let (count, service_names) = registry::services(&hub.shared, &request.namespace, group, page)?;
    ServiceListResponse { outcome, count, service_names }.payload()
}
