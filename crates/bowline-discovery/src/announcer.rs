//! The life of registrations, the same for every registry: what an adapter adds is how its registry is asked.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::task::Tracker;
use bowline_core::{Context, Error, Instance, Instant, Result, Rng, SystemRng};
use tokio::sync::{Mutex, watch};

use crate::{Backoff, BoxFuture, Registrar, Registration};

/// How a registry is asked to hold an instance. Each method is one attempt, bounded in time by the adapter.
pub trait Announce: Send + Sync + 'static {
    /// Keeps an instance alive in the registry until it is dropped.
    type Hold: Hold;

    /// Registers, or changes what is known of it. `holder` names the registration among all that ever had the id. Doing it
    /// twice is doing it once.
    ///
    /// Unless `only_if_free`, it takes the id over from whoever has it; if so, it fails with `ALREADY_EXISTS` while
    /// somebody else has it.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, `PERMISSION_DENIED` and `UNAUTHENTICATED` for what is of no use to be tried again.
    fn announce(
        &self,
        instance: &Instance,
        holder: u64,
        only_if_free: bool,
    ) -> impl Future<Output = Result<Self::Hold>> + Send;

    /// Removes the instance if `holder` has it. It is no error if it is gone.
    ///
    /// # Errors
    /// When the registry did not confirm.
    fn withdraw(&self, instance: &Instance, holder: u64) -> impl Future<Output = Result<()>> + Send;
}

/// See [`Announce::Hold`].
pub trait Hold: Send + 'static {
    /// Waits until the registry has lost the instance.
    fn lost(&mut self) -> impl Future<Output = ()> + Send;
}

/// How patient an [`Announcer`] is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AnnouncerOptions {
    /// How long registering waits for a registry that cannot be reached before it goes on in the background. 3 s.
    pub patience: Duration,
    /// After a failure the first attempt comes within this time; each further failure doubles it. 100 ms.
    pub backoff_first: Duration,
    /// The longest time between attempts, which go on for ever. 10 s.
    pub backoff_max: Duration,
    /// For how long deregistering is tried: a lease, after which the instance is gone anyway. 30 s.
    pub lease: Duration,
}

impl Default for AnnouncerOptions {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(3),
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            lease: Duration::from_secs(30),
        }
    }
}

/// A [`Registrar`] for any registry that can be [asked](Announce).
///
/// Every registration has a task that makes the registry agree with what is wished, for ever, with exponential backoff and
/// jitter: it registers again when the registry lost the instance, and does not take it from somebody who has it by then.
pub struct Announcer<A> {
    shared: Arc<Shared<A>>,
}

struct Shared<A> {
    registry: A,
    options: AnnouncerOptions,
    tasks: Tracker,
}

impl<A> Drop for Shared<A> {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl<A> fmt::Debug for Announcer<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Announcer").field("registrations", &self.shared.tasks.len()).finish_non_exhaustive()
    }
}

/// What the owner of a registration wants.
#[derive(Clone, Debug)]
enum Wish {
    /// These facts, known at the registry. The number grows with each change.
    Announced(Arc<Instance>, u64),
    /// Nothing there any more.
    Gone,
}

/// How far it is.
#[derive(Clone, Debug, Default)]
struct Status {
    /// The last wish that the registry took.
    taken: u64,
    /// The last wish that the registry refused, and why.
    refused: Option<(u64, Arc<Error>)>,
    /// Why the last attempt failed.
    trouble: Option<Arc<Error>>,
    /// How it ended: confirmed, or given up because the lease has run out anyway.
    ended: Option<bool>,
}

/// Makes the registry agree.
struct Agent<A: Announce> {
    registry: A,
    options: AnnouncerOptions,
    wishes: watch::Receiver<Wish>,
    status: watch::Sender<Status>,
    holder: u64,
    instance: Arc<Instance>,
    number: u64,
    /// What the registry last took.
    taken: Option<(Arc<Instance>, u64)>,
    hold: Option<A::Hold>,
    backoff: Backoff,
    retry_at: Option<Instant>,
}

impl<A: Announce> Agent<A> {
    /// Runs until the registration is cancelled, refused at first, or dropped.
    async fn run(mut self) {
        loop {
            let agrees = self.hold.is_some() && self.taken.as_ref().is_some_and(|t| t.1 == self.number);
            if !agrees && self.retry_at.is_none() && !self.attempt().await {
                return;
            }
            // The borrow is over before anything waits.
            let wish = self.wishes.borrow_and_update().clone();
            match wish {
                Wish::Gone => return self.leave().await,
                Wish::Announced(instance, number) if number > self.number => {
                    (self.instance, self.number, self.retry_at) = (instance, number, None);
                    continue;
                }
                Wish::Announced(..) => {}
            }
            tokio::select! {
                changed = self.wishes.changed() => if changed.is_err() {
                    // Dropped: the lease runs out by itself.
                    return;
                },
                () = lost(&mut self.hold) => {
                    let delay = SystemRng.jitter(self.options.backoff_first);
                    tracing::info!(instance = %self.instance.id, service = %self.instance.service, ?delay,
                        "the registry lost the instance; registering it again");
                    // All who were lost together do not come back together.
                    (self.hold, self.retry_at) = (None, Some(Instant::now() + delay));
                }
                () = at(self.retry_at) => self.retry_at = None,
            }
        }
    }

    /// One attempt to register. Returns whether to go on.
    async fn attempt(&mut self) -> bool {
        let again = self.taken.is_some();
        let result = tokio::select! {
            result = self.registry.announce(&self.instance, self.holder, again) => result,
            // What may have reached the registry meanwhile is withdrawn by holder.
            is_cancelled = withdrawn(&mut self.wishes) => return is_cancelled,
        };
        match result {
            Ok(hold) => {
                self.hold = Some(hold);
                self.taken = Some((Arc::clone(&self.instance), self.number));
                self.backoff.reset();
                let taken = self.number;
                self.status.send_modify(|s| (s.taken, s.trouble) = (s.taken.max(taken), None));
                true
            }
            Err(error) => self.failed(error),
        }
    }

    fn failed(&mut self, error: Error) -> bool {
        let is_new = self.taken.as_ref().is_none_or(|taken| taken.1 != self.number);
        let error = Arc::new(error);
        if is_new && (error.is_invalid() || error.is_denied()) {
            let refused = Some((self.number, Arc::clone(&error)));
            self.status.send_modify(|s| s.refused = refused);
            // What was refused is not tried again: what was there before stays, if there was something.
            let Some((instance, number)) = self.taken.clone() else { return false };
            (self.instance, self.number) = (instance, number.max(self.number));
            self.taken = Some((Arc::clone(&self.instance), self.number));
            return true;
        }
        let delay = self.backoff.next(&SystemRng);
        let (id, service) = (&self.instance.id, &self.instance.service);
        if error.is_conflict() {
            tracing::warn!(instance = %id, service = %service, %error, ?delay, "another process has taken the instance's id");
        } else {
            tracing::debug!(instance = %id, service = %service, %error, ?delay, "registering failed; trying again");
        }
        self.retry_at = Some(Instant::now() + delay);
        self.status.send_modify(|s| s.trouble = Some(error));
        true
    }

    /// Takes the instance out, with retries until the lease must have run out anyway.
    async fn leave(mut self) {
        let trying = async {
            while let Err(error) = self.registry.withdraw(&self.instance, self.holder).await {
                let delay = self.backoff.next(&SystemRng);
                tracing::debug!(instance = %self.instance.id, %error, ?delay, "deregistering failed; trying again");
                self.status.send_modify(|s| s.trouble = Some(Arc::new(error)));
                // Not kept alive any more: while the registry does not answer, the lease runs out.
                self.hold = None;
                tokio::time::sleep(delay).await;
            }
        };
        let confirmed = tokio::time::timeout(self.options.lease, trying).await.is_ok();
        self.status.send_modify(|s| s.ended = Some(confirmed));
    }
}

/// Waits until the registration is cancelled (`true`) or dropped (`false`).
async fn withdrawn(wishes: &mut watch::Receiver<Wish>) -> bool {
    wishes.wait_for(|wish| matches!(wish, Wish::Gone)).await.is_ok()
}

async fn lost<H: Hold>(hold: &mut Option<H>) {
    match hold {
        Some(hold) => hold.lost().await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

impl<A: Announce + Clone> Announcer<A> {
    /// An announcer to this registry.
    pub fn new(registry: A, options: AnnouncerOptions) -> Self {
        Self { shared: Arc::new(Shared { registry, options, tasks: Tracker::new() }) }
    }
}

impl<A: Announce + Clone> Registrar for Announcer<A> {
    fn register<'a>(
        &'a self,
        cx: &'a Context,
        instance: Instance,
    ) -> BoxFuture<'a, Result<Box<dyn Registration>>> {
        Box::pin(async move {
            cx.check()?;
            let shared = Arc::clone(&self.shared);
            let options = shared.options.clone();
            let facts = Arc::new(instance.clone());
            let (wish, wishes) = watch::channel(Wish::Announced(Arc::clone(&facts), 1));
            let (status_sender, status) = watch::channel(Status::default());
            let agent = Agent {
                registry: shared.registry.clone(),
                backoff: Backoff::new(options.backoff_first, options.backoff_max),
                options,
                wishes,
                status: status_sender,
                // Positive as a signed number too, and never 0.
                holder: (SystemRng.next_u64() >> 1).max(1),
                instance: facts,
                number: 1,
                taken: None,
                hold: None,
                retry_at: None,
            };
            shared.tasks.spawn(agent.run());
            let patience = cx.with_timeout(shared.options.patience);
            let registered =
                Registered { instance, wish, status, updating: Mutex::new(1), _shared: Box::new(shared) };
            match registered.taken(&patience, 1).await {
                Ok(()) => {}
                // A registry that is down must not keep a service from starting: whoever knows its address can use it, and
                // it is announced as soon as the registry is back.
                Err(error) if cx.error().is_none() && (error.is_timeout() || error.is_temporary()) => {
                    tracing::warn!(%error, instance = %registered.instance.id, "not registered yet; trying on");
                }
                Err(error) => {
                    registered.wish.send_replace(Wish::Gone);
                    return Err(error);
                }
            }
            Ok(Box::new(registered) as Box<_>)
        })
    }
}

/// An instance that is announced.
struct Registered {
    instance: Instance,
    wish: watch::Sender<Wish>,
    status: watch::Receiver<Status>,
    /// The number of the last wish; held while one is made and waited for, so that answers are told apart.
    updating: Mutex<u64>,
    /// Keeps the tasks alive, whatever became of the announcer.
    _shared: Box<dyn std::any::Any + Send + Sync>,
}

impl Registered {
    fn name(&self) -> String {
        format!("`{}` of `{}`", self.instance.id, self.instance.service)
    }

    /// Waits for a status.
    async fn status(&self, wanted: impl FnMut(&Status) -> bool) -> Result<Status> {
        let mut status = self.status.clone();
        let status = status.wait_for(wanted).await.map(|status| status.clone());
        status.map_err(|_| Error::unavailable("the registry client has ended"))
    }

    /// Waits until the registry has taken or refused a wish.
    async fn taken(&self, cx: &Context, number: u64) -> Result<()> {
        let decided = |s: &Status| {
            s.taken >= number || s.ended.is_some() || s.refused.as_ref().is_some_and(|r| r.0 >= number)
        };
        let decision = match cx.run(self.status(decided)).await {
            Ok(decision) => decision?,
            Err(done) => return Err(self.too_late(done, "has not taken")),
        };
        match decision.refused.filter(|refused| refused.0 == number) {
            Some((_, error)) => Err(Error::new(error.code(), error.message().to_owned())
                .with_reason(error.reason().to_owned())
                .with_domain(error.domain().to_owned())
                .with_source(error)
                .context(format!("the registry refused {}", self.name()))),
            None if decision.taken >= number => Ok(()),
            None => Err(gone(&self.name())),
        }
    }

    /// The error for a context that was done first: with what the registry last failed with.
    fn too_late(&self, done: Error, what: &str) -> Error {
        let trouble = self.status.borrow().trouble.as_ref().map(|error| format!(": {error}"));
        let trouble = trouble.unwrap_or_else(|| ": it has not answered".into());
        done.with_message(format!("the registry {what} {} in time{trouble}", self.name()))
    }
}

fn gone(name: &str) -> Error {
    Error::failed_precondition(format!("{name} is deregistered; register it anew"))
}

impl Registration for Registered {
    fn deregister<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.wish.send_replace(Wish::Gone);
            match cx.run(self.status(|s| s.ended.is_some())).await {
                Ok(Ok(Status { ended: Some(true), .. })) => Ok(()),
                Ok(Err(error)) => Err(error),
                Ok(Ok(_)) => Err(Error::unavailable(format!(
                    "the registry did not confirm that {} is gone; its lease has run out by now",
                    self.name()
                ))),
                Err(done) => Err(self.too_late(done, "did not confirm the end of")),
            }
        })
    }

    fn update<'a>(&'a self, cx: &'a Context, instance: Instance) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if (&instance.id, &instance.service, &instance.env)
                != (&self.instance.id, &self.instance.service, &self.instance.env)
            {
                return Err(Error::invalid_argument(format!(
                    "{} cannot become `{}` of `{}` by an update; register that one",
                    self.name(),
                    instance.id,
                    instance.service
                )));
            }
            let mut number = cx.run(self.updating.lock()).await?;
            *number += 1;
            let wish = Wish::Announced(Arc::new(instance), *number);
            let announced = self.wish.send_if_modified(|current| {
                let is_announced = matches!(current, Wish::Announced(..));
                if is_announced {
                    *current = wish;
                }
                is_announced
            });
            if !announced {
                return Err(gone(&self.name()));
            }
            self.taken(cx, *number).await
        })
    }
}
