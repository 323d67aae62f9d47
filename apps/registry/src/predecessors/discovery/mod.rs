//! bilibili discovery's HTTP.
//!
//! Every answer is JSON with HTTP's 200; whether it went well is in its `code`.

mod model;
mod poll;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Code, Error, MethodKind, Operation, Result};
use bowline_registry_bowline::api::bowline::registry::v1::InstanceStatus;
use bowline_rpc::{Body, Scope};
use http::{Method as Verb, Request, Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use super::params::{Params, invalid};
use super::{answer, authority};
use crate::access::Right;
use crate::node::Shared;
use crate::store::{Override, Parts, Record, Registered, Registering, ServiceKey};
use model::{HOLDER, Instance, Instances, Seen};

/// The lease of who registers by this protocol: three of the renewals that its clients send every 30 s.
const TTL: Duration = Duration::from_secs(90);
/// The most bytes of a form. An instance of the largest size fits, percent-encoded.
const MAX_FORM: usize = 128 * 1024;
/// The service by which clients of this protocol find the registry's nodes.
const SELF: &str = "infra.discovery";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Register,
    Renew,
    Cancel,
    Fetch,
    Fetchs,
    Poll,
    Polls,
    Set,
    Nodes,
}

const METHODS: [(&str, Method); 9] = [
    ("register", Method::Register),
    ("renew", Method::Renew),
    ("cancel", Method::Cancel),
    ("fetch", Method::Fetch),
    ("fetchs", Method::Fetchs),
    ("poll", Method::Poll),
    ("polls", Method::Polls),
    ("set", Method::Set),
    ("nodes", Method::Nodes),
];

/// The operations, made once.
pub(super) struct Operations(Vec<(&'static str, Method, Operation)>);

impl Operations {
    pub(super) fn new() -> Self {
        let operation = |name| Operation::new("discovery", name, MethodKind::Unary);
        Self(METHODS.iter().map(|(name, method)| (*name, *method, operation(name))).collect())
    }

    pub(super) fn resolve(&self, path: &str) -> Option<(Method, Operation)> {
        let name = path.strip_prefix("/discovery/")?;
        self.0.iter().find(|(n, ..)| *n == name).map(|(_, method, operation)| (*method, operation.clone()))
    }
}

/// What is said besides `code`.
enum Said {
    Nothing,
    Data(Value),
    /// The data, and which services are not there.
    Some(Value, Vec<String>),
    NotModified,
}

/// Answers a request.
pub(super) async fn call(
    shared: &Arc<Shared>,
    method: Method,
    scope: &Scope,
    request: Request<Body>,
) -> Response<Body> {
    let said = run(shared, method, scope, request).await;
    let body = match said {
        Ok(said) => {
            scope.outcome.succeed();
            match said {
                Said::Nothing => json!({"code": 0, "message": "0", "ttl": 1}),
                Said::Data(data) => json!({"code": 0, "message": "0", "ttl": 1, "data": data}),
                Said::Some(data, missing) => {
                    json!({"code": 0, "message": "0", "ttl": 1, "data": data, "error": {"-404": missing}})
                }
                Said::NotModified => json!({"code": -304, "message": "-304", "ttl": 1}),
            }
        }
        Err(error) => {
            let body = json!({"code": code(&error), "message": error.public_message(), "ttl": 1});
            scope.outcome.fail(error);
            body
        }
    };
    answer(StatusCode::OK, "application/json; charset=utf-8", body.to_string())
}

fn code(error: &Error) -> i32 {
    match error.code() {
        Code::InvalidArgument | Code::OutOfRange => -400,
        Code::Unauthenticated => -401,
        Code::PermissionDenied => -403,
        Code::NotFound => -404,
        Code::Unimplemented => -405,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => -409,
        Code::ResourceExhausted if error.reason() == "BODY_TOO_LARGE" => -400,
        Code::ResourceExhausted | Code::Unavailable => -503,
        Code::DeadlineExceeded => -504,
        _ => -500,
    }
}

async fn run(shared: &Arc<Shared>, method: Method, scope: &Scope, request: Request<Body>) -> Result<Said> {
    shared.check_serving()?;
    let writes = matches!(method, Method::Register | Method::Renew | Method::Cancel | Method::Set);
    let right = match method {
        Method::Set => Right::Operate,
        _ if writes => Right::Register,
        _ => Right::Read,
    };
    // All of this protocol is in one namespace.
    shared.allow(&scope.cx, right, "")?;
    let wanted = if writes { Verb::POST } else { Verb::GET };
    if *request.method() != wanted {
        let is = request.method();
        return Err(Error::unimplemented(format!("{is} is not understood here; use {wanted}")));
    }
    let (parts, mut body) = request.into_parts();
    let host = authority(&parts.uri, &parts.headers);
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let form = if writes { body.collect(MAX_FORM).await? } else { bytes::Bytes::new() };
    let params = Params::read(&[query, &form])?;
    match method {
        Method::Register => register(shared, &params),
        Method::Renew => renew(shared, &params),
        Method::Cancel => cancel(shared, &params),
        Method::Set => set(shared, &params),
        Method::Fetch => fetch(shared, &params, &host),
        Method::Fetchs => fetchs(shared, &params, &host),
        Method::Poll => poll::poll(shared, &params, &host, scope).await,
        Method::Polls => poll::polls(shared, &params, &host, scope).await,
        Method::Nodes => Ok(nodes(shared, &host)),
    }
}

fn key(params: &Params, service: &str) -> Result<ServiceKey> {
    ServiceKey::new("", params.required("env")?, service)
}

fn nothing_found(what: impl std::fmt::Display) -> Error {
    Error::not_found(format!("{what} is not registered"))
}

/// An instance of the zone asked for: the protocol counts the zone to the name.
fn in_zone(found: Option<Registered>, zone: &str, id: &str) -> Result<Registered> {
    let instance = found.filter(|found| found.record.instance().zone == zone);
    instance.ok_or_else(|| nothing_found(format_args!("`{id}` in zone `{zone}`")))
}

fn register(shared: &Shared, params: &Params) -> Result<Said> {
    let key = key(params, params.required("appid")?)?;
    let instance = model::read(params, &key)?;
    let record = Arc::new(Record::new(instance, &shared.config.limits)?);
    let dirty: u64 = params.number("dirty_timestamp")?;
    let ttl = Some(TTL.clamp(shared.config.min_ttl, shared.config.max_ttl));
    let here = nanos(shared.unix_time(shared.now()));
    shared.change(|store, now| {
        let sequence = if dirty > 0 { dirty } else { store.next_sequence(&key, record.id(), here) };
        let holder = HOLDER.into();
        store.register(Registering { key, record, ttl, holder, sequence, only_if_free: false }, now)
    })?;
    Ok(Said::Nothing)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn renew(shared: &Shared, params: &Params) -> Result<Said> {
    let key = key(params, params.required("appid")?)?;
    let (zone, id) = (params.required("zone")?, params.required("hostname")?);
    let dirty: u64 = params.number("dirty_timestamp")?;
    let found = shared.change(|store, now| {
        in_zone(store.instance(&key, id), zone, id)?;
        store.renew_instance(&key, id, None, now)?;
        in_zone(store.instance(&key, id), zone, id)
    })?;
    let own = Seen::of(&found, &key, shared).dirty_timestamp();
    if params.flag("replication") && dirty > own {
        return Err(nothing_found(format_args!("the state of `{id}` of {dirty}")));
    }
    if params.flag("replication") && dirty < own {
        return Err(Error::new(Code::Aborted, format!("`{id}` is known in a later state, of {own}")));
    }
    Ok(Said::Data(value(&Seen::of(&found, &key, shared).instance())?))
}

fn cancel(shared: &Shared, params: &Params) -> Result<Said> {
    let key = key(params, params.required("appid")?)?;
    let (zone, id) = (params.required("zone")?, params.required("hostname")?);
    shared.change(|store, now| {
        in_zone(store.instance(&key, id), zone, id)?;
        store.deregister(&key, id, "", now);
        Ok(Said::Nothing)
    })
}

/// Sets status and metadata of instances; of none, if one is not there or something is malformed. They become overrides:
/// what an instance registers later does not undo them.
fn set(shared: &Shared, params: &Params) -> Result<Said> {
    let key = key(params, params.required("appid")?)?;
    let zone = params.required("zone")?;
    let ids: Vec<&str> = params.all("hostname").collect();
    let statuses: Vec<u32> = params.numbers("status")?;
    let texts: Vec<&str> = params.all("metadata").collect();
    for (name, count) in [("status", statuses.len()), ("metadata", texts.len())] {
        if count != 0 && count != ids.len() {
            return Err(invalid(format!(
                "there are {} of `hostname` and {count} of `{name}`; give one for each, or none",
                ids.len()
            )));
        }
    }
    let most = shared.config.limits.services_per_watch;
    if ids.len() > most {
        return Err(invalid(format!("{} instances at a time; set up to {most}", ids.len())));
    }
    let statuses: Vec<_> = statuses.iter().map(|status| model::status(*status)).collect::<Result<_>>()?;
    let metadata: Vec<_> = texts.iter().map(|text| model::metadata(text)).collect::<Result<_>>()?;
    shared.change(|store, now| {
        let found: Vec<_> = ids
            .iter()
            .map(|id| {
                in_zone(store.instance(&key, id), zone, id).map_err(|e| invalid(e.message().to_owned()))
            })
            .collect::<Result<_>>()?;
        for (n, (id, found)) in ids.iter().zip(found).enumerate() {
            let mut status = statuses.get(n).copied();
            if status == Some(InstanceStatus::INSTANCE_STATUS_UP) && found.registered.is_up() {
                // As it says itself: that needs no override.
                store.clear_override(&key, id, Parts::STATUS, now);
                status = None;
            }
            let metadata: BTreeMap<_, _> = metadata
                .get(n)
                .into_iter()
                .flatten()
                .map(|(k, v): (&String, &String)| (k.clone(), v.clone()))
                .collect();
            let weight = metadata.get("weight").and_then(|weight| weight.parse().ok());
            let changes = Override { status, weight, metadata, sequence: 0 };
            if !changes.is_empty() {
                store.set_override(&key, id, &changes, now)?;
            }
        }
        Ok(Said::Nothing)
    })
}

/// What is asked of one service.
struct Asked<'a> {
    zone: &'a str,
    /// 1: who takes traffic; 2: who does not; 3: both.
    status: u32,
    /// Where this node was reached.
    host: &'a str,
}

impl<'a> Asked<'a> {
    fn read(params: &'a Params, host: &'a str) -> Result<Self> {
        let status: u32 = number_of(params, "status")?;
        if !(1..=3).contains(&status) {
            return Err(invalid(format!("the parameter `status` is {status}; use 1, 2 or 3")));
        }
        Ok(Self { zone: params.text("zone"), status, host })
    }

    /// The service as it is now; `None` if there are no instances.
    fn look(&self, shared: &Shared, key: &ServiceKey) -> Option<Instances> {
        let (revision, found) = shared.store().registered(key);
        let mut instances: BTreeMap<String, Vec<Instance>> = BTreeMap::new();
        for found in &found {
            let instance = Seen::of(found, key, shared).instance();
            if self.zone.is_empty() || self.zone == instance.zone {
                let of_zone = instances.entry(instance.zone.clone()).or_default();
                if instance.status & self.status != 0 {
                    of_zone.push(instance);
                }
            }
        }
        if !instances.is_empty() {
            return Some(Instances { instances, latest_timestamp: model::timestamp(revision) });
        }
        (key.service() == SELF).then(|| Instances::of_nodes(self.host, self.zone, key, shared)).flatten()
    }

    fn get(&self, shared: &Shared, key: &ServiceKey) -> Result<Instances> {
        self.look(shared, key).ok_or_else(|| nothing_found(format_args!("`{}`", key.service())))
    }
}

/// The nodes of this one's zone.
fn nodes(shared: &Shared, host: &str) -> Said {
    let all = model::nodes(&shared.front.borrow(), host, shared);
    let of_zone = all.into_iter().filter(|node| node.zone == shared.own.zone);
    let told = of_zone.map(|node| json!({"addr": node.host, "status": 0, "zone": node.zone}));
    Said::Data(told.collect())
}

fn number_of(params: &Params, name: &str) -> Result<u32> {
    params.required(name)?;
    params.number(name)
}

fn fetch(shared: &Shared, params: &Params, host: &str) -> Result<Said> {
    let key = key(params, params.required("appid")?)?;
    let found = Asked::read(params, host)?.get(shared, &key)?;
    Ok(Said::Data(value(&found)?))
}

fn fetchs(shared: &Shared, params: &Params, host: &str) -> Result<Said> {
    let asked = Asked::read(params, host)?;
    let mut found = BTreeMap::new();
    for key in keys(shared, params)? {
        if let Some(instances) = asked.look(shared, &key) {
            found.insert(key.service().to_owned(), instances);
        }
    }
    Ok(Said::Data(value(&found)?))
}

/// The services asked for, each once.
fn keys(shared: &Shared, params: &Params) -> Result<Vec<ServiceKey>> {
    params.required("appid")?;
    let keys: Vec<_> = params.all("appid").map(|service| key(params, service)).collect::<Result<_>>()?;
    let most = shared.config.limits.services_per_watch;
    if keys.len() > most {
        return Err(invalid(format!("{} services at a time; ask for up to {most}", keys.len())));
    }
    Ok(keys)
}

fn value(of: &impl Serialize) -> Result<Value> {
    serde_json::to_value(of)
        .map_err(|e| Error::internal("an answer cannot be written as JSON").with_source(e))
}
