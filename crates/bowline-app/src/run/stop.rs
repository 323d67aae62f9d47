//! From wherever it got to back to nothing.

use std::pin::pin;
use std::time::Duration;

use bowline_core::task::contain;
use bowline_core::{Context, Error, Instant, Result};
use futures_util::future::join_all;

use super::interrupt::Stop;
use super::start::left;
use super::step::caught;
use super::{Bound, Machine, Phase};
use crate::State;

/// The root cause, and what to do with failures after it.
struct Verdict(Option<Error>);

impl Verdict {
    /// Takes a failure while stopping: it is the root cause if nothing failed before, otherwise it goes to the log.
    fn fail(&mut self, error: Error) {
        match &self.0 {
            None => self.0 = Some(error),
            Some(_) => tracing::error!(?error, "another failure while stopping"),
        }
    }
}

impl Machine {
    pub(super) async fn stop(&mut self, stop: Stop) -> Result<()> {
        let mut verdict = match stop {
            Stop::Requested => Verdict(None),
            Stop::Failed(error) => Verdict(Some(error)),
        };
        self.mark_ended();
        self.leave(&mut verdict);
        self.deregister().await;
        self.propagate().await;
        self.drain(&mut verdict).await;
        self.end_servers().await;
        self.finish_background(&mut verdict).await;
        self.close(&mut verdict).await;
        self.judge_abort(&mut verdict);
        self.enter(State::Stopped);
        verdict.0.map_or(Ok(()), Err)
    }

    fn is_aborted(&self) -> bool {
        self.shared.aborted_at().is_some()
    }

    /// A stop at once is a failure by itself, and what fails because of it is not the root cause.
    fn judge_abort(&self, verdict: &mut Verdict) {
        if self.is_aborted() && verdict.0.is_none() {
            verdict.fail(Error::canceled("told to stop at once: what was under way has been cancelled"));
        }
    }

    fn leave(&mut self, verdict: &mut Verdict) {
        if !self.ready {
            return;
        }
        self.enter(State::Leaving);
        for bound in self.servers.iter().rev().filter(|b| b.phase == Phase::Serving) {
            if let Err(error) = caught(|| bound.server.set_ready(false)) {
                verdict.fail(error.context(format!("setting server `{}` not ready", bound.name)));
            }
        }
    }

    async fn deregister(&mut self) {
        if self.registrations.is_empty() {
            return;
        }
        self.enter(State::Deregistering);
        let deadline = Instant::now() + self.lifecycle.deregister;
        while let Some(registration) = self.registrations.pop() {
            let step = self.step("deregistering".into(), left(deadline), "deregister");
            let deregistering = step.stop(&self.shared, Duration::ZERO, |cx| {
                let registration = &registration;
                Box::pin(async move { registration.deregister(&cx).await })
            });
            if let Err(error) = deregistering.await {
                tracing::warn!(?error, "stopping without a registry's answer; the lease will run out");
            }
        }
    }

    /// Serves on while consumers hear of the departure.
    async fn propagate(&mut self) {
        let serving = self.servers.iter().any(|b| b.phase == Phase::Serving);
        if !self.visible || !serving || self.is_aborted() {
            return;
        }
        self.enter(State::Propagating);
        tokio::select! {
            () = tokio::time::sleep(self.lifecycle.propagation) => {}
            () = self.shared.aborted() => {}
        }
    }

    /// Lets every server finish what is under way, all callers' at the same time and then the operators', and aborts those
    /// that are not done in time.
    async fn drain(&mut self, verdict: &mut Verdict) {
        self.enter(State::Draining);
        self.shared.background.stop();
        let (cx, canceller) = Context::background().with_timeout(self.lifecycle.drain).with_cancel();
        let aborted = self.is_aborted();
        let errors = {
            let (operators, callers): (Vec<_>, Vec<_>) = self
                .servers
                .iter_mut()
                .filter(|b| b.phase == Phase::Serving)
                .partition(|b| b.server.is_for_operators());
            let drains = async |servers: Vec<&mut Bound>| {
                join_all(servers.into_iter().map(|bound| drain_or_abort(bound, &cx, aborted))).await
            };
            // Who watches the process sees it drain.
            let mut all = pin!(async {
                let mut errors = drains(callers).await;
                errors.extend(drains(operators).await);
                errors
            });
            tokio::select! {
                errors = &mut all => errors,
                () = self.shared.aborted() => {
                    canceller.cancel();
                    all.await
                }
            }
        };
        self.judge_abort(verdict);
        errors.into_iter().flatten().filter(|e| !e.is_canceled()).for_each(|error| verdict.fail(error));
    }

    /// Sees to it that every server has ended, by force if need be.
    async fn end_servers(&mut self) {
        for bound in self.servers.iter_mut().filter(|b| b.phase == Phase::Bound) {
            abort(bound);
            bound.phase = Phase::Ended;
        }
        self.wait_for_ends().await;
        if self.servers.iter().any(|b| b.phase == Phase::Serving) {
            // Drained, and still there.
            self.servers.iter_mut().filter(|b| b.phase == Phase::Serving).for_each(abort);
            self.wait_for_ends().await;
        }
        for bound in self.servers.iter_mut().filter(|b| b.phase == Phase::Aborted) {
            tracing::warn!(server = bound.name, "aborted, but it has not ended; it is dropped");
            bound.phase = Phase::Ended;
        }
        self.serving.abort();
        // Dropped at its next await: one that never awaits cannot be waited for either.
        let _ = tokio::time::timeout(self.lifecycle.abort_grace, self.serving.wait()).await;
        self.servers.clear();
    }

    async fn wait_for_ends(&mut self) {
        let deadline = Instant::now() + self.lifecycle.abort_grace;
        loop {
            self.mark_ended();
            if !self.servers.iter().any(|b| matches!(b.phase, Phase::Serving | Phase::Aborted)) {
                return;
            }
            tokio::select! {
                () = self.interrupts.next_end() => {}
                () = tokio::time::sleep_until(deadline) => return,
            }
        }
    }

    async fn finish_background(&mut self, verdict: &mut Verdict) {
        self.enter(State::Finishing);
        let background = &self.shared.background;
        let limit = self.lifecycle.background;
        tokio::select! {
            biased;
            () = background.finish() => return,
            () = self.shared.aborted() => {}
            () = tokio::time::sleep(limit) => {}
        }
        let names = background.running();
        background.abort();
        let _ = tokio::time::timeout(self.lifecycle.abort_grace, background.finish()).await;
        self.judge_abort(verdict);
        let names = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        verdict.fail(Error::deadline_exceeded(format!(
            "background tasks {names} were dropped: they had not ended {limit:?} after the servers; let them end when their context is done, or raise lifecycle.background"
        )));
    }

    async fn close(&mut self, verdict: &mut Verdict) {
        self.enter(State::Closing);
        while let Some(mut resource) = self.resources.pop() {
            let what = format!("closing resource `{}`", resource.name());
            let step = self.step(what, self.lifecycle.close, "close");
            let closing = step.stop(&self.shared, self.lifecycle.abort_grace, |cx| {
                let resource = &mut resource;
                Box::pin(async move { resource.close(&cx).await })
            });
            if let Err(error) = closing.await {
                self.judge_abort(verdict);
                verdict.fail(error);
            }
        }
    }
}

/// The failure, if it was one.
async fn drain_or_abort(bound: &mut Bound, cx: &Context, aborted: bool) -> Option<Error> {
    let drained = if aborted { Err(Error::canceled("no time to drain")) } else { drain(bound, cx).await };
    let error = drained.err()?;
    abort(bound);
    if error.is_timeout() {
        tracing::warn!(server = bound.name, "what was left at the drain deadline was cut off");
        return None;
    }
    Some(error.context(format!("draining server `{}`", bound.name)))
}

async fn drain(bound: &mut Bound, cx: &Context) -> Result<()> {
    let draining = caught(|| bound.server.drain(cx))?;
    contain(cx.run(draining)).await??
}

fn abort(bound: &mut Bound) {
    bound.phase = Phase::Aborted;
    if let Err(error) = caught(|| bound.server.abort()) {
        tracing::error!(server = bound.name, ?error, "aborting a server failed");
    }
}
