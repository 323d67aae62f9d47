//! Who is calling.

use std::collections::BTreeMap;
use std::sync::Arc;

/// An identity that has been verified: by a token at the edge or by a certificate between services.
///
/// There is no way to get one from a request's headers alone; only an authenticator makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    subject: Arc<str>,
    issuer: Arc<str>,
    claims: Arc<BTreeMap<String, String>>,
}

impl Identity {
    /// An identity that `issuer` vouches for.
    pub fn new(subject: impl Into<Arc<str>>, issuer: impl Into<Arc<str>>) -> Self {
        Self { subject: subject.into(), issuer: issuer.into(), claims: Arc::default() }
    }

    /// Adds what else is known about the subject.
    #[must_use]
    pub fn with_claim(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.claims).insert(name.into(), value.into());
        self
    }

    /// Who it is: a user id, or a SPIFFE id for a service.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Who vouches for it.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// One claim.
    pub fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name).map(String::as_str)
    }
}
