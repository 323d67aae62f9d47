//! `cargo xtask bench`: the programs of `benches/`, each beside a peer that does the same work in the same run.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::chore::{Result, cargo, root, step};
use crate::packages::{self, Package};
use crate::test::rnacos;

#[derive(Args)]
pub(crate) struct Options {
    /// Only one of: rpc-instructions, rest-instructions, refusal, decisions, hello, registry.
    #[arg(long)]
    only: Option<String>,
}

/// The peer of the registry: not one of the programs of `benches/`.
const RNACOS: &str = "rnacos";

/// What is measured, under the name that `--only` takes.
struct Bench {
    name: &'static str,
    ours: &'static str,
    peer: &'static str,
    measure: fn(&Bench, &Path) -> Result<Vec<Figure>>,
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "rpc-instructions",
        ours: "bowline_grpc",
        peer: "connect_grpc",
        measure: |bench, programs| instructions(bench, programs, "grpc-unary", Some(1.10)),
    },
    Bench {
        name: "rest-instructions",
        ours: "bowline_rest",
        peer: "axum_rest",
        measure: |bench, programs| instructions(bench, programs, "rest-json", Some(1.15)),
    },
    Bench { name: "refusal", ours: "bowline_grpc", peer: "decisions", measure: refusal },
    Bench { name: "decisions", ours: "decisions", peer: "decisions", measure: decisions },
    Bench { name: "hello", ours: "bowline_hello", peer: "tonic_hello", measure: hello },
    Bench { name: "registry", ours: "registry", peer: RNACOS, measure: registry },
];

/// What is measured, beside the same of a peer if it has that.
#[derive(Serialize)]
struct Figure {
    name: String,
    metric: String,
    ours: f64,
    peer: Option<f64>,
    peer_program: &'static str,
    bound: Option<Bound>,
}

/// What a figure has to keep.
#[derive(Clone, Copy, Serialize)]
enum Bound {
    /// Ours to the peer's, at most.
    RatioUpTo(f64),
    /// Ours to the peer's, at least.
    RatioFrom(f64),
    /// Ours, at most.
    UpTo(f64),
}

impl Figure {
    fn ratio(&self) -> Option<f64> {
        self.peer.map(|peer| self.ours / peer)
    }

    fn holds(&self) -> bool {
        match self.bound {
            None => true,
            Some(Bound::RatioUpTo(most)) => self.ratio().is_some_and(|ratio| ratio <= most),
            Some(Bound::RatioFrom(least)) => self.ratio().is_some_and(|ratio| ratio >= least),
            Some(Bound::UpTo(most)) => self.ours <= most,
        }
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, metric, ours, peer, peer_program, bound } = self;
        write!(f, "{name} {metric} ")?;
        let digits = if *ours < 100.0 { 2 } else { 0 };
        match (self.ratio(), peer) {
            // Parts of a whole.
            (Some(ratio), Some(peer)) if ratio < 0.1 => {
                let percent = ratio * 100.0;
                write!(f, "{percent:.2} %: {ours:.digits$} of {peer:.digits$} of {peer_program}")?;
            }
            (Some(ratio), Some(peer)) => {
                write!(f, "{ratio:.2}x: {ours:.digits$} beside {peer:.digits$} of {peer_program}")?;
            }
            _ => write!(f, "{ours:.digits$}")?,
        }
        match bound {
            None => {}
            Some(Bound::RatioUpTo(most)) => write!(f, " (bound {most:.2}x)")?,
            Some(Bound::RatioFrom(least)) => write!(f, " (at least {least:.2}x)")?,
            Some(Bound::UpTo(most)) => write!(f, " (bound {most})")?,
        }
        f.write_str(if self.holds() { "" } else { " MISSED" })
    }
}

pub(crate) fn run(options: &Options) -> Result {
    let chosen: Vec<&Bench> = BENCHES
        .iter()
        .filter(|bench| options.only.as_deref().is_none_or(|only| only == bench.name))
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = BENCHES.iter().map(|bench| bench.name).collect();
        return Err(format!("there is no such benchmark; there are {}", names.join(", ")));
    }
    packages::install(&[Package { name: "valgrind", file: "/usr/bin/valgrind" }])?;
    let programs = build(&chosen)?;
    let mut figures = Vec::new();
    for bench in chosen {
        for figure in (bench.measure)(bench, &programs)? {
            println!("{figure}");
            figures.push(figure);
        }
    }
    let kept = root().join("target/benches/figures.json");
    let json = serde_json::to_vec_pretty(&figures).map_err(|error| error.to_string())?;
    std::fs::write(&kept, json).map_err(|error| format!("cannot write {}: {error}", kept.display()))?;
    println!("kept in {}", kept.display());
    let missed: Vec<_> =
        figures.iter().filter(|f| !f.holds()).map(|f| format!("{} {}", f.name, f.metric)).collect();
    if missed.is_empty() { Ok(()) } else { Err(format!("over the bound: {}", missed.join(", "))) }
}

fn build(benches: &[&Bench]) -> Result<PathBuf> {
    let target = root().join("target/benches");
    // Not `--locked`: its lock file follows whatever the crates above need.
    let mut command = cargo(&["build", "--release", "--manifest-path", "benches/Cargo.toml"]);
    for program in benches.iter().flat_map(|bench| [bench.ours, bench.peer]) {
        if program != RNACOS {
            command.args(["--bin", program]);
        }
    }
    step("building the programs", command.env("CARGO_TARGET_DIR", &target))?;
    if benches.iter().any(|bench| bench.peer == RNACOS) {
        let mut registry = cargo(&["build", "--release", "--locked", "--package", "bowline-registry"]);
        step("building the registry", registry.env("CARGO_TARGET_DIR", &target))?;
    }
    Ok(target.join("release"))
}

/// Instructions of one call, client and server together: the difference between a short and a long run, so that starting up
/// does not count.
fn instructions(
    bench: &Bench,
    programs: &Path,
    name: &'static str,
    bound: Option<f64>,
) -> Result<Vec<Figure>> {
    const SHORT: u32 = 100;
    const LONG: u32 = 600;
    let per_call = |program: &str| -> Result<f64> {
        let program = programs.join(program);
        let (short, long) = (collected(&program, SHORT)?, collected(&program, LONG)?);
        Ok((long - short) / f64::from(LONG - SHORT))
    };
    let (ours, peer) = (per_call(bench.ours)?, per_call(bench.peer)?);
    let (name, metric, bound) = (name.into(), "instructions".into(), bound.map(Bound::RatioUpTo));
    Ok(vec![Figure { name, metric, ours, peer: Some(peer), peer_program: bench.peer, bound }])
}

/// The function that a server's requests go through, from hyper's call to the answer.
const AT_THE_SERVER: &str = "--toggle-collect=*Handler for bowline_server::pipeline::Pipeline>::call";

/// What a call costs that is refused, beside one that is served, client and server together: all of the call; what its server
/// does, from the head to the answer's; and the refusal alone, which is to decide, to count, and to make the answer.
fn refusal(bench: &Bench, programs: &Path) -> Result<Vec<Figure>> {
    const SHORT: u32 = 100;
    const LONG: u32 = 1_100;
    let program = programs.join(bench.ours);
    let each = |options: &[&str], how: &str| -> Result<f64> {
        let run = |calls: u32| measured(options, &program, &[&calls.to_string(), how]);
        Ok((run(LONG)? - run(SHORT)?) / f64::from(LONG - SHORT))
    };
    let served = each(&[], "served")?;
    let figure = |what: &str, ours: f64, bound: Option<f64>| {
        let (name, metric) = ("refusal".to_owned(), format!("instructions, {what}"));
        let (peer, bound) = (Some(served), bound.map(Bound::RatioUpTo));
        Figure { name, metric, ours, peer, peer_program: "a served call", bound }
    };
    Ok(vec![
        figure("all of the call", each(&[], "refused")?, None),
        figure("at the server", each(&[AT_THE_SERVER], "refused")?, None),
        figure("the refusal", decision(&programs.join(bench.peer), "refuse")?, Some(0.01)),
    ])
}

/// Instructions of one of the program `decisions`.
fn decision(program: &Path, what: &str) -> Result<f64> {
    const SHORT: u32 = 1_000;
    const LONG: u32 = 11_000;
    let run = |count: u32| counted(program, &[what, &count.to_string()]);
    Ok((run(LONG)? - run(SHORT)?) / f64::from(LONG - SHORT))
}

/// Instructions of single decisions, with tower's balancer beside the picks and tower-resilience beside the guards.
fn decisions(bench: &Bench, programs: &Path) -> Result<Vec<Figure>> {
    let program = programs.join(bench.ours);
    let each = |what: &str| decision(&program, what);
    let figure = |what: &str, peer: Option<&str>| -> Result<Figure> {
        let peer = peer.map(each).transpose()?;
        let (name, metric) = (what.into(), "instructions".into());
        Ok(Figure { name, metric, ours: each(what)?, peer, peer_program: bench.peer, bound: None })
    };
    Ok(vec![
        figure("pick-10", Some("tower-10"))?,
        figure("pick-100", Some("tower-100"))?,
        figure("pick-1000", Some("tower-1000"))?,
        figure("pick-100-of-1000-tenants", None)?,
        figure("admit", None)?,
        figure("answer", None)?,
        figure("throttle", None)?,
        figure("rate", Some("their-rate"))?,
        figure("bulkhead", Some("their-bulkhead"))?,
        figure("breaker", Some("their-breaker"))?,
        figure("budget", Some("their-budget"))?,
    ])
}

/// The instructions of a whole run with that many calls.
fn collected(program: &Path, calls: u32) -> Result<f64> {
    counted(program, &[&calls.to_string()])
}

/// The instructions of a whole run.
fn counted(program: &Path, arguments: &[&str]) -> Result<f64> {
    measured(&[], program, arguments)
}

/// The instructions of a run, with options of callgrind's. Backtraces are off: who asks for them does not ask what they cost.
fn measured(options: &[&str], program: &Path, arguments: &[&str]) -> Result<f64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).args(options);
    command.arg(program).args(arguments).env("RUST_BACKTRACE", "0");
    let output = command.output().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text
        .lines()
        .find_map(|line| line.split_once("Collected :"))
        .and_then(|(_, count)| count.trim().parse().ok())
        .filter(|_| output.status.success());
    count.ok_or_else(|| format!("{command:?} failed:\n{text}"))
}

/// Memory and exec-to-ready of a service that does nothing yet: medians of starts that take turns.
fn hello(bench: &Bench, programs: &Path) -> Result<Vec<Figure>> {
    const STARTS: usize = 15;
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        ours.push(start(&programs.join(bench.ours))?);
        peer.push(start(&programs.join(bench.peer))?);
    }
    let figure = |metric: &str, of: fn(&Started) -> f64| {
        let (ours, peer) = (median(&ours, of), Some(median(&peer, of)));
        let (name, metric) = ("hello".into(), metric.into());
        Figure { name, metric, ours, peer, peer_program: bench.peer, bound: None }
    };
    Ok(vec![
        figure("resident KiB", |started| started.resident_kib),
        figure("exec-to-ready µs", |started| started.ready.as_secs_f64() * 1e6),
    ])
}

/// The registry beside r-nacos, by a program that loads both: each line of its output that begins with `figure` is one.
fn registry(bench: &Bench, programs: &Path) -> Result<Vec<Figure>> {
    let mut command = Command::new(programs.join(bench.ours));
    command.arg(programs.join("bowline-registry")).arg(rnacos()?);
    let output =
        command.stderr(Stdio::inherit()).output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(format!("{command:?} failed:\n{text}"));
    }
    text.lines()
        .filter_map(|line| line.strip_prefix("figure\t"))
        .map(|line| registry_figure(bench, line))
        .collect()
}

/// What is measured, its unit, ours, the peer's, which is better, and the target: with tabs between.
fn registry_figure(bench: &Bench, line: &str) -> Result<Figure> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [name, metric, ours, peer, better, target] = fields[..] else {
        return Err(format!("`{line}` is no figure"));
    };
    let peer: Option<f64> = peer.parse().ok();
    let bound = target
        .parse()
        .ok()
        .map(|target| if better == "more" { Bound::RatioFrom(target) } else { Bound::UpTo(target) });
    let ours = ours.parse().map_err(|error| format!("`{line}`: {error}"))?;
    Ok(Figure { name: name.into(), metric: metric.into(), ours, peer, peer_program: bench.peer, bound })
}

struct Started {
    ready: Duration,
    resident_kib: f64,
}

/// A process that ends with the measurement.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a program and waits for the line `ready`.
fn start(program: &Path) -> Result<Started> {
    let failed = |why: String| format!("{}: {why}", program.display());
    let begun = Instant::now();
    let mut command = Command::new(program);
    command.current_dir(root()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = Running(command.spawn().map_err(|error| failed(error.to_string()))?);
    let Some(output) = running.0.stdout.take() else { return Err(failed("it has no output".into())) };
    let ready = BufReader::new(output).lines().map_while(std::result::Result::ok).any(|line| line == "ready");
    if !ready {
        return Err(failed("it ended before it was ready".into()));
    }
    let ready = begun.elapsed();
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.0.id()))
        .map_err(|error| failed(format!("its memory cannot be read: {error}")))?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|kib| kib.trim().trim_end_matches(" kB").parse().ok());
    Ok(Started { ready, resident_kib: resident.ok_or_else(|| failed("it has no VmRSS".into()))? })
}

fn median(starts: &[Started], of: fn(&Started) -> f64) -> f64 {
    let mut values: Vec<f64> = starts.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
