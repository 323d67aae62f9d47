//! Building, starting and ending applications' processes.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bowline_core::task::Tracker;
use bowline_core::{Error, Result, WrapErr};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use super::output::Output;
use super::project::{App, Project};

/// Builds every package of the project. Cargo shows its progress.
pub(crate) async fn build(project: &Project) -> Result<()> {
    let Some((program, arguments)) = project.build.split_first() else { return Ok(()) };
    let mut command = Command::new(program);
    // Whoever is interrupted while building drops this, and the build must not go on behind the prompt.
    command.args(arguments).current_dir(&project.root).stdin(Stdio::null()).kill_on_drop(true);
    let mut packages: Vec<&str> = project.apps.iter().map(|app| app.package.as_str()).collect();
    packages.sort_unstable();
    packages.dedup();
    for package in packages {
        command.args(["--package", package]);
    }
    let status = command.status().await.with_context(|| format!("running {program}"))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::failed_precondition(format!("the build failed ({status}); its messages are above")))
}

/// A running application.
pub(crate) struct Process {
    child: Child,
    pid: Pid,
    /// Copies its lines; done when both pipes are closed.
    readers: Tracker,
}

impl Process {
    /// Starts an application in a process group of its own, so that a Ctrl-C at the terminal reaches the supervisor alone.
    pub(crate) fn start(project: &Project, app: &App, output: &Arc<Output>) -> Result<Self> {
        let program = project.program(app);
        if !program.is_file() {
            return Err(Error::not_found(format!(
                "{}: there is no {}; is `binary` in {} right?",
                app.name,
                program.display(),
                project.file.display()
            )));
        }
        let mut child = Command::new(&program)
            .args(&app.args)
            .envs(&app.env)
            .current_dir(&project.root)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let pid = pid.ok_or_else(|| Error::internal(format!("{} ended before it began", app.name)))?;
        std::fs::write(project.directory(app).join("pid"), pid.as_raw_nonzero().to_string())
            .with_context(|| format!("writing the pid of {}", app.name))?;
        let readers = Tracker::new();
        copy(&readers, child.stdout.take(), &app.name, output);
        copy(&readers, child.stderr.take(), &app.name, output);
        Ok(Self { child, pid, readers })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits until it ends and all its lines were copied.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let status = self.child.wait().await;
        // Lines may still be in the pipes; a grandchild that keeps one open must not keep us.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.readers.wait()).await;
        status.unwrap_or_default()
    }

    /// Asks it to end; kills it when `timeout` has passed.
    pub(crate) async fn stop(&mut self, timeout: Duration) -> ExitStatus {
        // It may have ended by itself; then there is nobody to ask.
        let _ = kill_process(self.pid, Signal::TERM);
        if let Ok(status) = tokio::time::timeout(timeout, self.ended()).await {
            return status;
        }
        let _ = self.child.start_kill();
        self.ended().await
    }
}

fn copy(
    readers: &Tracker,
    pipe: Option<impl AsyncRead + Unpin + Send + 'static>,
    name: &str,
    output: &Arc<Output>,
) {
    let Some(pipe) = pipe else { return };
    let (name, output) = (name.to_owned(), Arc::clone(output));
    readers.spawn(async move {
        let mut lines = BufReader::new(pipe).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            output.line(&name, String::from_utf8_lossy(&line).trim_end());
        }
    });
}

/// Applications that a supervisor which was killed left running: by their pid files, if the process is still that program.
pub(crate) fn leftovers(project: &Project) -> Vec<(String, Pid)> {
    let left = |app: &App| {
        let text = std::fs::read_to_string(project.directory(app).join("pid")).ok()?;
        let pid = Pid::from_raw(text.trim().parse().ok()?)?;
        let program = std::fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero())).ok()?;
        // A program that was built again since is shown as deleted.
        let shown = program.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
        let ours = project.program(app);
        (Path::new(&shown) == ours.canonicalize().unwrap_or(ours)).then(|| (app.name.clone(), pid))
    };
    project.apps.iter().filter_map(left).collect()
}

/// Ends them, last started first.
pub(crate) async fn end_leftovers(project: &Project) -> Result<Vec<String>> {
    let mut ended = Vec::new();
    for (name, pid) in leftovers(project).into_iter().rev() {
        kill_process(pid, Signal::TERM)
            .map_err(std::io::Error::from)
            .with_context(|| format!("stopping {name}"))?;
        let gone = async {
            while leftovers(project).iter().any(|(_, other)| *other == pid) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), gone).await.is_err() {
            kill_process(pid, Signal::KILL)
                .map_err(std::io::Error::from)
                .with_context(|| format!("killing {name}"))?;
        }
        ended.push(name);
    }
    Ok(ended)
}
