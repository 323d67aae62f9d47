//! The operator's side: health, metrics, log level, configuration.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bowline_core::{Context, Endpoint, Error, Result};
use bowline_rpc::{Body, BoxFuture};
use bowline_telemetry::Metrics;
use bowline_telemetry::logs::LogHandle;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::accept::{Connections, Handler};
use crate::connection::InFlightGuard;
use crate::{Limits, ListenAddr, PeerAddr};

/// The most bytes a log level may have.
const LEVEL_BYTES: usize = 4096;

/// What an admin listener shows.
#[derive(Clone, Debug)]
pub struct AdminOptions {
    /// Where it listens: loopback, unless something keeps strangers away.
    pub listen: ListenAddr,
    /// `/metrics`.
    pub metrics: Metrics,
    /// `/log-level`; without it the page says that logging is not set up.
    pub logs: Option<LogHandle>,
    /// `/info`: name, version, instance.
    pub info: Info,
    /// `/config`: already redacted.
    pub config: Info,
}

/// What a page shows, asked for each time: who this is may be settled later than where its operators look, and a
/// configuration may change.
#[derive(Clone)]
pub struct Info(Arc<dyn Fn() -> Value + Send + Sync>);

impl Info {
    /// Shows what `info` says at that moment.
    pub fn new(info: impl Fn() -> Value + Send + Sync + 'static) -> Self {
        Self(Arc::new(info))
    }
}

impl std::fmt::Debug for Info {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Info({})", (self.0)())
    }
}

/// A listener for operators and platforms, apart from the service's own port.
///
/// | path | answer |
/// |---|---|
/// | `GET /health/live` | 200 while the process works |
/// | `GET /health/ready` | 200 while it takes requests, 503 otherwise |
/// | `GET /metrics` | Prometheus' text format |
/// | `GET /info` | who this is |
/// | `GET /log-level`, `PUT /log-level` | the level, and a new one as the body |
/// | `GET /config` | the configuration in force, secrets masked |
pub struct Admin {
    options: AdminOptions,
    pages: Pages,
    connections: Option<Arc<Connections>>,
}

#[derive(Clone)]
struct Pages(Arc<Inner>);

struct Inner {
    ready: AtomicBool,
    options: AdminOptions,
}

impl Admin {
    /// An admin listener, not bound yet and not ready.
    pub fn new(options: AdminOptions) -> Self {
        let inner = Inner { ready: AtomicBool::new(false), options: options.clone() };
        Self { options, pages: Pages(Arc::new(inner)), connections: None }
    }

    /// Starts to listen and returns where.
    ///
    /// # Errors
    /// If the address is taken or not ours.
    pub fn bind(&mut self) -> Result<Endpoint> {
        let limits = Limits { max_connections: 100, ..Limits::default() };
        let connections = Connections::bind(&self.options.listen, None, &limits, self.pages.clone())
            .map_err(|error| error.context("admin listener"))?;
        let endpoint = connections.endpoint().clone();
        self.connections = Some(Arc::new(connections));
        Ok(endpoint)
    }

    /// Waits until the listener has drained or was aborted.
    ///
    /// # Errors
    /// Why it no longer accepts connections, if nobody told it to stop.
    pub fn serve(&self) -> impl Future<Output = Result<()>> + Send + 'static {
        let connections = self.connections.clone();
        async move {
            match connections {
                None => Err(Error::failed_precondition("the admin listener is not bound")),
                Some(connections) => connections.ended().await,
            }
        }
    }

    /// What `/health/ready` answers.
    pub fn set_ready(&self, ready: bool) {
        self.pages.0.ready.store(ready, Ordering::Relaxed);
    }

    /// Stops listening.
    ///
    /// # Errors
    /// If `cx` ends before the last request has.
    pub async fn drain(&self, cx: &Context) -> Result<()> {
        match &self.connections {
            None => Ok(()),
            Some(connections) => connections.drain(cx).await,
        }
    }

    /// Ends every connection.
    pub fn abort(&self) {
        if let Some(connections) = &self.connections {
            connections.abort();
        }
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Admin(at {})", self.options.listen)
    }
}

impl Pages {
    fn get(&self, path: &str) -> Response<Body> {
        let Inner { ready, options } = &*self.0;
        match path {
            "/health/live" => text(StatusCode::OK, "live\n".into()),
            "/health/ready" if ready.load(Ordering::Relaxed) => text(StatusCode::OK, "ready\n".into()),
            "/health/ready" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n".into()),
            "/metrics" => match options.metrics.encode() {
                Ok(page) => page_of(
                    StatusCode::OK,
                    page,
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                ),
                Err(error) => failed(&error),
            },
            "/info" => json_page(&(options.info.0)()),
            "/config" => json_page(&(options.config.0)()),
            "/log-level" => match &options.logs {
                Some(logs) => json_page(&json!({ "level": logs.level() })),
                None => failed(&Error::failed_precondition("this process' logging was set up elsewhere")),
            },
            _ => failed(&Error::not_found(format!(
                "nothing is at {path}; there are /health/live, /health/ready, /metrics, /info, /log-level and /config"
            ))),
        }
    }

    /// What a page does not do; or that there is no such page, whatever the method.
    fn not_allowed(&self, method: &Method, path: &str) -> Response<Body> {
        let allowed = match path {
            "/log-level" => "GET, HEAD, PUT, POST",
            "/health/live" | "/health/ready" | "/metrics" | "/info" | "/config" => "GET, HEAD",
            _ => return self.get(path),
        };
        let said = format!("{method} is not allowed at {path}; use {allowed}\n");
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, said);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        response
    }

    async fn set_level(self, mut body: Body) -> Response<Body> {
        let outcome = async {
            let logs = self.0.options.logs.as_ref();
            let logs =
                logs.ok_or_else(|| Error::failed_precondition("this process' logging was set up elsewhere"))?;
            let level = body.collect(LEVEL_BYTES).await?;
            logs.set_level(String::from_utf8_lossy(&level).trim())?;
            Ok(json!({ "level": logs.level() }))
        };
        match outcome.await {
            Ok(page) => json_page(&page),
            Err(error) => failed(&error),
        }
    }
}

impl Handler for Pages {
    type Future = AdminFuture;

    fn call(&self, request: Request<Body>, _: &PeerAddr, _: InFlightGuard) -> AdminFuture {
        let path = request.uri().path();
        match (request.method(), path) {
            (&Method::GET | &Method::HEAD, path) => AdminFuture::Page(Box::new(ready(Ok(self.get(path))))),
            (&Method::PUT | &Method::POST, "/log-level") => {
                let answer = self.clone().set_level(request.into_body());
                AdminFuture::Change(Box::pin(async move { Ok(answer.await) }))
            }
            (method, path) => AdminFuture::Page(Box::new(ready(Ok(self.not_allowed(method, path))))),
        }
    }
}

enum AdminFuture {
    Page(Box<Ready<Result<Response<Body>, Infallible>>>),
    Change(BoxFuture<'static, Result<Response<Body>, Infallible>>),
}

impl Future for AdminFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        task: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        match &mut *self {
            Self::Page(page) => std::pin::Pin::new(page).poll(task),
            Self::Change(change) => change.as_mut().poll(task),
        }
    }
}

fn page_of(status: StatusCode, page: String, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::full(page));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn text(status: StatusCode, page: String) -> Response<Body> {
    page_of(status, page, "text/plain; charset=utf-8")
}

fn json_page(value: &Value) -> Response<Body> {
    page_of(StatusCode::OK, format!("{value:#}\n"), "application/json")
}

fn failed(error: &Error) -> Response<Body> {
    text(error.code().http_status(), format!("{error}\n"))
}
