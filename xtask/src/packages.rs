//! Debian packages that chores need.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::chore::{Result, step};

/// A package, and a file that tells whether it is there.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) file: &'static str,
}

/// What the tests use.
pub(crate) const OF_TESTS: &[Package] = &[
    Package { name: "python3-pip", file: "/usr/bin/pip3" },
    Package { name: "etcd-server", file: "/usr/bin/etcd" },
    Package { name: "zookeeper", file: "/usr/share/java/zookeeper.jar" },
    Package { name: "iproute2", file: "/usr/sbin/ip" },
];

/// Installs what is missing where that is possible, and says how otherwise.
pub(crate) fn install(needed: &[Package]) -> Result {
    let missing: Vec<&str> = needed.iter().filter(|p| !is_there(p)).map(|p| p.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    if !Path::new("/usr/bin/apt-get").exists() || !is_root() {
        return Err(format!("this needs packages that are not installed; run: sudo {line}"));
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

fn is_there(package: &Package) -> bool {
    // Python may come from elsewhere than Debian; any pip will do.
    let pip = package.name == "python3-pip"
        && Command::new("python3")
            .args(["-m", "pip", "--version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
    pip || Path::new(package.file).exists()
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
