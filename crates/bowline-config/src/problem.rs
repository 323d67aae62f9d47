//! What is wrong with a configuration, and where.

use std::fmt;
use std::sync::Arc;

use bowline_core::Error;

use crate::suggest;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// In a file; line and column count from 1.
    File { name: Arc<str>, line: usize, column: usize },
    /// In an environment variable of this name.
    Env(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Self::Env(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    origin: Option<Origin>,
    path: String,
    message: String,
}

impl Problem {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { origin: None, path: String::new(), message: message.into() }
    }

    pub(crate) fn unknown_key(key: &str, expected: &[&str]) -> Self {
        Self::new(format!("unknown key `{key}`; {}", suggest::hint(key, expected)))
    }

    /// Says where, unless something further inside said so.
    #[must_use]
    pub(crate) fn at(mut self, origin: &Origin, path: &str) -> Self {
        if self.origin.is_none() {
            self.origin = Some(origin.clone());
            self.path = path.into();
        }
        self
    }

    /// Drops a message that may quote a secret.
    #[must_use]
    pub(crate) fn without_value(mut self) -> Self {
        self.message =
            "the value is not of the form expected here (it is not shown: the key looks secret)".into();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl serde::de::Error for Problem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::new(format!("expected {expected}, found {found}"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::unknown_key(field, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("`{variant}` is not possible here; {}", suggest::hint(variant, expected)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("the key `{field}` is missing; set it"))
    }
}

/// One error for everything that is wrong.
pub(crate) fn error(problems: &[Problem]) -> Error {
    let message = match problems {
        [one] => one.to_string(),
        several => {
            several.iter().fold("the configuration is wrong:".to_owned(), |text, p| format!("{text}\n  {p}"))
        }
    };
    Error::invalid_argument(message).with_reason("CONFIG_INVALID")
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        error(&[problem])
    }
}
