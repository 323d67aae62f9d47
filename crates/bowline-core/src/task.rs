//! Tasks with owners.
//!
//! Nothing runs in the background without an owner that knows when it ends and waits for it. Bowline spawns through the
//! two types here and nowhere else; the workspace's lints refuse `tokio::spawn`.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as Task, Poll, Wake, Waker};

use futures_util::FutureExt;
use futures_util::task::AtomicWaker;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::{Canceller, Context, Error, Result, current};

/// Runs tasks that belong together. The first failure cancels the others' [`Context`]; a panic is a failure; dropping
/// the group aborts what still runs. The model is Go's `errgroup`.
///
/// ```
/// use bowline_core::{Context, Error, task::Group};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let mut group = Group::new(&Context::background()).with_limit(2);
/// for n in 0..3 {
///     group.spawn(move |_cx| async move { if n == 1 { Err(Error::internal("no")) } else { Ok(n) } });
/// }
/// assert!(group.wait().await.is_err());
/// # });
/// ```
#[derive(Debug)]
pub struct Group<T> {
    cx: Context,
    canceller: Canceller,
    tasks: JoinSet<Result<T>>,
    limit: Option<Arc<Semaphore>>,
}

impl<T: Send + 'static> Group<T> {
    /// A group whose tasks get a child of `cx`.
    pub fn new(cx: &Context) -> Self {
        let (cx, canceller) = cx.with_cancel();
        Self { cx, canceller, tasks: JoinSet::new(), limit: None }
    }

    /// At most `limit` (at least one) tasks of those spawned from now on run at a time; the others wait their turn.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = Some(Arc::new(Semaphore::new(limit.max(1))));
        self
    }

    /// Starts a task.
    pub fn spawn<F, Fut>(&mut self, task: F)
    where
        F: FnOnce(Context) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>> + Send + 'static,
    {
        let (cx, limit) = (self.cx.clone(), self.limit.clone());
        // What a task logs belongs to the request that began it.
        self.tasks.spawn(current::scoped(cx.clone(), async move {
            let _permit = match limit {
                None => None,
                // The semaphore is never closed; were it, running without a permit is the safe side.
                Some(limit) => cx.run(limit.acquire_owned()).await?.ok(),
            };
            contain(async { task(cx).await }).await?
        }));
    }

    /// Waits for every task. The results are in the order in which tasks ended.
    ///
    /// # Errors
    /// The first failure, after all tasks have ended. The others were told to stop by their context.
    pub async fn wait(mut self) -> Result<Vec<T>> {
        let mut first_error = None;
        let mut results = Vec::with_capacity(self.tasks.len());
        while let Some(joined) = self.tasks.join_next().await {
            let outcome =
                joined.unwrap_or_else(|e| Err(Error::internal("a task was aborted").with_source(e)));
            match outcome {
                Ok(result) => results.push(result),
                Err(error) => {
                    self.canceller.cancel();
                    first_error.get_or_insert(error);
                }
            }
        }
        first_error.map_or(Ok(results), Err)
    }
}

/// Runs a future and turns a panic into an error that names its message.
///
/// # Errors
/// `INTERNAL` if the future panicked.
pub async fn contain<F: Future>(future: F) -> Result<F::Output> {
    AssertUnwindSafe(future).catch_unwind().await.map_err(|payload| panicked(&*payload))
}

/// The error for a caught panic's payload.
pub fn panicked(payload: &(dyn Any + Send)) -> Error {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Error::internal(format!("panicked: {text}")).with_reason("PANIC")
}

pin_project_lite::pin_project! {
    /// Polls a future only when that asked for it.
    ///
    /// For what a busy task waits for besides its work, such as its shutdown: the task is polled for every packet, and would
    /// poll that each time too. Costs one allocation.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Quiet<F> {
        #[pin]
        future: F,
        bell: Arc<Bell>,
        waker: Waker,
    }
}

#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> Quiet<F> {
    /// Wraps a future. It is polled the first time in any case.
    pub fn new(future: F) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: AtomicWaker::new() });
        Self { future, waker: Arc::clone(&bell).into(), bell }
    }
}

impl<F: Future> Future for Quiet<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<F::Output> {
        let this = self.project();
        // Registered before looking: what rings in between is seen, or wakes.
        this.bell.task.register(task.waker());
        if this.bell.rung.swap(false, Ordering::AcqRel) {
            return this.future.poll(&mut Task::from_waker(this.waker));
        }
        Poll::Pending
    }
}

/// Runs tasks that come and go, such as connections. The owner can wait for all of them and can make all of them stop.
#[derive(Clone, Debug)]
pub struct Tracker {
    tasks: TaskTracker,
    stop: tokio_util::sync::CancellationToken,
}

impl Tracker {
    /// An empty tracker.
    pub fn new() -> Self {
        Self { tasks: TaskTracker::new(), stop: tokio_util::sync::CancellationToken::new() }
    }

    /// Starts a task. It is dropped at its next await once [`Tracker::abort`] was called. Its panics are logged.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&self, task: F) {
        let stop = Quiet::new(self.stop.clone().cancelled_owned());
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop => {}
                result = contain(task) => if let Err(error) = result {
                    tracing::error!(%error, "a background task panicked");
                },
            }
        });
    }

    /// How many run.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Waits until none runs. New tasks can still be started; the owner sees to it that none are.
    pub async fn wait(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Makes every task stop at its next await.
    pub fn abort(&self) {
        self.stop.cancel();
    }
}

impl Default for Tracker {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[tokio::test]
    async fn the_first_error_cancels_the_others_and_is_the_one_reported() {
        let mut group = Group::new(&Context::background());
        group.spawn(|cx| async move { Err::<(), _>(cx.done().await) });
        group.spawn(|_| async { Err(Error::not_found("first")) });
        let error = group.wait().await.unwrap_err();
        assert!(error.is_not_found(), "{error:?}");
    }

    #[tokio::test]
    async fn a_task_is_part_of_the_request_that_began_it() {
        let mut group = Group::new(&Context::background().with_value(7_u8));
        group.spawn(|_| async {
            tokio::task::yield_now().await;
            Ok(current::with(|cx| cx.value::<u8>().copied()).flatten())
        });
        assert_eq!(group.wait().await.unwrap(), [Some(7)]);
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let mut group = Group::<()>::new(&Context::background());
        group.spawn(|_| async { panic!("boom {}", 1) });
        let error = group.wait().await.unwrap_err();
        assert_eq!((error.reason(), error.message()), ("PANIC", "panicked: boom 1"));
    }

    #[tokio::test]
    async fn no_more_than_the_limit_run_at_a_time() {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut group = Group::new(&Context::background()).with_limit(3);
        for _ in 0..20 {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            group.spawn(|_| async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            });
        }
        assert_eq!(group.wait().await.unwrap().len(), 20);
        assert_eq!(most.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn dropping_a_group_ends_its_tasks() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let mut group = Group::<()>::new(&Context::background());
        group.spawn(|_| async move {
            let _held = sender;
            std::future::pending().await
        });
        drop(group);
        assert!(receiver.await.is_err());
    }

    #[tokio::test]
    async fn a_quiet_future_is_polled_when_it_asks_and_not_before() {
        let polls = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let mut receiver = Box::pin(receiver);
        let counted = Arc::clone(&polls);
        let mut quiet = std::pin::pin!(Quiet::new(std::future::poll_fn(move |task| {
            counted.fetch_add(1, Ordering::SeqCst);
            receiver.as_mut().poll(task)
        })));
        for _ in 0..5 {
            assert!(futures_util::poll!(quiet.as_mut()).is_pending());
        }
        assert_eq!(polls.load(Ordering::SeqCst), 1);
        let waiting = async { quiet.await.unwrap() };
        let sending = async {
            tokio::task::yield_now().await;
            sender.send(7).unwrap();
        };
        assert_eq!(tokio::join!(waiting, sending).0, 7);
        assert_eq!(polls.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn an_aborted_tracker_runs_empty() {
        let tracker = Tracker::new();
        for _ in 0..3 {
            tracker.spawn(std::future::pending());
        }
        assert_eq!(tracker.len(), 3);
        tracker.abort();
        tracker.wait().await;
        assert!(tracker.is_empty());
    }
}
