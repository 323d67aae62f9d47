//! Tenants.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Whose request this is: a test, a canary, a shadow system, a product line. Production itself is the *base* tenant.
///
/// ```
/// use bowline_core::Tenant;
///
/// assert!(Tenant::base().is_base());
/// assert_eq!(Tenant::new("canary").unwrap().as_str(), "canary");
/// assert!(Tenant::new("Not A Name").is_none());
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Tenant(Option<Arc<str>>);

impl Tenant {
    /// The longest name, in bytes: a DNS label, because tenants appear in DNS names.
    pub const MAX_LEN: usize = 63;

    /// Production: no tenant in particular.
    pub const fn base() -> Self {
        Self(None)
    }

    /// A tenant by name: 1 to 63 of `a-z`, `0-9`, `-`, not starting or ending with `-`. The empty name is the base.
    /// `None` if the name is of another form.
    pub fn new(name: &str) -> Option<Self> {
        if name.is_empty() {
            return Some(Self::base());
        }
        let valid = name.len() <= Self::MAX_LEN
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        valid.then(|| Self(Some(name.into())))
    }

    /// The name; empty for the base.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("")
    }

    /// Whether this is production.
    pub fn is_base(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tenant({:?})", self.as_str())
    }
}

impl<'de> Deserialize<'de> for Tenant {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        Self::new(&name).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "`{name}` is not a tenant name: use 1 to 63 of a-z, 0-9 and -, not at either end"
            ))
        })
    }
}
