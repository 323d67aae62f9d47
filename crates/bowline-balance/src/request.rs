//! What a request says of where it wants to go.

use bowline_core::{Context, Error, Tenant};

/// The metadata key under which a tenant's request carries its redirects: pairs of a service and a tenant whose
/// instances it wants, or of a service and `@` with an instance's id, divided by commas:
/// `catalog=blue,orders=@orders-7`.
pub const REDIRECTS: &str = "x-md-global-redirect";

/// Whose request it is, and where it wants to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) redirects: &'a str,
    pub(crate) strict: bool,
}

/// Where a tenant sends its requests to one service: a service under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirect<'a> {
    /// To the instances of that tenant.
    Tenant(&'a str),
    /// To the instance with that id.
    Instance(&'a str),
}

impl<'a> Request<'a> {
    /// One of production.
    pub fn base() -> Self {
        Self::default()
    }

    /// One of `tenant`.
    pub fn of(tenant: &'a Tenant) -> Self {
        Self { tenant: tenant.as_str(), ..Self::default() }
    }

    /// One made in `cx`: its tenant, and the redirects that came with it or were set for its calls.
    pub fn in_context(cx: &'a Context) -> Self {
        if cx.tenant().is_base() {
            return Self::base();
        }
        let redirects = cx.outgoing().get(REDIRECTS).or_else(|| cx.metadata().get(REDIRECTS));
        Self { redirects: redirects.unwrap_or_default(), ..Self::of(cx.tenant()) }
    }

    /// Its redirects, as text under [`REDIRECTS`]. They count for tenants only: production is not redirected by what
    /// a header says.
    #[must_use]
    pub fn with_redirects(self, redirects: &'a str) -> Self {
        Self { redirects, ..self }
    }

    /// A tenant's request may be served by its own instances and those it is redirected to, but not by the base.
    #[must_use]
    pub fn strictly(self) -> Self {
        Self { strict: true, ..self }
    }

    /// Where it wants to go if it is for `service`. A part that is malformed says nothing; of several the first counts.
    ///
    /// ```
    /// use bowline_balance::{Redirect, Request};
    /// use bowline_core::Tenant;
    ///
    /// let tenant = Tenant::new("alice").unwrap();
    /// let request = Request::of(&tenant).with_redirects("catalog=blue, orders=@orders-7");
    /// assert_eq!(request.redirect("catalog"), Some(Redirect::Tenant("blue")));
    /// assert_eq!(request.redirect("orders"), Some(Redirect::Instance("orders-7")));
    /// assert_eq!(request.redirect("users"), None);
    /// assert_eq!(Request::base().with_redirects("catalog=blue").redirect("catalog"), None);
    /// ```
    pub fn redirect(&self, service: &str) -> Option<Redirect<'a>> {
        if self.tenant.is_empty() || self.redirects.is_empty() {
            return None;
        }
        let mut parts = self.redirects.split(',').filter_map(|part| part.split_once('='));
        let (_, to) = parts.find(|(name, to)| name.trim() == service && !to.trim().is_empty())?;
        match to.trim().strip_prefix('@') {
            Some(instance) => Some(Redirect::Instance(instance)),
            None => Some(Redirect::Tenant(to.trim())),
        }
    }
}

/// A tenant's request that nobody may serve but instances of its own, and there are none. An [`Error`] with the reason
/// `TENANT_UNROUTABLE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unroutable {
    pub(crate) tenant: String,
    pub(crate) service: String,
}

impl std::fmt::Display for Unroutable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tenant, service } = self;
        write!(
            f,
            "no instance of `{service}` takes requests of tenant `{tenant}`, and they may not go to the base: \
             start one with that tenant, or turn strict routing off"
        )
    }
}

impl std::error::Error for Unroutable {}

impl From<Unroutable> for Error {
    fn from(unroutable: Unroutable) -> Self {
        Self::failed_precondition(unroutable.to_string())
            .with_reason("TENANT_UNROUTABLE")
            .with_public_message("no instance takes requests of this tenant")
    }
}
