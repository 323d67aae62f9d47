//! A plain HTTP client, so that the wire is seen as others see it.

#![allow(dead_code, reason = "each test file uses a part")]

use std::time::Duration;

use bowline_core::Endpoint;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

pub(crate) enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

pub(crate) struct Http {
    sender: Sender,
    authority: String,
    _connection: JoinSet<()>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Trailers included.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

impl Http {
    pub(crate) async fn connect(endpoint: &Endpoint) -> Self {
        let stream = TcpStream::connect(endpoint.authority()).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async { drop(connection.await) });
        Self { sender: Sender::Http1(sender), authority: endpoint.authority(), _connection: tasks }
    }

    pub(crate) async fn connect_h2(endpoint: &Endpoint) -> Self {
        let stream = TcpStream::connect(endpoint.authority()).await.unwrap();
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async { drop(connection.await) });
        Self { sender: Sender::Http2(sender), authority: endpoint.authority(), _connection: tasks }
    }

    pub(crate) async fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let uri = match self.sender {
            Sender::Http1(_) => path.to_owned(),
            Sender::Http2(_) => format!("http://{}{path}", self.authority),
        };
        let mut request = Request::builder().method(method).uri(uri).header("host", &self.authority);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let answer = async {
            let response = match &mut self.sender {
                Sender::Http1(sender) => {
                    sender.ready().await.unwrap();
                    sender.send_request(request).await
                }
                Sender::Http2(sender) => sender.send_request(request).await,
            };
            let (parts, body) = response.unwrap().into_parts();
            let body = body.collect().await.unwrap();
            let mut headers = parts.headers;
            headers.extend(body.trailers().cloned().unwrap_or_default());
            Answer { status: parts.status.as_u16(), headers, body: body.to_bytes() }
        };
        tokio::time::timeout(Duration::from_secs(20), answer).await.expect("no answer in 20 s")
    }
}
