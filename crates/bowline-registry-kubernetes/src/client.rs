//! Requests to the API server, each bounded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline_core::{Code, Context, Error, Instant, MethodKind, Operation, Result, WrapErr};
use bowline_rpc::{Body, Transport};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::access::Access;
use crate::api::{EndpointSlice, Lease, List, Meta, Object, Status};
use crate::form;
use crate::options::Options;
use crate::stream::Lines;
use crate::token::Token;

/// How long an answer may be: a page of the largest slices there are.
const ANSWER: usize = 64 << 20;
/// How much of an error is read.
const ERROR: usize = 64 << 10;
/// How many objects one answer lists. Kubernetes' own client has the same.
const PAGE: usize = 500;
/// How many short requests are under way at a time, and how many renewals; further ones wait, and renewals not for others.
const AT_A_TIME: usize = 16;
const RENEWALS: usize = 16;
/// How many services are followed at a time: each takes a stream, and an API server gives a connection 100 by its defaults, of
/// which a channel makes 4.
pub(crate) const FOLLOWED: usize = 300;

/// JSON is YAML. It creates what is not there, and takes what is there over from whoever has it.
const APPLY: &str = "application/apply-patch+yaml";
const JSON_PATCH: &str = "application/json-patch+json";
const JSON: &str = "application/json";
/// By which name Kubernetes keeps what we set.
const MANAGER: &str = "fieldManager=bowline";

pub(crate) struct Client {
    pub(crate) options: Options,
    transport: Arc<dyn Transport>,
    authority: String,
    prefix: String,
    pub(crate) namespace: String,
    token: Token,
    room: Semaphore,
    room_to_renew: Semaphore,
    pub(crate) following: Arc<Semaphore>,
    /// When old leases of a service were looked for.
    pub(crate) swept: Mutex<HashMap<Arc<str>, Instant>>,
}

/// A kind of object in the namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Slice,
    Lease,
}

/// All objects of a kind of a service.
pub(crate) struct Listed<T> {
    pub(crate) items: Vec<T>,
    pub(crate) version: String,
}

/// A request: what it is called, and its parts.
struct Question {
    name: &'static str,
    method: Method,
    path: String,
    body: Option<(&'static str, Value)>,
}

impl Question {
    const fn get(name: &'static str, path: String) -> Self {
        Self { name, method: Method::GET, path, body: None }
    }

    const fn patch(name: &'static str, path: String, kind: &'static str, body: Value) -> Self {
        Self { name, method: Method::PATCH, path, body: Some((kind, body)) }
    }
}

fn part(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

impl Client {
    pub(crate) fn new(transport: impl Transport, access: &Access, options: Options) -> Self {
        let namespace = options.namespace.clone().unwrap_or_else(|| access.namespace.clone());
        Self {
            transport: Arc::new(transport),
            authority: access.server().authority(),
            prefix: access.prefix.clone(),
            namespace,
            token: Token::new(access.token.clone()),
            room: Semaphore::new(AT_A_TIME),
            room_to_renew: Semaphore::new(RENEWALS),
            following: Arc::new(Semaphore::new(FOLLOWED)),
            swept: Mutex::default(),
            options,
        }
    }

    fn path(&self, kind: Kind) -> String {
        let (group, kind) = match kind {
            Kind::Slice => ("discovery.k8s.io", "endpointslices"),
            Kind::Lease => ("coordination.k8s.io", "leases"),
        };
        format!("{}/apis/{group}/v1/namespaces/{}/{kind}", self.prefix, self.namespace)
    }

    /// Sends, and waits for the head of the answer; what is no success is an error.
    async fn send(&self, cx: &Context, question: Question) -> Result<Response<Body>> {
        let Question { name, method, path, body } = question;
        let uri = Uri::builder().scheme("http").authority(&*self.authority).path_and_query(path);
        let mut request = Request::builder().method(method).uri(uri.build().context("a request's address")?);
        request = request.header(ACCEPT, JSON);
        if let Some(token) = self.token.header().await? {
            request = request.header(AUTHORIZATION, token);
        }
        let body = match body {
            None => Body::empty(),
            Some((kind, body)) => {
                request = request.header(CONTENT_TYPE, kind);
                Body::full(body.to_string())
            }
        };
        let request = request.body(body).context("a request to Kubernetes")?;
        let operation = Operation::new("kubernetes", name, MethodKind::Unary);
        let answer = self.transport.send(cx.clone(), operation, request).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.token.forget();
        }
        let (head, mut body) = answer.into_parts();
        let body = body.collect(ERROR).await.unwrap_or_default();
        Err(self.failure(head.status, &body))
    }

    fn failure(&self, status: StatusCode, body: &[u8]) -> Error {
        let said = serde_json::from_slice::<Status>(body).map(|status| status.message);
        let said = said.unwrap_or_else(|_| String::from_utf8_lossy(body).trim().to_owned());
        let said: String = said.chars().take(500).collect();
        let no_namespace = format!("namespaces \"{}\" not found", self.namespace);
        if status == StatusCode::NOT_FOUND && said.contains(&no_namespace) {
            // It may come: an API server that starts makes some itself.
            return Error::unavailable(format!(
                "Kubernetes has no namespace `{}`; create it",
                self.namespace
            ));
        }
        let code = match status.as_u16() {
            400 | 405 | 406 | 413 | 415 | 422 => Code::InvalidArgument,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::NotFound,
            409 => Code::Aborted,
            410 => Code::OutOfRange,
            // Too many requests, among others: it asks to be tried again.
            _ => Code::Unavailable,
        };
        Error::new(code, format!("Kubernetes answered {status}: {said}"))
    }

    /// A request and its whole answer, within the time of one attempt.
    async fn ask<T: DeserializeOwned>(&self, room: &Semaphore, question: Question) -> Result<T> {
        let timeout = self.options.attempt_timeout;
        let name = question.name;
        // Never closed.
        let _place = tokio::time::timeout(timeout, room.acquire()).await.map_err(|_| {
            Error::deadline_exceeded(format!("other requests to Kubernetes took more than {timeout:?}"))
        })?;
        let cx = Context::background().with_timeout(timeout);
        let asking = async {
            let mut answer = self.send(&cx, question).await?;
            let body = answer.body_mut().collect(ANSWER).await?;
            read(&body)
        };
        cx.run(asking).await.flatten().with_context(|| format!("asking Kubernetes ({name})"))
    }

    /// What tells this Kubernetes from one that lost its data: the identity of the namespace.
    pub(crate) async fn history(&self) -> Result<String> {
        let path = format!("{}/api/v1/namespaces/{}", self.prefix, self.namespace);
        let namespace: Object = self.ask(&self.room, Question::get("Namespace", path)).await?;
        Ok(namespace.metadata.uid)
    }

    fn selected(&self, kind: Kind, service: &str) -> String {
        let selector = part(&format!("{}={service}", form::SERVICE));
        format!("{}?labelSelector={selector}", self.path(kind))
    }

    /// Everything of a kind that is of this service, as it is now.
    pub(crate) async fn list<T: DeserializeOwned>(&self, kind: Kind, service: &str) -> Result<Listed<T>> {
        let first = format!("{}&limit={PAGE}", self.selected(kind, service));
        let mut path = first.clone();
        let mut items = Vec::new();
        loop {
            let page: List<T> = self.ask(&self.room, Question::get("List", path)).await?;
            items.extend(page.items);
            let Meta { next, resource_version, .. } = page.metadata;
            if next.is_empty() {
                return Ok(Listed { items, version: resource_version });
            }
            path = format!("{first}&continue={}", part(&next));
        }
    }

    /// The changes of this service's slices since a version. `lasts` is when the API server ends it.
    pub(crate) async fn watch(&self, service: &str, version: &str, lasts: Duration) -> Result<Lines> {
        let path = format!(
            "{}&watch=true&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={}",
            self.selected(Kind::Slice, service),
            part(version),
            lasts.as_secs()
        );
        let timeout = self.options.attempt_timeout;
        // The stream outlives the attempt that opens it.
        let cx = Context::background().with_timeout(lasts + timeout);
        let opening = tokio::time::timeout(timeout, self.send(&cx, Question::get("Watch", path))).await;
        let opened = opening.unwrap_or_else(|_| {
            Err(Error::deadline_exceeded(format!("no watch was opened within {timeout:?}")))
        });
        Ok(Lines::new(opened.context("asking Kubernetes (Watch)")?.into_body()))
    }

    /// An object, if it is there.
    pub(crate) async fn get<T: DeserializeOwned>(&self, kind: Kind, name: &str) -> Result<Option<T>> {
        let path = format!("{}/{name}", self.path(kind));
        found(self.ask(&self.room, Question::get("Get", path)).await)
    }

    /// Creates an object, or takes it over, as a whole.
    pub(crate) async fn apply(&self, kind: Kind, object: Value) -> Result<Meta> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let path = format!("{}/{name}?{MANAGER}&force=true", self.path(kind));
        let applied: Object = self.ask(&self.room, Question::patch("Apply", path, APPLY, object)).await?;
        Ok(applied.metadata)
    }

    /// Renews a lease. Whether it is there, and this holder's.
    pub(crate) async fn renew(&self, name: &str, holder: u64) -> Result<bool> {
        let path = format!("{}/{name}?{MANAGER}", self.path(Kind::Lease));
        let now = crate::time::print(std::time::SystemTime::now());
        let patch = json!([
            { "op": "test", "path": "/spec/holderIdentity", "value": form::holder(holder) },
            { "op": "replace", "path": "/spec/renewTime", "value": now },
        ]);
        let question = Question::patch("Renew", path, JSON_PATCH, patch);
        match self.ask::<Object>(&self.room_to_renew, question).await {
            Ok(_) => Ok(true),
            // It is not there, or the test failed.
            Err(error) if matches!(error.code(), Code::NotFound | Code::InvalidArgument) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes an object that is as it was when this was told of it. It is no error if it is gone.
    ///
    /// # Errors
    /// `ABORTED` if it has changed since.
    pub(crate) async fn delete(&self, kind: Kind, meta: &Meta) -> Result<()> {
        let path = format!("{}/{}", self.path(kind), meta.name);
        let body = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": { "uid": meta.uid, "resourceVersion": meta.resource_version },
        });
        let question = Question { name: "Delete", method: Method::DELETE, path, body: Some((JSON, body)) };
        found(self.ask::<serde::de::IgnoredAny>(&self.room, question).await).map(|_| ())
    }

    /// Whose the slice of this name is.
    pub(crate) async fn slice_is_held_by(&self, name: &str, holder: u64) -> Result<bool> {
        let slice: Option<EndpointSlice> = self.get(Kind::Slice, name).await?;
        Ok(slice.is_some_and(|slice| form::held_by(&slice) == Some(&form::holder(holder))))
    }

    /// Whether old leases of a service are due to be looked for; so it is not said again for a while.
    pub(crate) fn is_to_be_swept(&self, service: &Arc<str>) -> bool {
        let now = Instant::now();
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        swept.retain(|_, at| now < *at + self.options.forget_after);
        let is_due = !swept.contains_key(service);
        if is_due {
            swept.insert(Arc::clone(service), now);
        }
        is_due
    }

    pub(crate) async fn lease(&self, name: &str) -> Result<Option<Lease>> {
        self.get(Kind::Lease, name).await
    }
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T> {
    serde_json::from_slice(body)
        .map_err(|e| Error::unavailable(format!("Kubernetes' answer is not understood: {e}")).with_source(e))
}

/// That something is not there is an answer.
fn found<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if error.code() == Code::NotFound => Ok(None),
        result => result.map(Some),
    }
}
