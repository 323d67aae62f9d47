//! The life of one registration: one task that makes the registry agree with what is wished.

use std::sync::Arc;

use bowline_core::{Error, Instance, Instant, Result};
use bowline_discovery::{Backoff, BoxFuture};
use tokio::sync::watch;

use crate::api::bowline::registry::v1::registry::Client;
use crate::api::bowline::registry::v1::{DeregisterRequest, RegisterRequest, registry_error};
use crate::convert;
use crate::inner::Inner;
use crate::keeper::Hold;

/// What the owner of a registration wants.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    /// These facts, known at the registry. The number grows with each change.
    Announced(Arc<Instance>, u64),
    /// Nothing there any more.
    Gone,
}

/// How far it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    /// The last wish that the registry took.
    pub(crate) taken: u64,
    /// The last wish that the registry refused, and why.
    pub(crate) refused: Option<(u64, Arc<Error>)>,
    /// Why the last attempt failed.
    pub(crate) trouble: Option<Arc<Error>>,
    /// How it ended: confirmed, or given up because the lease has run out anyway.
    pub(crate) ended: Option<bool>,
}

/// Makes the registry agree.
pub(crate) struct Agent {
    pub(crate) inner: Arc<Inner>,
    pub(crate) wishes: watch::Receiver<Wish>,
    pub(crate) status: watch::Sender<Status>,
    /// Names this registration among all that ever had the id.
    pub(crate) holder: String,
}

/// What the registry is asked to have, and has.
struct State {
    instance: Arc<Instance>,
    number: u64,
    /// What it last took.
    taken: Option<(Arc<Instance>, u64)>,
    hold: Option<Hold>,
    backoff: Backoff,
    retry_at: Option<Instant>,
}

impl Agent {
    /// Runs until the registration is cancelled, refused at first, or dropped.
    pub(crate) async fn run(mut self) {
        let Wish::Announced(instance, number) = self.wishes.borrow_and_update().clone() else { return };
        let backoff = self.inner.backoff();
        let mut state = State { instance, number, taken: None, hold: None, backoff, retry_at: None };
        loop {
            let agrees = state.hold.is_some() && state.taken.as_ref().is_some_and(|t| t.1 == state.number);
            if !agrees && state.retry_at.is_none() && !self.attempt(&mut state).await {
                return;
            }
            // The borrow is over before anything waits.
            let wish = self.wishes.borrow_and_update().clone();
            match wish {
                Wish::Gone => {
                    // Not kept alive any more, whether or not the registry hears of it.
                    drop(state.hold.take());
                    return self.leave(&state.instance).await;
                }
                Wish::Announced(instance, number) if number > state.number => {
                    (state.instance, state.number, state.retry_at) = (instance, number, None);
                    continue;
                }
                Wish::Announced(..) => {}
            }
            tokio::select! {
                changed = self.wishes.changed() => if changed.is_err() {
                    // Dropped: the lease runs out by itself.
                    return;
                },
                () = lost(&mut state.hold) => {
                    tracing::info!(instance = %state.instance.id, service = %state.instance.service,
                        "the registry lost the lease; registering again");
                    (state.hold, state.retry_at) = (None, None);
                }
                () = at(state.retry_at) => state.retry_at = None,
            }
        }
    }

    /// One attempt to register. Returns whether to go on.
    async fn attempt(&mut self, state: &mut State) -> bool {
        let again = state.taken.is_some() && state.hold.is_none();
        let registering = self.inner.register(&state.instance, &self.holder, state.number, again);
        let result = tokio::select! {
            result = registering => result,
            // What may have reached the registry meanwhile is cancelled by holder.
            is_owned = withdrawn(&mut self.wishes) => return is_owned,
        };
        match result {
            Ok(hold) => {
                // Without one it is the lease that is held already.
                if hold.is_some() {
                    state.hold = hold;
                }
                state.taken = Some((Arc::clone(&state.instance), state.number));
                state.backoff.reset();
                let taken = state.number;
                self.status.send_modify(|s| (s.taken, s.trouble) = (s.taken.max(taken), None));
                true
            }
            Err(error) => self.failed(state, error),
        }
    }

    fn failed(&self, state: &mut State, error: Error) -> bool {
        let is_new = state.taken.as_ref().is_none_or(|taken| taken.1 != state.number);
        let error = Arc::new(error);
        if is_new && (error.is_invalid() || error.is_denied()) {
            let refused = Some((state.number, Arc::clone(&error)));
            self.status.send_modify(|s| s.refused = refused);
            // What was refused is not tried again: what was there before stays, if there was something.
            let Some((instance, number)) = state.taken.clone() else { return false };
            (state.instance, state.number) = (instance, number.max(state.number));
            state.taken = Some((Arc::clone(&state.instance), state.number));
            return true;
        }
        let delay = state.backoff.next(&self.inner.rng);
        let (id, service) = (&state.instance.id, &state.instance.service);
        if registry_error::is_instance_taken(&error) {
            tracing::warn!(instance = %id, service = %service, %error, ?delay, "another process has taken the instance's id");
        } else {
            tracing::debug!(instance = %id, service = %service, %error, ?delay, "registering failed; trying again");
        }
        state.retry_at = Some(self.inner.clock.now() + delay);
        self.status.send_modify(|s| s.trouble = Some(error));
        true
    }

    /// Takes the instance out, with retries until the lease must have run out anyway.
    async fn leave(&self, instance: &Instance) {
        let ttl = self.inner.options.ttl.unwrap_or(convert::DEFAULT_TTL);
        let mut backoff = self.inner.backoff();
        let trying = async {
            loop {
                match self.inner.deregister(instance, &self.holder).await {
                    Ok(()) => return,
                    Err(error) => {
                        let delay = backoff.next(&self.inner.rng);
                        tracing::debug!(instance = %instance.id, %error, ?delay, "deregistering failed; trying again");
                        self.status.send_modify(|s| s.trouble = Some(Arc::new(error)));
                        tokio::time::sleep(delay).await;
                    }
                }
            }
        };
        let confirmed = tokio::time::timeout(ttl, trying).await.is_ok();
        self.status.send_modify(|s| s.ended = Some(confirmed));
    }
}

/// Waits until the registration is cancelled (`true`) or dropped (`false`).
async fn withdrawn(wishes: &mut watch::Receiver<Wish>) -> bool {
    wishes.wait_for(|wish| matches!(wish, Wish::Gone)).await.is_ok()
}

async fn lost(hold: &mut Option<Hold>) {
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

impl Inner {
    /// Registers once. Returns `None` where the lease is the one that is held already.
    async fn register(
        &self,
        instance: &Instance,
        holder: &str,
        sequence: u64,
        only_if_free: bool,
    ) -> Result<Option<Hold>> {
        let wire = convert::to_wire(instance, &self.options.env);
        let request = RegisterRequest {
            namespace: self.options.namespace.clone(),
            instance: wire.into(),
            ttl: self.options.ttl.map(Into::into).into(),
            holder: holder.into(),
            sequence,
            only_if_free,
            ..Default::default()
        };
        self.keeper.register(request).await
    }

    async fn deregister(&self, instance: &Instance, holder: &str) -> Result<()> {
        let request = DeregisterRequest {
            namespace: self.options.namespace.clone(),
            env: convert::env_of(instance, &self.options.env).into(),
            service: instance.service.as_ref().into(),
            instance_id: instance.id.as_str().into(),
            holder: holder.into(),
            ..Default::default()
        };
        let deregister = |client: Client, cx| -> BoxFuture<'static, _> {
            Box::pin(async move { client.deregister(&cx, request).await })
        };
        self.attempt(deregister).await.map(|_| ())
    }
}
