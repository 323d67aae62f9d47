//! The HTTP of Nacos 1, which 2 speaks as well. Errors are a status and a text.

use std::collections::BTreeMap;
use std::sync::Arc;

use bowline_core::Result;
use bowline_registry_bowline::api::bowline::registry::v1::InstanceStatus;
use bowline_registry_nacos::api::Instance;
use bowline_registry_nacos::names::{DEFAULT_CLUSTER, DEFAULT_GROUP};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::params::{Params, invalid};
use super::form::{Form, metadata};
use super::model;
use super::registry::{self, Address, Registration, Wanted, millis};
use super::{DONE, HOLDER, Said};
use crate::node::Shared;
use crate::store::{Override, Parts};

/// Of a heartbeat: it is taken.
const TAKEN: u32 = 10_200;
/// Of a heartbeat: there is no such instance; the client registers it.
const UNKNOWN: u32 = 20_404;

pub(super) fn register(shared: &Shared, params: &Params) -> Result<Said> {
    let form = Form::read(shared, params)?;
    put(shared, &form, form.instance()?)?;
    Ok(DONE)
}

/// Registers an instance that lives by heartbeats.
pub(super) fn put(shared: &Shared, form: &Form<'_>, given: Instance) -> Result<()> {
    let ttl = model::ttl(&given.metadata);
    Registration::new(shared, form.key.clone(), given, HOLDER.into(), ttl)?.put(shared)?;
    Ok(())
}

/// That it is not there is as good.
pub(super) fn deregister(shared: &Shared, params: &Params) -> Result<Said> {
    let form = Form::read(shared, params)?;
    let address = form.address()?;
    shared.change(|store, now| {
        if let Some(found) = address.find(store, &form.key, &form.name) {
            store.deregister(&form.key, found.record.id(), "", now);
        }
    });
    Ok(DONE)
}

/// Sets what is named of weight, metadata and whether there is traffic. It becomes an override: what the instance
/// registers later does not undo it.
pub(super) fn update(shared: &Shared, params: &Params) -> Result<Said> {
    let form = Form::read(shared, params)?;
    let address = form.address()?;
    let metadata = metadata(params.text("metadata"))?;
    model::check_metadata(&metadata)?;
    let weight = form.weight()?.map(model::weight).transpose()?;
    let enabled = form.enabled()?;
    shared.change(|store, now| {
        let found = address.require(store, &form.key, &form.name)?;
        let id = found.record.id();
        let status = match enabled {
            Some(false) => Some(InstanceStatus::INSTANCE_STATUS_OUT_OF_SERVICE),
            // As it says itself: that needs no override.
            Some(true) if found.registered.is_up() => {
                store.clear_override(&form.key, id, Parts::STATUS, now);
                None
            }
            Some(true) => Some(InstanceStatus::INSTANCE_STATUS_UP),
            None => None,
        };
        let changes = Override { status, weight, metadata, sequence: 0 };
        if !changes.is_empty() {
            store.set_override(&form.key, id, &changes, now)?;
        }
        Ok(DONE)
    })
}

pub(super) fn detail(shared: &Shared, params: &Params) -> Result<Said> {
    let form = Form::read(shared, params)?;
    let address = form.address()?;
    let found = address.require(&shared.store(), &form.key, &form.name)?;
    let told = model::tell(&found.record, &form.name);
    let told = told.ok_or_else(|| bowline_core::Error::not_found("the instance has no address"))?;
    Ok(Said::Json(json!({
        "service": form.name.grouped(),
        "ip": told.ip,
        "port": told.port,
        "clusterName": told.cluster_name,
        "weight": told.weight,
        "healthy": told.healthy,
        "enabled": told.enabled,
        "instanceId": told.instance_id,
        "metadata": told.metadata,
    })))
}

pub(super) fn list(shared: &Shared, params: &Params) -> Result<Said> {
    let form = Form::read(shared, params)?;
    let wanted = Wanted { clusters: params.text("clusters"), healthy_only: params.flag("healthyOnly") };
    let (_, mut info) = registry::info(shared, &form.key, &form.name, wanted);
    info.name = form.name.grouped();
    Ok(Said::Json(super::json(&info)?))
}

/// What a heartbeat says of its instance, if it says more than where that is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Beat {
    ip: String,
    port: u16,
    cluster: String,
    weight: f64,
    metadata: Option<BTreeMap<String, String>>,
}

impl Default for Beat {
    fn default() -> Self {
        Self { ip: String::new(), port: 0, cluster: String::new(), weight: 1.0, metadata: None }
    }
}

/// Renews. One that tells the whole instance registers it where it is not there.
pub(super) fn beat(shared: &Shared, params: &Params) -> Result<Said> {
    let form = Form::read(shared, params)?;
    let beat: Option<Beat> = match params.text("beat") {
        "" => None,
        text => {
            let beat = serde_json::from_str(text);
            Some(beat.map_err(|e| invalid(format!("the parameter `beat` is malformed: {e}")))?)
        }
    };
    let given = params.either("clusterName", "cluster");
    let address = match &beat {
        Some(beat) if beat.cluster.is_empty() => Address { ip: &beat.ip, port: beat.port, cluster: given },
        Some(beat) => Address { ip: &beat.ip, port: beat.port, cluster: &beat.cluster },
        None => form.address()?,
    };
    let renewed = renew(shared, &form, address)?;
    let (code, metadata) = match (renewed, &beat) {
        (Some(metadata), _) => (TAKEN, metadata),
        (None, None) => (UNKNOWN, BTreeMap::new()),
        (None, Some(beat)) => {
            let instance = Instance {
                ip: beat.ip.clone(),
                port: beat.port,
                cluster_name: address.cluster.to_owned(),
                weight: beat.weight,
                metadata: beat.metadata.clone().unwrap_or_default(),
                ..Default::default()
            };
            put(shared, &form, instance)?;
            (TAKEN, beat.metadata.clone().unwrap_or_default())
        }
    };
    let interval = millis(model::beat_interval(&metadata));
    Ok(Said::Json(json!({"code": code, "clientBeatInterval": interval, "lightBeatEnabled": true})))
}

/// Renews an instance. Returns its metadata, if it is there.
pub(super) fn renew(
    shared: &Shared,
    form: &Form<'_>,
    address: Address<'_>,
) -> Result<Option<BTreeMap<String, String>>> {
    shared.change(|store, now| {
        let Some(found) = address.find(store, &form.key, &form.name) else { return Ok(None) };
        let renewed = store.renew_instance(&form.key, found.record.id(), None, now);
        // One that has run out and was not noticed is not there.
        Ok(renewed.is_ok().then(|| registry::own_metadata(&found)))
    })
}

pub(super) fn services(shared: &Shared, params: &Params) -> Result<Said> {
    let page = (params.number("pageNo")?, params.number("pageSize")?);
    let group = params.either("groupName", "group");
    let group = if group.is_empty() { DEFAULT_GROUP } else { group };
    let (count, names) = registry::services(shared, params.text("namespaceId"), group, page)?;
    Ok(Said::Json(json!({"count": count, "doms": names})))
}

/// What there is of one service besides its instances.
pub(super) fn service(shared: &Shared, params: &Params) -> Result<Said> {
    let form = Form::read(shared, params)?;
    let (revision, found) = shared.store().registered(&form.key);
    if revision == 0 {
        return Err(bowline_core::Error::not_found(format!("`{}` is not registered", form.name.grouped())));
    }
    let mut clusters: Vec<&str> =
        found.iter().map(|found| found.record.instance().cluster.as_str()).collect();
    clusters.sort_unstable();
    clusters.dedup();
    let named =
        |cluster: &str| if cluster.is_empty() { DEFAULT_CLUSTER.to_owned() } else { cluster.to_owned() };
    let clusters: Vec<Value> = clusters.into_iter().map(|cluster| json!({"name": named(cluster)})).collect();
    let namespace = params.text("namespaceId");
    Ok(Said::Json(json!({
        "name": form.name.service,
        "groupName": form.name.group,
        "namespaceId": if namespace.is_empty() { "public" } else { namespace },
        "protectThreshold": 0.0,
        "metadata": {},
        "clusters": clusters,
    })))
}

/// What clients of Nacos 1 ask to learn whether the server is well. Who may read something is told also how much there is.
pub(super) fn metrics(shared: &Arc<Shared>, may_read: bool) -> Said {
    let status = match (shared.is_closed(), shared.check_serving()) {
        (true, _) => "DOWN",
        (false, Err(_)) => "STARTING",
        (false, Ok(())) => "UP",
    };
    if !may_read {
        return Said::Json(json!({"status": status}));
    }
    let counts = shared.store().counts();
    Said::Json(json!({"status": status, "serviceCount": counts.services, "instanceCount": counts.instances}))
}
