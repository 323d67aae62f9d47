//! Saying what an application is made of.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use bowline_core::{Context, Error, Instance, Result};
use bowline_discovery::Registrar;

use crate::handle::Shared;
use crate::parts::{Hook, Part};
use crate::run::Machine;
use crate::signals::Signals;
use crate::{Handle, Lifecycle, Resource, Server, identity};

/// An application: what it is made of, and then its whole life in [`App::run`].
///
/// ```no_run
/// use bowline_app::{App, BoxFuture, Resource};
/// use bowline_core::{Context, Result};
///
/// struct Database;
/// impl Resource for Database {
///     fn name(&self) -> &str {
///         "database"
///     }
///     fn close<'a>(&'a mut self, _: &'a Context) -> BoxFuture<'a, Result<()>> {
///         Box::pin(async { Ok(()) })
///     }
/// }
///
/// #[tokio::main]
/// async fn main() -> Result<()> {
///     App::new("catalog")
///         .resource("database", |_cx| async { Ok(Database) })
///         .warm_up("prices", |_cx| async { Ok(()) })
///         .run()
///         .await
/// }
/// ```
#[must_use = "an application does nothing until it is run"]
pub struct App {
    pub(crate) parts: Vec<Part>,
    pub(crate) servers: Vec<Box<dyn Server>>,
    pub(crate) warm_ups: Vec<Hook<()>>,
    pub(crate) on_ready: Vec<Hook<()>>,
    pub(crate) background: Vec<Hook<()>>,
    pub(crate) registrars: Vec<Arc<dyn Registrar>>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) shared: Arc<Shared>,
    version: Option<String>,
    /// Why it cannot be run at all, such as an environment that is wrong about who this is. What is owned is closed anyway.
    unfit: Option<Error>,
}

impl App {
    /// An application that registers as `service`. Where it is placed is read from `BOWLINE_ENV`, `BOWLINE_ZONE`,
    /// `BOWLINE_CLUSTER` and `BOWLINE_TENANT`, its id from `BOWLINE_INSTANCE_ID`; the id is random otherwise.
    pub fn new(service: &str) -> Self {
        let placed = identity::from_variables(service, |name| std::env::var(name).ok());
        let (instance, unfit) = match placed {
            Ok(instance) => (instance, None),
            Err(error) => (identity::fallback(service), Some(error)),
        };
        Self {
            parts: Vec::new(),
            servers: Vec::new(),
            warm_ups: Vec::new(),
            on_ready: Vec::new(),
            background: Vec::new(),
            registrars: Vec::new(),
            lifecycle: Lifecycle::default(),
            shared: Arc::new(Shared::new(instance)),
            version: None,
            unfit,
        }
    }

    /// The version to register.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Who this is, instead of what the environment says. Endpoints given here are advertised instead of those that the
    /// servers bind, for a process behind a port mapping.
    pub fn instance(mut self, instance: Instance) -> Self {
        self.shared.set_instance(instance);
        self.unfit = None;
        self
    }

    /// Adds a resource to open at the start. They are opened in the order of these calls and closed in reverse.
    pub fn resource<F, Fut, R>(mut self, name: &str, open: F) -> Self
    where
        F: FnOnce(Context) -> Fut + Send + 'static,
        Fut: Future<Output = Result<R>> + Send + 'static,
        R: Resource,
    {
        let open = Hook::new(name, |cx| {
            let opening = open(cx);
            async move { Ok(Box::new(opening.await?) as Box<dyn Resource>) }
        });
        self.parts.push(Part::ToOpen(open));
        self
    }

    /// Adds a resource that is open already. Its place in the order is the same as that of [`App::resource`]; it is closed
    /// in any case, even if the start fails before its turn.
    pub fn own(mut self, resource: impl Resource) -> Self {
        self.parts.push(Part::Owned(Box::new(resource)));
        self
    }

    /// Adds a server. All are bound, in order, before the first one accepts; all drain at the same time.
    pub fn server(mut self, server: impl Server) -> Self {
        self.servers.push(Box::new(server));
        self
    }

    /// Adds work to do before traffic comes: filling caches, opening connections. Done in the order of these calls.
    pub fn warm_up<F, Fut>(mut self, name: &str, hook: F) -> Self
    where
        F: FnOnce(Context) -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.warm_ups.push(Hook::new(name, hook));
        self
    }

    /// Adds a registry to register with, once ready. In several, for a move between registries, it is registered in order
    /// and deregistered in reverse.
    pub fn registrar(mut self, registrar: Arc<dyn Registrar>) -> Self {
        self.registrars.push(registrar);
        self
    }

    /// Adds a background task, started after the warm-up. Its context is cancelled when draining begins; it has until
    /// [`Lifecycle::background`] after the servers ended. Its failure is logged; it does not stop the application.
    pub fn background<F, Fut>(mut self, name: &str, task: F) -> Self
    where
        F: FnOnce(Context) -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.background.push(Hook::new(name, task));
        self
    }

    /// Adds work to do once health checks say "ready" and before registering. Its failure fails the start.
    pub fn on_ready<F, Fut>(mut self, hook: F) -> Self
    where
        F: FnOnce(Context) -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.on_ready.push(Hook::new("on_ready", hook));
        self
    }

    /// The bounds of each step.
    pub fn options(mut self, lifecycle: Lifecycle) -> Self {
        self.lifecycle = lifecycle;
        self
    }

    /// A hold on the application, to keep while it runs.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Runs until SIGTERM or SIGINT, [`Handle::shutdown`] or a failure. A second signal stops at once.
    ///
    /// Dropping the future aborts everything without waiting.
    ///
    /// # Errors
    /// The first failure, with what was being done. Stopping when told to is no failure, nor are requests that the drain
    /// had to cut off at its deadline, nor a registry that could not be told; a server that failed to drain, a background
    /// task that had to be dropped, a resource that could not be closed and a stop at once are.
    pub async fn run(mut self) -> Result<()> {
        let mut signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(error) => {
                self.unfit.get_or_insert(error);
                return self.live().await;
            }
        };
        let handle = self.handle();
        let mut life = pin!(self.live());
        let first = tokio::select! {
            outcome = &mut life => return outcome,
            signal = signals.next() => signal,
        };
        tracing::info!(signal = first, "stopping; a second signal stops at once");
        handle.shutdown();
        let second = tokio::select! {
            outcome = &mut life => return outcome,
            signal = signals.next() => signal,
        };
        tracing::warn!(signal = second, "stopping at once");
        handle.abort();
        life.await
    }

    /// As [`App::run`], but until `shutdown` is done instead of a signal.
    ///
    /// # Errors
    /// As [`App::run`].
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let handle = self.handle();
        let mut life = pin!(self.live());
        tokio::select! {
            outcome = &mut life => return outcome,
            () = shutdown => handle.shutdown(),
        }
        life.await
    }

    async fn live(mut self) -> Result<()> {
        if let Some(version) = self.version.take() {
            let instance = Instance { version, ..(*self.shared.instance()).clone() };
            self.shared.set_instance(instance);
        }
        let unfit = self.unfit.take();
        let mut machine = Machine::new(&self);
        machine.live(self, unfit).await
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("instance", &self.shared.instance())
            .field("servers", &self.servers.iter().map(|s| s.name()).collect::<Vec<_>>())
            .field("lifecycle", &self.lifecycle)
            .finish_non_exhaustive()
    }
}
