//! What a person sees.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use bowline_core::{Result, WrapErr};

use super::control::Row;
use super::project::{App, Project};

/// Colours that tell applications apart on dark and on light ground.
const COLORS: [u8; 6] = [36, 35, 32, 33, 34, 31];
/// A log that is longer than this at the start is kept as `log.old`, and a new one begun: 16 MiB.
const LOG_BYTES: u64 = 16 * 1024 * 1024;

/// Lines of applications, with their names in front; and the supervisor's own.
pub(crate) struct Output {
    width: usize,
    color: bool,
    show: bool,
    logs: Vec<(String, Mutex<File>)>,
}

impl Output {
    /// Opens the applications' log files. Their lines are shown as well if `show` is set.
    pub(crate) fn new(project: &Project, show: bool) -> Result<Self> {
        let width = project.apps.iter().map(|app| app.name.len()).max().unwrap_or(0).max("bowline".len());
        let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let open = |app: &App| -> Result<_> {
            let directory = project.directory(app);
            std::fs::create_dir_all(&directory)
                .with_context(|| format!("creating {}", directory.display()))?;
            Ok((app.name.clone(), Mutex::new(log_file(directory.join("log"))?)))
        };
        let logs = project.apps.iter().map(open).collect::<Result<_>>()?;
        Ok(Self { width, color, show, logs })
    }

    /// A line that an application wrote.
    pub(crate) fn line(&self, app: &str, line: &str) {
        let Some(index) = self.logs.iter().position(|(name, _)| name == app) else { return };
        let mut file = self.logs[index].1.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk must not take the supervisor down.
        let _ = writeln!(file, "{line}");
        if self.show {
            self.print(app, COLORS[index % COLORS.len()], line);
        }
    }

    /// A line of the supervisor's.
    pub(crate) fn say(&self, line: &str) {
        self.print("bowline", 1, line);
    }

    fn print(&self, name: &str, color: u8, line: &str) {
        let mut out = std::io::stdout().lock();
        let width = self.width;
        // A closed pipe is the reader's decision.
        let _ = match self.color {
            true => writeln!(out, "\x1b[{color}m{name:<width$} |\x1b[0m {line}"),
            false => writeln!(out, "{name:<width$} | {line}"),
        };
    }
}

fn log_file(path: PathBuf) -> Result<File> {
    if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > LOG_BYTES) {
        let old = path.with_extension("old");
        std::fs::rename(&path, &old).with_context(|| format!("renaming {}", path.display()))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))
}

/// The table of applications.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut cells = vec![["APPLICATION", "KIND", "ADDRESS", "STATUS", "PID", "RESTARTS"].map(str::to_owned)];
    for row in rows {
        cells.push([
            row.name.clone(),
            row.kind.clone(),
            row.address.clone(),
            row.status.clone(),
            row.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            row.restarts.to_string(),
        ]);
    }
    let mut widths = [0; 6];
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &cells {
        let line: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}
