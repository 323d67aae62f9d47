//! `bowline`: runs a project locally, calls services, shows who is there.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

mod local;
mod remote;

use std::path::PathBuf;
use std::process::ExitCode;

use bowline_core::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "bowline", version, about = "Microservices in Rust: run them, call them, watch them")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build and start everything that bowline.toml declares.
    Up {
        /// Return once all are ready; they go on in the background.
        #[arg(long, short)]
        detach: bool,
        #[command(flatten)]
        project: Project,
    },
    /// Stop what `up` started, in reverse order.
    Down {
        #[command(flatten)]
        project: Project,
    },
    /// Show what runs.
    Ps {
        #[command(flatten)]
        project: Project,
    },
    /// Call a method, learnt by reflection: `bowline call catalog/GetItem -d '{"id": 7}'`.
    Call(remote::CallArgs),
    /// Show who is registered.
    Services(remote::ServicesArgs),
    /// Stop one application and start it again.
    Restart {
        /// Its name in bowline.toml.
        app: String,
        #[command(flatten)]
        project: Project,
    },
}

/// Which project.
#[derive(clap::Args)]
struct Project {
    /// The project's file; looked for here and in the directories above.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: starting the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(args.command));
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Up { detach: false, project } => local::up(project.file).await,
        Command::Up { detach: true, project } => local::up_detached(project.file).await,
        Command::Down { project } => local::down(project.file).await,
        Command::Ps { project } => local::ps(project.file).await,
        Command::Call(args) => remote::call(args).await,
        Command::Services(args) => remote::services(args).await,
        Command::Restart { app, project } => local::restart(project.file, app).await,
    }
}
