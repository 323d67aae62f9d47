//! A connection's bytes, whatever carries them.

use std::io::Result;
use std::pin::Pin;
use std::task::{Context as Task, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

pin_project_lite::pin_project! {
    /// One of the transports; an enum, so that reading needs no dynamic call.
    #[project = Projected]
    pub(crate) enum Io {
        Tcp { #[pin] stream: TcpStream },
        Unix { #[pin] stream: UnixStream },
        Memory { #[pin] stream: DuplexStream },
        Tls { stream: Pin<Box<TlsStream<Io>>> },
    }
}

macro_rules! forward {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.project() {
            Projected::Tcp { stream: $stream } => $call,
            Projected::Unix { stream: $stream } => $call,
            Projected::Memory { stream: $stream } => $call,
            Projected::Tls { stream } => {
                let $stream = stream.as_mut();
                $call
            }
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, task: &mut Task<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        forward!(self, stream => stream.poll_read(task, buffer))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, task: &mut Task<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        forward!(self, stream => stream.poll_write(task, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Result<()>> {
        forward!(self, stream => stream.poll_flush(task))
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Result<()>> {
        forward!(self, stream => stream.poll_shutdown(task))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        task: &mut Task<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
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
