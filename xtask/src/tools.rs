//! `cargo xtask tools`: servers for tests that no Debian package brings, and the programs of `interop/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use crate::chore::{Result, root, step};

/// It builds from its module as it is published. Later ones that were tried did not: they need others of its modules that are not
/// published, or not with a checksum that can be looked up. All before 1.17 are under the MPL 2.0.
const CONSUL: &str = "v1.13.9";

/// As `interop/kube-apiserver/go.mod` has it. The program is told, for what is built from a module does not know it.
const KUBERNETES: &str = "v1.37.2";

/// A program in Java, by its folder in `interop/`.
struct Java {
    project: &'static str,
    /// Without `.jar`.
    name: &'static str,
    arguments: &'static [&'static str],
}

/// Nacos' client in two versions, for the majors speak with a server in different ways.
const JAVA: &[Java] = &[
    Java { project: "eureka-server", name: "eureka-server", arguments: &[] },
    Java { project: "nacos-client", name: "nacos-client-2", arguments: &["-Dnacos.version=2.5.1"] },
    Java { project: "nacos-client", name: "nacos-client-3", arguments: &["-Dnacos.version=3.0.3"] },
    Java { project: "spring-cloud", name: "spring-cloud", arguments: &[] },
];

/// Builds each into `target/tools`, if it is not there or older than its sources, and its language's tools are there.
pub(crate) fn run() -> Result {
    let tools = directory()?;
    let go = go_version();
    if is_at_least(&go, 22) {
        consul(&tools)?;
        kratos(&tools)?;
    } else {
        println!("\n== skipped: consul and kratos, for there is no `go` of 1.22 or later; install one");
    }
    if is_at_least(&go, 26) {
        kube_apiserver(&tools)?;
    } else {
        println!("\n== skipped: kube-apiserver, for there is no `go` of 1.26 or later; install one");
    }
    // Debian's Maven is content with a Java that compiles nothing.
    if has("mvn", "--version") && has("javac", "-version") {
        JAVA.iter().try_for_each(|program| java(&tools, program))
    } else {
        println!(
            "\n== skipped: programs in Java, for `mvn` or `javac` is missing; install maven and a JDK of 17"
        );
        Ok(())
    }
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

/// Which Go there is, if any: some systems have an older one than modules and the flags given to it here need.
fn go_version() -> String {
    let output = Command::new("go").args(["env", "GOVERSION"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// Of `go1.26.8` and the like, whether it is 1.`minor` or later. What is no release is taken to be newer than any.
fn is_at_least(version: &str, minor: u32) -> bool {
    let version = version.trim();
    let Some(number) = version.strip_prefix("go1.") else { return !version.is_empty() };
    let its: String = number.chars().take_while(char::is_ascii_digit).collect();
    its.parse::<u32>().is_ok_and(|its| its >= minor)
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

/// From `interop/kratos`. Go knows itself what is to be built anew.
fn kratos(tools: &Path) -> Result {
    let mut build = Command::new("go");
    build.args(["-C", "interop/kratos", "build", "-trimpath", "-o"]).arg(tools.join("bin/kratos")).arg(".");
    step("building kratos", &mut build)
}

/// From `interop/kube-apiserver`: some ten minutes on two cores, and some gigabytes of Go's caches. Go knows itself what is to be built anew.
fn kube_apiserver(tools: &Path) -> Result {
    let version = format!("-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES}");
    let mut build = Command::new("go");
    build.args(["-C", "interop/kube-apiserver", "build", "-trimpath", "-ldflags", &version, "-o"]);
    build.arg(tools.join("bin/kube-apiserver")).arg(".");
    step("building kube-apiserver", &mut build)
}

/// From `interop/`, with what Maven fetches for it.
fn java(tools: &Path, program: &Java) -> Result {
    let sources = root().join("interop").join(program.project);
    let jar = tools.join("bin").join(program.name).with_extension("jar");
    if modified(&jar).is_some_and(|built| newest(&sources).is_some_and(|changed| changed < built)) {
        return Ok(());
    }
    let built = tools.join(program.name);
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "-f"]).arg(sources.join("pom.xml")).args(program.arguments);
    // Nothing is written beside the sources.
    maven.arg(format!("-DbuildDirectory={}", built.display())).arg("package");
    step(&format!("building {}", program.name), &mut maven)?;
    make(&tools.join("bin"))?;
    let copied = std::fs::copy(built.join(format!("{}-1.jar", program.project)), &jar);
    copied.map(|_| ()).map_err(|error| format!("copying the jar of {}: {error}", program.name))
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

/// When the newest file below a directory was changed.
fn newest(directory: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(directory).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    entries.filter_map(|path| if path.is_dir() { newest(&path) } else { modified(&path) }).max()
}

#[cfg(test)]
mod tests {
    use super::{KUBERNETES, is_at_least};

    #[test]
    fn a_go_that_is_too_old_is_told_from_one_that_is_not() {
        for new in ["go1.22\n", "go1.22.1", "go1.30rc1", "go2.0", "devel go1.27-abc"] {
            assert!(is_at_least(new, 22), "{new}");
        }
        for old in ["", "\n", "go1.19.8\n", "go1.9", "go1.21.13"] {
            assert!(!is_at_least(old, 22), "{old}");
        }
        assert!(is_at_least("go1.26.8", 26) && !is_at_least("go1.25.9", 26));
    }

    #[test]
    fn kubernetes_says_the_version_that_it_is_built_from() {
        let module = crate::chore::root().join("interop/kube-apiserver/go.mod");
        let module = std::fs::read_to_string(module).unwrap();
        assert!(module.contains(&format!("k8s.io/kubernetes {KUBERNETES}\n")), "{module}");
    }
}
