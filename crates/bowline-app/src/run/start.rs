//! From nothing to running.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::task::contain;
use bowline_core::{Endpoint, Error, Instance, Instant};
use bowline_discovery::Registrar;

use super::interrupt::{End, Stop};
use super::step::{Step, caught};
use super::{Bound, Machine, Phase};
use crate::parts::{Hook, Part};
use crate::{App, Resource, Server, State};

impl Machine {
    /// Starts everything, or says why to stop. What was started by then is in the machine.
    pub(super) async fn start(&mut self, app: App, unfit: Option<Error>) -> Result<(), Stop> {
        self.open(app.parts, unfit).await?;
        self.bind(app.servers).await?;
        self.serve()?;
        self.run_hooks(State::WarmingUp, "warming up", app.warm_ups).await?;
        self.start_background(app.background)?;
        self.set_ready()?;
        self.run_hooks(State::Ready, "running the hook", app.on_ready).await?;
        self.register(app.registrars).await?;
        self.visible = true;
        self.enter(State::Running);
        Ok(())
    }

    async fn open(&mut self, parts: Vec<Part>, unfit: Option<Error>) -> Result<(), Stop> {
        self.enter(State::Opening);
        let mut stop = unfit.map(Stop::Failed);
        for part in parts {
            match part {
                // What was given to the application open has to be closed, also if the start fails before its turn.
                Part::Owned(resource) => self.resources.push(resource),
                Part::ToOpen(_) if stop.is_some() => {}
                Part::ToOpen(hook) => {
                    let step =
                        self.step(format!("opening resource `{}`", hook.name), self.lifecycle.start, "start");
                    let (resource, interrupted) =
                        step.start(&mut self.interrupts, &self.shared, hook.run).await;
                    self.resources.extend::<Option<Box<dyn Resource>>>(resource);
                    stop = interrupted;
                }
            }
        }
        stop.map_or(Ok(()), Err)
    }

    async fn bind(&mut self, servers: Vec<Box<dyn Server>>) -> Result<(), Stop> {
        self.enter(State::Starting);
        let mut advertised: Vec<Endpoint> = Vec::new();
        for mut server in servers {
            let name = server.name().to_owned();
            let step = self.step(format!("binding server `{name}`"), self.lifecycle.start, "start");
            let binding = step.start(&mut self.interrupts, &self.shared, |cx| {
                let server = &mut server;
                Box::pin(async move { server.bind(&cx).await })
            });
            let (endpoints, stop) = binding.await;
            if let Some(endpoints) = endpoints {
                advertised.extend(endpoints);
                self.servers.push(Bound { name, server, phase: Phase::Bound });
            }
            if let Some(stop) = stop {
                return Err(stop);
            }
        }
        let instance = self.shared.instance();
        if instance.endpoints.is_empty() {
            self.shared.set_instance(Instance { endpoints: advertised, ..(*instance).clone() });
        }
        Ok(())
    }

    fn serve(&mut self) -> Result<(), Stop> {
        for (index, bound) in self.servers.iter_mut().enumerate() {
            let name = bound.name.clone();
            let serving = caught(|| bound.server.serve())
                .map_err(|e| Stop::Failed(e.context(format!("starting server `{name}`"))))?;
            bound.phase = Phase::Serving;
            let ends = self.ends.clone();
            self.serving.spawn(async move {
                let result = contain(serving).await.and_then(|result| result);
                // The machine is gone when nobody receives; then it has aborted this already.
                let _ = ends.send(End { index, name, result }).await;
            });
        }
        Ok(())
    }

    /// Runs hooks one after the other; all of them share the time for warming up.
    async fn run_hooks(&mut self, state: State, doing: &str, hooks: Vec<Hook<()>>) -> Result<(), Stop> {
        self.enter(state);
        let deadline = Instant::now() + self.lifecycle.warm_up;
        for hook in hooks {
            let step = self.step(format!("{doing} `{}`", hook.name), left(deadline), "warm_up");
            if let (_, Some(stop)) = step.start(&mut self.interrupts, &self.shared, hook.run).await {
                return Err(stop);
            }
        }
        Ok(())
    }

    fn start_background(&mut self, tasks: Vec<Hook<()>>) -> Result<(), Stop> {
        for task in tasks {
            let cx = self.shared.background.context().clone();
            let run = task.run;
            self.shared.spawn(&task.name, async move { run(cx).await }).map_err(Stop::Failed)?;
        }
        Ok(())
    }

    fn set_ready(&mut self) -> Result<(), Stop> {
        if let Some(stop) = self.interrupts.now() {
            return Err(stop);
        }
        self.ready = true;
        for bound in &self.servers {
            caught(|| bound.server.set_ready(true))
                .map_err(|e| Stop::Failed(e.context(format!("setting server `{}` ready", bound.name))))?;
        }
        Ok(())
    }

    async fn register(&mut self, registrars: Vec<Arc<dyn Registrar>>) -> Result<(), Stop> {
        if registrars.is_empty() {
            return Ok(());
        }
        self.enter(State::Registering);
        let instance = self.shared.instance();
        if instance.endpoints.is_empty() {
            return Err(Stop::Failed(Error::failed_precondition(format!(
                "`{}` has a registrar but no server advertises an endpoint; add a server for consumers, give the instance endpoints, or leave the registrar out",
                instance.service
            ))));
        }
        let deadline = Instant::now() + self.lifecycle.register;
        for registrar in registrars {
            let instance = (*instance).clone();
            let what = format!("registering `{}`", instance.id);
            let step = self.step(what, left(deadline), "register");
            let registering = step.start(&mut self.interrupts, &self.shared, |cx| {
                Box::pin(async move { registrar.register(&cx, instance).await })
            });
            let (registration, stop) = registering.await;
            if let Some(registration) = registration {
                self.visible = true;
                self.registrations.push(registration);
            }
            if let Some(stop) = stop {
                return Err(stop);
            }
        }
        Ok(())
    }

    pub(super) fn step(&self, what: String, limit: Duration, setting: &'static str) -> Step {
        Step { what, limit, setting, grace: self.lifecycle.abort_grace }
    }
}

pub(super) fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
