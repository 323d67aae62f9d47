//! How the other commands talk to the supervisor: one JSON line each way over a Unix socket.

use std::path::PathBuf;
use std::time::Duration;

use bowline_core::{Error, Result, WrapErr};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::project::Project;

/// What a command wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    Ps,
    Down,
    Restart { app: String },
}

/// What the supervisor answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Apps { apps: Vec<Row>, ready: bool },
    Done,
    Refused { why: String },
}

/// One line of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) address: String,
    pub(crate) status: String,
    pub(crate) pid: Option<u32>,
    pub(crate) restarts: u32,
}

/// The longest a restart may take: a stop and a start.
const PATIENCE: Duration = Duration::from_secs(180);
/// The longest line either side reads.
const LINE: u64 = 1024 * 1024;

fn socket(project: &Project) -> PathBuf {
    project.state.join("control.sock")
}

/// Asks the supervisor. An error means that none answers.
pub(crate) async fn ask(project: &Project, request: &Request) -> Result<Reply> {
    let stream = UnixStream::connect(socket(project)).await.context("asking the supervisor")?;
    let answer = tokio::time::timeout(PATIENCE, exchange(stream, request));
    answer.await.map_err(|_| Error::deadline_exceeded("the supervisor did not answer"))?
}

async fn exchange(mut stream: UnixStream, request: &Request) -> Result<Reply> {
    write(&mut stream, request).await?;
    read(&mut stream).await
}

/// One side's line.
pub(crate) async fn write(stream: &mut UnixStream, value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(value).context("writing to the control socket")?;
    line.push(b'\n');
    stream.write_all(&line).await.context("writing to the control socket")
}

/// The other side's line.
pub(crate) async fn read<T: for<'de> Deserialize<'de>>(stream: &mut UnixStream) -> Result<T> {
    let mut line = String::new();
    let limited = tokio::io::AsyncReadExt::take(stream, LINE);
    BufReader::new(limited).read_line(&mut line).await.context("reading from the control socket")?;
    if line.is_empty() {
        return Err(Error::unavailable("the supervisor stopped before it answered"));
    }
    serde_json::from_str(&line).context("reading from the control socket")
}

/// Listens for commands. A socket that nobody listens at is replaced.
pub(crate) async fn listen(project: &Project) -> Result<UnixListener> {
    let path = socket(project);
    if UnixStream::connect(&path).await.is_ok() {
        return Err(Error::failed_precondition(format!(
            "{} is up already; see `bowline ps`, or stop it with `bowline down`",
            project.name
        )));
    }
    // Left behind by a supervisor that was killed.
    let _ = std::fs::remove_file(&path);
    UnixListener::bind(&path).with_context(|| format!("listening at {}", path.display()))
}

/// Gives the socket back.
pub(crate) fn close(project: &Project) {
    // Gone already is as good.
    let _ = std::fs::remove_file(socket(project));
}
