//! Snapshots that outlive the process.

mod store;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Clock, Result, SystemClock};
use tokio::task::JoinHandle;

use crate::{Discovery, Hub, Publisher, Snapshot, State, Watcher};
use store::Store;

/// Bounds of [`DiskSnapshots`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DiskOptions {
    /// How many services are kept; the one written longest ago gives way. 1000.
    pub max_services: usize,
    /// How large one file may be, in bytes. A larger list is not kept, a larger file is not read. 16 MiB, which is more
    /// than 50 000 instances.
    pub max_file_bytes: u64,
    /// Older files are not served. 7 days: a list that old has long been recycled into other people's addresses.
    pub max_age: Duration,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self { max_services: 1_000, max_file_bytes: 16 << 20, max_age: Duration::from_secs(7 * 24 * 60 * 60) }
    }
}

/// Any discovery, with a memory on disk: each good list is written to one JSON file per service, and a process that starts
/// while its registry is down is served from there ([`State::Disk`], with its age) until the registry answers.
///
/// A file is written to a temporary name, synced and renamed, so that it is whole or not there; never on the threads that
/// run requests. While a write is under way newer lists wait in a place for one, the newest wins. A definite "there are
/// none" is passed on but not written: a registry that lost its data says the same. A file that cannot be read is set aside
/// as `*.corrupt` with a warning.
///
/// ```
/// use bowline_discovery::{DiskSnapshots, Memory};
/// use std::sync::Arc;
///
/// let dir = tempfile::tempdir().unwrap();
/// let discovery = DiskSnapshots::open(Arc::new(Memory::new()), dir.path()).unwrap();
/// ```
pub struct DiskSnapshots {
    inner: Arc<dyn Discovery>,
    store: Arc<Store>,
    hub: Hub,
}

impl DiskSnapshots {
    /// Remembers what `inner` says in `directory`, which is made if need be and belongs to this application alone. Touches
    /// the disk, so call it while starting.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn open(inner: Arc<dyn Discovery>, directory: impl Into<PathBuf>) -> Result<Self> {
        Self::open_with(inner, directory, DiskOptions::default(), Arc::new(SystemClock))
    }

    /// As [`DiskSnapshots::open`], with other bounds and another clock. Its wall time is what ages are measured by.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn open_with(
        inner: Arc<dyn Discovery>,
        directory: impl Into<PathBuf>,
        options: DiskOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let store = Arc::new(Store::open(directory.into(), options, clock)?);
        Ok(Self { inner, store, hub: Hub::new() })
    }
}

impl Discovery for DiskSnapshots {
    fn watch(&self, service: &str) -> Watcher {
        let (inner, store) = (Arc::clone(&self.inner), Arc::clone(&self.store));
        let name = service.to_owned();
        self.hub.watch(service, |publisher| async move {
            // Watching first: the registry's answer can arrive while the disk is read.
            let inner = inner.watch(&name);
            restore(&store, &name, &publisher).await;
            follow(inner, &store, &publisher).await;
        })
    }
}

impl fmt::Debug for DiskSnapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskSnapshots").field("store", &self.store).field("hub", &self.hub).finish()
    }
}

async fn restore(store: &Arc<Store>, service: &str, publisher: &Publisher) {
    let (store, service) = (Arc::clone(store), service.to_owned());
    let read = tokio::task::spawn_blocking(move || store.read(&service)).await;
    if let Ok(Some((instances, age))) = read {
        publisher.restore(instances, age);
    }
}

async fn follow(mut inner: Watcher, store: &Arc<Store>, publisher: &Publisher) {
    let mut news = Some(inner.current());
    let mut unwritten: Option<Arc<Snapshot>> = None;
    let mut writing: Option<JoinHandle<()>> = None;
    loop {
        if let Some(snapshot) = news.take() {
            publisher.relay(&snapshot);
            if snapshot.state == State::Live {
                unwritten = Some(snapshot);
            }
        }
        if writing.is_none() {
            writing = unwritten.take().map(|snapshot| write(store, snapshot));
        }
        tokio::select! {
            snapshot = inner.changed() => news = Some(snapshot),
            () = finished(&mut writing) => writing = None,
        }
    }
}

fn write(store: &Arc<Store>, snapshot: Arc<Snapshot>) -> JoinHandle<()> {
    let store = Arc::clone(store);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = store.write(&snapshot) {
            tracing::warn!(service = %snapshot.service, %error, "a snapshot was not written to disk");
        }
    })
}

/// Waits for the write under way, for ever if there is none.
async fn finished(writing: &mut Option<JoinHandle<()>>) {
    match writing {
        Some(write) => {
            if let Err(error) = write.await {
                tracing::error!(%error, "writing a snapshot panicked");
            }
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
