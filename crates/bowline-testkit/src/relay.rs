//! The way to a server, which can break.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bowline_core::task::Tracker;
use bowline_core::{Result, WrapErr};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// Passes TCP connections on to a server, until they are cut. Dropping it cuts them all.
///
/// ```no_run
/// # async fn example(server: bowline_testkit::Server) -> bowline_core::Result<()> {
/// let relay = bowline_testkit::Relay::to(&server.address()).await?;
/// let address = relay.address(); // what the client under test is given
/// relay.cut();
/// relay.mend();
/// # Ok(())
/// # }
/// ```
pub struct Relay {
    address: String,
    way: Arc<Mutex<Way>>,
    _accepting: Accepting,
}

struct Way {
    is_open: bool,
    connections: Tracker,
}

struct Accepting(Tracker);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Relay {
    /// A relay to `address`, at a free port of loopback.
    ///
    /// # Errors
    /// If there is no free port.
    pub async fn to(address: &str) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("a relay's port")?;
        let own = listener.local_addr().context("a relay's port")?.to_string();
        let way = Arc::new(Mutex::new(Way { is_open: true, connections: Tracker::new() }));
        let accepting = Tracker::new();
        let (to, over) = (Arc::<str>::from(address), Arc::clone(&way));
        accepting.spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let to = Arc::clone(&to);
                let way = over.lock().unwrap_or_else(PoisonError::into_inner);
                if way.is_open {
                    way.connections.spawn(async move {
                        if let Ok(mut far) = TcpStream::connect(&*to).await {
                            // How it ends is seen at both ends.
                            let _ = copy_bidirectional(&mut near, &mut far).await;
                        }
                    });
                }
            }
        });
        Ok(Self { address: own, way, _accepting: Accepting(accepting) })
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// Breaks every connection. New ones are closed at once.
    pub fn cut(&self) {
        let mut way = self.way.lock().unwrap_or_else(PoisonError::into_inner);
        way.is_open = false;
        std::mem::take(&mut way.connections).abort();
    }

    /// Lets connections pass again.
    pub fn mend(&self) {
        self.way.lock().unwrap_or_else(PoisonError::into_inner).is_open = true;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cut();
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relay({})", self.address)
    }
}
