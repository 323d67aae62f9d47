//! Parameters of a query and of a form.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use bowline_core::{Error, Result};
use bowline_registry_bowline::api::bowline::registry::v1::registry_error;

/// The most parameters of one request.
const MOST: usize = 4_096;

/// Parameters in the order in which they came, those of the query first.
#[derive(Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

pub(super) fn invalid(what: impl Into<Cow<'static, str>>) -> Error {
    registry_error::invalid_request().with_message(what)
}

impl Params {
    /// Reads texts in the form of `application/x-www-form-urlencoded`.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if there are too many.
    pub(super) fn read(texts: &[&[u8]]) -> Result<Self> {
        let all = texts.iter().flat_map(|text| form_urlencoded::parse(text));
        let read: Vec<_> = all.map(|(k, v)| (k.into_owned(), v.into_owned())).take(MOST + 1).collect();
        if read.len() > MOST {
            return Err(invalid(format!("more than {MOST} parameters")));
        }
        Ok(Self(read))
    }

    /// All values of a parameter that are not empty.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// All names and values.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The first value; empty if there is none.
    pub(super) fn text<'a>(&'a self, name: &'a str) -> &'a str {
        self.all(name).next().unwrap_or_default()
    }

    /// The first value of one parameter, else of the other; empty if there is neither.
    pub(super) fn either<'a>(&'a self, name: &'a str, other: &'a str) -> &'a str {
        self.all(name).chain(self.all(other)).next().unwrap_or_default()
    }

    /// The first value.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if there is none.
    pub(super) fn required<'a>(&'a self, name: &'a str) -> Result<&'a str> {
        self.all(name).next().ok_or_else(|| invalid(format!("the parameter `{name}` is missing")))
    }

    /// All values as numbers.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if one is none.
    pub(super) fn numbers<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Vec<T>> {
        self.all(name).map(|value| number(name, value)).collect()
    }

    /// The first value as a number; 0 if there is none.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if it is none.
    pub(super) fn number<T: FromStr<Err: Display> + Default>(&self, name: &str) -> Result<T> {
        self.all(name).next().map_or_else(|| Ok(T::default()), |value| number(name, value))
    }

    /// Whether a parameter is `true` or `1`.
    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.text(name), "true" | "1")
    }
}

fn number<T: FromStr<Err: Display>>(name: &str, value: &str) -> Result<T> {
    value.parse().map_err(|e| {
        let shown: String = value.chars().take(80).collect();
        invalid(format!("the parameter `{name}` is no number that fits: `{shown}`: {e}"))
    })
}
