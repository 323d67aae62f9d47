//! Request scope.
//!
//! A [`Context`] is passed explicitly, as the first argument, to everything a request does, and is never stored. It
//! carries when the request must be done, whether its caller still waits, and who and what it is about. Values inform;
//! they never control: an optional parameter does not belong here.
//!
//! Contexts form a tree. A deadline only shrinks on the way down; cancelling a node cancels everything below it and
//! nothing beside it. This is the model of Go's `context` package.

use std::any::{Any, TypeId};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as Task, Poll};
use std::time::Duration;

use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::{Error, Identity, Instant, Metadata, Operation, RequestId, Result, Tenant, TraceContext};

/// Deadline, cancellation and what a request is about. Immutable; a clone costs one atomic increment.
///
/// ```
/// use bowline_core::Context;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let cx = Context::background().with_timeout(Duration::from_millis(5));
/// let error = cx.run(std::future::pending::<()>()).await.unwrap_err();
/// assert!(error.is_timeout());
/// # });
/// ```
#[derive(Clone)]
pub struct Context(Arc<Inner>);

#[derive(Clone, Default)]
struct Inner {
    deadline: Option<Instant>,
    /// `None` where nothing can cancel: then nobody needs to listen.
    token: Option<CancellationToken>,
    tenant: Tenant,
    request_id: Option<RequestId>,
    trace: Option<TraceContext>,
    operation: Option<Operation>,
    identity: Option<Identity>,
    metadata: Metadata,
    outgoing: Metadata,
    values: Option<Arc<Value>>,
    /// Of the request as a whole, however far down its tree; `None` where nobody asks.
    degraded: Option<Arc<AtomicBool>>,
}

/// A persistent list: a child's values are its own in front of its parent's.
struct Value {
    type_id: TypeId,
    value: Arc<dyn Any + Send + Sync>,
    next: Option<Arc<Value>>,
}

/// Cancels a [`Context`]: when told to, and when dropped.
#[derive(Debug)]
#[must_use = "dropping the canceller cancels the context"]
pub struct Canceller(CancellationToken);

impl Canceller {
    /// Cancels the context and everything below it. Doing it twice is doing it once.
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

impl Drop for Canceller {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What a server knows of a request before its context exists. See [`Context::builder`].
#[derive(Default)]
pub struct ContextBuilder(Arc<Inner>);

macro_rules! builder {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        impl ContextBuilder {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(mut self, $name: $type) -> Self {
                // Where the context will be: nothing is moved there later.
                Arc::make_mut(&mut self.0).$name = $name.into();
                self
            })*
        }
    };
}

builder! {
    /// When the answer must be there.
    deadline: Option<Instant>;
    /// Whose request it is.
    tenant: Tenant;
    /// Its name.
    request_id: RequestId;
    /// Its trace.
    trace: TraceContext;
    /// What is called.
    operation: Operation;
    /// Inbound metadata.
    metadata: Metadata;
}

impl ContextBuilder {
    /// The context, at the root of a new tree, and what cancels it.
    pub fn build(mut self) -> (Context, Canceller) {
        let token = CancellationToken::new();
        let inner = Arc::make_mut(&mut self.0);
        inner.token = Some(token.clone());
        inner.degraded = Some(Arc::default());
        (Context(self.0), Canceller(token))
    }
}

impl Context {
    /// The root: never done. For `main`, tests and background work; a request gets its context from the server.
    pub fn background() -> Self {
        Self(Arc::default())
    }

    /// Starts a tree with what is known of a request.
    pub fn builder() -> ContextBuilder {
        ContextBuilder::default()
    }

    fn derive(&self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = (*self.0).clone();
        change(&mut inner);
        Self(Arc::new(inner))
    }

    /// A child that is done after `timeout`, or when its parent is, whichever comes first.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.with_deadline(deadline),
            None => self.clone(),
        }
    }

    /// A child that is done at `deadline`, or when its parent is, whichever comes first.
    #[must_use]
    pub fn with_deadline(&self, deadline: Instant) -> Self {
        match self.0.deadline {
            Some(own) if own <= deadline => self.clone(),
            _ => self.derive(|inner| inner.deadline = Some(deadline)),
        }
    }

    /// A child that can be cancelled on its own. Dropping the [`Canceller`] cancels it.
    pub fn with_cancel(&self) -> (Self, Canceller) {
        let token = self.0.token.as_ref().map_or_else(CancellationToken::new, CancellationToken::child_token);
        let canceller = Canceller(token.clone());
        (self.derive(|inner| inner.token = Some(token)), canceller)
    }

    /// The same values without deadline and cancellation: for work that must go on after the request that began it. Hand
    /// it to an owner, such as `App::background`.
    #[must_use]
    pub fn detached(&self) -> Self {
        self.derive(|inner| {
            inner.deadline = None;
            inner.token = None;
        })
    }

    /// A child that carries `value`, found again by its type.
    #[must_use]
    pub fn with_value<T: Send + Sync + 'static>(&self, value: T) -> Self {
        self.derive(|inner| {
            let next = inner.values.take();
            inner.values = Some(Arc::new(Value { type_id: TypeId::of::<T>(), value: Arc::new(value), next }));
        })
    }

    /// A child with an identity. Only authenticators call this.
    #[must_use]
    pub fn with_identity(&self, identity: Identity) -> Self {
        self.derive(|inner| inner.identity = Some(identity))
    }

    /// A child bound to a tenant. Only the edge calls this.
    #[must_use]
    pub fn with_tenant(&self, tenant: Tenant) -> Self {
        self.derive(|inner| inner.tenant = tenant)
    }

    /// A child with a trace of its own.
    #[must_use]
    pub fn with_trace(&self, trace: TraceContext) -> Self {
        self.derive(|inner| inner.trace = Some(trace))
    }

    /// A child whose calls carry one more piece of metadata: `x-md-global-*` goes on through every hop, `x-md-local-*`
    /// one hop.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the key has neither prefix or either part is no header.
    pub fn with_metadata(&self, key: &str, value: &str) -> Result<Self> {
        let mut outgoing = self.0.outgoing.clone();
        outgoing.insert(key, value)?;
        Ok(self.derive(|inner| inner.outgoing = outgoing))
    }

    /// When it is done at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// How much time is left; zero once the deadline passed; `None` without one.
    pub fn remaining(&self) -> Option<Duration> {
        self.0.deadline.map(|d| d.saturating_duration_since(Instant::now()))
    }

    /// Why it is done, if it is: `CANCELLED` or `DEADLINE_EXCEEDED`.
    pub fn error(&self) -> Option<Error> {
        if self.is_canceled() {
            return Some(canceled());
        }
        self.0.deadline.filter(|d| *d <= Instant::now()).map(|_| too_late())
    }

    /// Says that the answer of the request will be less than what was asked for: something stood in for a part of it, or a part
    /// is left out. Channels do so when a last good answer or a fallback takes the place of an answer, and when an answer says so
    /// of itself; a server tells its own caller by the header `x-bowline-degraded`. Without a request it does nothing.
    ///
    /// ```
    /// use bowline_core::Context;
    ///
    /// let (cx, _canceller) = Context::builder().build();
    /// let (below, _) = cx.with_cancel();
    /// below.mark_degraded();
    /// assert!(cx.is_degraded());
    /// ```
    pub fn mark_degraded(&self) {
        if let Some(degraded) = &self.0.degraded {
            degraded.store(true, Ordering::Relaxed);
        }
    }

    /// Whether [`Context::mark_degraded`] was called in this request, by anything that it does.
    pub fn is_degraded(&self) -> bool {
        self.0.degraded.as_ref().is_some_and(|degraded| degraded.load(Ordering::Relaxed))
    }

    /// Fails if it is done: for the top of a loop.
    ///
    /// # Errors
    /// As [`Context::error`].
    pub fn check(&self) -> Result<()> {
        self.error().map_or(Ok(()), Err)
    }

    fn is_canceled(&self) -> bool {
        self.0.token.as_ref().is_some_and(CancellationToken::is_cancelled)
    }

    /// Waits until it is done and says why: `CANCELLED` or `DEADLINE_EXCEEDED`.
    pub async fn done(&self) -> Error {
        match self.run(std::future::pending::<std::convert::Infallible>()).await {
            Err(error) => error,
            Ok(never) => match never {},
        }
    }

    /// Runs `future`, but not past the end of this context; then it is dropped.
    ///
    /// # Errors
    /// `CANCELLED` or `DEADLINE_EXCEEDED` if the context was done first.
    pub fn run<F: Future>(&self, future: F) -> Run<'_, F> {
        Run { cx: self, future, waiting: false, canceled: None, sleep: None }
    }

    /// Whose request it is.
    pub fn tenant(&self) -> &Tenant {
        &self.0.tenant
    }

    /// Who is calling, once authenticated.
    pub fn identity(&self) -> Option<&Identity> {
        self.0.identity.as_ref()
    }

    /// The request's name; `None` outside a request.
    pub fn request_id(&self) -> Option<&RequestId> {
        self.0.request_id.as_ref()
    }

    /// The request's trace; `None` outside a request.
    pub fn trace(&self) -> Option<&TraceContext> {
        self.0.trace.as_ref()
    }

    /// What was called; `None` outside a request.
    pub fn operation(&self) -> Option<&Operation> {
        self.0.operation.as_ref()
    }

    /// What came with the request.
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// What calls made with this context carry besides the inbound global metadata.
    pub fn outgoing(&self) -> &Metadata {
        &self.0.outgoing
    }

    /// The nearest value of type `T`.
    pub fn value<T: Send + Sync + 'static>(&self) -> Option<&T> {
        std::iter::successors(self.0.values.as_deref(), |v| v.next.as_deref())
            .find(|v| v.type_id == TypeId::of::<T>())
            .and_then(|v| v.value.downcast_ref())
    }
}

pin_project_lite::pin_project! {
    /// The future of [`Context::run`]. Written by hand, because it is part of every call and an `async fn` would hold its
    /// argument twice.
    #[must_use = "futures do nothing unless polled"]
    pub struct Run<'a, F> {
        cx: &'a Context,
        #[pin]
        future: F,
        waiting: bool,
        #[pin]
        canceled: Option<WaitForCancellationFuture<'a>>,
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl<F: Future> Future for Run<'_, F> {
    type Output = Result<F::Output>;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(output) = this.future.poll(task) {
            return Poll::Ready(Ok(output));
        }
        // Most futures end in their first polls; only those that wait pay for listening.
        if !*this.waiting {
            *this.waiting = true;
            this.canceled.set(this.cx.0.token.as_ref().map(CancellationToken::cancelled));
            this.sleep.set(this.cx.0.deadline.map(tokio::time::sleep_until));
        }
        if let Some(canceled_now) = this.canceled.as_pin_mut()
            && canceled_now.poll(task).is_ready()
        {
            return Poll::Ready(Err(canceled()));
        }
        match this.sleep.as_pin_mut().map(|sleep| sleep.poll(task)) {
            Some(Poll::Ready(())) => Poll::Ready(Err(too_late())),
            _ => Poll::Pending,
        }
    }
}

impl<F> fmt::Debug for Run<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("cx", self.cx).finish_non_exhaustive()
    }
}

fn canceled() -> Error {
    Error::canceled("the caller gave up")
}

fn too_late() -> Error {
    Error::deadline_exceeded("the deadline passed before there was an answer")
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("operation", &self.0.operation)
            .field("tenant", &self.0.tenant)
            .field("remaining", &self.remaining())
            .field("canceled", &self.is_canceled())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn deadlines_only_shrink() {
        let parent = Context::background().with_timeout(Duration::from_secs(2));
        assert_eq!(parent.with_timeout(Duration::from_secs(9)).remaining(), Some(Duration::from_secs(2)));
        assert_eq!(parent.with_timeout(Duration::from_secs(1)).remaining(), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(parent.remaining(), Some(Duration::ZERO));
        assert!(parent.check().unwrap_err().is_timeout());
        assert!(parent.done().await.is_timeout());
        assert_eq!(parent.with_timeout(Duration::MAX).remaining(), Some(Duration::ZERO));
    }

    #[tokio::test]
    async fn cancelling_reaches_every_descendant_and_no_sibling() {
        let root = Context::background();
        let (left, cancel_left) = root.with_cancel();
        let (right, _cancel_right) = root.with_cancel();
        let (below, _cancel_below) =
            left.with_value(1_u8).with_timeout(Duration::from_secs(60)).with_cancel();
        cancel_left.cancel();
        assert!(below.done().await.is_canceled());
        assert!(left.error().is_some_and(|e| e.is_canceled()));
        assert!(right.error().is_none() && root.error().is_none());
        assert!(below.detached().error().is_none());
    }

    #[tokio::test]
    async fn dropping_the_canceller_cancels() {
        let (cx, canceller) = Context::background().with_cancel();
        drop(canceller);
        assert!(cx.run(std::future::pending::<()>()).await.unwrap_err().is_canceled());
        assert_eq!(cx.run(async { 1 }).await.unwrap(), 1, "what needs no waiting is not refused");
    }

    #[test]
    fn values_are_found_by_type_and_copied_on_write() {
        let parent = Context::background().with_value("a").with_value(1_u8);
        let child = parent.with_value(2_u8);
        assert_eq!((parent.value::<u8>(), child.value::<u8>()), (Some(&1), Some(&2)));
        assert_eq!((child.value::<&str>(), child.value::<u16>()), (Some(&"a"), None));
    }

    #[test]
    fn a_clone_shares() {
        let cx = Context::background();
        let clone = cx.clone();
        assert!(Arc::ptr_eq(&cx.0, &clone.0));
    }
}
