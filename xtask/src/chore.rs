//! Running commands, and saying what they were when they fail.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// What failed and how to mend it.
pub(crate) type Result<T = ()> = std::result::Result<T, String>;

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default()
}

/// Runs a step and prints how long it took.
pub(crate) fn step(name: &str, command: &mut Command) -> Result {
    println!("\n== {name}");
    let started = Instant::now();
    let shown = format!("{command:?}");
    let status = command
        .current_dir(root())
        .status()
        .map_err(|error| format!("{name}: cannot run {shown}: {error}"))?;
    if !status.success() {
        return Err(format!("{name} failed: {shown}"));
    }
    println!("== {name}: {:.0?}", started.elapsed());
    Ok(())
}

/// `cargo` with arguments.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}
