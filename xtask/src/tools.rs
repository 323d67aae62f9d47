//! `cargo xtask tools`: servers for tests that no Debian package brings.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::chore::{Result, root, step};

/// The last minor version that builds from its module as it is published: later ones need others of its modules that are not,
/// or not with a checksum that can be looked up. All before 1.17 are under the MPL 2.0.
const CONSUL: &str = "v1.13.9";

/// Builds each into `target/tools`, if it is not there and its language's tools are.
pub(crate) fn run() -> Result {
    let tools = directory()?;
    consul(&tools)?;
    eureka(&tools)
}

/// Beside the directory that this program is in, whichever target directory Cargo was told.
fn directory() -> Result<PathBuf> {
    let own = std::env::current_exe().map_err(|error| format!("where xtask is: {error}"))?;
    let target = own.parent().and_then(Path::parent).map(PathBuf::from);
    Ok(target.unwrap_or_else(|| root().join("target")).join("tools"))
}

fn has(program: &str, version: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(version).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}

fn make(directory: &Path) -> Result {
    std::fs::create_dir_all(directory).map_err(|error| format!("making {}: {error}", directory.display()))
}

/// Some minutes, and 2 GB of Go's caches. `go install` does not take a module that replaces others, so that there is one of ours
/// around it.
fn consul(tools: &Path) -> Result {
    let program = tools.join("bin/consul");
    let version = Command::new(&program).arg("version").output();
    let is_there = version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(CONSUL));
    if is_there {
        return Ok(());
    }
    if !has("go", "version") {
        println!("\n== skipped: consul, for there is no `go`; install golang");
        return Ok(());
    }
    let around = tools.join("consul");
    make(&around)?;
    let module = around.join("go.mod");
    std::fs::write(&module, "module tools\n\ngo 1.20\n")
        .map_err(|error| format!("writing {}: {error}", module.display()))?;
    let go = |arguments: &[&str]| {
        let mut command = Command::new("go");
        command.arg("-C").arg(&around).args(arguments);
        command
    };
    step("fetching consul", &mut go(&["get", &format!("github.com/hashicorp/consul@{CONSUL}")]))?;
    let mut build = go(&["build", "-trimpath", "-o"]);
    step("building consul", build.arg(&program).arg("github.com/hashicorp/consul"))
}

/// From `interop/eureka-server`, with what Maven fetches for it.
fn eureka(tools: &Path) -> Result {
    let jar = tools.join("bin/eureka-server.jar");
    if jar.exists() {
        return Ok(());
    }
    if !has("mvn", "--version") {
        println!("\n== skipped: eureka-server, for there is no `mvn`; install maven and a JDK");
        return Ok(());
    }
    let built = tools.join("eureka-server");
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "-f", "interop/eureka-server/pom.xml"]);
    // Nothing is written beside the sources.
    maven.arg(format!("-DbuildDirectory={}", built.display())).arg("package");
    step("building eureka-server", &mut maven)?;
    make(&tools.join("bin"))?;
    let copied = std::fs::copy(built.join("eureka-server-1.jar"), &jar);
    copied.map(|_| ()).map_err(|error| format!("copying the jar of eureka-server: {error}"))
}
