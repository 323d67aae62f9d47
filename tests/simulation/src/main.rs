//! `cargo xtask simulate` runs this.

#![allow(clippy::print_stdout, reason = "a command line prints")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use bowline_tests_simulation::registry;
use bowline_tests_simulation::resilience::{Plan, SUBJECTS, report};
use clap::{Parser, ValueEnum};

#[derive(Parser)]
#[command(about = "Runs whole systems in virtual time")]
struct Args {
    /// What to simulate; everything if it is left out.
    #[arg(long)]
    only: Option<Subject>,
    /// How many seeds to run: 200 of the registry, 10 of resilience.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// The folder of the report.
    #[arg(long, default_value = "target/bowline/resilience")]
    report: PathBuf,
    /// Tells what happens.
    #[arg(long)]
    verbose: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    Registry,
    Resilience,
}

/// What one subject comes to: a line that sums it up, and whether all of it holds.
struct Summary {
    line: String,
    holds: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let wants = |subject| args.only.is_none_or(|only| only == subject);
    let mut summaries = Vec::new();
    if wants(Subject::Registry) {
        summaries.push(simulate_registry(&args));
    }
    if wants(Subject::Resilience) {
        summaries.push(simulate_resilience(&args));
    }
    let lines: Vec<&str> = summaries.iter().map(|summary| &*summary.line).collect();
    println!("{}", lines.join(" | "));
    if summaries.iter().all(|summary| summary.holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[allow(clippy::disallowed_methods, reason = "how long it really took")]
fn simulate_registry(args: &Args) -> Summary {
    let (seeds, started) = (args.seeds.unwrap_or(200), Instant::now());
    let (mut sums, mut broken) = (registry::Sums::default(), 0_u64);
    for seed in args.from..args.from.saturating_add(seeds) {
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
    let took = started.elapsed();
    let line = format!("registry: {seeds} seeds from {}, {broken} broken; {sums}; {took:.1?}", args.from);
    Summary { line, holds: broken == 0 }
}

#[allow(clippy::disallowed_methods, reason = "how long it really took")]
fn simulate_resilience(args: &Args) -> Summary {
    let (seeds, started) = (args.seeds.unwrap_or(10), Instant::now());
    let plan = Plan { from: args.from, seeds, thorough: true };
    let mut sections = Vec::new();
    for simulate in SUBJECTS {
        let section = simulate(&plan);
        if args.verbose {
            println!("{}: {} bounds, {:.1?} so far", section.title, section.bounds.len(), started.elapsed());
            for bound in &section.bounds {
                println!("  {}: {} ({})", bound.what, bound.seen, bound.wanted);
            }
        }
        section.missed().iter().for_each(|missed| println!("missed: {missed}"));
        sections.push(section);
    }
    let bounds: usize = sections.iter().map(|section| section.bounds.len()).sum();
    let missed: usize = sections.iter().map(|section| section.missed().len()).sum();
    let command = format!("cargo xtask simulate --only resilience --from {} --seeds {seeds}", args.from);
    let page = report::page(&command, &format!("seeds {} to {}", args.from, plan.seeds().end - 1), &sections);
    let written = write(&args.report, &page);
    let (report, is_written) = match &written {
        Ok(file) => (format!("report: {}", file.display()), true),
        Err(error) => (format!("no report: {}: {error}", args.report.display()), false),
    };
    let took = started.elapsed();
    let line = format!(
        "resilience: {seeds} seeds from {}, {bounds} bounds, {missed} missed; {report}; {took:.1?}",
        args.from
    );
    Summary { line, holds: missed == 0 && is_written }
}

fn write(folder: &Path, page: &str) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let file = folder.join("index.html");
    std::fs::write(&file, page)?;
    Ok(file)
}
