//! Where an instance is.

/// The keys of a service, as what they begin with.
pub(crate) fn prefix(root: &str, service: &str) -> Vec<u8> {
    format!("{root}/{service}/").into_bytes()
}

/// The key of an instance.
pub(crate) fn key(root: &str, service: &str, id: &str) -> Vec<u8> {
    format!("{root}/{service}/{id}").into_bytes()
}

/// The end of the range of all keys that begin with `prefix`, which ends with a slash: `0` follows `/`.
pub(crate) fn end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_the_keys_below_its_name_and_no_other() {
        let prefix = prefix("/m", "a");
        let range = prefix.clone()..end(&prefix);
        assert!(range.contains(&key("/m", "a", "1")) && range.contains(&key("/m", "a", "ÿ")));
        assert!(!range.contains(&key("/m", "ab", "1")) && !range.contains(&key("/m", "a-b", "1")));
    }
}
