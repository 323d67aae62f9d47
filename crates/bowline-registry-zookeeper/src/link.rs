//! A connection that lives, as its users hold it: it takes requests, and tells what happened below the nodes they watch.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_core::{Error, Result};
use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::jute::Writer;
use crate::wire::{self, Event, Reply, op};

/// How many requests wait to be sent; further ones wait for those.
pub(crate) const QUEUE: usize = 1024;

/// A request on its way.
pub(crate) struct Call {
    pub(crate) op: i32,
    pub(crate) body: Bytes,
    pub(crate) answer: oneshot::Sender<Reply>,
}

/// See the [module](self).
pub(crate) struct Link {
    /// The session that it serves.
    pub(crate) session: i64,
    calls: mpsc::Sender<Call>,
    timeout: Duration,
    watched: Mutex<Watched>,
    /// Nodes above instances that are known to be there.
    parents: Mutex<BTreeSet<String>>,
}

#[derive(Default)]
struct Watched {
    has_ended: bool,
    by_path: HashMap<String, Vec<Arc<Changes>>>,
}

/// What changed below a node and was not looked at yet: the names of its children, each once.
#[derive(Default)]
pub(crate) struct Changes {
    state: Mutex<(BTreeSet<String>, bool)>,
    news: Notify,
}

impl Changes {
    fn lock(&self) -> MutexGuard<'_, (BTreeSet<String>, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, child: &str) {
        self.lock().0.insert(child.to_owned());
        self.news.notify_one();
    }

    fn end(&self) {
        self.lock().1 = true;
        self.news.notify_one();
    }

    /// Waits for changes.
    ///
    /// # Errors
    /// When the connection has ended.
    pub(crate) async fn next(&self) -> Result<BTreeSet<String>> {
        loop {
            {
                let mut state = self.lock();
                if state.1 {
                    return Err(Error::unavailable("the connection to ZooKeeper was lost"));
                }
                if !state.0.is_empty() {
                    return Ok(std::mem::take(&mut state.0));
                }
            }
            self.news.notified().await;
        }
    }
}

/// A watch, until it is dropped.
pub(crate) struct Watch {
    link: Arc<Link>,
    path: String,
    pub(crate) changes: Arc<Changes>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.link.watched();
        let Some(all) = watched.by_path.get_mut(&self.path) else { return };
        all.retain(|one| !Arc::ptr_eq(one, &self.changes));
        if all.is_empty() {
            watched.by_path.remove(&self.path);
            // Within the lock, so that it is sent before a later watch of the same node. Where the queue is full the watch
            // stays with the connection, and what it tells is passed over.
            let (answer, _) = oneshot::channel();
            let body = wire::remove_watches(&self.path).end();
            let _ = self.link.calls.try_send(Call { op: op::REMOVE_WATCHES, body, answer });
        }
    }
}

impl Link {
    pub(crate) fn new(session: i64, calls: mpsc::Sender<Call>, timeout: Duration) -> Self {
        Self { session, calls, timeout, watched: Mutex::default(), parents: Mutex::default() }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request.
    ///
    /// # Errors
    /// If no answer comes in time, or the connection ends first.
    pub(crate) async fn call(&self, op: i32, request: Writer) -> Result<Reply> {
        let (answer, answered) = oneshot::channel();
        let ended = || Error::unavailable("the connection to ZooKeeper was lost");
        let calling = async {
            let call = Call { op, body: request.end(), answer };
            self.calls.send(call).await.map_err(|_| ended())?;
            answered.await.map_err(|_| ended())
        };
        let late =
            |_| Error::deadline_exceeded(format!("ZooKeeper did not answer within {:?}", self.timeout));
        tokio::time::timeout(self.timeout, calling).await.map_err(late)?
    }

    /// Watches a node, which need not be there, and all below it.
    pub(crate) async fn watch(self: &Arc<Self>, path: &str) -> Result<Watch> {
        let changes = Arc::<Changes>::default();
        {
            let mut watched = self.watched();
            if watched.has_ended {
                changes.end();
            }
            watched.by_path.entry(path.to_owned()).or_default().push(Arc::clone(&changes));
        }
        let watch = Watch { link: Arc::clone(self), path: path.to_owned(), changes };
        self.call(op::ADD_WATCH, wire::add_watch(path)).await?.ok("to watch a service")?;
        Ok(watch)
    }

    /// Tells who watches the parent of the node.
    pub(crate) fn happened(&self, event: &Event) {
        let Some((parent, child)) = event.path.rsplit_once('/') else { return };
        if let Some(all) = self.watched().by_path.get(parent) {
            all.iter().for_each(|changes| changes.add(child));
        }
    }

    /// Whether this node is known to be there.
    pub(crate) fn has_parent(&self, path: &str) -> bool {
        self.parents.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    pub(crate) fn note_parent(&self, path: &str) {
        self.parents.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
    }

    pub(crate) fn forget_parent(&self, path: &str) {
        self.parents.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }

    /// Ends every watch.
    pub(crate) fn end(&self) {
        let mut watched = self.watched();
        watched.has_ended = true;
        watched.by_path.values().flatten().for_each(|changes| changes.end());
    }
}
