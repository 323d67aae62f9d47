//! A connection's bytes, and when they came and went.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context as Task, Poll};
use std::time::Duration;

use bowline_core::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a connection does right now, and has done.
#[derive(Debug)]
pub(crate) struct Activity {
    since: Instant,
    /// How many requests it serves.
    pub(crate) in_flight: AtomicUsize,
    /// How many it has begun.
    pub(crate) begun: AtomicUsize,
    /// Whether it speaks HTTP/1, where whatever comes between two requests is the head of the next.
    pub(crate) is_http1: AtomicBool,
    head: Since,
    unwritten: Since,
}

/// A time, in microseconds after the connection's start and one; 0 for none.
#[derive(Debug, Default)]
struct Since(AtomicU64);

impl Since {
    fn begin(&self, of: &Activity) {
        if self.0.load(Ordering::Relaxed) == 0 {
            let after = u64::try_from(of.since.elapsed().as_micros()).unwrap_or(u64::MAX - 1);
            self.0.store(after + 1, Ordering::Relaxed);
        }
    }

    fn end(&self) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    fn get(&self, of: &Activity) -> Option<Instant> {
        let after = self.0.load(Ordering::Relaxed).checked_sub(1)?;
        Some(of.since + Duration::from_micros(after))
    }
}

impl Activity {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            since: now,
            in_flight: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            is_http1: AtomicBool::new(false),
            head: Since::default(),
            unwritten: Since::default(),
        }
    }

    /// A request begins; its head is complete.
    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.head.end();
    }

    /// Since when a head has been arriving, after the first one.
    pub(crate) fn head(&self) -> Option<Instant> {
        self.head.get(self)
    }

    /// Since when the peer has taken nothing of what is to be written.
    pub(crate) fn unwritten(&self) -> Option<Instant> {
        self.unwritten.get(self)
    }

    fn has_read(&self) {
        if self.is_http1.load(Ordering::Relaxed) && self.in_flight.load(Ordering::Relaxed) == 0 {
            self.head.begin(self);
        }
    }

    fn has_written<T>(&self, written: &Poll<io::Result<T>>) {
        match written {
            Poll::Ready(_) => self.unwritten.end(),
            Poll::Pending => self.unwritten.begin(self),
        }
    }
}

/// A connection's bytes on their way, of which `activity` is told.
pub(crate) struct Watched<T> {
    pub(crate) io: T,
    pub(crate) activity: Arc<Activity>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(task, buffer);
        if buffer.filled().len() > before {
            self.activity.has_read();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Task<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(task, bytes);
        self.activity.has_written(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(task, bytes);
        self.activity.has_written(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(task);
        // What TLS has taken may wait here.
        if flushed.is_pending() {
            self.activity.has_written(&flushed);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(task)
    }
}
