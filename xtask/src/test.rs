//! `cargo xtask test`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::chore::{Result, cargo, root, step};
use crate::{packages, tools};

/// The version whose configuration `deny.toml` is written for.
const DENY: &str = "0.20.2";
/// The r-nacos that the adapter for Nacos is tried with.
const RNACOS: &str = "0.8.8";

#[derive(Args)]
pub(crate) struct Options {
    /// Only the tests: no format, lints and licences.
    #[arg(long)]
    only_tests: bool,
}

pub(crate) fn run(options: &Options) -> Result {
    packages::install(packages::OF_TESTS)?;
    if !options.only_tests {
        step("format", &mut cargo(&["fmt", "--all", "--check"]))?;
        let lints = &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
        step("lints", &mut cargo(lints))?;
        licences()?;
    }
    tools::run()?;
    let path = path_with(&rnacos()?)?;
    let mut tests = cargo(&["test", "--workspace", "--locked", "--all-targets"]);
    step("tests", tests.env("PATH", path))?;
    step("models", &mut models())?;
    let features = &["test", "--package", "bowline", "--all-features", "--locked", "--lib"];
    step("the adapters that are built in by features", &mut cargo(features))?;
    step("doc tests", &mut cargo(&["test", "--workspace", "--locked", "--doc"]))
}

/// Permits in every order of what threads do, by loom. It is another build of the crate and of what it stands on, beside the one
/// of the tests.
fn models() -> Command {
    let mut models = cargo(&["test", "--package", "bowline-resilience", "--locked", "--lib", "models::"]);
    models.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", root().join("target/loom"));
    models
}

/// Licences, bans and sources. Advisories need the advisory database from the network and are looked at when a dependency
/// is added.
fn licences() -> Result {
    let deny = tool("cargo-deny", DENY)?;
    let mut check = Command::new(&deny);
    step("licences", check.args(["--log-level", "error", "check", "licenses", "bans", "sources"]))
}

/// r-nacos, the program.
pub(crate) fn rnacos() -> Result<PathBuf> {
    tool("rnacos", RNACOS)
}

/// A program from crates.io, installed if it is not there: r-nacos takes ten minutes on two cores, once.
fn tool(name: &str, version: &str) -> Result<PathBuf> {
    let tools = root().join("target/tools");
    let program = tools.join("bin").join(name);
    let installed = Command::new(&program)
        .arg("--version")
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(version));
    if !installed {
        let mut install = cargo(&["install", name, "--version", version, "--locked", "--root"]);
        step(&format!("installing {name}"), install.arg(&tools))?;
    }
    Ok(program)
}

/// `PATH` with the directory of a program in front.
fn path_with(program: &Path) -> Result<OsString> {
    let own = program.parent().map(Path::to_path_buf);
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path)))
        .map_err(|error| format!("PATH with the tools in front: {error}"))
}
