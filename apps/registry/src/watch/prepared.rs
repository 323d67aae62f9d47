//! What all watchers of a service are told, encoded once.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bowline_registry_bowline::api::bowline::registry::v1::watch_response::Event;
use bowline_registry_bowline::api::bowline::registry::v1::{Emptiness, WatchResponse};
use bowline_rpc::Encoded;

use crate::node::Shared;
use crate::store::{List, News, ServiceKey};
use crate::wire::{self, Parts};

/// From how many revisions back the way to the latest is kept ready: watchers are told at most this much apart, those who
/// keep up.
const DELTAS: usize = 16;

/// Where a message leaves its watcher.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub(super) revision: u64,
    pub(super) digest: u64,
    pub(super) empty: Emptiness,
}

impl Position {
    pub(super) fn of(list: &List) -> Self {
        Self { revision: list.revision, digest: list.digest, empty: list.empty }
    }
}

/// What a watcher of a service is to be told.
pub(super) enum Told {
    Nothing,
    /// It has all there is, but has not heard so.
    Synced(Position),
    Delta(Position, Encoded<WatchResponse>),
    Snapshot(Arc<Snapshot>),
}

/// The messages of a service at its latest revision that was told.
#[derive(Debug, Default)]
pub(super) struct Prepared(Mutex<Ready>);

#[derive(Default)]
struct Ready {
    revision: u64,
    snapshot: Option<Arc<Snapshot>>,
    /// By the revision they build on.
    deltas: Vec<(u64, Position, Encoded<WatchResponse>)>,
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ready({}, {} deltas)", self.revision, self.deltas.len())
    }
}

impl Prepared {
    /// What is new to a watcher that knows a service at the revision `known`; `None` for who knows nothing. Who asks for
    /// the same at the same time waits for the one that encodes it.
    pub(super) fn news(&self, shared: &Shared, key: &ServiceKey, known: Option<u64>) -> Told {
        let mut ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut store = shared.store();
        let (revision, digest, empty) = store.position(key);
        if ready.revision != revision {
            *ready = Ready { revision, ..Ready::default() };
        }
        if known == Some(revision) {
            return Told::Synced(Position { revision, digest, empty });
        }
        let told = ready.deltas.iter().find(|(from, ..)| Some(*from) == known);
        if let Some((_, position, message)) = told {
            return Told::Delta(*position, message.clone());
        }
        let list = match store.news(key, known) {
            News::None => return Told::Nothing,
            News::List(list) => list,
            News::Changes(changes) => {
                drop(store);
                if let Some(message) = wire::delta(key.service(), shared.epoch, &changes) {
                    let (revision, digest, empty) = (changes.revision, changes.digest, changes.empty);
                    let (position, message) = (Position { revision, digest, empty }, Encoded::new(&message));
                    ready.deltas.truncate(DELTAS - 1);
                    ready.deltas.insert(0, (changes.from_revision, position, message.clone()));
                    return Told::Delta(position, message);
                }
                store = shared.store();
                let News::List(list) = store.news(key, None) else { return Told::Nothing };
                list
            }
        };
        drop(store);
        let known = ready.snapshot.as_ref().filter(|snapshot| snapshot.position.revision == list.revision);
        if let Some(snapshot) = known {
            return Told::Snapshot(Arc::clone(snapshot));
        }
        let snapshot = Arc::new(Snapshot::new(key, shared.epoch, list));
        ready.snapshot = Some(Arc::clone(&snapshot));
        Told::Snapshot(snapshot)
    }
}

/// A whole list in messages. They are shared by all who are sent it.
pub(super) struct Snapshot {
    pub(super) position: Position,
    first: Encoded<WatchResponse>,
    /// The same with who went of late, for those who ask.
    first_with_removed: OnceLock<Encoded<WatchResponse>>,
    rest: Vec<Encoded<WatchResponse>>,
    bytes: usize,
    key: ServiceKey,
    epoch: u64,
    list: Arc<List>,
}

impl Snapshot {
    fn new(key: &ServiceKey, epoch: u64, list: Arc<List>) -> Self {
        let message = |part| {
            let event = Event::Snapshot(Box::new(part));
            Encoded::new(&wire::of_list(key.service(), epoch, &list, event))
        };
        let mut parts = Parts::new(&list);
        let first = message(parts.next().unwrap_or_default());
        let rest = std::iter::from_fn(|| parts.next()).map(message).collect();
        Self {
            position: Position::of(&list),
            first,
            first_with_removed: OnceLock::new(),
            bytes: list.records.iter().map(|record| record.size()).sum(),
            rest,
            key: key.clone(),
            epoch,
            list,
        }
    }

    /// About how many bytes it has.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A message, by its number; `None` after the last one. `with_removed` has the first one tell also who went of late.
    pub(super) fn message(&self, number: usize, with_removed: bool) -> Option<Encoded<WatchResponse>> {
        let Some(rest) = number.checked_sub(1) else {
            let removed = with_removed && !self.list.removed.is_empty();
            let first = if removed {
                self.first_with_removed.get_or_init(|| self.with_removed())
            } else {
                &self.first
            };
            return Some(first.clone());
        };
        self.rest.get(rest).cloned()
    }

    fn with_removed(&self) -> Encoded<WatchResponse> {
        let mut part = Parts::new(&self.list).next().unwrap_or_default();
        part.removed = wire::removals(&self.list.removed);
        let event = Event::Snapshot(Box::new(part));
        Encoded::new(&wire::of_list(self.key.service(), self.epoch, &self.list, event))
    }
}
