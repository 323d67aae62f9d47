//! One instance and the connections to it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;
use bowline_balance::{Candidate, Load};
use bowline_core::task::Tracker;
use bowline_core::{Endpoint, Error, Instance, Instant, Result, SystemRng};
use bowline_discovery::Backoff;
use bowline_rpc::Body;
use bowline_telemetry::ChannelMetrics;
use http::{HeaderValue, Request, Response};

use crate::connect::{Connector, Io};
use crate::connection::{Failure, Http1, Http2, Stream};
use crate::signals::Signals;
use crate::{ChannelOptions, HttpVersion};

/// What the nodes of a channel share.
pub(crate) struct Shared {
    pub(crate) options: ChannelOptions,
    pub(crate) connector: Connector,
    pub(crate) tasks: Tracker,
    pub(crate) signals: Signals,
    pub(crate) metrics: ChannelMetrics,
    /// What servers see as `:authority`.
    pub(crate) authority: String,
    /// What servers are told of who calls.
    pub(crate) caller: Option<HeaderValue>,
}

/// An instance as it is registered now, with what is known of the way to it.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) instance: Arc<Instance>,
    pub(crate) link: Arc<Link>,
}

impl Candidate for Node {
    fn instance(&self) -> &Instance {
        &self.instance
    }

    fn load(&self) -> &Load {
        &self.link.load
    }

    fn is_live(&self) -> bool {
        !self.link.dead.load(Ordering::Relaxed)
    }
}

/// The connections to one endpoint and the load seen on it. Survives every update of the instance that keeps the endpoint.
pub(crate) struct Link {
    pub(crate) endpoint: Endpoint,
    pub(crate) load: Arc<Load>,
    shared: Arc<Shared>,
    open: ArcSwap<Vec<Arc<Http2>>>,
    idle: Mutex<Vec<(Http1, Instant)>>,
    busy: AtomicUsize,
    connecting: tokio::sync::Mutex<()>,
    waiting: AtomicUsize,
    dead: AtomicBool,
    /// Whether it is of the subset that takes the traffic.
    inside: AtomicBool,
    /// In which state it was when the keeper last noted it.
    noted: AtomicU8,
    this: Weak<Link>,
}

/// Why there is no place for a request. Nothing was sent.
#[derive(Debug)]
pub(crate) enum NoPlace {
    /// Too many requests wait for it already: that says nothing of the instance.
    Full(Error),
    /// It cannot be reached, which this attempt was the first to find out, or others knew before.
    Unreachable { error: Error, is_news: bool },
}

/// A place on a connection for one request.
pub(crate) enum Place {
    Http2(Stream),
    Http1 { connection: Option<Http1>, link: Arc<Link> },
}

impl Link {
    pub(crate) fn new(endpoint: Endpoint, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            endpoint,
            load: Arc::default(),
            shared,
            open: ArcSwap::default(),
            idle: Mutex::default(),
            busy: AtomicUsize::new(0),
            connecting: tokio::sync::Mutex::new(()),
            waiting: AtomicUsize::new(0),
            dead: AtomicBool::new(false),
            inside: AtomicBool::new(true),
            noted: AtomicU8::new(0),
            this: Weak::clone(this),
        })
    }

    /// A place for a request on a connection that is there and has room.
    pub(crate) fn ready(&self) -> Option<Place> {
        match self.shared.options.http {
            HttpVersion::Http2 => {
                let connection = self.least_busy().filter(|c| c.has_room())?;
                Some(Place::Http2(connection.begin()))
            }
            HttpVersion::Http1 => None,
        }
    }

    /// A place for a request, on a connection that is made if there is none with room.
    ///
    /// # Errors
    /// Why there is none; nothing was sent then.
    pub(crate) async fn place(self: &Arc<Self>) -> Result<Place, NoPlace> {
        match self.shared.options.http {
            HttpVersion::Http2 => self.http2().await.map(|connection| Place::Http2(connection.begin())),
            HttpVersion::Http1 => self.http1().await,
        }
    }

    /// The open connection with the fewest requests.
    fn least_busy(&self) -> Option<Arc<Http2>> {
        let open = self.open.load();
        open.iter().filter(|c| c.is_open()).min_by_key(|c| c.in_flight()).cloned()
    }

    async fn http2(self: &Arc<Self>) -> Result<Arc<Http2>, NoPlace> {
        let options = &self.shared.options;
        if let Some(connection) = self.least_busy().filter(|c| c.has_room()) {
            return Ok(connection);
        }
        let _waiting = Waiting::enter(&self.waiting, options.pending, &self.endpoint)?;
        // One makes the connection, the others wait for it.
        let _turn = self.connecting.lock().await;
        let open = self.open.load().iter().filter(|c| c.is_open()).count();
        if let Some(connection) = self.least_busy() {
            // With all of them full, the least busy one queues the request until a stream is free.
            let queued = connection.in_flight() < options.pending;
            if connection.has_room() || (open >= options.connections && queued) {
                return Ok(connection);
            }
            if open >= options.connections {
                return Err(too_many(&self.endpoint, options.pending));
            }
        }
        let this = Weak::clone(&self.this);
        let ended = move || {
            if let Some(this) = this.upgrade() {
                this.forget_closed();
            }
        };
        let opened = self.within_time(async {
            let io = self.shared.connector.connect(&self.endpoint).await?;
            Http2::open(io, options, &self.shared.tasks, ended).await
        });
        let connection = opened.await?;
        self.open.rcu(|open| {
            let mut open: Vec<_> = open.iter().filter(|c| c.is_open()).cloned().collect();
            open.push(Arc::clone(&connection));
            open
        });
        Ok(connection)
    }

    fn forget_closed(&self) {
        self.open.rcu(|open| open.iter().filter(|c| c.is_open()).cloned().collect::<Vec<_>>());
    }

    async fn http1(self: &Arc<Self>) -> Result<Place, NoPlace> {
        let options = &self.shared.options;
        // Dropping it gives the room back.
        let place = |connection| Place::Http1 { connection, link: Arc::clone(self) };
        if let Some(connection) = self.take_idle() {
            self.busy.fetch_add(1, Ordering::Relaxed);
            return Ok(place(Some(connection)));
        }
        // Counted before connecting, so that many callers at once do not all find room.
        let mut place = place(None);
        if self.busy.fetch_add(1, Ordering::Relaxed) >= options.http1_connections {
            return Err(too_many(&self.endpoint, options.http1_connections));
        }
        let opened = self.within_time(async {
            let io: Io = self.shared.connector.connect(&self.endpoint).await?;
            Http1::open(io, &self.shared.tasks).await
        });
        let opened = opened.await?;
        if let Place::Http1 { connection, .. } = &mut place {
            *connection = Some(opened);
        }
        Ok(place)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Http1, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_idle(&self) -> Option<Http1> {
        let mut idle = self.idle();
        let now = Instant::now();
        idle.retain(|(c, since)| c.is_open() && now.duration_since(*since) < self.shared.options.http1_idle);
        idle.pop().map(|(connection, _)| connection)
    }

    /// Whether it is of the subset.
    pub(crate) fn is_inside(&self) -> bool {
        self.inside.load(Ordering::Relaxed)
    }

    /// It belongs to the subset from now on, or no longer.
    pub(crate) fn set_inside(&self, inside: bool) {
        self.inside.store(inside, Ordering::Relaxed);
    }

    /// Notes a state for the keeper; which one it noted before.
    pub(crate) fn note(&self, state: u8) -> u8 {
        self.noted.swap(state, Ordering::Relaxed)
    }

    /// Keeps no connection without need: requests under way end on theirs.
    pub(crate) fn rest(&self) {
        if self.load.pending() == 0 && !self.open.load().is_empty() {
            self.open.store(Arc::default());
        }
        self.idle().clear();
    }

    /// Bounds a connection attempt, and draws the conclusion from how it went.
    async fn within_time<T>(&self, attempt: impl Future<Output = Result<T>>) -> Result<T, NoPlace> {
        let time = self.shared.options.connect_timeout;
        let result = tokio::time::timeout(time, attempt).await.unwrap_or_else(|_| {
            Err(Error::unavailable(format!("connecting to {} took longer than {time:?}", self.endpoint)))
        });
        match result {
            Ok(connection) => {
                if self.dead.load(Ordering::Relaxed) && self.dead.swap(false, Ordering::Relaxed) {
                    self.load.came_back();
                    self.shared.signals.rebuild();
                }
                Ok(connection)
            }
            // Whatever kept it from connecting: the call was not begun, and may find another instance.
            Err(error) => {
                let is_news = self.died(&error);
                Err(NoPlace::Unreachable { error: unreachable_at(&self.endpoint, error), is_news })
            }
        }
    }

    /// Marks it as dead and tries to reach it until that succeeds or nobody wants it any more. Whether it was not known.
    fn died(&self, error: &Error) -> bool {
        if self.dead.swap(true, Ordering::Relaxed) {
            return false;
        }
        tracing::warn!(endpoint = %self.endpoint, %error, "an instance cannot be reached");
        self.shared.signals.rebuild();
        let (this, (first, longest)) = (Weak::clone(&self.this), self.shared.options.reconnect);
        self.shared.tasks.spawn(async move {
            let mut backoff = Backoff::new(first, longest);
            loop {
                tokio::time::sleep(backoff.next(&SystemRng)).await;
                let Some(link) = this.upgrade() else { return };
                if !link.dead.load(Ordering::Relaxed) {
                    return;
                }
                if link.place().await.is_ok() {
                    tracing::info!(endpoint = %link.endpoint, "an instance can be reached again");
                    return;
                }
            }
        });
        true
    }
}

/// The log is told where and why; a stranger, to whom an error may travel on, is not.
fn unreachable_at(endpoint: &Endpoint, error: Error) -> Error {
    Error::unavailable(format!("{endpoint} cannot be reached: {error}"))
        .with_public_message("the service cannot be reached")
        .with_reason("UNREACHABLE")
        .with_source(error)
}

fn too_many(endpoint: &Endpoint, limit: usize) -> NoPlace {
    let error = Error::resource_exhausted(format!("{limit} requests wait for {endpoint} already"))
        .with_public_message("too many requests wait for the service already")
        .with_reason("TOO_MANY_PENDING");
    NoPlace::Full(error)
}

/// Counts a request that waits for a connection.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, limit: usize, endpoint: &Endpoint) -> Result<Self, NoPlace> {
        let waiting = Self(count);
        if count.fetch_add(1, Ordering::Relaxed) >= limit {
            return Err(too_many(endpoint, limit));
        }
        Ok(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Place {
    /// Sends the request; its body's end is the caller's to watch.
    pub(crate) async fn send(&mut self, request: Box<Request<Body>>) -> Result<Response<Body>, Failure> {
        match self {
            Self::Http2(stream) => stream.send(request).await,
            Self::Http1 { connection: Some(connection), .. } => connection.send(request).await,
            Self::Http1 { connection: None, .. } => {
                Err(Failure::Unsent(request, Error::internal("the connection was given back")))
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Self::Http1 { connection, link } = self else { return };
        link.busy.fetch_sub(1, Ordering::Relaxed);
        let Some(mut connection) = connection.take().filter(Http1::is_open) else { return };
        let link = Arc::clone(link);
        let tasks = link.shared.tasks.clone();
        let time = link.shared.options.http1_idle;
        // It is free once the response's body was read to its end; one that was not is closed.
        tasks.spawn(async move {
            if tokio::time::timeout(time, connection.is_free()).await == Ok(true) {
                link.idle().push((connection, Instant::now()));
            }
        });
    }
}
