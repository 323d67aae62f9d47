//! `cargo xtask test`.

use std::path::PathBuf;
use std::process::Command;

use clap::Args;

use crate::chore::{Result, cargo, root, step};
use crate::packages;

/// The version whose configuration `deny.toml` is written for.
const DENY: &str = "0.20.2";

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
    step("tests", &mut cargo(&["test", "--workspace", "--locked", "--all-targets"]))?;
    step("doc tests", &mut cargo(&["test", "--workspace", "--locked", "--doc"]))
}

/// Licences, bans and sources. Advisories need the advisory database from the network and are looked at when a dependency
/// is added.
fn licences() -> Result {
    let tools = root().join("target/tools");
    let deny: PathBuf = tools.join("bin/cargo-deny");
    let installed = Command::new(&deny)
        .arg("--version")
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(DENY));
    if !installed {
        let mut install = cargo(&["install", "cargo-deny", "--version", DENY, "--locked", "--root"]);
        step("installing cargo-deny", install.arg(&tools))?;
    }
    let mut check = Command::new(&deny);
    step("licences", check.args(["--log-level", "error", "check", "licenses", "bans", "sources"]))
}
