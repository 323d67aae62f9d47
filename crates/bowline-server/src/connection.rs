//! One connection, from its handshake to its end.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowline_core::task::Quiet;
use bowline_core::{Instant, Rng, SystemRng};
use bowline_rpc::Body;
use futures_util::TryFutureExt;
use http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::Handler;
use crate::listen::Io;
use crate::unread::{Given, Taken};
use crate::watched::{Activity, Watched};
use crate::{Limits, PeerAddr};

/// Runs a connection's HTTP/2 streams, and lets the server wait for them. They need no abort of their own: when the
/// connection is dropped, h2 resets its streams, and a reset stream drops its request.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    tracker: TaskTracker,
    write_timeout: Duration,
}

impl Streams {
    pub(crate) const fn new(tracker: TaskTracker, limits: &Limits) -> Self {
        Self { tracker, write_timeout: limits.write_timeout }
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, future: F) {
        self.tracker.spawn(Taken::new(future, self.write_timeout));
    }
}

/// Counts a request as in flight until dropped.
pub(crate) struct InFlightGuard(Arc<Activity>);

impl InFlightGuard {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.begin();
        Self(Arc::clone(activity))
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Prepares hyper with every limit it knows.
pub(crate) fn builder(limits: &Limits, streams: Streams) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(streams);
    builder
        .http1()
        .timer(TokioTimer::new())
        // hyper's own begins when a response has ended, and so ends connections that wait for their next request.
        .header_read_timeout(None)
        .max_buf_size((limits.header_bytes as usize).max(8192))
        .max_headers(limits.header_count);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(limits.header_bytes)
        .max_concurrent_streams(limits.concurrent_streams)
        .max_pending_accept_reset_streams(limits.pending_resets)
        .max_local_error_reset_streams(limits.error_resets)
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_timeout);
    builder
}

/// What connections of one server share.
pub(crate) struct Shared<H> {
    pub(crate) handler: H,
    pub(crate) limits: Limits,
    pub(crate) builder: auto::Builder<Streams>,
    pub(crate) tls: Option<TlsAcceptor>,
    /// Cancelled once the server drains.
    pub(crate) drain: CancellationToken,
}

/// Serves a connection until it ends, is idle or old, or the server drains.
pub(crate) async fn serve<H: Handler>(shared: Arc<Shared<H>>, io: Io, peer: PeerAddr) {
    let io = match &shared.tls {
        None => io,
        Some(acceptor) => {
            match tokio::time::timeout(shared.limits.handshake_timeout, acceptor.accept(io)).await {
                Ok(Ok(stream)) => Io::Tls { stream: Box::pin(stream) },
                Ok(Err(error)) => {
                    tracing::debug!(?peer, %error, "TLS handshake failed");
                    return;
                }
                Err(_) => {
                    tracing::debug!(?peer, "TLS handshake took too long");
                    return;
                }
            }
        }
    };
    let activity = Arc::new(Activity::new(Instant::now()));
    let service = {
        let (shared, activity) = (Arc::clone(&shared), Arc::clone(&activity));
        let peer = peer.clone();
        service_fn(move |request: Request<Incoming>| {
            let is_http1 = request.version() < Version::HTTP_2;
            activity.is_http1.store(is_http1, Ordering::Relaxed);
            let answered = shared.handler.call(request.map(Body::from), &peer, InFlightGuard::new(&activity));
            answered.map_ok(move |response| response.map(|body| Given::new(body, !is_http1)))
        })
    };
    let io = Watched { io, activity: Arc::clone(&activity) };
    let mut connection = pin!(shared.builder.serve_connection(TokioIo::new(io), service));
    let mut watchdog = Watchdog::new(&shared.limits, &activity);
    loop {
        let event = {
            // The connection is polled for every packet; what may end it, only when there is something to it.
            let event = pin!(Quiet::new(watchdog.next(&shared.drain)));
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(?peer, %error, "connection ended");
                    }
                    return;
                }
                event = event => event,
            }
        };
        let verdict = match event {
            Event::Drain => watchdog.drained(),
            Event::Look => watchdog.verdict(),
        };
        match verdict {
            Verdict::Fine => {}
            Verdict::Close => connection.as_mut().graceful_shutdown(),
            Verdict::Cut => {
                tracing::debug!(?peer, "connection cut: it did not end in time");
                return;
            }
        }
    }
}

enum Event {
    /// The server drains.
    Drain,
    /// It is time to look at the connection.
    Look,
}

enum Verdict {
    Fine,
    /// Ask the peer to end.
    Close,
    /// End it.
    Cut,
}

/// Looks after a connection's age and idleness, and whether its peer goes on with what it began.
struct Watchdog<'a> {
    limits: &'a Limits,
    activity: &'a Activity,
    old_at: Instant,
    look_at: Instant,
    idle_since: Instant,
    begun: usize,
    closing: bool,
    cut_at: Option<Instant>,
}

impl<'a> Watchdog<'a> {
    fn new(limits: &'a Limits, activity: &'a Activity) -> Self {
        let now = Instant::now();
        let spread = limits.max_age.mul_f64(0.9 + 0.2 * SystemRng.unit());
        // A connection that never begins a request gets as long as a head may take.
        let look_at = now + limits.header_timeout.min(limits.idle_timeout);
        Self {
            limits,
            activity,
            old_at: now + spread,
            look_at,
            idle_since: now,
            begun: 0,
            closing: false,
            cut_at: None,
        }
    }

    /// The server bounds its drain; no second bound here.
    fn drained(&mut self) -> Verdict {
        self.closing = true;
        self.cut_at = None;
        Verdict::Close
    }

    async fn next(&self, drain: &CancellationToken) -> Event {
        let look_at = if self.closing { self.cut_at } else { Some(self.look_at.min(self.old_at)) };
        let look = async {
            match look_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = drain.cancelled(), if !self.closing => Event::Drain,
            () = look => Event::Look,
        }
    }

    fn verdict(&mut self) -> Verdict {
        let now = Instant::now();
        if self.closing {
            return Verdict::Cut;
        }
        if now >= self.old_at {
            return self.close(now, self.limits.age_grace);
        }
        let begun = self.activity.begun.load(Ordering::Relaxed);
        if begun == 0 {
            // Nothing came, but the peer may just be about to: it is told before the connection is gone.
            return self.close(now, Duration::from_secs(1));
        }
        let is_over = |since: Option<Instant>, most: Duration| since.is_some_and(|since| since + most <= now);
        let (head, unwritten) = (self.activity.head(), self.activity.unwritten());
        // While an answer waits to be taken, the next request waits for that.
        let head = head.filter(|_| unwritten.is_none());
        if is_over(head, self.limits.header_timeout) || is_over(unwritten, self.limits.write_timeout) {
            return Verdict::Cut;
        }
        let busy = self.activity.in_flight.load(Ordering::Relaxed) > 0;
        if busy || begun != self.begun {
            self.begun = begun;
            self.idle_since = now;
        } else if now.duration_since(self.idle_since) >= self.limits.idle_timeout {
            return self.close(now, Duration::from_secs(1));
        }
        // Looking more often than that finds it idle sooner after the time, and costs a timer.
        let idle_at = self.idle_since + self.limits.idle_timeout;
        self.look_at = idle_at.min(now + self.limits.idle_timeout / 4);
        if self.activity.is_http1.load(Ordering::Relaxed) {
            let head_until = head.unwrap_or(now) + self.limits.header_timeout;
            let written_until = unwritten.unwrap_or(now) + self.limits.write_timeout;
            self.look_at = self.look_at.min(head_until).min(written_until);
        }
        Verdict::Fine
    }

    fn close(&mut self, now: Instant, grace: Duration) -> Verdict {
        self.closing = true;
        self.cut_at = Some(now + grace);
        Verdict::Close
    }
}
