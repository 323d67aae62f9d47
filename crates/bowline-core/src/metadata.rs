//! What a request carries besides its message.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::Error;

/// Keys with this prefix go on through every hop.
pub const GLOBAL_PREFIX: &str = "x-md-global-";
/// Keys with this prefix go one hop and no further.
pub const LOCAL_PREFIX: &str = "x-md-local-";

/// The `x-md-*` headers of a request: the convention of Go's Kratos, so that services in both languages forward each
/// other's.
///
/// ```
/// use bowline_core::Metadata;
///
/// let mut md = Metadata::default();
/// md.insert("x-md-global-color", "blue").unwrap();
/// assert_eq!(md.get("x-md-global-color"), Some("blue"));
/// assert!(md.insert("color", "blue").is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(HeaderMap);

impl Metadata {
    /// Takes what `headers` hold under the two prefixes.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let mut found = HeaderMap::new();
        for (name, value) in headers {
            if is_metadata(name.as_str()) {
                found.append(name.clone(), value.clone());
            }
        }
        Self(found)
    }

    /// The first value of `key`, if it is text.
    pub fn get(&self, key: &str) -> Option<&str> {
        // Most requests carry none; looking one up by text would parse the name first.
        if self.0.is_empty() {
            return None;
        }
        self.0.get(key)?.to_str().ok()
    }

    /// Sets `key` to one value.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the key has neither prefix or is no header name, or the value is no header value.
    pub fn insert(&mut self, key: &str, value: &str) -> Result<(), Error> {
        if !is_metadata(key) {
            return Err(Error::invalid_argument(format!(
                "metadata key `{key}` must start with {GLOBAL_PREFIX} (every hop) or {LOCAL_PREFIX} (one hop)"
            )));
        }
        let name = HeaderName::try_from(key).map_err(|e| {
            Error::invalid_argument(format!("metadata key `{key}` is no header name")).with_source(e)
        })?;
        let value = HeaderValue::try_from(value).map_err(|e| {
            Error::invalid_argument(format!("the value of metadata key `{key}` is no header value"))
                .with_source(e)
        })?;
        self.0.insert(name, value);
        Ok(())
    }

    /// Removes `key`.
    pub fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every key and value.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter()
    }

    /// What the next hop gets: the global keys.
    pub fn write_global(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            if name.as_str().starts_with(GLOBAL_PREFIX) {
                headers.append(name.clone(), value.clone());
            }
        }
    }

    /// What this request carries: every key. For metadata that was set for the next hop.
    pub fn write_all(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            headers.append(name.clone(), value.clone());
        }
    }
}

fn is_metadata(name: &str) -> bool {
    name.starts_with("x-md-") && (name.starts_with(GLOBAL_PREFIX) || name.starts_with(LOCAL_PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_keys_stop_after_one_hop() {
        let inbound: HeaderMap =
            [("x-md-global-a", "1"), ("x-md-local-b", "2"), ("x-md-other", "3"), ("cookie", "4")]
                .into_iter()
                .map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v)))
                .collect();
        let md = Metadata::from_headers(&inbound);
        assert_eq!((md.get("x-md-global-a"), md.get("x-md-local-b")), (Some("1"), Some("2")));
        assert_eq!((md.get("x-md-other"), md.get("cookie")), (None, None));
        let mut outbound = HeaderMap::new();
        md.write_global(&mut outbound);
        assert_eq!(outbound.keys().collect::<Vec<_>>(), ["x-md-global-a"]);
    }
}
