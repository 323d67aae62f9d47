//! A plain HTTP client, so that the wire is seen as others see it.

use std::time::Duration;

use bowline_core::Endpoint;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Where a server listens.
#[derive(Clone, Debug)]
pub struct Authority(String);

impl From<&Endpoint> for Authority {
    fn from(endpoint: &Endpoint) -> Self {
        Self(endpoint.authority())
    }
}

/// A port of loopback.
impl From<u16> for Authority {
    fn from(port: u16) -> Self {
        Self(format!("127.0.0.1:{port}"))
    }
}

/// `HOST:PORT`.
impl From<&str> for Authority {
    fn from(authority: &str) -> Self {
        Self(authority.into())
    }
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// One connection.
pub struct Http {
    sender: Sender,
    authority: String,
    _connection: JoinSet<()>,
}

/// A whole response, trailers among the headers.
#[derive(Debug)]
#[expect(missing_docs, reason = "they are called what they are")]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text()))
    }

    /// A header or trailer; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

impl Http {
    /// Connects with HTTP/1.1.
    pub async fn connect(at: impl Into<Authority>) -> Self {
        Self::try_connect(at).await.expect("nobody listens")
    }

    /// Connects with HTTP/1.1, if somebody listens.
    pub async fn try_connect(at: impl Into<Authority>) -> Option<Self> {
        let Authority(authority) = at.into();
        let stream = TcpStream::connect(&authority).await.ok()?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async { drop(connection.await) });
        Some(Self { sender: Sender::Http1(sender), authority, _connection: tasks })
    }

    /// Connects with HTTP/2.
    pub async fn connect_h2(at: impl Into<Authority>) -> Self {
        let Authority(authority) = at.into();
        let stream = TcpStream::connect(&authority).await.unwrap();
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async { drop(connection.await) });
        Self { sender: Sender::Http2(sender), authority, _connection: tasks }
    }

    /// Sends a request and reads the whole response. A `host` among the headers takes the place of the address.
    pub async fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        self.try_call(method, path, headers, body).await.expect("no answer")
    }

    /// As [`Http::call`], or `None` if the connection breaks or 20 s pass.
    pub async fn try_call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Option<Answer> {
        let named = headers.iter().find(|(name, _)| *name == "host");
        let host = named.map_or(&*self.authority, |(_, host)| host);
        let uri = match self.sender {
            Sender::Http1(_) => path.to_owned(),
            Sender::Http2(_) => format!("http://{host}{path}"),
        };
        let mut request = Request::builder().method(method).uri(uri).header("host", host);
        for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let answer = async {
            let response = match &mut self.sender {
                Sender::Http1(sender) => {
                    sender.ready().await.ok()?;
                    sender.send_request(request).await
                }
                Sender::Http2(sender) => sender.send_request(request).await,
            };
            let (parts, body) = response.ok()?.into_parts();
            let body = body.collect().await.ok()?;
            let mut headers = parts.headers;
            headers.extend(body.trailers().cloned().unwrap_or_default());
            Some(Answer { status: parts.status.as_u16(), headers, body: body.to_bytes() })
        };
        tokio::time::timeout(Duration::from_secs(20), answer).await.ok()?
    }
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Http({})", self.authority)
    }
}
