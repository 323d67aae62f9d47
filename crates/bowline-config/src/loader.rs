//! Putting the layers together.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use bowline_core::{Error, Result, WrapErr};
use serde::de::DeserializeOwned;

use crate::node::{Node, Value};
use crate::problem::{self, Origin, Problem};
use crate::{de, env, interpolate, yaml};

/// A larger file is no configuration.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Checks what types cannot: ranges, and values that only make sense together.
pub trait Validate {
    /// Whether the values make sense.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, naming the key, the cause and the mend.
    fn validate(&self) -> Result<()>;
}

/// Merges files in the order they are named, then the environment: maps key by key, everything else replaced. See the
/// crate's documentation for an example.
///
/// `${VAR}` and `${VAR:-default}` are filled into the strings of files; `$${` stands for `${` itself. Variables
/// `PREFIX__SERVER__ADDR` override `server.addr`; a number names a place in a list. In them, case and separators of a key
/// do not matter, and the value is whatever the key's type can read; an empty one unsets an optional key.
#[derive(Debug)]
pub struct Loader {
    root: Option<Node>,
    prefixes: Vec<String>,
    /// Given instead of the process's own.
    variables: Option<BTreeMap<String, String>>,
}

impl Loader {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { root: None, prefixes: Vec::new(), variables: None }
    }

    /// Adds a YAML file on top.
    ///
    /// # Errors
    /// If the file cannot be read, is no YAML, or is larger than 4 MiB.
    pub fn file(self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let mut text = String::new();
        let read = File::open(path).and_then(|f| f.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
        let size = read.with_context(|| format!("reading the configuration file {name}"))?;
        if size as u64 > MAX_FILE_BYTES {
            return Err(Error::invalid_argument(format!(
                "the configuration file {name} is larger than {MAX_FILE_BYTES} bytes; is it the right file?"
            )));
        }
        self.text(&name, &text)
    }

    /// Adds a YAML file on top if there is one: for what a developer may keep beside the checked-in files.
    ///
    /// # Errors
    /// As [`Loader::file`], but not if there is no such file.
    pub fn optional_file(self, path: impl AsRef<Path>) -> Result<Self> {
        if path.as_ref().exists() { self.file(path) } else { Ok(self) }
    }

    /// Adds YAML from memory on top, such as defaults compiled in. `name` is what errors call it.
    ///
    /// # Errors
    /// If it is no YAML, or no map at its top.
    pub fn text(mut self, name: &str, yaml: &str) -> Result<Self> {
        let node = yaml::parse(name, yaml)?;
        if !matches!(node.value, Value::Map(_)) {
            let problem = Problem::new("a configuration is a map of keys and values").at(&node.origin, "");
            return Err(problem.into());
        }
        match &mut self.root {
            Some(root) => root.merge(node),
            root => *root = Some(node),
        }
        Ok(self)
    }

    /// Lets variables that begin with `PREFIX__` override what files say. They come last whatever the order of the calls.
    #[must_use]
    pub fn env(mut self, prefix: impl Into<String>) -> Self {
        self.prefixes.push(prefix.into());
        self
    }

    /// Uses these variables instead of the process's own, for overrides and for `${VAR}`.
    #[must_use]
    pub fn variables<K: Into<String>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.variables = Some(variables.into_iter().map(|(k, v)| (k.into(), v.into())).collect());
        self
    }

    /// The merged configuration as a `T`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with reason `CONFIG_INVALID`: unknown or missing keys, values of another type, variables that are
    /// not set. Everything that was found is told.
    pub fn load<T: DeserializeOwned>(self) -> Result<T> {
        let empty = || {
            let name = "configuration".into();
            Node::new(Origin::File { name, line: 1, column: 1 }, Value::Map(Vec::new()))
        };
        let mut root = self.root.unwrap_or_else(empty);
        let mut problems = Vec::new();
        let variables = self.variables.unwrap_or_else(process_variables);
        for prefix in &self.prefixes {
            env::apply(&mut root, prefix, &variables, &mut problems);
        }
        interpolate::interpolate(&mut root, "", &variables, &mut problems);
        if !problems.is_empty() {
            return Err(problem::error(&problems));
        }
        de::read(&root).map_err(|problems| problem::error(&problems))
    }

    /// As [`Loader::load`], and then [`Validate::validate`].
    ///
    /// # Errors
    /// As both.
    pub fn load_validated<T: DeserializeOwned + Validate>(self) -> Result<T> {
        let config: T = self.load()?;
        config.validate().context("the configuration is not valid")?;
        Ok(config)
    }
}

/// What is no Unicode cannot be meant by a configuration, which is.
fn process_variables() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

impl Default for Loader {
    fn default() -> Self {
        Self::new()
    }
}
