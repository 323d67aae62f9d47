//! A project on this machine: `up`, `down`, `ps`, `restart`.
//!
//! `up` is a supervisor. It builds, starts the applications one after the other, each when the ones before it are ready, and
//! then looks after them until it is told to stop. The other commands talk to it over a Unix socket in the project's state
//! directory.

mod control;
mod output;
mod probe;
mod process;
mod project;
mod supervisor;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bowline_core::{Error, Result, WrapErr};
use tokio::process::Command;

use control::{Reply, Request};
use output::Output;
use project::Project;
use supervisor::Supervisor;

/// Tells a detached supervisor that it is one.
const SUPERVISE: &str = "BOWLINE_SUPERVISE";
/// How long `down` waits beyond what the applications may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Builds, starts and looks after a project until Ctrl-C.
pub(crate) async fn up(file: Option<PathBuf>) -> Result<()> {
    let project = Project::find(file)?;
    let detached = std::env::var_os(SUPERVISE).is_some();
    let output = Output::new(&project, !detached)?;
    Supervisor::new(project, output, !detached).run().await
}

/// Starts a supervisor in the background and waits until everything is ready.
pub(crate) async fn up_detached(file: Option<PathBuf>) -> Result<()> {
    let project = Project::find(file)?;
    refuse_if_running(&project).await?;
    // Built here, where its progress can be seen.
    process::build(&project).await?;
    std::fs::create_dir_all(&project.state)
        .with_context(|| format!("creating {}", project.state.display()))?;
    let log_path = project.state.join("up.log");
    let log = std::fs::File::create(&log_path).with_context(|| format!("creating {}", log_path.display()))?;
    let errors = log.try_clone().context("sharing the log")?;
    let program = std::env::current_exe().context("finding this program")?;
    let mut supervisor = Command::new(program)
        .args(["up", "--file"])
        .arg(&project.file)
        .env(SUPERVISE, "1")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .context("starting the supervisor")?;
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if let Some(status) = supervisor.try_wait().context("waiting for the supervisor")? {
            let said = std::fs::read_to_string(&log_path).unwrap_or_default();
            let last = said.lines().rev().find(|line| line.starts_with("error: ")).unwrap_or("");
            let last = last.strip_prefix("error: ").unwrap_or("it said nothing; see up.log");
            return Err(Error::failed_precondition(format!("{last} ({status}, {})", log_path.display())));
        }
        if let Ok(Reply::Apps { apps, ready: true }) = control::ask(&project, &Request::Ps).await {
            print!("{}", output::table(&apps));
            println!("logs: {}/*/log   stop: bowline down", project.state.display());
            return Ok(());
        }
    }
}

async fn refuse_if_running(project: &Project) -> Result<()> {
    match control::ask(project, &Request::Ps).await {
        Ok(_) => Err(Error::failed_precondition(format!(
            "{} is up already; see `bowline ps`, or stop it with `bowline down`",
            project.name
        ))),
        Err(_) => Ok(()),
    }
}

/// Tells the supervisor to stop everything and waits until it has.
pub(crate) async fn down(file: Option<PathBuf>) -> Result<()> {
    let project = Project::find(file)?;
    match control::ask(&project, &Request::Down).await {
        Ok(_) => {}
        Err(_) if process::leftovers(&project).is_empty() => {
            println!("{} is not up", project.name);
            return Ok(());
        }
        Err(_) => {
            let ended = process::end_leftovers(&project).await?;
            println!("stopped what an earlier supervisor left behind: {}", ended.join(", "));
            return Ok(());
        }
    }
    let gone = tokio::time::timeout(project.stop_timeout() + PATIENCE, async {
        while control::ask(&project, &Request::Ps).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    gone.await
        .map_err(|_| Error::deadline_exceeded("the supervisor did not stop in time; see `bowline ps`"))?;
    println!("{} is down", project.name);
    Ok(())
}

/// Prints the table of what runs.
pub(crate) async fn ps(file: Option<PathBuf>) -> Result<()> {
    let project = Project::find(file)?;
    match control::ask(&project, &Request::Ps).await {
        Ok(Reply::Apps { apps, .. }) => print!("{}", output::table(&apps)),
        Ok(Reply::Refused { why }) => return Err(Error::failed_precondition(why)),
        Ok(Reply::Done) => {}
        Err(_) => println!("{} is not up; start it with `bowline up`", project.name),
    }
    Ok(())
}

/// Restarts one application.
pub(crate) async fn restart(file: Option<PathBuf>, app: String) -> Result<()> {
    let project = Project::find(file)?;
    if !project.apps.iter().any(|known| known.name == app) {
        return Err(project.unknown(&app));
    }
    let reply = control::ask(&project, &Request::Restart { app: app.clone() }).await;
    match reply.map_err(|error| error.context(format!("{} is not up", project.name)))? {
        Reply::Refused { why } => Err(Error::failed_precondition(why)),
        _ => {
            println!("{app} was restarted");
            Ok(())
        }
    }
}
