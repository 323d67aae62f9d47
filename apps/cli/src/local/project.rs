//! `bowline.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bowline_core::{Error, Result, WrapErr};
use serde::Deserialize;

use super::probe;

/// A project: what `bowline.toml` declares.
///
/// ```toml
/// [project]
/// name = "shop"
/// state = "target/bowline"              # logs, pids and the control socket
/// build = ["cargo", "build"]            # the packages are added; [] builds nothing
///
/// [[app]]
/// name = "catalog"
/// kind = "service"                      # shown in the table
/// package = "shop-catalog"              # built, and found as target/debug/<binary>
/// binary = "catalog"                    # the package's name without it
/// args = ["--config", "configs/catalog.yaml"]
/// address = "http://127.0.0.1:9001"     # shown; must be free before the start
/// ready = "http://127.0.0.1:9101/health/ready"
/// env = { CATALOG__SERVICE__LOG__LEVEL = "debug" }
/// ```
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) file: PathBuf,
    /// The directory of the file; where applications run.
    pub(crate) root: PathBuf,
    pub(crate) name: String,
    pub(crate) state: PathBuf,
    pub(crate) build: Vec<String>,
    pub(crate) apps: Vec<App>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    project: Header,
    #[serde(default)]
    app: Vec<App>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    #[serde(default = "default_state")]
    state: PathBuf,
    #[serde(default = "default_build")]
    build: Vec<String>,
}

fn default_state() -> PathBuf {
    "target/bowline".into()
}

fn default_build() -> Vec<String> {
    vec!["cargo".into(), "build".into()]
}

/// One application.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct App {
    pub(crate) name: String,
    #[serde(default = "default_kind")]
    pub(crate) kind: String,
    pub(crate) package: String,
    #[serde(default)]
    pub(crate) binary: Option<String>,
    #[serde(default)]
    pub(crate) args: Vec<String>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) address: String,
    pub(crate) ready: String,
    /// Seconds until it must be ready. 30.
    #[serde(default = "half_a_minute")]
    pub(crate) start_seconds: u64,
    /// Seconds it may take to stop before it is killed. 60.
    #[serde(default = "a_minute")]
    pub(crate) stop_seconds: u64,
}

fn default_kind() -> String {
    "service".into()
}

const fn half_a_minute() -> u64 {
    30
}

const fn a_minute() -> u64 {
    60
}

impl App {
    /// An address of ours that is one of the other's too. Two names of a host are two addresses here; whether a port is
    /// free is asked before the start.
    fn collides_with(&self, other: &Self) -> Option<&str> {
        let theirs = other.authorities();
        self.authorities().into_iter().find(|own| theirs.contains(own))
    }

    fn authorities(&self) -> [&str; 2] {
        [&self.address, &self.ready].map(|url| probe::split(url).0)
    }

    pub(crate) fn stop_timeout(&self) -> Duration {
        Duration::from_secs(self.stop_seconds)
    }
}

impl Project {
    /// Reads the project's file: the given one, or `bowline.toml` here or above.
    pub(crate) fn find(file: Option<PathBuf>) -> Result<Self> {
        let here = std::env::current_dir().context("finding the current directory")?;
        let file = match file {
            Some(file) => here.join(file),
            None => here
                .ancestors()
                .map(|directory| directory.join("bowline.toml"))
                .find(|file| file.is_file())
                .ok_or_else(|| {
                    Error::not_found(format!(
                        "there is no bowline.toml in {} or above; name one with --file",
                        here.display()
                    ))
                })?,
        };
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Self::parse(&file, &text)
    }

    fn parse(file: &Path, text: &str) -> Result<Self> {
        let wrong = |why: String| Error::invalid_argument(format!("{}: {why}", file.display()));
        let File { project, app } = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if app.is_empty() {
            return Err(wrong("it declares no application; add an [[app]]".into()));
        }
        for (index, one) in app.iter().enumerate() {
            if app[..index].iter().any(|other| other.name == one.name) {
                return Err(wrong(format!("two applications are called `{}`", one.name)));
            }
            for other in &app[..index] {
                if let Some(address) = one.collides_with(other) {
                    let names = (&other.name, &one.name);
                    return Err(wrong(format!(
                        "{} and {} both listen at {address}; give one of them another address",
                        names.0, names.1
                    )));
                }
            }
        }
        let root = file.parent().map(Path::to_path_buf).unwrap_or_default();
        Ok(Self {
            file: file.to_path_buf(),
            state: root.join(project.state),
            root,
            name: project.name,
            build: project.build,
            apps: app,
        })
    }

    /// Where an application's program is after the build.
    pub(crate) fn program(&self, app: &App) -> PathBuf {
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let target = target.map_or_else(|| self.root.join("target"), |target| self.root.join(target));
        target.join("debug").join(app.binary.as_ref().unwrap_or(&app.package))
    }

    /// Where an application's log and pid are.
    pub(crate) fn directory(&self, app: &App) -> PathBuf {
        self.state.join(&app.name)
    }

    /// How long stopping everything may take.
    pub(crate) fn stop_timeout(&self) -> Duration {
        self.apps.iter().map(App::stop_timeout).sum()
    }

    /// What to say of a name that is not there.
    pub(crate) fn unknown(&self, name: &str) -> Error {
        let names: Vec<_> = self.apps.iter().map(|app| app.name.as_str()).collect();
        Error::not_found(format!("{} has no application `{name}`; it has {}", self.name, names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Project> {
        Project::parse(Path::new("/p/bowline.toml"), text)
    }

    const APP: &str = r#"
        [[app]]
        name = "a"
        package = "a-package"
        address = "http://127.0.0.1:1"
        ready = "http://127.0.0.1:2/health/ready"
    "#;

    #[test]
    fn a_project_has_defaults() {
        let project = parse(&format!("[project]\nname = \"p\"\n{APP}")).unwrap();
        assert_eq!(project.state, Path::new("/p/target/bowline"));
        assert!(project.program(&project.apps[0]).ends_with("debug/a-package"));
        assert_eq!(project.apps[0].kind, "service");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, message) in [
            ("", "missing field `project`"),
            ("[project]\nname = 'p'", "no application"),
            (&format!("[project]\nname = 'p'\ncolor = 1\n{APP}"), "unknown field `color`"),
            (&format!("[project]\nname = 'p'\n{APP}{APP}"), "two applications are called `a`"),
            (
                &format!("[project]\nname = 'p'\n{APP}{}", APP.replace("\"a\"", "\"b\"").replace(":2", ":3")),
                "a and b both listen at 127.0.0.1:1",
            ),
            (
                &format!("[project]\nname = 'p'\n{APP}{}", APP.replace("\"a\"", "\"b\"").replace(":1", ":3")),
                "a and b both listen at 127.0.0.1:2",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(message) && error.contains("/p/bowline.toml"), "{error}");
        }
    }
}
