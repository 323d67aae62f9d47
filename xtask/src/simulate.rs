//! `cargo xtask simulate`.

use clap::{Args, ValueEnum};

use crate::chore::{Result, cargo, root};

/// What `simulate` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this.
    #[arg(long)]
    only: Option<Subject>,
    /// How many seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Tells what happens.
    #[arg(long)]
    verbose: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Subject {
    /// The registry's nodes and their clients.
    Registry,
}

/// Runs simulations. Their last line sums them up, so nothing is printed after it.
pub(crate) fn run(options: &Options) -> Result {
    let mut command =
        cargo(&["run", "--quiet", "--release", "--locked", "-p", "bowline-tests-simulation", "--"]);
    if let Some(Subject::Registry) = options.only {
        command.args(["--only", "registry"]);
    }
    command.args(["--seeds", &options.seeds.to_string(), "--from", &options.from.to_string()]);
    if options.verbose {
        command.arg("--verbose");
    }
    let status = command.current_dir(root()).status();
    let status = status.map_err(|error| format!("the simulation cannot run: {error}"))?;
    if status.success() { Ok(()) } else { Err("the simulation found what does not hold".into()) }
}
