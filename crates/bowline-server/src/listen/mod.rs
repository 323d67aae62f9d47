//! Where connections come from.

mod io;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use bowline_core::{Endpoint, Error, Result, WrapErr};
use bowline_rpc::memory;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

pub(crate) use io::Io;

/// An address to listen at: `127.0.0.1:8000`, `[::]:0`, `unix:/run/a.sock`, `memory:name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddr {
    /// A TCP address; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A Unix socket. A file that is there and that nobody listens at is replaced.
    Unix(PathBuf),
    /// A name in this process.
    Memory(String),
}

impl FromStr for ListenAddr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        if let Some(name) = text.strip_prefix("memory:") {
            return Ok(Self::Memory(name.into()));
        }
        text.parse().map(Self::Tcp).map_err(|e| {
            Error::invalid_argument(format!(
                "`{text}` is no address to listen at: use IP:PORT (such as 127.0.0.1:8000), unix:/PATH or memory:NAME"
            ))
            .with_source(e)
        })
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Memory(name) => write!(f, "memory:{name}"),
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAddr {
    /// A TCP peer.
    Tcp(SocketAddr),
    /// A process on this machine, or in this one.
    Local,
}

pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
    Memory(memory::Listener),
}

/// As many as Linux keeps by default.
const BACKLOG: i32 = 4096;

impl Listener {
    pub(crate) fn bind(addr: &ListenAddr) -> Result<Self> {
        match addr {
            ListenAddr::Tcp(addr) => tcp(*addr).map(Self::Tcp),
            ListenAddr::Unix(path) => unix(path).map(|listener| Self::Unix(listener, path.clone())),
            ListenAddr::Memory(name) => return memory::Listener::bind(name).map(Self::Memory),
        }
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => Error::failed_precondition(format!(
                "{addr} is taken by another process: stop that one or choose another address"
            ))
            .with_reason("ADDRESS_IN_USE")
            .with_source(error),
            _ => Error::from_std(error),
        })
        .with_context(|| format!("listening at {addr}"))
    }

    /// Where it listens, as clients connect to it.
    pub(crate) fn endpoint(&self, tls: bool) -> Result<Endpoint> {
        Ok(match self {
            Self::Tcp(listener) => {
                let addr = listener.local_addr().context("asking for the listener's address")?;
                let host = addr.ip().to_string();
                if tls { Endpoint::https(host, addr.port()) } else { Endpoint::http(host, addr.port()) }
            }
            Self::Unix(_, path) => Endpoint::unix(path.to_string_lossy()),
            Self::Memory(listener) => Endpoint::memory(listener.name()),
        })
    }

    /// The next connection; `None` if there will be no more.
    pub(crate) async fn accept(&mut self) -> Option<std::io::Result<(Io, PeerAddr)>> {
        match self {
            Self::Tcp(listener) => Some(listener.accept().await.map(|(stream, addr)| {
                // Small frames must not wait for more; a socket that cannot say so works all the same.
                let _ = stream.set_nodelay(true);
                (Io::tcp(stream), PeerAddr::Tcp(addr))
            })),
            Self::Unix(listener, _) => {
                Some(listener.accept().await.map(|(stream, _)| (Io::unix(stream), PeerAddr::Local)))
            }
            Self::Memory(listener) => {
                let stream = listener.accept().await?;
                Some(Ok((Io::Memory { stream }, PeerAddr::Local)))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // Gone already is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn tcp(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted process takes its address back although old connections linger.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn unix(path: &PathBuf) -> std::io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            // The file is there. If somebody answers, it is theirs; if not, it was left behind by a crash.
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        other => other,
    }
}
