//! `cargo xtask simulate`.

use clap::{Args, ValueEnum};

use crate::chore::{Result, cargo, root};

/// What `simulate` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this; everything if it is left out.
    #[arg(long)]
    only: Option<Subject>,
    /// How many seeds: 200 of the registry, 10 of resilience.
    #[arg(long)]
    seeds: Option<u64>,
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
    /// Overload, retries, faults, subsets, tenants and copies; a report in `target/bowline/resilience`.
    Resilience,
}

/// Runs simulations. Their last line sums them up, so nothing is printed after it.
pub(crate) fn run(options: &Options) -> Result {
    let mut command =
        cargo(&["run", "--quiet", "--release", "--locked", "-p", "bowline-tests-simulation", "--"]);
    match options.only {
        Some(Subject::Registry) => command.args(["--only", "registry"]),
        Some(Subject::Resilience) => command.args(["--only", "resilience"]),
        None => &mut command,
    };
    if let Some(seeds) = options.seeds {
        command.args(["--seeds", &seeds.to_string()]);
    }
    command.args(["--from", &options.from.to_string()]);
    if options.verbose {
        command.arg("--verbose");
    }
    let status = command.current_dir(root()).status();
    let status = status.map_err(|error| format!("the simulation cannot run: {error}"))?;
    if status.success() { Ok(()) } else { Err("the simulation found what does not hold".into()) }
}
