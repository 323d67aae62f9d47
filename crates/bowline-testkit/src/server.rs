//! A server as a process.

use std::fmt;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use bowline_core::{Error, Result, WrapErr};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::port::free_port;
use crate::recipe::Recipe;
use crate::tls;

/// How long a server may take to answer after its start: much, for the machine may be slow and have other work.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(2);
/// How much of the log an error shows.
const TAIL: usize = 2_000;

/// A server that runs until this is dropped. See the [crate] for which there are.
pub struct Server {
    recipe: Recipe,
    directory: TempDir,
    ports: Vec<u16>,
    child: Option<Child>,
}

impl Server {
    pub(crate) async fn run(recipe: Recipe) -> Result<Self> {
        Self::run_beside(recipe, &[]).await
    }

    /// Runs a server that needs others, of which it is told the ports after its own.
    pub(crate) async fn run_beside(recipe: Recipe, others: &[u16]) -> Result<Self> {
        let there = |file: &str| Path::new(file).exists();
        let missing: Vec<_> = recipe.packages.iter().filter(|p| !there(p.1)).map(|p| p.0).collect();
        if !missing.is_empty() {
            return Err(Error::failed_precondition(format!(
                "{} is not installed; run: sudo apt-get install -y --no-install-recommends {}",
                recipe.name,
                missing.join(" ")
            )));
        }
        let directory = tempfile::tempdir().context("a temporary directory for a server")?;
        let mut ports = (0..recipe.ports).map(|_| free_port()).collect::<Result<Vec<_>>>()?;
        ports.extend(others);
        let mut server = Self { recipe, directory, ports, child: None };
        server.start().await?;
        Ok(server)
    }

    /// The port for clients.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// `127.0.0.1:PORT` of another of its ports, counted from that for clients, which is 0; of that one if there are fewer.
    pub fn address_at(&self, nth: usize) -> String {
        format!("127.0.0.1:{}", self.ports.get(nth).copied().unwrap_or_else(|| self.port()))
    }

    /// Where its files are.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// What it wrote, of all its runs.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Starts it again, after [`Server::kill`], on the same ports and with the data that is there, and waits until it
    /// answers. Does nothing while it runs.
    ///
    /// # Errors
    /// If it ends, or does not answer within a minute: with the end of its log.
    pub async fn start(&mut self) -> Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        let path = self.directory.path();
        let mut options = OpenOptions::new();
        let log = options.create(true).append(true).open(path.join("log")).context("a server's log")?;
        let mut command = (self.recipe.command)(path, &self.ports)?;
        let command = command.current_dir(path).stdin(Stdio::null());
        let error = log.try_clone().context("a server's log")?;
        let child = command.stdout(log).stderr(error).spawn();
        self.child = Some(child.with_context(|| format!("starting {}", self.recipe.name))?);
        match tokio::time::timeout(PATIENCE, self.answers()).await {
            Ok(result) => result,
            Err(_) => Err(self.trouble(&format!("did not answer within {PATIENCE:?}"))),
        }
    }

    /// Waits until it answers.
    async fn answers(&mut self) -> Result<()> {
        while !matches!(tokio::time::timeout(QUESTION, self.ask()).await, Ok(Ok(true))) {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                self.child = None;
                return Err(self.trouble(&format!("ended ({status})")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn ask(&self) -> std::io::Result<bool> {
        let stream = TcpStream::connect(("127.0.0.1", self.port())).await?;
        match self.recipe.ca {
            None => self.hears(stream).await,
            Some(ca) => self.hears(tls::connect(stream, &self.directory.path().join(ca)).await?).await,
        }
    }

    async fn hears(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<bool> {
        stream.write_all(self.recipe.question.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(64 * 1024).read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).contains(self.recipe.answer))
    }

    fn trouble(&self, what: &str) -> Error {
        let log = self.log();
        let start = log.len().saturating_sub(TAIL);
        let tail = log.get(start..).unwrap_or(&log);
        Error::unavailable(format!("{} {what}; its log ends with:\n{tail}", self.recipe.name))
    }

    /// Ends it at once, as `kill -9` does, and waits until it has ended. Its data stays.
    ///
    /// # Errors
    /// If the system does not let it be.
    pub async fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill().context("killing a server")?;
        // A killed process is gone within moments; whoever else runs here goes on meanwhile.
        while child.try_wait().context("waiting for a killed server")?.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Removes its data. Its next start is its first one.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` while it runs; if the data cannot be removed.
    pub fn wipe(&mut self) -> Result<()> {
        if self.child.is_some() {
            return Err(Error::failed_precondition("the server runs; kill it before its data is removed"));
        }
        let data = self.directory.path().join(self.recipe.name);
        match std::fs::remove_dir_all(&data) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::from_std(error).context("removing a server's data"))
            }
            _ => Ok(()),
        }
    }

    /// Stops it without ending it (SIGSTOP), as a machine that hangs: connections stay open and nobody answers. It has
    /// stopped when this returns: a signal reaches the threads of a process one after the other.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` if it does not run; `DEADLINE_EXCEEDED` if it goes on for a minute.
    pub async fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let stopped = async {
            while !self.is_stopped() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, stopped).await;
        waited.map_err(|_| Error::deadline_exceeded("a server does not stop, though it was told to"))
    }

    /// Whether every thread of the process stands still, as Linux tells it.
    fn is_stopped(&self) -> bool {
        let Some(child) = &self.child else { return true };
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", child.id())) else { return false };
        threads.flatten().all(|thread| {
            // The state follows the name, which is in brackets and may hold any character. A thread that has just ended
            // does nothing either.
            std::fs::read_to_string(thread.path().join("stat")).map_or(true, |stat| {
                stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['T', 't']))
            })
        })
    }

    /// Lets it go on after [`Server::pause`].
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` if it does not run.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok());
        let pid = id.and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Error::failed_precondition("the server does not run; start it first"))?;
        kill_process(pid, signal).context("sending a signal to a server")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nobody is left to tell; it may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({} at {})", self.recipe.name, self.address())
    }
}
