//! Connections inside the process: a listener and its clients meet under a name.
//!
//! For tests, and for services that live in one process: the same HTTP/2, without sockets.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use bowline_core::{Error, Result};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

/// As much as a TCP socket buffers by default on loopback, roughly.
const BUFFER: usize = 64 * 1024;
/// How many connections wait to be accepted, as in a socket's backlog.
const BACKLOG: usize = 1024;

type Names = HashMap<String, mpsc::Sender<DuplexStream>>;

static LISTENERS: LazyLock<Mutex<Names>> = LazyLock::new(Mutex::default);

fn listeners() -> MutexGuard<'static, Names> {
    LISTENERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Accepts connections made to its name. Dropping it gives the name back.
#[derive(Debug)]
pub struct Listener {
    name: String,
    connections: mpsc::Receiver<DuplexStream>,
}

impl Listener {
    /// Takes a name.
    ///
    /// # Errors
    /// `ALREADY_EXISTS` if it is taken.
    pub fn bind(name: &str) -> Result<Self> {
        let mut names = listeners();
        if names.contains_key(name) {
            return Err(Error::already_exists(format!("memory:{name} is taken")));
        }
        let (sender, connections) = mpsc::channel(BACKLOG);
        names.insert(name.to_owned(), sender);
        Ok(Self { name: name.to_owned(), connections })
    }

    /// The name it took.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next connection.
    pub async fn accept(&mut self) -> Option<DuplexStream> {
        self.connections.recv().await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        listeners().remove(&self.name);
    }
}

/// Connects to whoever listens under `name`.
///
/// # Errors
/// `UNAVAILABLE` if nobody does, or the backlog is full.
pub fn connect(name: &str) -> Result<DuplexStream> {
    let refused = || Error::unavailable(format!("nobody listens at memory:{name}"));
    let sender = listeners().get(name).cloned().ok_or_else(refused)?;
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    sender.try_send(theirs).map_err(|_| refused())?;
    Ok(ours)
}
