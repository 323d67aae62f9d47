//! Requests to the servers, each bounded.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bowline_core::{Code, Context, Error, MethodKind, Operation, Result, WrapErr};
use bowline_rpc::Plain;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::apps::Listed;
use crate::form::{self, Told};
use crate::options::Options;

/// How long an answer may be: some ten thousand instances.
pub(crate) const ANSWER: usize = 64 << 20;
/// How many requests are under way at a time, how many renewals, and how many lists; further ones wait. None of the three waits
/// for the others.
const AT_A_TIME: usize = 16;
const RENEWALS: usize = 8;
const LISTS: usize = 2;

pub(crate) struct Client {
    pub(crate) options: Options,
    servers: Vec<Plain>,
    /// Which of them is asked. They tell each other with a delay, so that it is one as long as it answers.
    turn: AtomicUsize,
    authorization: Option<HeaderValue>,
    room: Semaphore,
    room_to_renew: Semaphore,
    room_to_list: Semaphore,
}

fn part(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The path of an instance, below the servers' own.
fn place(service: &str, id: &str) -> String {
    format!("/apps/{}/{}", part(&form::app(service)), part(id))
}

impl Client {
    pub(crate) fn new(servers: Vec<Plain>, options: Options) -> Result<Self> {
        let authorization = options.credentials.as_ref().map(|credentials| {
            let text = BASE64_STANDARD.encode(format!("{}:{}", credentials.user, credentials.password));
            let value = HeaderValue::try_from(format!("Basic {text}"));
            value.map_err(|e| Error::internal("the credentials are no header's value").with_source(e))
        });
        let mut authorization = authorization.transpose()?;
        authorization.iter_mut().for_each(|value| value.set_sensitive(true));
        Ok(Self {
            options,
            servers,
            turn: AtomicUsize::new(0),
            authorization,
            room: Semaphore::new(AT_A_TIME),
            room_to_renew: Semaphore::new(RENEWALS),
            room_to_list: Semaphore::new(LISTS),
        })
    }

    async fn ask(
        &self,
        room: &Semaphore,
        (name, method, path): (&'static str, Method, &str),
        body: Vec<u8>,
    ) -> Result<Response<Bytes>> {
        let timeout = self.options.attempt_timeout;
        let cx = Context::background().with_timeout(timeout);
        // Never closed.
        let _place = cx.run(room.acquire()).await.map_err(|_| {
            Error::deadline_exceeded(format!("other requests to Eureka took more than {timeout:?}"))
        })?;
        let uri = format!("{}{path}", self.options.path);
        let mut request = Request::builder().method(method).uri(uri).header(ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Bytes::from(body)).context("a request to Eureka")?;
        let turn = self.turn.load(Ordering::Relaxed);
        let operation = Operation::new("eureka", name, MethodKind::Unary);
        let answer = self.servers[turn % self.servers.len()].send(&cx, operation, request).await;
        if answer.as_ref().map_or(true, |answer| answer.status().is_server_error()) {
            // The next one is asked from now on, unless somebody else has said so already.
            let next = turn.wrapping_add(1);
            let _ = self.turn.compare_exchange(turn, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        answer.with_context(|| format!("asking Eureka ({name})"))
    }

    /// What is registered under this identifier.
    pub(crate) async fn held(&self, service: &str, id: &str) -> Result<Option<Told>> {
        #[derive(Deserialize)]
        struct Answer {
            instance: Told,
        }
        let answer = self.ask(&self.room, ("Held", Method::GET, &place(service, id)), Vec::new()).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        done(&answer)?;
        Ok(Some(read::<Answer>(answer.body())?.instance))
    }

    pub(crate) async fn register(&self, service: &str, registration: Vec<u8>) -> Result<()> {
        let path = format!("/apps/{}", part(&form::app(service)));
        done(&self.ask(&self.room, ("Register", Method::POST, &path), registration).await?)
    }

    /// Renews. Whether there is something to renew.
    pub(crate) async fn renew(&self, service: &str, id: &str, dirty: u64) -> Result<bool> {
        let path = format!("{}?lastDirtyTimestamp={dirty}", place(service, id));
        let answer = self.ask(&self.room_to_renew, ("Renew", Method::PUT, &path), Vec::new()).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        done(&answer).map(|()| true)
    }

    /// It is no error if it is gone.
    pub(crate) async fn cancel(&self, service: &str, id: &str) -> Result<()> {
        let answer =
            self.ask(&self.room, ("Cancel", Method::DELETE, &place(service, id)), Vec::new()).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(());
        }
        done(&answer)
    }

    /// Everything there is.
    pub(crate) async fn all(&self) -> Result<Listed> {
        let answer = self.ask(&self.room_to_list, ("All", Method::GET, "/apps"), Vec::new()).await?;
        done(&answer)?;
        Listed::read(answer.body())
    }

    /// What changed in the last minutes. `None` where a server does not tell.
    pub(crate) async fn delta(&self) -> Result<Option<Listed>> {
        let answer = self.ask(&self.room_to_list, ("Delta", Method::GET, "/apps/delta"), Vec::new()).await?;
        if matches!(answer.status(), StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) {
            return Ok(None);
        }
        done(&answer)?;
        Listed::read(answer.body()).map(Some)
    }
}

pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body)
        .map_err(|e| Error::unavailable(format!("Eureka's answer is not understood: {e}")).with_source(e))
}

fn done(answer: &Response<Bytes>) -> Result<()> {
    let Some(code) = Code::from_http(answer.status()) else { return Ok(()) };
    // Nothing there says that it will not be well again.
    let code = if answer.status().is_server_error() { Code::Unavailable } else { code };
    let text = String::from_utf8_lossy(answer.body());
    let text: String = text.trim().chars().take(300).collect();
    Err(Error::new(code, format!("Eureka answered {}: {text}", answer.status())))
}
