//! Programs of `interop/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bowline_tests_support::programs;

/// A program that is not ours in anything but its few lines.
#[derive(Clone, Copy, Debug)]
pub struct Foreign {
    /// What it registers as.
    pub name: &'static str,
    /// What `cargo xtask tools` calls it: a `.jar`, or a program.
    pub file: &'static str,
}

impl Foreign {
    fn path(&self) -> PathBuf {
        let own = programs();
        own.parent().expect("target").join("tools/bin").join(self.file)
    }

    fn is_jar(&self) -> bool {
        Path::new(self.file).extension().is_some_and(|extension| extension == "jar")
    }

    /// Why it cannot run here, if so.
    pub fn missing(&self) -> Option<String> {
        let path = self.path();
        if !path.exists() {
            return Some(format!(
                "there is no {}; run, with Go and Maven: cargo xtask tools",
                path.display()
            ));
        }
        let java = || {
            Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
        };
        (self.is_jar() && !java()).then(|| "there is no `java`; install default-jre-headless".into())
    }

    /// How it is started; what it writes goes below `home`.
    pub(crate) fn command(&self, home: &Path) -> Command {
        if !self.is_jar() {
            let mut command = Command::new(self.path());
            command.env("HOME", home).current_dir(home);
            return command;
        }
        let mut command = Command::new("java");
        command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.arg(format!("-Duser.home={}", home.display()));
        command.arg("-jar").arg(self.path()).current_dir(home);
        command
    }
}
