//! Nacos' naming: its HTTP here, its gRPC in [`grpc`].

mod form;
pub(crate) mod grpc;
mod model;
mod names;
mod registry;
mod v1;
mod v3;

use std::sync::Arc;

use bowline_core::{Error, MethodKind, Operation, Result};
use bowline_rpc::{Body, Scope};
use http::{Method as Verb, Request, Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use super::params::Params;
use super::{answer, http_status};
use crate::access::{Caller, Right};
use crate::node::Shared;

/// Who registers over HTTP: an address is all it has to tell one process from another.
const HOLDER: &str = "nacos";
/// The most bytes of a form. An instance of the largest size fits, percent-encoded.
const MAX_FORM: usize = 128 * 1024;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Register,
    Deregister,
    Update,
    Detail,
    List,
    Beat,
    Services,
    Service,
    Metrics,
    Login,
    Live,
    RegisterV3,
    DeregisterV3,
    ListV3,
    LiveV3,
}

/// Verb, path below `/nacos/`, what it is called in metrics, and what it means.
const METHODS: [(Verb, &str, &str, Method); 23] = [
    (Verb::POST, "v1/ns/instance", "register", Method::Register),
    (Verb::DELETE, "v1/ns/instance", "deregister", Method::Deregister),
    (Verb::PUT, "v1/ns/instance", "update", Method::Update),
    (Verb::GET, "v1/ns/instance", "detail", Method::Detail),
    (Verb::GET, "v1/ns/instance/list", "list", Method::List),
    (Verb::PUT, "v1/ns/instance/beat", "beat", Method::Beat),
    (Verb::GET, "v1/ns/service/list", "services", Method::Services),
    (Verb::GET, "v1/ns/service", "service", Method::Service),
    (Verb::GET, "v1/ns/operator/metrics", "metrics", Method::Metrics),
    (Verb::POST, "v1/auth/login", "login", Method::Login),
    (Verb::POST, "v1/auth/users/login", "login", Method::Login),
    (Verb::POST, "v3/auth/user/login", "login", Method::Login),
    (Verb::GET, "v1/console/health/liveness", "live", Method::Live),
    (Verb::GET, "v1/console/health/readiness", "live", Method::Live),
    (Verb::GET, "v2/console/health/liveness", "live", Method::LiveV3),
    (Verb::GET, "v2/console/health/readiness", "live", Method::LiveV3),
    (Verb::GET, "v3/admin/core/state/liveness", "live", Method::LiveV3),
    (Verb::GET, "v3/admin/core/state/readiness", "live", Method::LiveV3),
    (Verb::GET, "v3/console/health/liveness", "live", Method::LiveV3),
    (Verb::GET, "v3/console/health/readiness", "live", Method::LiveV3),
    (Verb::POST, "v3/client/ns/instance", "register", Method::RegisterV3),
    (Verb::DELETE, "v3/client/ns/instance", "deregister", Method::DeregisterV3),
    (Verb::GET, "v3/client/ns/instance/list", "list", Method::ListV3),
];

impl Method {
    /// What one has to be allowed to.
    fn right(self) -> Option<Right> {
        match self {
            Self::Metrics | Self::Login | Self::Live | Self::LiveV3 => None,
            Self::Detail | Self::List | Self::Services | Self::Service | Self::ListV3 => Some(Right::Read),
            Self::Update => Some(Right::Operate),
            Self::Register | Self::Deregister | Self::Beat => Some(Right::Register),
            Self::RegisterV3 | Self::DeregisterV3 => Some(Right::Register),
        }
    }

    /// Whether errors are told in the envelope of Nacos 3.
    fn is_v3(self) -> bool {
        matches!(self, Self::RegisterV3 | Self::DeregisterV3 | Self::ListV3 | Self::LiveV3)
    }
}

/// The operations, made once.
pub(super) struct Operations(Vec<(Verb, &'static str, Method, Operation)>);

impl Operations {
    pub(super) fn new() -> Self {
        let operation = |name| Operation::new("nacos", name, MethodKind::Unary);
        Self(METHODS.map(|(verb, path, name, method)| (verb, path, method, operation(name))).into())
    }

    pub(super) fn resolve(&self, verb: &Verb, path: &str) -> Option<(Method, Operation)> {
        let path = path.strip_prefix("/nacos/")?.trim_end_matches('/');
        let found = self.0.iter().find(|(v, p, ..)| v == verb && *p == path);
        found.map(|(_, _, method, operation)| (*method, operation.clone()))
    }
}

/// What is said.
enum Said {
    Text(&'static str),
    Json(Value),
}

const DONE: Said = Said::Text("ok");

/// Answers a request.
pub(super) async fn call(
    shared: &Arc<Shared>,
    method: Method,
    scope: &Scope,
    request: Request<Body>,
) -> Response<Body> {
    const TEXT: &str = "text/plain; charset=utf-8";
    const JSON: &str = "application/json; charset=utf-8";
    let params = match read(request).await {
        Ok(params) => params,
        Err(error) => {
            let response = answer(http_status(&error), TEXT, error.public_message().to_owned());
            scope.outcome.fail(error);
            return response;
        }
    };
    match run(shared, method, scope, &params) {
        Ok(said) => {
            scope.outcome.succeed();
            match said {
                Said::Text(text) => answer(StatusCode::OK, TEXT, text),
                Said::Json(json) => answer(StatusCode::OK, JSON, json.to_string()),
            }
        }
        Err(error) => {
            let status = http_status(&error);
            let response = if method.is_v3() {
                answer(status, JSON, v3::failure(&error, &params).to_string())
            } else {
                answer(status, TEXT, error.public_message().to_owned())
            };
            scope.outcome.fail(error);
            response
        }
    }
}

/// Parameters may be in the query or in the form, whatever the verb.
async fn read(request: Request<Body>) -> Result<Params> {
    let (parts, mut body) = request.into_parts();
    let form = body.collect(MAX_FORM).await?;
    Params::read(&[parts.uri.query().unwrap_or_default().as_bytes(), &form])
}

/// Who asks. A token is in the header, or a parameter.
fn caller(shared: &Shared, scope: &Scope, params: &Params) -> Result<Caller> {
    match params.text("accessToken") {
        "" => Ok(shared.caller(&scope.cx)),
        token => shared.access.caller(Some(token)),
    }
}

/// Fails unless who asks may do what is asked.
fn allow(shared: &Shared, right: Right, scope: &Scope, params: &Params) -> Result<()> {
    let caller = caller(shared, scope, params)?;
    shared.access.check(&caller, right, names::namespace_of(params.text("namespaceId")))
}

fn run(shared: &Arc<Shared>, method: Method, scope: &Scope, params: &Params) -> Result<Said> {
    if let Some(right) = method.right() {
        shared.check_serving()?;
        allow(shared, right, scope, params)?;
    }
    match method {
        Method::Register => v1::register(shared, params),
        Method::Deregister => v1::deregister(shared, params),
        Method::Update => v1::update(shared, params),
        Method::Detail => v1::detail(shared, params),
        Method::List => v1::list(shared, params),
        Method::Beat => v1::beat(shared, params),
        Method::Services => v1::services(shared, params),
        Method::Service => v1::service(shared, params),
        Method::Metrics => {
            let caller = caller(shared, scope, params)?;
            Ok(v1::metrics(shared, shared.access.check_any(&caller, Right::Read).is_ok()))
        }
        Method::Login => login(shared, params).map(Said::Json),
        Method::Live => alive(shared).map(|()| Said::Text("OK")),
        Method::RegisterV3 => v3::register(shared, params),
        Method::DeregisterV3 => v3::deregister(shared, params),
        Method::ListV3 => v3::list(shared, params),
        Method::LiveV3 => alive(shared).map(|()| v3::success("ok".into())),
    }
}

fn alive(shared: &Shared) -> Result<()> {
    if shared.is_closed() {
        return Err(Error::unavailable("the registry node is going down; try another one"));
    }
    shared.check_serving()
}

/// Logs in: a user is a token's name, and the password is the token. Where there are no tokens everybody may, because clients
/// that are given credentials insist on one, at which nobody looks then.
///
/// # Errors
/// `UNKNOWN_TOKEN`.
fn login(shared: &Shared, params: &Params) -> Result<Value> {
    /// How long clients use a token before they ask for another: Nacos' default, in seconds.
    const TTL_SECONDS: u32 = 18_000;
    let (user, password) = (params.text("username"), params.text("password"));
    shared.access.log_in(user, password)?;
    let token = if shared.access.is_open() { "unchecked" } else { password };
    Ok(json!({"accessToken": token, "tokenTtl": TTL_SECONDS, "globalAdmin": false, "username": user}))
}

fn json(of: &impl Serialize) -> Result<Value> {
    serde_json::to_value(of)
        .map_err(|e| Error::internal("an answer cannot be written as JSON").with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verb_and_path_lead_to_what_is_meant() {
        let operations = Operations::new();
        let method = |verb: Verb, path: &str| operations.resolve(&verb, path).map(|(method, _)| method);
        assert_eq!(method(Verb::POST, "/nacos/v1/ns/instance"), Some(Method::Register));
        assert_eq!(method(Verb::PUT, "/nacos/v1/ns/instance/"), Some(Method::Update));
        assert_eq!(method(Verb::GET, "/nacos/v3/client/ns/instance/list"), Some(Method::ListV3));
        assert_eq!(method(Verb::PATCH, "/nacos/v1/ns/instance"), None);
        assert_eq!(method(Verb::GET, "/v1/ns/instance"), None);
        let (_, operation) = operations.resolve(&Verb::PUT, "/nacos/v1/ns/instance/beat").unwrap();
        assert_eq!(operation.path(), "/nacos/beat");
    }
}
