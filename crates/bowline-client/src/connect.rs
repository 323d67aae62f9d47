//! Making connections.

use std::io::{Error as IoError, Result as IoResult};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

use bowline_core::{Endpoint, Error, Result, Scheme, WrapErr};
use bowline_rpc::memory;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{ChannelOptions, HttpVersion};

/// Connects to endpoints.
#[derive(Clone)]
pub(crate) struct Connector {
    tls: Option<Arc<ClientConfig>>,
    server_name: Option<String>,
}

impl Connector {
    pub(crate) fn new(options: &ChannelOptions) -> Result<Self> {
        let alpn: &[&[u8]] = match options.http {
            HttpVersion::Http2 => &[b"h2"],
            HttpVersion::Http1 => &[b"http/1.1"],
        };
        let tls = options.tls.as_ref().map(|tls| tls.load(alpn)).transpose()?;
        Ok(Self { tls, server_name: options.tls.as_ref().and_then(|tls| tls.server_name.clone()) })
    }

    /// Connects. The caller bounds the time.
    pub(crate) async fn connect(&self, endpoint: &Endpoint) -> Result<Io> {
        match endpoint.scheme() {
            Scheme::Http => tcp(endpoint).await.map(|stream| Io::Tcp { stream }),
            Scheme::Https => {
                let stream = tcp(endpoint).await?;
                let config = self.tls.clone().ok_or_else(|| {
                    Error::failed_precondition(format!(
                        "{endpoint} needs TLS and the channel has none: set ChannelOptions::tls"
                    ))
                })?;
                let name = self.server_name.clone().unwrap_or_else(|| endpoint.host().to_owned());
                let name =
                    ServerName::try_from(name).with_context(|| format!("naming {endpoint} for TLS"))?;
                let stream = TlsConnector::from(config)
                    .connect(name, stream)
                    .await
                    .with_context(|| format!("TLS with {endpoint}"))?;
                Ok(Io::Tls { stream: Box::new(stream) })
            }
            Scheme::Unix => {
                let path = endpoint.path().unwrap_or_default();
                let stream =
                    UnixStream::connect(&path).await.with_context(|| format!("connecting to {endpoint}"))?;
                Ok(Io::Unix { stream })
            }
            Scheme::Memory => memory::connect(endpoint.host()).map(|stream| Io::Memory { stream }),
        }
    }
}

async fn tcp(endpoint: &Endpoint) -> Result<TcpStream> {
    let stream = TcpStream::connect((endpoint.host(), endpoint.port()))
        .await
        .with_context(|| format!("connecting to {endpoint}"))?;
    // Small frames must not wait for more; a socket that cannot say so works all the same.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

pin_project_lite::pin_project! {
    /// A connection's bytes.
    #[project = Projected]
    pub(crate) enum Io {
        Tcp { #[pin] stream: TcpStream },
        Unix { #[pin] stream: UnixStream },
        Memory { #[pin] stream: DuplexStream },
        Tls { #[pin] stream: Box<TlsStream<TcpStream>> },
    }
}

macro_rules! forward {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.project() {
            Projected::Tcp { stream: $stream } => $call,
            Projected::Unix { stream: $stream } => $call,
            Projected::Memory { stream: $stream } => $call,
            Projected::Tls { stream: $stream } => $call,
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, task: &mut Task<'_>, buffer: &mut ReadBuf<'_>) -> Poll<IoResult<()>> {
        forward!(self, stream => stream.poll_read(task, buffer))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, task: &mut Task<'_>, bytes: &[u8]) -> Poll<Result<usize, IoError>> {
        forward!(self, stream => stream.poll_write(task, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<IoResult<()>> {
        forward!(self, stream => stream.poll_flush(task))
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<IoResult<()>> {
        forward!(self, stream => stream.poll_shutdown(task))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        task: &mut Task<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<IoResult<usize>> {
        forward!(self, stream => stream.poll_write_vectored(task, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp { stream } => stream.is_write_vectored(),
            Self::Unix { stream } => stream.is_write_vectored(),
            Self::Memory { stream } => stream.is_write_vectored(),
            Self::Tls { stream } => stream.is_write_vectored(),
        }
    }
}
