//! Tokens, for a Nacos that wants to know who asks.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bowline_client::{Channel, ChannelOptions, HttpVersion};
use bowline_core::{Code, Context, Endpoint, Error, Instant, MethodKind, Operation, Result};
use bowline_rpc::{Body, Transport};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use serde::Deserialize;

use crate::Credentials;

/// Where to log in: Nacos 3, then those before it, as Nacos' own clients do.
const PATHS: [&str; 2] = ["/nacos/v3/auth/user/login", "/nacos/v1/auth/users/login"];
/// The most bytes of an answer.
const MAX_ANSWER: usize = 64 * 1024;

/// What Nacos answers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    access_token: String,
    #[serde(default)]
    token_ttl: u64,
}

/// The token of a process.
#[derive(Default)]
pub(crate) struct Token(Mutex<Option<(String, Instant)>>);

impl Token {
    /// A token that is good, from this server if there is none.
    pub(crate) async fn get(&self, cx: &Context, server: &Endpoint, who: &Credentials) -> Result<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((token, until)) = known
            && Instant::now() < until
        {
            return Ok(token);
        }
        let answer = login(cx, server, who).await.map_err(|e| e.context("logging in to Nacos"))?;
        // A new one is asked for before the old one ends.
        let until = Instant::now() + Duration::from_secs(answer.token_ttl) * 4 / 5;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((answer.access_token.clone(), until));
        Ok(answer.access_token)
    }

    /// It is not taken any more.
    pub(crate) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

async fn login(cx: &Context, server: &Endpoint, who: &Credentials) -> Result<Answer> {
    let options = ChannelOptions { http: HttpVersion::Http1, ..ChannelOptions::default() };
    let channel = Channel::builder(server.to_string()).options(options).build()?;
    let mut status = StatusCode::NOT_FOUND;
    for path in PATHS {
        let operation = Operation::new("nacos", "login", MethodKind::Unary);
        let request = request(server, path, who)?;
        let response = cx.run(channel.send(cx.clone(), operation, request)).await.flatten()?;
        let (parts, mut body) = response.into_parts();
        let body = cx.run(body.collect(MAX_ANSWER)).await.flatten()?;
        status = parts.status;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|e| {
                Error::unavailable(format!("Nacos' answer to the login is malformed: {e}")).with_source(e)
            });
        }
        if !matches!(
            status,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
        ) {
            break;
        }
    }
    let code = if status.is_client_error() { Code::PermissionDenied } else { Code::Unavailable };
    Err(Error::new(code, format!("Nacos answered {status}; check `username` and `password`")))
}

fn request(server: &Endpoint, path: &str, who: &Credentials) -> Result<Request<Body>> {
    let form: String = form_urlencoded::Serializer::new(String::new())
        .append_pair("username", &who.user)
        .append_pair("password", &who.password)
        .finish();
    let mut request = Request::new(Body::full(form));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = format!("{server}{path}")
        .parse()
        .map_err(|e| Error::internal("the address for logging in").with_source(e))?;
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(CONTENT_TYPE, form);
    let host = HeaderValue::try_from(server.authority());
    request.headers_mut().insert(HOST, host.map_err(|e| Error::internal("a host").with_source(e))?);
    Ok(request)
}
