//! Requests to an agent, each bounded.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Code, Context, Error, MethodKind, Operation, Result, WrapErr};
use bowline_rpc::{Plain, Transport};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::form::{self, Service};
use crate::options::Options;

const TOKEN: HeaderName = HeaderName::from_static("x-consul-token");
/// Says, from 1.11 on, that an answer lacks what the token does not allow to be read: it is no error to Consul.
const FILTERED: HeaderName = HeaderName::from_static("x-consul-results-filtered-by-acls");
const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
/// How long an answer may be: some ten thousand instances.
const ANSWER: usize = 32 << 20;
/// How many short requests are under way at a time, and how many renewals; further ones wait. Renewals do not wait for others: a
/// thousand registrations that come at once take Consul some seconds, and who is registered must not run out meanwhile.
const AT_A_TIME: usize = 16;
const RENEWALS: usize = 8;
/// How many services are followed at a time: each has a connection, of which an agent takes 200 from one address by its
/// defaults (`http_max_conns_per_client`).
pub(crate) const FOLLOWED: usize = 160;

pub(crate) struct Client {
    pub(crate) options: Options,
    agent: Plain,
    token: Option<HeaderValue>,
    room: Semaphore,
    room_to_renew: Semaphore,
    pub(crate) following: Arc<Semaphore>,
}

/// An instance in a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Entry {
    pub(crate) node: Node,
    pub(crate) service: Service,
    #[serde(default)]
    checks: Vec<Check>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Node {
    #[serde(rename = "ID", default)]
    pub(crate) id: String,
    pub(crate) node: String,
    #[serde(default)]
    pub(crate) address: String,
    #[serde(default)]
    pub(crate) create_index: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(rename = "CheckID")]
    check_id: String,
    status: String,
}

/// How an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Passing,
    /// An operator keeps it out of service.
    Maintained,
    Failing,
}

impl Entry {
    pub(crate) fn health(&self) -> Health {
        let is_maintenance = |id: &str| id == "_node_maintenance" || id.starts_with("_service_maintenance");
        let failing = || self.checks.iter().filter(|check| check.status != "passing");
        if failing().any(|check| !is_maintenance(&check.check_id)) {
            return Health::Failing;
        }
        if failing().next().is_some() { Health::Maintained } else { Health::Passing }
    }
}

/// All instances of a service, healthy or not.
pub(crate) struct Listed {
    pub(crate) entries: Vec<Entry>,
    pub(crate) index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfAgent {
    aggregated_status: String,
    service: Option<Service>,
}

/// A registration at the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// If it is one of ours.
    pub(crate) by: Option<u64>,
    /// Whether it was renewed in time, and answers whatever else is checked.
    pub(crate) is_alive: bool,
}

fn part(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

impl Client {
    pub(crate) fn new(transport: impl Transport, authority: &str, options: Options) -> Result<Self> {
        let agent = Plain::new(transport, authority, ANSWER)?;
        let token = options.token.as_deref().map(HeaderValue::try_from).transpose();
        let mut token =
            token.map_err(|_| Error::invalid_argument("the token for Consul is no header's value"))?;
        token.iter_mut().for_each(|token| token.set_sensitive(true));
        let (room, room_to_renew) = (Semaphore::new(AT_A_TIME), Semaphore::new(RENEWALS));
        Ok(Self { options, agent, token, room, room_to_renew, following: Arc::new(Semaphore::new(FOLLOWED)) })
    }

    async fn send(
        &self,
        timeout: Duration,
        (name, method, path): (&'static str, Method, &str),
        body: Vec<u8>,
    ) -> Result<Response<Bytes>> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = &self.token {
            request = request.header(TOKEN, token);
        }
        let request = request.body(Bytes::from(body)).context("a request to Consul")?;
        let cx = Context::background().with_timeout(timeout);
        let operation = Operation::new("consul", name, MethodKind::Unary);
        self.agent.send(&cx, operation, request).await.with_context(|| format!("asking Consul ({name})"))
    }

    /// A short request.
    async fn ask(&self, what: (&'static str, Method, &str), body: Vec<u8>) -> Result<Response<Bytes>> {
        self.ask_in(&self.room, what, body).await
    }

    async fn ask_in(
        &self,
        room: &Semaphore,
        what: (&'static str, Method, &str),
        body: Vec<u8>,
    ) -> Result<Response<Bytes>> {
        let timeout = self.options.attempt_timeout;
        // Never closed.
        let _place = tokio::time::timeout(timeout, room.acquire()).await.map_err(|_| {
            Error::deadline_exceeded(format!("other requests to Consul took more than {timeout:?}"))
        })?;
        self.send(timeout, what, body).await
    }

    /// Registers, or registers anew.
    pub(crate) async fn register(&self, registration: Vec<u8>) -> Result<()> {
        let path = "/v1/agent/service/register?replace-existing-checks=true";
        done(&self.ask(("Register", Method::PUT, path), registration).await?)
    }

    /// What the agent has under this identifier.
    pub(crate) async fn held(&self, id: &str) -> Result<Option<Held>> {
        let path = format!("/v1/agent/health/service/id/{}", part(id));
        let answer = self.ask(("Held", Method::GET, &path), Vec::new()).await?;
        // Its status is that of the service: 429 warns, 503 is critical.
        match answer.status() {
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {}
            _ => done(&answer)?,
        }
        let found: OfAgent = read(answer.body())?;
        let is_alive = found.aggregated_status != "critical";
        Ok(found.service.map(|service| Held { by: service.holder(), is_alive }))
    }

    /// Renews. Whether there is something to renew.
    pub(crate) async fn renew(&self, id: &str) -> Result<bool> {
        let path = format!("/v1/agent/check/pass/{}", part(&form::check_id(id)));
        let answer = self.ask_in(&self.room_to_renew, ("Renew", Method::PUT, &path), Vec::new()).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        done(&answer).map(|()| true)
    }

    /// It is no error if it is gone.
    pub(crate) async fn deregister(&self, id: &str) -> Result<()> {
        let path = format!("/v1/agent/service/deregister/{}", part(id));
        let answer = self.ask(("Deregister", Method::PUT, &path), Vec::new()).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(());
        }
        done(&answer)
    }

    fn datacenter(&self) -> String {
        self.options.datacenter.as_deref().map(|dc| format!("dc={}", part(dc))).unwrap_or_default()
    }

    /// The instances of a service: at once without an index, else when something has changed since, or after some time.
    pub(crate) async fn list(&self, service: &str, index: Option<u64>) -> Result<Listed> {
        let mut path = format!("/v1/health/service/{}?{}", part(service), self.datacenter());
        let Options { wait, mut attempt_timeout, .. } = self.options;
        if let Some(index) = index {
            let _ = write!(path, "&index={index}&wait={}ms", wait.as_millis());
            // Consul adds up to a sixteenth, so that not all come at once.
            attempt_timeout += wait + wait / 16;
        }
        let answer = self.send(attempt_timeout, ("List", Method::GET, &path), Vec::new()).await?;
        done(&answer)?;
        let index = answer.headers().get(INDEX).and_then(|index| index.to_str().ok()?.parse().ok());
        let index =
            index.ok_or_else(|| Error::unavailable("what answered a list has no index, so is no Consul"))?;
        let entries: Vec<Entry> = read(answer.body())?;
        if entries.is_empty() && answer.headers().get(FILTERED).is_some_and(|filtered| filtered == "true") {
            return Err(Error::permission_denied(format!(
                "the token for Consul does not allow to read `{service}`; it takes service:read and node:read"
            )));
        }
        Ok(Listed { entries, index })
    }

    /// A node, as the catalog has it now.
    pub(crate) async fn node(&self, name: &str) -> Result<Option<Node>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            node: Node,
        }
        let path = format!("/v1/catalog/node/{}?{}", part(name), self.datacenter());
        let answer = self.ask(("Node", Method::GET, &path), Vec::new()).await?;
        done(&answer)?;
        Ok(read::<Option<Answer>>(answer.body())?.map(|answer| answer.node))
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body)
        .map_err(|e| Error::unavailable(format!("Consul's answer is not understood: {e}")).with_source(e))
}

fn done(answer: &Response<Bytes>) -> Result<()> {
    let Some(code) = Code::from_http(answer.status()) else { return Ok(()) };
    // An agent that has no leader says 500.
    let code = if answer.status().is_server_error() { Code::Unavailable } else { code };
    let text = String::from_utf8_lossy(answer.body());
    let text: String = text.trim().chars().take(300).collect();
    Err(Error::new(code, format!("Consul answered {}: {text}", answer.status())))
}
