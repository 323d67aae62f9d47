//! Scripted parts that write down what is done to them.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::panic,
    clippy::unwrap_used,
    reason = "each test file uses its own part of this"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline_app::{App, BoxFuture, Handle, Resource, Server, State};
use bowline_core::{Context, Endpoint, Error, Instance, Result};
use bowline_discovery::{Memory, Registrar, Registration};
use tokio::sync::Notify;

/// What happened, in order.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn add(&self, event: impl Into<String>) {
        self.0.lock().unwrap().push(event.into());
    }

    pub fn events(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// What a scripted hook does.
#[derive(Clone, Copy, Default, PartialEq)]
pub enum Act {
    #[default]
    Succeed,
    Fail(&'static str),
    /// Never returns and does not look at its context.
    Hang,
    /// Returns when its context is done, with its error.
    Wait,
    /// Returns successfully once its context is done.
    SucceedLate,
    Panic,
}

impl Act {
    pub async fn run(self, cx: &Context) -> Result<()> {
        match self {
            Self::Succeed => Ok(()),
            Self::Fail(why) => Err(Error::unavailable(why)),
            Self::Hang => std::future::pending().await,
            Self::Wait => Err(cx.done().await),
            Self::SucceedLate => {
                cx.done().await;
                Ok(())
            }
            Self::Panic => panic!("boom"),
        }
    }
}

pub struct Store {
    pub name: &'static str,
    pub log: Log,
    pub close: Act,
}

impl Resource for Store {
    fn name(&self) -> &str {
        self.name
    }

    fn close<'a>(&'a mut self, cx: &'a Context) -> BoxFuture<'a, Result<()>> {
        self.log.add(format!("close {}", self.name));
        Box::pin(self.close.run(cx))
    }
}

/// A server whose requests are over as soon as it drains, unless told otherwise.
#[derive(Clone)]
pub struct Listener {
    pub name: &'static str,
    pub log: Log,
    pub bind: Act,
    pub ready: Act,
    pub drain: Act,
    pub abort: Act,
    /// What `serve` returns when told to crash.
    pub crash: Act,
    pub crashing: Arc<Notify>,
    ended: Arc<Notify>,
}

impl Listener {
    pub fn new(name: &'static str, log: &Log) -> Self {
        let act = Act::Succeed;
        let (crashing, ended) = (Arc::default(), Arc::default());
        Self {
            name,
            log: log.clone(),
            bind: act,
            ready: act,
            drain: act,
            abort: act,
            crash: act,
            crashing,
            ended,
        }
    }
}

impl Server for Listener {
    fn name(&self) -> &str {
        self.name
    }

    fn bind<'a>(&'a mut self, cx: &'a Context) -> BoxFuture<'a, Result<Vec<Endpoint>>> {
        self.log.add(format!("bind {}", self.name));
        Box::pin(async {
            self.bind.run(cx).await?;
            Ok(vec![Endpoint::http("127.0.0.1", 8000)])
        })
    }

    fn serve(&self) -> BoxFuture<'static, Result<()>> {
        self.log.add(format!("serve {}", self.name));
        let this = self.clone();
        Box::pin(async move {
            tokio::select! {
                () = this.ended.notified() => Ok(()),
                () = this.crashing.notified() => {
                    this.log.add(format!("crash {}", this.name));
                    this.crash.run(&Context::background()).await
                }
            }
        })
    }

    fn set_ready(&self, ready: bool) {
        self.log.add(format!("{} {}", if ready { "ready" } else { "unready" }, self.name));
        assert!(!(ready && self.ready == Act::Panic), "boom");
    }

    fn drain<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<()>> {
        self.log.add(format!("drain {}", self.name));
        Box::pin(async {
            self.drain.run(cx).await?;
            self.ended.notify_one();
            Ok(())
        })
    }

    fn abort(&self) {
        self.log.add(format!("abort {}", self.name));
        if self.abort != Act::Hang {
            self.ended.notify_one();
        }
    }
}

/// The memory registry, with a log and faults.
#[derive(Clone, Default)]
pub struct Registry {
    pub memory: Memory,
    pub log: Log,
    pub register: Act,
    pub deregister: Act,
}

impl Registrar for Registry {
    fn register<'a>(
        &'a self,
        cx: &'a Context,
        instance: Instance,
    ) -> BoxFuture<'a, Result<Box<dyn Registration>>> {
        self.log.add("register");
        Box::pin(async move {
            self.register.run(cx).await?;
            let registered = self.memory.register(&Context::background(), instance).await?;
            Ok(Box::new(Registered { inner: registered, registry: self.clone() }) as Box<_>)
        })
    }
}

struct Registered {
    inner: Box<dyn Registration>,
    registry: Registry,
}

impl Registration for Registered {
    fn deregister<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<()>> {
        self.registry.log.add("deregister");
        Box::pin(async move {
            self.registry.deregister.run(cx).await?;
            self.inner.deregister(cx).await
        })
    }

    fn update<'a>(&'a self, cx: &'a Context, instance: Instance) -> BoxFuture<'a, Result<()>> {
        self.inner.update(cx, instance)
    }
}

/// An application of two resources, a server, a warm-up, a background task and a registry, in which each step does what
/// the test says.
pub struct Scenario {
    pub log: Log,
    pub open: [Act; 2],
    pub close: [Act; 2],
    pub warm_up: Act,
    pub on_ready: Act,
    pub background: Act,
    pub server: Listener,
    pub registry: Registry,
}

impl Scenario {
    pub fn new() -> Self {
        let log = Log::default();
        let server = Listener::new("http", &log);
        let registry = Registry { log: log.clone(), ..Registry::default() };
        Self {
            log,
            open: [Act::Succeed; 2],
            close: [Act::Succeed; 2],
            warm_up: Act::Succeed,
            on_ready: Act::Succeed,
            background: Act::SucceedLate,
            server,
            registry,
        }
    }

    pub fn app(&self) -> App {
        let mut app = App::new("catalog");
        for (at, name) in ["db", "cache"].into_iter().enumerate() {
            let (log, open, close) = (self.log.clone(), self.open[at], self.close[at]);
            app = app.resource(name, move |cx| async move {
                log.add(format!("open {name}"));
                open.run(&cx).await?;
                Ok(Store { name, log, close })
            });
        }
        let hook = |event: &'static str, act: Act| {
            let log = self.log.clone();
            move |cx: Context| async move {
                log.add(event);
                act.run(&cx).await
            }
        };
        let (log, background) = (self.log.clone(), self.background);
        app.server(self.server.clone())
            .warm_up("prices", hook("warm up", self.warm_up))
            .on_ready(hook("on ready", self.on_ready))
            .background("refresh", move |cx| async move {
                background.run(&cx).await?;
                // Work that goes on for a while after being told to stop.
                tokio::time::sleep(Duration::from_millis(500)).await;
                log.add("background done");
                Ok(())
            })
            .registrar(Arc::new(self.registry.clone()))
    }

    /// Runs until running, does `then`, and returns how it ended.
    pub async fn run(&self, then: impl FnOnce(&Handle)) -> Result<()> {
        let app = self.app();
        let handle = app.handle();
        let outcome = app
            .run_until(async {
                handle.running().await;
                if handle.state() == State::Running {
                    then(&handle);
                }
                std::future::pending().await
            })
            .await;
        assert!(self.registry.memory.registered().is_empty(), "nothing is left registered");
        outcome
    }

    /// Runs something that fails to start.
    pub async fn fail(&self) -> Error {
        self.run(|_| panic!("it runs")).await.unwrap_err()
    }

    #[track_caller]
    pub fn assert_events(&self, expected: &[&str]) {
        assert_eq!(self.log.events(), expected);
    }
}

/// The cause is told, and told once.
#[track_caller]
pub fn assert_told_once(error: &Error, cause: &str) {
    let told = format!("{error:?}");
    let first_line = told.lines().next().unwrap_or("");
    assert_eq!(first_line.matches(cause).count(), 1, "{told}");
}

pub const STARTED: [&str; 8] =
    ["open db", "open cache", "bind http", "serve http", "warm up", "ready http", "on ready", "register"];

/// What happens after everything was started.
pub fn after_start(rest: &[&'static str]) -> Vec<&'static str> {
    [&STARTED[..], rest].concat()
}
