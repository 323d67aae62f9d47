//! Debian packages that tests need.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::chore::{Result, step};

/// What the tests use, and a file that tells whether it is there.
const NEEDED: &[(&str, &str)] = &[("python3-pip", "/usr/bin/pip3")];

/// Installs what is missing where that is possible, and says how otherwise.
pub(crate) fn install() -> Result {
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(package, file)| !is_there(package, file))
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    if !Path::new("/usr/bin/apt-get").exists() || !is_root() {
        return Err(format!("the tests need packages that are not installed; run: sudo {line}"));
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        command
    };
    step("apt-get update", &mut apt(&["update"]))?;
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(&missing);
    step(&line, &mut apt(&install))
}

fn is_there(package: &str, file: &str) -> bool {
    // Python may come from elsewhere than Debian; any pip will do.
    let pip = package == "python3-pip"
        && Command::new("python3")
            .args(["-m", "pip", "--version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
    pip || Path::new(file).exists()
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
