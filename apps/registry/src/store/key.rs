//! Names.

use std::fmt;
use std::sync::Arc;

use bowline_core::Result;
use bowline_registry_bowline::api::bowline::registry::v1::registry_error;
use bowline_registry_bowline::names::{canonical, is_id, is_label, is_service};

/// What names of slots begin with, and those of services never do.
const SLOTS: &str = ".slots.";

/// Names a service: namespace, environment, name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    namespace: Arc<str>,
    env: Arc<str>,
    service: Arc<str>,
}

impl ServiceKey {
    /// A key. An empty namespace or environment is `default`.
    ///
    /// # Errors
    /// `INVALID_NAME` if a part is malformed or too long.
    pub fn new(namespace: &str, env: &str, service: &str) -> Result<Self> {
        let (namespace, env) = scope(namespace, env)?;
        service_name(service)?;
        Ok(Self { namespace: namespace.into(), env: env.into(), service: service.into() })
    }

    /// Where the slots of a group are kept: under a name that no service can have.
    ///
    /// # Errors
    /// `INVALID_NAME` if a part is malformed or too long.
    pub fn slots(namespace: &str, env: &str, group: &str) -> Result<Self> {
        let (namespace, env) = scope(namespace, env)?;
        service_name(group)?;
        Ok(Self { namespace: namespace.into(), env: env.into(), service: format!("{SLOTS}{group}").into() })
    }

    /// A key that another node has checked: of a service, or of slots.
    ///
    /// # Errors
    /// `INVALID_NAME` if it is neither.
    pub(crate) fn told(namespace: &str, env: &str, name: &str) -> Result<Self> {
        match name.strip_prefix(SLOTS) {
            Some(group) => Self::slots(namespace, env, group),
            None => Self::new(namespace, env, name),
        }
    }

    /// Whether it is of slots, and of no service.
    pub(crate) fn is_slots(&self) -> bool {
        self.service.starts_with(SLOTS)
    }

    /// Sorts before every service of a namespace and environment, in the form they are kept in.
    pub(super) fn before_all(namespace: &str, env: &str) -> Self {
        Self { namespace: namespace.into(), env: env.into(), service: Arc::from("") }
    }

    /// Sorts before every service.
    pub(super) fn first() -> Self {
        Self::before_all("", "")
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The environment.
    pub fn env(&self) -> &str {
        &self.env
    }

    /// The service's name.
    pub fn service(&self) -> &str {
        &self.service
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.env, self.service)
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceKey({self})")
    }
}

/// A namespace and an environment, in the form they are kept in.
pub(crate) fn scope<'a>(namespace: &'a str, env: &'a str) -> Result<(&'a str, &'a str)> {
    let (namespace, env) = (canonical(namespace), canonical(env));
    for (what, text) in [("namespace", namespace), ("environment", env)] {
        if !is_label(text) {
            return Err(invalid(what, text, "up to 63 of a-z, A-Z, 0-9, `-` and `_`"));
        }
    }
    Ok((namespace, env))
}

/// Checks a service's name.
fn service_name(text: &str) -> Result<()> {
    let form = "1 to 253 of a-z, A-Z, 0-9, `-`, `_` and `.`, not starting with `.`";
    if is_service(text) { Ok(()) } else { Err(invalid("service", text, form)) }
}

/// Checks an instance's id.
pub(crate) fn instance_id(text: &str) -> Result<()> {
    let form = "1 to 253 of a-z, A-Z, 0-9, `-`, `_`, `.`, `:` and `@`, not starting with `.`";
    if is_id(text) { Ok(()) } else { Err(invalid("instance id", text, form)) }
}

fn invalid(what: &str, text: &str, form: &str) -> bowline_core::Error {
    // What is far too long is not echoed in full.
    let shown: String = text.chars().take(80).collect();
    registry_error::invalid_name().with_message(format!("`{shown}` is no {what}: use {form}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_namespace_or_environment_is_the_default_one() {
        let key = ServiceKey::new("", "", "catalog").unwrap();
        assert_eq!(key, ServiceKey::new("default", "default", "catalog").unwrap());
        assert_eq!(key.to_string(), "default/default/catalog");
    }

    #[test]
    fn malformed_names_are_refused_with_their_form() {
        let long = "x".repeat(300);
        for (namespace, env, service) in [
            ("a/b", "", "s"),
            ("", "a b", "s"),
            ("", "", ""),
            ("", "", "a/b"),
            ("", "", ".s"),
            ("", "", &long),
        ] {
            let error = ServiceKey::new(namespace, env, service).unwrap_err();
            assert!(registry_error::is_invalid_name(&error) && error.message().contains(": use "), "{error}");
            assert!(error.message().len() < 200, "{error}");
        }
        assert!(instance_id("10.0.0.1:80@host").is_ok());
    }
}
