//! A connection's bytes, whatever carries them.

use std::io::Result;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

pin_project_lite::pin_project! {
    /// One of the transports; an enum, so that reading needs no dynamic call.
    #[project = Projected]
    pub(crate) enum Io {
        Tcp { #[pin] stream: TcpStream, linger: Option<Linger> },
        Unix { #[pin] stream: UnixStream, linger: Option<Linger> },
        Memory { #[pin] stream: DuplexStream },
        Tls { stream: Pin<Box<TlsStream<Io>>> },
    }
}

/// How long a closed connection is still read, and how much of it.
const LINGER: Duration = Duration::from_millis(300);
const LINGER_BYTES: usize = 256 * 1024;

/// The end of a connection. A socket that is closed with something unread makes the kernel reset it, and a reset throws away
/// what the peer has not read yet: the GOAWAY that says which requests were not begun, or the last answer (RFC 9112, 9.6).
/// So what still comes is read and dropped, until the peer has closed too.
pub(crate) struct Linger {
    until: Pin<Box<Sleep>>,
    read: usize,
}

impl Linger {
    fn poll<S: AsyncRead + AsyncWrite>(
        this: &mut Option<Self>,
        mut stream: Pin<&mut S>,
        task: &mut Task<'_>,
    ) -> Poll<Result<()>> {
        let linger = match this {
            Some(linger) => linger,
            None => {
                ready!(stream.as_mut().poll_shutdown(task))?;
                this.insert(Self { until: Box::pin(tokio::time::sleep(LINGER)), read: 0 })
            }
        };
        while linger.read < LINGER_BYTES && linger.until.as_mut().poll(task).is_pending() {
            let mut dropped = [MaybeUninit::uninit(); 4096];
            let mut dropped = ReadBuf::uninit(&mut dropped);
            match ready!(stream.as_mut().poll_read(task, &mut dropped)) {
                Ok(()) if !dropped.filled().is_empty() => linger.read += dropped.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Io {
    pub(crate) const fn tcp(stream: TcpStream) -> Self {
        Self::Tcp { stream, linger: None }
    }

    pub(crate) const fn unix(stream: UnixStream) -> Self {
        Self::Unix { stream, linger: None }
    }
}

macro_rules! forward {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.project() {
            Projected::Tcp { stream: $stream, .. } => $call,
            Projected::Unix { stream: $stream, .. } => $call,
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
        match self.project() {
            Projected::Tcp { stream, linger } => Linger::poll(linger, stream, task),
            Projected::Unix { stream, linger } => Linger::poll(linger, stream, task),
            Projected::Memory { stream } => stream.poll_shutdown(task),
            Projected::Tls { stream } => stream.as_mut().poll_shutdown(task),
        }
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
            Self::Tcp { stream, .. } => stream.is_write_vectored(),
            Self::Unix { stream, .. } => stream.is_write_vectored(),
            Self::Memory { stream } => stream.is_write_vectored(),
            Self::Tls { stream } => stream.is_write_vectored(),
        }
    }
}
