//! Looks after a project's applications.

use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_core::{Error, Result, WrapErr};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::control::{self, Reply, Request, Row};
use super::output::{self, Output};
use super::probe;
use super::process::{self, Process};
use super::project::{App, Project};

/// The first and the longest delay before a crashed application is started again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// An application that ran this long before it crashed starts with the first delay again.
const SETTLED: Duration = Duration::from_secs(30);

/// One application and what became of it.
struct Slot {
    app: App,
    process: Option<Process>,
    status: Status,
    restarts: u32,
    delay: Duration,
    started: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Waiting,
    Starting,
    Ready,
    /// Crashed, to be started again at this time.
    Crashed(Instant),
    Stopped,
}

impl Slot {
    fn row(&self) -> Row {
        let status = match self.status {
            Status::Waiting => "waiting",
            Status::Starting => "starting",
            Status::Ready => "ready",
            Status::Crashed(_) => "crashed",
            Status::Stopped => "stopped",
        };
        Row {
            name: self.app.name.clone(),
            kind: self.app.kind.clone(),
            address: self.app.address.clone(),
            status: status.to_owned(),
            pid: self.process.as_ref().map(Process::pid),
            restarts: self.restarts,
        }
    }
}

/// Runs a project's applications from the build to the end.
pub(crate) struct Supervisor {
    project: Project,
    output: Arc<Output>,
    slots: Vec<Slot>,
    ready: bool,
    /// Whether it belongs to a terminal, and ends with it.
    has_terminal: bool,
    /// Whose readiness was asked for last: one that never gets ready must not keep the others from being asked.
    probed: usize,
}

/// What woke the supervisor.
enum Event {
    Signal,
    Command(UnixStream),
    Ended(usize, ExitStatus),
    Due(usize),
    Probed(usize, bool),
}

impl Supervisor {
    pub(crate) fn new(project: Project, output: Output, has_terminal: bool) -> Self {
        let slot = |app: &App| Slot {
            app: app.clone(),
            process: None,
            status: Status::Waiting,
            restarts: 0,
            delay: BACKOFF.0,
            started: Instant::now(),
        };
        let slots = project.apps.iter().map(slot).collect();
        Self { project, output: Arc::new(output), slots, ready: false, has_terminal, probed: 0 }
    }

    /// Until Ctrl-C, SIGTERM, the end of its terminal, `bowline down`, or a failure to start. Whatever was started has ended then.
    pub(crate) async fn run(mut self) -> Result<()> {
        let mut signals = Signals::listen(self.has_terminal)?;
        let commands = control::listen(&self.project).await?;
        let outcome = self.live(&mut signals, &commands).await;
        self.stop_all().await;
        control::close(&self.project);
        outcome
    }

    async fn live(&mut self, signals: &mut Signals, commands: &UnixListener) -> Result<()> {
        let leftovers = process::leftovers(&self.project);
        if let Some((name, pid)) = leftovers.first() {
            return Err(Error::failed_precondition(format!(
                "{name} (pid {}) still runs, left behind by a supervisor that was killed; run `bowline down` first",
                pid.as_raw_nonzero()
            )));
        }
        for slot in &self.slots {
            probe::is_free(&slot.app.name, &slot.app.address)?;
            probe::is_free(&slot.app.name, &slot.app.ready)?;
        }
        if !self.build(signals, commands).await? {
            return Ok(());
        }
        for index in 0..self.slots.len() {
            self.start(index)?;
            if !self.wait_until_ready(index, signals, commands).await? {
                return Ok(());
            }
        }
        self.ready = true;
        for line in output::table(&self.rows()).lines() {
            self.output.say(line);
        }
        self.output.say("all are ready; Ctrl-C stops them");
        self.look_after(signals, commands).await
    }

    /// Builds. False if told to stop meanwhile.
    async fn build(&mut self, signals: &mut Signals, commands: &UnixListener) -> Result<bool> {
        let project = self.project.clone();
        let mut built = pin!(process::build(&project));
        loop {
            tokio::select! {
                built = &mut built => return built.map(|()| true),
                () = signals.next() => return Err(Error::canceled("interrupted while building")),
                Ok((stream, _)) = commands.accept() => {
                    if self.command(stream, signals).await {
                        return Ok(false);
                    }
                }
            }
        }
    }

    fn rows(&self) -> Vec<Row> {
        self.slots.iter().map(Slot::row).collect()
    }

    fn start(&mut self, index: usize) -> Result<()> {
        let slot = &mut self.slots[index];
        slot.process = Some(Process::start(&self.project, &slot.app, &self.output)?);
        slot.status = Status::Starting;
        slot.started = Instant::now();
        Ok(())
    }

    /// Waits for an application's first readiness. False if told to stop meanwhile.
    async fn wait_until_ready(
        &mut self,
        index: usize,
        signals: &mut Signals,
        commands: &UnixListener,
    ) -> Result<bool> {
        let bound = Duration::from_secs(self.slots[index].app.start_seconds);
        loop {
            match self.next_event(signals, commands).await {
                Event::Signal => return Ok(false),
                Event::Command(stream) => {
                    if self.command(stream, signals).await {
                        return Ok(false);
                    }
                }
                Event::Ended(ended, status) => return Err(self.ended_while_starting(ended, status)),
                Event::Due(_) => {}
                Event::Probed(probed, ready) => {
                    let slot = &mut self.slots[probed];
                    if ready {
                        slot.status = Status::Ready;
                    } else if slot.started.elapsed() > bound {
                        return Err(Error::deadline_exceeded(format!(
                            "{} was not ready after {bound:?}: {} did not answer 200; its last line: {}",
                            slot.app.name,
                            slot.app.ready,
                            last_line(&self.project.directory(&slot.app).join("log"))
                        )));
                    }
                }
            }
            if self.slots[index].status == Status::Ready {
                return Ok(true);
            }
        }
    }

    fn ended_while_starting(&self, index: usize, status: ExitStatus) -> Error {
        let app = &self.slots[index].app;
        let log = self.project.directory(app).join("log");
        Error::failed_precondition(format!(
            "{} ended while starting ({status}): {} (all of it: {})",
            app.name,
            last_line(&log),
            log.display()
        ))
    }

    async fn look_after(&mut self, signals: &mut Signals, commands: &UnixListener) -> Result<()> {
        loop {
            match self.next_event(signals, commands).await {
                Event::Signal => return Ok(()),
                Event::Command(stream) => {
                    if self.command(stream, signals).await {
                        return Ok(());
                    }
                }
                Event::Ended(index, status) => self.crashed(index, status),
                Event::Due(index) => self.start_again(index),
                Event::Probed(index, true) => {
                    let slot = &mut self.slots[index];
                    slot.status = Status::Ready;
                    self.output.say(&format!("{} is ready again", slot.app.name));
                }
                Event::Probed(_, false) => {}
            }
        }
    }

    async fn next_event(&mut self, signals: &mut Signals, commands: &UnixListener) -> Event {
        let mut turns = (1..=self.slots.len()).map(|step| (self.probed + step) % self.slots.len());
        let starting = turns.find(|index| self.slots[*index].status == Status::Starting);
        self.probed = starting.unwrap_or(self.probed);
        let probed = starting.map(|index| (index, self.slots[index].app.ready.clone()));
        let due = self.slots.iter().enumerate().filter_map(|(index, slot)| match slot.status {
            Status::Crashed(at) => Some((at, index)),
            _ => None,
        });
        let due = due.min();
        let ended = self.slots.iter_mut().enumerate().filter_map(|(index, slot)| {
            let process = slot.process.as_mut()?;
            Some(Box::pin(async move { (index, process.ended().await) }))
        });
        let ended: Vec<_> = ended.collect();
        tokio::select! {
            () = signals.next() => Event::Signal,
            Ok((stream, _)) = commands.accept() => Event::Command(stream),
            (index, status) = first(ended) => Event::Ended(index, status),
            index = at(due) => Event::Due(index),
            (index, ready) = ready(probed) => Event::Probed(index, ready),
        }
    }

    fn crashed(&mut self, index: usize, status: ExitStatus) {
        let slot = &mut self.slots[index];
        slot.process = None;
        if slot.started.elapsed() > SETTLED {
            slot.delay = BACKOFF.0;
        }
        let delay = slot.delay;
        slot.status = Status::Crashed(Instant::now() + delay);
        slot.delay = (delay * 2).min(BACKOFF.1);
        self.output.say(&format!("{} crashed ({status}), starting it again in {delay:?}", slot.app.name));
    }

    fn start_again(&mut self, index: usize) {
        self.slots[index].restarts += 1;
        if let Err(error) = self.start(index) {
            let slot = &mut self.slots[index];
            slot.status = Status::Crashed(Instant::now() + slot.delay);
            slot.delay = (slot.delay * 2).min(BACKOFF.1);
            self.output.say(&format!("{} could not be started: {error}", slot.app.name));
        }
    }

    /// Answers a command; true if everything is to stop.
    async fn command(&mut self, mut stream: UnixStream, signals: &mut Signals) -> bool {
        let request =
            tokio::time::timeout(Duration::from_secs(1), control::read::<Request>(&mut stream)).await;
        let Ok(Ok(request)) = request else { return false };
        let down = request == Request::Down;
        let reply = match request {
            Request::Ps => Reply::Apps { apps: self.rows(), ready: self.ready },
            Request::Down => Reply::Done,
            Request::Restart { app } => {
                let restarted = tokio::select! {
                    restarted = self.restart(&app) => restarted,
                    () = signals.next() => return true,
                };
                match restarted {
                    Ok(()) => Reply::Done,
                    Err(error) => Reply::Refused { why: error.to_string() },
                }
            }
        };
        // Whoever asked may have gone.
        let _ = control::write(&mut stream, &reply).await;
        down
    }

    async fn restart(&mut self, name: &str) -> Result<()> {
        let index = self.slots.iter().position(|slot| slot.app.name == name);
        let index = index.ok_or_else(|| self.project.unknown(name))?;
        if !self.ready {
            let project = &self.project.name;
            return Err(Error::failed_precondition(format!("{project} is still starting; see `bowline ps`")));
        }
        self.output.say(&format!("restarting {name}"));
        self.stop(index).await;
        self.slots[index].restarts += 1;
        self.start(index)?;
        let slot = &mut self.slots[index];
        let bound = slot.app.start_seconds;
        let ready = tokio::time::timeout(Duration::from_secs(bound), async {
            while !probe::is_ready(&slot.app.ready).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        tokio::select! {
            ready = ready => {
                ready.map_err(|_| Error::deadline_exceeded(format!("{name} was not ready after {bound} s")))?;
                slot.status = Status::Ready;
                Ok(())
            }
            // Whoever asked hears why; it is started again later, as after any crash.
            status = ended(&mut slot.process) => Err(self.ended_while_starting(index, status)),
        }
    }

    async fn stop(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.status = Status::Stopped;
        // Without a process of ours the pid file may be of one that an earlier supervisor left behind.
        let Some(process) = &mut slot.process else { return };
        let status = process.stop(slot.app.stop_timeout()).await;
        slot.process = None;
        self.output.say(&format!("{} stopped ({status})", slot.app.name));
        // Gone already is as good.
        let _ = std::fs::remove_file(self.project.directory(&slot.app).join("pid"));
    }

    /// Stops everything in reverse.
    async fn stop_all(&mut self) {
        for index in (0..self.slots.len()).rev() {
            self.stop(index).await;
        }
    }
}

/// The first of several to end; never, if there are none.
async fn first<T>(futures: Vec<std::pin::Pin<Box<impl Future<Output = T>>>>) -> T {
    let mut futures = futures;
    std::future::poll_fn(|task| {
        for future in &mut futures {
            if let std::task::Poll::Ready(output) = future.as_mut().poll(task) {
                return std::task::Poll::Ready(output);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

async fn ended(process: &mut Option<Process>) -> ExitStatus {
    match process {
        None => std::future::pending().await,
        Some(process) => process.ended().await,
    }
}

async fn at(due: Option<(Instant, usize)>) -> usize {
    match due {
        None => std::future::pending().await,
        Some((at, index)) => {
            tokio::time::sleep_until(at.into()).await;
            index
        }
    }
}

async fn ready(probed: Option<(usize, String)>) -> (usize, bool) {
    match probed {
        None => std::future::pending().await,
        Some((index, url)) => {
            tokio::time::sleep(Duration::from_millis(50)).await;
            (index, probe::is_ready(&url).await)
        }
    }
}

/// The last line of a log that says something.
fn last_line(log: &std::path::Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let told = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    told.unwrap_or("it said nothing").to_owned()
}

/// The signals that mean "stop".
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// The terminal is gone. Nothing under `nohup`, and nothing in the background, where the terminal does not matter.
    hangup: Option<Signal>,
}

impl Signals {
    fn listen(has_terminal: bool) -> Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
        let terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let hangup = match ignores_hangups() {
            true => None,
            // Listened for in the background too: so it does not end us.
            false => Some(signal(SignalKind::hangup()).context("listening for SIGHUP")?),
        };
        Ok(Self { interrupt, terminate, hangup: hangup.filter(|_| has_terminal) })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = hung_up(&mut self.hangup) => {}
        }
    }
}

async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        None => std::future::pending().await,
        Some(hangup) => drop(hangup.recv().await),
    }
}

/// Whether we were started by `nohup`: whether signal 1, the lowest bit, is ignored.
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set & 1 == 1)
}
