//! The HTTP that Nacos 3 has for clients. What is said is in `data` of an envelope with a `code` of its own.

use bowline_core::{Code, Error, Result};
use serde_json::{Value, json};

use super::super::params::Params;
use super::form::Form;
use super::registry::{self, Wanted};
use super::{Said, v1};
use crate::node::Shared;

/// A parameter is missing.
const MISSING: u32 = 10_000;
/// A parameter is malformed, or something cannot be done.
const MALFORMED: u32 = 20_002;
/// There is no such instance: the client registers it.
const NO_INSTANCE: u32 = 21_003;
/// What went wrong is not the client's doing.
const FAULT: u32 = 30_000;

/// It is done.
pub(super) fn success(data: Value) -> Said {
    Said::Json(json!({"code": 0, "message": "success", "data": data}))
}

/// An error in this form.
pub(super) fn failure(error: &Error, params: &Params) -> Value {
    let is_missing = || ["serviceName", "ip", "port"].iter().any(|name| params.text(name).is_empty());
    let (code, message) = match error.code() {
        Code::InvalidArgument if is_missing() => (MISSING, "parameter missing"),
        Code::InvalidArgument | Code::OutOfRange => (MALFORMED, "parameter validate error"),
        Code::NotFound => (NO_INSTANCE, "instance not found"),
        _ => (FAULT, "server error"),
    };
    json!({"code": code, "message": message, "data": error.public_message()})
}

/// Registers, or with `heartBeat=true` renews.
pub(super) fn register(shared: &Shared, params: &Params) -> Result<Said> {
    let form = Form::read(shared, params)?;
    if !params.flag("heartBeat") {
        v1::put(shared, &form, form.instance()?)?;
        return Ok(success("ok".into()));
    }
    match v1::renew(shared, &form, form.address()?)? {
        Some(_) => Ok(success("ok".into())),
        // Told with HTTP's 200.
        None => Ok(Said::Json(json!({"code": NO_INSTANCE, "message": "instance not found", "data": null}))),
    }
}

pub(super) fn deregister(shared: &Shared, params: &Params) -> Result<Said> {
    v1::deregister(shared, params)?;
    Ok(success("ok".into()))
}

pub(super) fn list(shared: &Shared, params: &Params) -> Result<Said> {
    let form = Form::read(shared, params)?;
    let wanted = Wanted { clusters: params.text("clusterName"), healthy_only: params.flag("healthyOnly") };
    let (_, info) = registry::info(shared, &form.key, &form.name, wanted);
    Ok(success(super::json(&info.hosts)?))
}
