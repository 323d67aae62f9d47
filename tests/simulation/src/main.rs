//! `cargo xtask simulate` runs this.

#![allow(clippy::print_stdout, reason = "a command line prints")]

use std::process::ExitCode;
use std::time::Instant;

use bowline_tests_simulation::registry;
use clap::{Parser, ValueEnum};

#[derive(Parser)]
#[command(about = "Runs whole systems in virtual time")]
struct Args {
    /// What to simulate.
    #[arg(long)]
    only: Option<Subject>,
    /// How many seeds to run.
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
    Registry,
}

#[allow(clippy::disallowed_methods, reason = "how long it really took")]
fn main() -> ExitCode {
    let args = Args::parse();
    let (Some(Subject::Registry) | None) = args.only;
    let (started, mut broken) = (Instant::now(), 0_u64);
    let mut sums = registry::Sums::default();
    for seed in args.from..args.from.saturating_add(args.seeds) {
        match registry::run(seed, args.verbose) {
            Ok(counted) => sums.add(&counted),
            Err(why) => {
                broken += 1;
                println!(
                    "seed {seed}: {why}\n  again: cargo xtask simulate --only registry --from {seed} --seeds 1 --verbose"
                );
            }
        }
    }
    print!("{}", sums.coverage());
    println!(
        "registry: {} seeds from {}, {broken} broken; {sums}; {:.1?}",
        args.seeds,
        args.from,
        started.elapsed()
    );
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
