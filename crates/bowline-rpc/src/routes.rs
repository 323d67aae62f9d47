//! From a request to the method it calls.

use std::collections::HashMap;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

use bowline_core::{Error, MethodKind, Operation, Result, WrapErr};
use buffa_descriptor::DescriptorPool;
use connectrpc::{ConnectRpcService, Limits};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};

use crate::budget::{Framing, Meter, OUT_OF_BUDGET};
use crate::caller::BoxFuture;
use crate::handler::{Erased, Handler, is_plain};
use crate::protocol::Unresolved;
use crate::rest::{Binding, Found, RestCall, Tree, media, respond};
use crate::scope::{Outcome, Scope};
use crate::{Body, Budget, End, MethodDef, Protocol, ServiceDef};

/// 4 MiB, the limit that gRPC's implementations share.
pub const DEFAULT_BODY_LIMIT: usize = 4 * 1024 * 1024;

/// The length of a body that needs no budget, if it is told ahead.
const SMALL_BODY: u64 = 16 * 1024;

/// A mounted method.
pub struct Route {
    index: usize,
    operation: Operation,
    def: &'static MethodDef,
    handler: Arc<dyn Handler>,
    rpc: ConnectRpcService<Erased>,
    bindings: Vec<Binding>,
    body_limit: usize,
    budget: Budget,
}

/// What a request was resolved to, before any layer runs.
#[derive(Debug)]
pub struct Resolved {
    /// The method.
    pub route: Arc<Route>,
    /// How the request is spoken.
    pub protocol: Protocol,
    rest: Option<RestCall>,
}

impl Resolved {
    /// The call's scope. Its outcome is still open.
    pub fn into_scope(self, cx: bowline_core::Context) -> Scope {
        Scope {
            cx,
            protocol: self.protocol,
            operation: self.route.operation.clone(),
            route: Some(self.route),
            outcome: Outcome::default(),
            started: bowline_core::Instant::now(),
            rest: self.rest,
        }
    }
}

/// All mounted methods: by RPC path and by REST template.
#[derive(Debug)]
pub struct Routes {
    budget: Budget,
    routes: Vec<Arc<Route>>,
    paths: HashMap<&'static str, usize>,
    tree: Tree,
    services: Vec<(&'static str, &'static [u8])>,
}

impl Routes {
    /// No methods. `budget` bounds what they hold together of messages that have not arrived completely.
    pub fn new(budget: Budget) -> Self {
        let (routes, paths) = (Vec::new(), HashMap::new());
        Self { budget, routes, paths, tree: Tree::default(), services: Vec::new() }
    }

    /// Mounts a service. `body_limit` gives the most bytes a message of each method may have;
    /// [`DEFAULT_BODY_LIMIT`] is the usual answer.
    ///
    /// # Errors
    /// If it is mounted already, or one of its REST bindings is taken.
    pub fn mount(&mut self, service: ServiceDef, body_limit: impl Fn(&MethodDef) -> usize) -> Result<()> {
        let ServiceDef { name, descriptors, methods } = service;
        if self.services.iter().any(|(mounted, _)| *mounted == name) {
            return Err(Error::already_exists(format!("{name} is mounted twice")));
        }
        let pool = DescriptorPool::decode(descriptors)
            .map_err(|e| Error::internal(format!("the descriptors of {name} are broken: {e}")))?;
        let pool = Arc::new(pool);
        for (def, handler) in methods {
            let index = self.routes.len();
            let mut bindings = Vec::new();
            for (binding, rule) in def.http.iter().enumerate() {
                bindings.push(Binding::new(&pool, def, rule)?);
                let target = crate::rest::Target { route: index, binding };
                self.tree.add(rule.verb, rule.pattern, target).with_context(|| def.path)?;
            }
            // Also reachable at its RPC path with plain JSON, for whoever has no client.
            bindings.push(Binding::at_rpc_path(&pool, def)?);
            self.paths.insert(def.path, index);
            let route = Route::new(index, def, handler, bindings, body_limit(def), self.budget.clone());
            self.routes.push(Arc::new(route));
        }
        self.services.push((name, descriptors));
        Ok(())
    }

    /// The names of the mounted services and their encoded descriptors.
    pub fn services(&self) -> &[(&'static str, &'static [u8])] {
        &self.services
    }

    /// Every mounted method.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    /// Finds what `request` calls.
    ///
    /// # Errors
    /// The reason why there is nothing, with the response in the request's protocol.
    pub fn resolve(&self, request: &Parts) -> Result<Resolved, Box<Unresolved>> {
        let protocol = Protocol::detect(&request.headers);
        let path = request.uri.path();
        if let Some(route) = self.paths.get(path) {
            let route = Arc::clone(&self.routes[*route]);
            return Ok(route.at_rpc_path(protocol, request));
        }
        if protocol != Protocol::Rest {
            return Err(unknown_method(protocol, path));
        }
        match self.tree.find(&request.method, path) {
            Ok(Found::Route(target, variables)) => {
                let route = Arc::clone(&self.routes[target.route]);
                let rest = Some(RestCall { binding: target.binding, variables });
                Ok(Resolved { route, protocol, rest })
            }
            Ok(Found::OtherMethods(allowed)) => Err(wrong_method(&request.method, path, &allowed)),
            Ok(Found::Nothing) => Err(Box::new(Unresolved {
                protocol,
                error: Error::not_found(format!("nothing is served at {path}"))
                    .with_reason("ROUTE_NOT_FOUND"),
                status: None,
                allow: None,
            })),
            Err(error) => Err(Box::new(Unresolved { protocol, error, status: None, allow: None })),
        }
    }
}

fn unknown_method(protocol: Protocol, path: &str) -> Box<Unresolved> {
    let error = Error::unimplemented(format!("there is no method {path}")).with_reason("METHOD_NOT_FOUND");
    Box::new(Unresolved { protocol, error, status: None, allow: None })
}

fn wrong_method(method: &Method, path: &str, allowed: &[Method]) -> Box<Unresolved> {
    let allowed = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    Box::new(Unresolved {
        protocol: Protocol::Rest,
        error: Error::unimplemented(format!("{path} takes {allowed}, not {method}"))
            .with_reason("METHOD_NOT_ALLOWED"),
        status: Some(StatusCode::METHOD_NOT_ALLOWED),
        allow: HeaderValue::try_from(allowed).ok(),
    })
}

impl Route {
    fn new(
        index: usize,
        def: &'static MethodDef,
        handler: Arc<dyn Handler>,
        bindings: Vec<Binding>,
        body_limit: usize,
        budget: Budget,
    ) -> Self {
        // An envelope is five bytes; compressed messages are bounded after inflation.
        let limits = Limits::default().with_max_message_size(body_limit).with_max_request_body_size(
            if def.kind.client_streams() { usize::MAX } else { body_limit.saturating_add(5) },
        );
        let rpc = ConnectRpcService::new(Erased::new(Arc::clone(&handler), def.kind)).with_limits(limits);
        Self { index, operation: def.operation(), def, handler, rpc, bindings, body_limit, budget }
    }

    /// Its place among the mounted methods, from 0: for tables of what is kept per method.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What is called.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// What generated code says about it.
    pub fn def(&self) -> &'static MethodDef {
        self.def
    }

    /// The most bytes a message may have.
    pub fn body_limit(&self) -> usize {
        self.body_limit
    }

    /// A request to `/service/method`: an RPC protocol, or plain JSON.
    fn at_rpc_path(self: Arc<Self>, protocol: Protocol, request: &Parts) -> Resolved {
        if protocol == Protocol::Rest && self.is_connect(request) {
            return Resolved { route: self, protocol: Protocol::Connect, rest: None };
        }
        let rest = (protocol == Protocol::Rest)
            .then(|| RestCall { binding: self.bindings.len() - 1, variables: Vec::new() });
        Resolved { route: self, protocol, rest }
    }

    /// Whether a request that does not say its protocol can only be Connect's: another method than POST, a type of body that
    /// is Connect's own, or a compressed body.
    fn is_connect(&self, request: &Parts) -> bool {
        let proto = |value: &HeaderValue| media::is(value.as_bytes(), &["application/proto"]);
        request.method != Method::POST
            || (self.def.kind == MethodKind::Unary
                && (request.headers.get(CONTENT_TYPE).is_some_and(proto)
                    || request.headers.contains_key(CONTENT_ENCODING)))
    }

    /// Where the messages of a request end; `None` where they are as the body comes.
    fn framing(&self, rest: Option<&RestCall>) -> Option<Framing> {
        match (self.def.kind.client_streams(), rest) {
            (false, _) => Some(Framing::Whole),
            (true, None) => Some(Framing::envelopes()),
            (true, Some(rest)) => (!self.bindings[rest.binding].takes_chunks()).then_some(Framing::Lines),
        }
    }

    /// Calls the method. The request's extensions hold its [`Scope`], which says how; every failure becomes a response in its
    /// protocol.
    pub fn call(self: Arc<Self>, mut request: Request<Body>) -> CallFuture {
        let Some(mut scope) = request.extensions_mut().remove::<Scope>() else {
            let error = Error::internal("a request without scope reached its method");
            let protocol = Protocol::detect(request.headers());
            return CallFuture(Box::pin(ready(protocol.error_response(&error, None, request.headers()))));
        };
        let rest = scope.rest.take();
        // What says that it is small cannot take much, however many there are.
        let size = http_body::Body::size_hint(request.body());
        if size.upper().is_none_or(|most| most > SMALL_BODY)
            && let Some(framing) = self.framing(rest.as_ref())
        {
            let meter = Meter::new(&self.budget, framing, &scope.outcome);
            let body = std::mem::take(request.body_mut());
            *request.body_mut() = body.metered(meter);
        }
        if let Some(rest) = rest {
            return CallFuture(Box::pin(async move {
                let binding = &self.bindings[rest.binding];
                respond(binding, &*self.handler, &scope, &rest, &mut request, self.body_limit).await
            }));
        }
        let unary = self.def.kind == MethodKind::Unary;
        if unary && is_plain(request.method(), scope.protocol, request.headers()) {
            let body = request.into_body();
            return CallFuture(Arc::clone(&self.handler).call_plain(scope, body, self.body_limit));
        }
        let asked = request.headers().get(CONTENT_TYPE).cloned();
        // connectrpc tells a request that broke off as a fault of the server.
        let outcome = scope.outcome.clone();
        let body = std::mem::take(request.body_mut()).on_end(move |end| {
            if let End::Failed(error) = end {
                outcome.fail_with(error.code());
            }
        });
        *request.body_mut() = body;
        request.extensions_mut().insert(scope.clone());
        let call = tower::Service::call(&mut self.rpc.clone(), request);
        CallFuture(Box::pin(async move {
            let Ok(response) = call.await;
            match scope.outcome.error() {
                Some(error) if error.reason() == OUT_OF_BUDGET => {
                    let asked = asked.map(|value| (CONTENT_TYPE, value)).into_iter().collect();
                    scope.protocol.error_response(error, scope.cx.request_id(), &asked)
                }
                _ => response.map(Body::rpc),
            }
        }))
    }
}

/// A call of a method, on its way to a response.
pub struct CallFuture(BoxFuture<'static, Response<Body>>);

impl Future for CallFuture {
    type Output = Response<Body>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Response<Body>> {
        self.0.as_mut().poll(task)
    }
}

impl std::fmt::Debug for CallFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallFuture")
    }
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Route({})", self.operation)
    }
}
