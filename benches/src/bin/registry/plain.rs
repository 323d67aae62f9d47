//! HTTP/1.1 with the least a client can do.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

/// One connection.
pub(crate) struct Plain {
    sender: http1::SendRequest<Full<Bytes>>,
    _connection: JoinSet<()>,
}

impl Plain {
    pub(crate) async fn connect(at: SocketAddr) -> Self {
        Self::try_connect(at).await.expect("connected")
    }

    pub(crate) async fn try_connect(at: SocketAddr) -> Option<Self> {
        let stream = tokio::net::TcpStream::connect(at).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { _ = connection.await });
        Some(Self { sender, _connection: tasks })
    }

    pub(crate) async fn call(&mut self, method: &str, path: &str) -> String {
        self.try_call(method, path, "").await.expect("an answer")
    }

    /// The answer's body, if its status is 200.
    pub(crate) async fn try_call(&mut self, method: &str, path: &str, body: &'static str) -> Option<String> {
        let request = http::Request::builder().method(method).uri(path).header("host", "bench");
        let request = request.body(Full::new(Bytes::from_static(body.as_bytes()))).ok()?;
        self.sender.ready().await.ok()?;
        let answer = self.sender.send_request(request).await.ok()?;
        let is_well = answer.status() == 200;
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        is_well.then(|| String::from_utf8_lossy(&body).into_owned())
    }
}
