//! From the process' start to its service.

use std::path::PathBuf;
use std::process::ExitCode;

use bowline_config::Loader;
use bowline_core::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Service, Settings};

/// Runs an application and makes the process' exit code of how it ended.
///
/// An error is printed once, with its chain of causes. The runtime has a worker per core.
pub fn main<F>(name: &str, application: F) -> ExitCode
where
    F: AsyncFnOnce(Boot) -> Result<()>,
{
    main_with_flags(name, &[], application)
}

/// As [`main`], for an application that understands also these flags, each with its dashes: [`Boot::has`] tells whether one
/// was given.
pub fn main_with_flags<F>(name: &str, flags: &'static [&'static str], application: F) -> ExitCode
where
    F: AsyncFnOnce(Boot) -> Result<()>,
{
    let boot = match Boot::with_flags(name, flags) {
        Ok(boot) => boot,
        Err(error) => return failed(name, &error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(name, &Error::from_std(error).context("starting the runtime")),
    };
    let outcome = runtime.block_on(application(boot));
    // Whatever is still running was left behind by a bounded stop; it must not hold up the exit.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(name, &error),
    }
}

#[expect(clippy::print_stderr, reason = "the log may not have been set up")]
fn failed(name: &str, error: &Error) -> ExitCode {
    eprintln!("{name}: {error:?}");
    ExitCode::FAILURE
}

/// What a process was started with.
#[derive(Clone, Debug)]
pub struct Boot {
    name: String,
    files: Vec<PathBuf>,
    given: Vec<&'static str>,
}

impl Boot {
    /// Reads the command line: `--config FILE`, any number of times, later ones over earlier ones. `BOWLINE_CONFIG` names one
    /// where there is none. Without either, `configs/NAME.yaml`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if there is another argument.
    pub fn from_process(name: &str) -> Result<Self> {
        Self::with_flags(name, &[])
    }

    fn with_flags(name: &str, flags: &'static [&'static str]) -> Result<Self> {
        Self::from_arguments(
            name,
            flags,
            std::env::args().skip(1),
            std::env::var_os("BOWLINE_CONFIG").map(PathBuf::from),
        )
    }

    fn from_arguments(
        name: &str,
        flags: &'static [&'static str],
        arguments: impl Iterator<Item = String>,
        variable: Option<PathBuf>,
    ) -> Result<Self> {
        let (mut files, mut given) = (Vec::new(), Vec::new());
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            if let Some(flag) = flags.iter().find(|flag| **flag == argument) {
                given.push(*flag);
                continue;
            }
            let file = match argument.as_str() {
                "--config" | "-c" => arguments.next(),
                other => other.strip_prefix("--config=").map(str::to_owned),
            };
            files.push(file.map(PathBuf::from).ok_or_else(|| {
                let flags: String = flags.iter().map(|flag| format!(" [{flag}]")).collect();
                Error::invalid_argument(format!(
                    "`{argument}` is not understood; usage: {name} [--config FILE]...{flags}"
                ))
            })?);
        }
        if files.is_empty() {
            files.push(variable.unwrap_or_else(|| PathBuf::from(format!("configs/{name}.yaml"))));
        }
        Ok(Self { name: name.to_owned(), files, given })
    }

    #[cfg(test)]
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.into(), files: Vec::new(), given: Vec::new() }
    }

    /// The application's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a flag was given.
    pub fn has(&self, flag: &str) -> bool {
        self.given.contains(&flag)
    }

    /// Reads the configuration: the files, then the environment (`CATALOG__SERVICE__SERVER__LISTEN=…` for an application
    /// named `catalog`).
    ///
    /// # Errors
    /// What is wrong with it: file, place, key and mend.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T> {
        let mut loader = Loader::new();
        for file in &self.files {
            loader = loader.file(file)?;
        }
        loader.env(self.name.to_uppercase().replace('-', "_")).load()
    }

    /// Sets up logs, metrics and the way to the registry. `config` is shown, redacted, on the admin listener's `/config`.
    ///
    /// # Errors
    /// If a setting is malformed, or a directory cannot be used.
    pub fn service(&self, settings: &Settings, config: &impl Serialize) -> Result<Service> {
        Service::new(self.clone(), settings.clone(), bowline_config::redacted(config)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(arguments: &[&str], variable: Option<&str>) -> Result<Vec<PathBuf>> {
        let arguments = arguments.iter().map(|a| (*a).to_owned());
        Boot::from_arguments("catalog", &[], arguments, variable.map(PathBuf::from)).map(|boot| boot.files)
    }

    #[test]
    fn files_come_from_the_command_line_the_environment_or_the_name() {
        assert_eq!(boot(&[], None).unwrap(), [PathBuf::from("configs/catalog.yaml")]);
        assert_eq!(boot(&[], Some("a.yaml")).unwrap(), [PathBuf::from("a.yaml")]);
        assert_eq!(
            boot(&["-c", "b", "--config=c"], Some("a")).unwrap(),
            [PathBuf::from("b"), PathBuf::from("c")]
        );
        assert!(boot(&["--conf", "b"], None).unwrap_err().message().contains("usage: catalog"));
        assert!(boot(&["--config"], None).is_err());
    }

    #[test]
    fn flags_are_those_the_application_understands() {
        let boot = |arguments: &[&str]| {
            let arguments = arguments.iter().map(|a| (*a).to_owned());
            Boot::from_arguments("registry", &["--insecure"], arguments, None)
        };
        assert!(boot(&["--insecure", "-c", "a"]).unwrap().has("--insecure"));
        assert!(!boot(&[]).unwrap().has("--insecure"));
        assert!(boot(&["--unsafe"]).unwrap_err().message().contains("[--insecure]"));
    }
}
