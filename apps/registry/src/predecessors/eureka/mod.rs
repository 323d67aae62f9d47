//! Eureka's REST, in JSON and in XML.

mod model;
mod path;
mod xml;

use std::collections::BTreeMap;
use std::sync::Arc;

use bowline_core::{Error, Result};
use bowline_registry_bowline::api::bowline::registry::v1::InstanceStatus;
use bowline_registry_bowline::names::canonical;
use bowline_rpc::{Body, Scope};
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::params::{Params, invalid};
use super::{RESERVED, answer, http_status, status};
use crate::access::Right;
use crate::node::Shared;
use crate::store::{Happened, Override, Parts, Record, Registered, Registering, ServiceKey, Store};
use model::{HOLDER, Seen};
pub(super) use path::Operations;
use path::Target;

/// The most bytes of an instance as it is registered: one of the largest size fits, its text escaped.
const MAX_BODY: usize = 128 * 1024;
/// Says that a request comes from another server.
const REPLICATION: HeaderName = HeaderName::from_static("x-netflix-discovery-replication");

/// What is said.
enum Said {
    /// A status alone.
    Status(StatusCode),
    /// A document: the name of its root, and what is in it.
    Document(StatusCode, &'static str, Value),
}

const DONE: Said = Said::Status(StatusCode::OK);

/// Answers a request.
pub(super) async fn call(shared: &Arc<Shared>, scope: &Scope, request: Request<Body>) -> Response<Body> {
    let as_json = accepts_json(request.headers());
    match run(shared, scope, request).await {
        Ok(Said::Status(code)) => {
            scope.outcome.succeed();
            status(code)
        }
        Ok(Said::Document(code, root, document)) => {
            scope.outcome.succeed();
            if as_json {
                let mut whole = Map::new();
                whole.insert(root.to_owned(), document);
                answer(code, "application/json", Value::Object(whole).to_string())
            } else {
                answer(code, "application/xml", xml::write(root, &document))
            }
        }
        Err(error) => {
            let response =
                answer(http_status(&error), "text/plain; charset=utf-8", error.public_message().to_owned());
            scope.outcome.fail(error);
            response
        }
    }
}

/// XML is what is told to who does not ask for JSON.
fn accepts_json(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().any(|accept| accept.to_str().is_ok_and(|accept| accept.contains("json")))
}

async fn run(shared: &Arc<Shared>, scope: &Scope, request: Request<Body>) -> Result<Said> {
    shared.check_serving()?;
    let (parts, mut body) = request.into_parts();
    let nowhere = || Error::not_found("there is nothing here");
    let target = Target::of(parts.uri.path()).ok_or_else(nowhere)?;
    let params = Params::read(&[parts.uri.query().unwrap_or_default().as_bytes()])?;
    let is_replica = parts.headers.get(REPLICATION).is_some_and(|value| value.as_bytes() == b"true");
    let verb = parts.method.as_str();
    let right = match (&target, verb) {
        (_, "GET") => Right::Read,
        (Target::Status(..) | Target::Metadata(..), _) => Right::Operate,
        _ => Right::Register,
    };
    // All of this protocol is in one namespace.
    shared.allow(&scope.cx, right, "")?;
    match (target, verb) {
        (Target::Apps, "GET") => Ok(apps(shared, |_| true)),
        (Target::Delta, "GET") => Ok(delta(shared)),
        (Target::App(app), "GET") => one_app(shared, &app),
        (Target::App(app), "POST") => register(shared, &app, &parts.headers, &body.collect(MAX_BODY).await?),
        (Target::Instance(app, id), "GET") => {
            let (key, found) = find(&shared.store(), shared, &app, &id)?;
            instance(shared, &key, &found)
        }
        (Target::Instance(app, id), "PUT") => heartbeat(shared, &app, &id, &params, is_replica),
        (Target::Instance(app, id), "DELETE") => shared.change(|store, now| {
            let (key, _) = find(store, shared, &app, &id)?;
            store.deregister(&key, &id, "", now);
            Ok(DONE)
        }),
        (Target::Status(app, id), "PUT") => set_status(shared, &app, &id, params.required("value")?),
        (Target::Status(app, id), "DELETE") => shared.change(|store, now| {
            let (key, _) = find(store, shared, &app, &id)?;
            store.clear_override(&key, &id, Parts::STATUS, now);
            Ok(DONE)
        }),
        (Target::Metadata(app, id), "PUT") => set_metadata(shared, &app, &id, &params),
        (Target::AnyInstance(id), "GET") => any_instance(shared, &id),
        (Target::Vip(vip), "GET") => vips(shared, "vipAddress", &vip),
        (Target::SecureVip(vip), "GET") => vips(shared, "secureVipAddress", &vip),
        _ => Err(nowhere()),
    }
}

fn env(shared: &Shared) -> &str {
    canonical(&shared.config.eureka_env)
}

/// The services with instances that this protocol sees, by name.
fn services(store: &Store, shared: &Shared) -> Vec<ServiceKey> {
    store.services(canonical(""), env(shared)).into_iter().map(|service| service.key).collect()
}

/// The service of an application, whose name is in capitals here.
fn service(store: &Store, shared: &Shared, app: &str) -> Result<Option<ServiceKey>> {
    let lower = ServiceKey::new("", env(shared), &app.to_ascii_lowercase())?;
    if store.has_instances(&lower) {
        return Ok(Some(lower));
    }
    Ok(services(store, shared).into_iter().find(|key| key.service().eq_ignore_ascii_case(app)))
}

fn not_there(what: &str) -> Error {
    Error::not_found(format!("{what} is not registered"))
}

fn find(store: &Store, shared: &Shared, app: &str, id: &str) -> Result<(ServiceKey, Registered)> {
    let found = service(store, shared, app)?.and_then(|key| Some((store.instance(&key, id)?, key)));
    found.map(|(found, key)| (key, found)).ok_or_else(|| not_there(&format!("`{id}` of {app}")))
}

fn instance(shared: &Shared, key: &ServiceKey, found: &Registered) -> Result<Said> {
    let document = Seen::of(shared, key, found).document(Happened::Added);
    let no_form = || not_there(&format!("`{}` with an address", found.record.id()));
    Ok(Said::Document(StatusCode::OK, "instance", document.ok_or_else(no_form)?))
}

/// Applications with those of their instances that are wanted, and how many of these have which status.
#[derive(Default)]
struct Applications {
    apps: Vec<Value>,
    statuses: BTreeMap<String, usize>,
}

impl Applications {
    fn add(&mut self, key: &ServiceKey, instances: Vec<Value>) {
        for instance in &instances {
            let status = instance["status"].as_str().unwrap_or_default().to_owned();
            *self.statuses.entry(status).or_default() += 1;
        }
        if !instances.is_empty() {
            self.apps.push(json!({"name": model::app(key), "instance": instances}));
        }
    }

    /// By which a client tells whether it has missed anything.
    fn hash_code(&self) -> String {
        self.statuses.iter().map(|(status, count)| format!("{status}_{count}_")).collect()
    }

    fn document(apps: Vec<Value>, hash_code: String) -> Said {
        let document = json!({"versions__delta": "1", "apps__hashcode": hash_code, "application": apps});
        Said::Document(StatusCode::OK, "applications", document)
    }
}

/// The instances of a service that this protocol has a form for.
fn instances(shared: &Shared, key: &ServiceKey, found: &[Registered]) -> Vec<Value> {
    found.iter().filter_map(|found| Seen::of(shared, key, found).document(Happened::Added)).collect()
}

/// All instances by service, as they are at one moment.
fn everything(store: &Store, shared: &Shared) -> Vec<(ServiceKey, Vec<Registered>)> {
    services(store, shared).into_iter().map(|key| (key.clone(), store.registered(&key).1)).collect()
}

fn collect(
    shared: &Shared,
    all: &[(ServiceKey, Vec<Registered>)],
    wanted: impl Fn(&Value) -> bool,
) -> Applications {
    let mut applications = Applications::default();
    for (key, found) in all {
        let instances = instances(shared, key, found).into_iter().filter(|i| wanted(i)).collect();
        applications.add(key, instances);
    }
    applications
}

fn apps(shared: &Shared, wanted: impl Fn(&Value) -> bool) -> Said {
    let all = everything(&shared.store(), shared);
    let found = collect(shared, &all, wanted);
    let hash_code = found.hash_code();
    Applications::document(found.apps, hash_code)
}

/// What changed in the last three minutes, of each instance the latest, and the hash code of all there is.
fn delta(shared: &Shared) -> Said {
    let mut store = shared.store();
    let scope = (canonical(""), env(shared));
    let recent = store.recent(shared.now()).filter(|r| (r.key.namespace(), r.key.env()) == scope);
    let latest: BTreeMap<_, _> =
        recent.map(|r| ((r.key.clone(), Arc::clone(r.record.id())), r.clone())).collect();
    let all = everything(&store, shared);
    drop(store);
    let mut changed: BTreeMap<ServiceKey, Vec<Value>> = BTreeMap::new();
    for ((key, id), recent) in latest {
        let here = all.binary_search_by(|(k, _)| k.cmp(&key)).ok().and_then(|n| all.get(n));
        let found = here.and_then(|(_, found)| found.iter().find(|f| *f.record.id() == id));
        let document = match (found, recent.happened) {
            (Some(found), Happened::Added) => Seen::of(shared, &key, found).document(Happened::Added),
            (Some(found), _) => Seen::of(shared, &key, found).document(Happened::Modified),
            (None, _) => Seen::gone(shared, &key, &recent).document(Happened::Removed),
        };
        changed.entry(key).or_default().extend(document);
    }
    let mut found = Applications::default();
    for (key, instances) in changed {
        found.add(&key, instances);
    }
    Applications::document(found.apps, collect(shared, &all, |_| true).hash_code())
}

fn one_app(shared: &Shared, app: &str) -> Result<Said> {
    let store = shared.store();
    let key = service(&store, shared, app)?.ok_or_else(|| not_there(app))?;
    let (_, found) = store.registered(&key);
    drop(store);
    let document = json!({"name": model::app(&key), "instance": instances(shared, &key, &found)});
    Ok(Said::Document(StatusCode::OK, "application", document))
}

fn any_instance(shared: &Shared, id: &str) -> Result<Said> {
    let store = shared.store();
    let found = services(&store, shared).into_iter().find_map(|key| Some((store.instance(&key, id)?, key)));
    drop(store);
    let (found, key) = found.ok_or_else(|| not_there(&format!("`{id}`")))?;
    instance(shared, &key, &found)
}

fn vips(shared: &Shared, field: &str, vip: &str) -> Result<Said> {
    let has = |instance: &Value| {
        let names = instance[field].as_str().unwrap_or_default();
        names.split(',').any(|name| name.trim().eq_ignore_ascii_case(vip))
    };
    match apps(shared, has) {
        Said::Document(_, _, document) if document["application"].as_array().is_some_and(Vec::is_empty) => {
            Err(not_there(&format!("`{vip}`")))
        }
        found => Ok(found),
    }
}

fn register(shared: &Shared, app: &str, headers: &HeaderMap, body: &[u8]) -> Result<Said> {
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(invalid("the body is encoded; send it as it is"));
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_xml = content_type.contains("xml") || (content_type.is_empty() && body.starts_with(b"<"));
    let document = if is_xml {
        xml::read("instance", body)?
    } else {
        let mut whole: Map<String, Value> =
            serde_json::from_slice(body).map_err(|e| invalid(format!("the body is no JSON object: {e}")))?;
        whole.remove("instance").ok_or_else(|| invalid("the body has no `instance`"))?
    };
    let read = model::read(document, app)?;
    let ttl = read.ttl.unwrap_or(model::TTL).clamp(shared.config.min_ttl, shared.config.max_ttl);
    let here = model::millis(shared.unix_time(shared.now()));
    shared.change(|store, now| {
        let key = match service(store, shared, app)? {
            Some(key) => key,
            None => ServiceKey::new("", env(shared), &app.to_ascii_lowercase())?,
        };
        let mut instance = read.instance;
        (instance.service, instance.env) = (key.service().to_owned(), key.env().to_owned());
        let record = Arc::new(Record::new(instance, &shared.config.limits)?);
        let holder = HOLDER.into();
        let ttl = Some(ttl);
        let sequence = read.dirty.unwrap_or_else(|| store.next_sequence(&key, record.id(), here));
        store.register(Registering { key, record, ttl, holder, sequence, only_if_free: false }, now)
    })?;
    Ok(Said::Status(StatusCode::NO_CONTENT))
}

fn heartbeat(shared: &Shared, app: &str, id: &str, params: &Params, is_replica: bool) -> Result<Said> {
    let dirty: u64 = params.number("lastDirtyTimestamp")?;
    let (key, found) = shared.change(|store, now| {
        let (key, found) = find(store, shared, app, id)?;
        store.renew_instance(&key, id, None, now)?;
        Ok::<_, Error>((key, found))
    })?;
    let own = (*found.holder == *HOLDER).then_some(found.sequence);
    match own {
        // The client has changed since: it registers again when told that it is not there.
        Some(own) if dirty > own => Err(not_there(&format!("`{id}` as of {dirty}"))),
        Some(own) if dirty != 0 && dirty < own && is_replica => match instance(shared, &key, &found)? {
            Said::Document(_, root, document) => Ok(Said::Document(StatusCode::CONFLICT, root, document)),
            said @ Said::Status(_) => Ok(said),
        },
        _ => Ok(DONE),
    }
}

fn set_status(shared: &Shared, app: &str, id: &str, value: &str) -> Result<Said> {
    let wanted = match value {
        "UP" => Some(InstanceStatus::INSTANCE_STATUS_UP),
        "OUT_OF_SERVICE" | "DOWN" => Some(InstanceStatus::INSTANCE_STATUS_OUT_OF_SERVICE),
        "STARTING" => Some(InstanceStatus::INSTANCE_STATUS_STARTING),
        "UNKNOWN" => None,
        other => {
            let shown: String = other.chars().take(80).collect();
            return Err(invalid(format!(
                "the parameter `value` is `{shown}`; use UP, OUT_OF_SERVICE, DOWN, STARTING or UNKNOWN"
            )));
        }
    };
    shared.change(|store, now| {
        let (key, _) = find(store, shared, app, id)?;
        match wanted {
            Some(_) => {
                let changes = Override { status: wanted, ..Override::default() };
                store.set_override(&key, id, &changes, now)?;
            }
            None => _ = store.clear_override(&key, id, Parts::STATUS, now),
        }
        Ok(DONE)
    })
}

fn set_metadata(shared: &Shared, app: &str, id: &str, params: &Params) -> Result<Said> {
    let metadata: BTreeMap<String, String> =
        params.pairs().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    if let Some(key) = metadata.keys().find(|key| key.starts_with(RESERVED)) {
        return Err(invalid(format!("the metadata `{key}` is the registry's own; use another name")));
    }
    shared.change(|store, now| {
        let (key, _) = find(store, shared, app, id)?;
        let weight = metadata.get("weight").and_then(|weight| weight.parse().ok());
        let changes = Override { metadata, weight, ..Override::default() };
        if !changes.is_empty() {
            store.set_override(&key, id, &changes, now)?;
        }
        Ok(DONE)
    })
}
