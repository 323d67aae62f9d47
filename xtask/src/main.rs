//! The project's own chores: `cargo xtask test` is what CI runs, `cargo xtask bench` what performance claims rest on,
//! and `cargo xtask simulate` runs systems in virtual time.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

mod bench;
mod chore;
mod packages;
mod simulate;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own chores")]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Everything that must hold before a change lands: format, lints, tests, licences.
    Test(test::Options),
    /// Servers for tests that no Debian package brings, and the programs of `interop/`; without them, the tests that need them say
    /// that they are skipped.
    Tools,
    /// What performance claims rest on: a line per figure, and a failure where a bound is missed.
    Bench(bench::Options),
    /// Whole systems in virtual time, repeatable by a seed.
    Simulate(simulate::Options),
}

fn main() -> ExitCode {
    let outcome = match Args::parse().chore {
        Chore::Test(options) => test::run(&options),
        Chore::Tools => tools::run(),
        Chore::Bench(options) => bench::run(&options),
        Chore::Simulate(options) => simulate::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("\nxtask: {why}");
            ExitCode::FAILURE
        }
    }
}
