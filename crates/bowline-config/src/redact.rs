//! Showing a configuration without its secrets.

use bowline_core::{Result, WrapErr};
use serde::Serialize;
use serde_json::Value;

use crate::secret::MASK;

/// Words that make a key a secret's, alone or as the end of a word (`apikey`), singular or plural.
const WORDS: [&str; 8] =
    ["password", "passwd", "passphrase", "secret", "token", "key", "credential", "authorization"];

/// `config` as JSON for people to look at: [`Secret`](crate::Secret)s, everything below a key that looks like one
/// (`password`, `client_secret`, `apiKey`, ...) and passwords inside URLs are `***`.
///
/// It hides too much rather than too little: a `partition_key` is masked as well.
///
/// ```
/// use serde_json::json;
///
/// let config = json!({ "db": { "url": "postgres://me:hunter2@db/shop", "api_key": "abc" }, "port": 80 });
/// assert_eq!(
///     bowline_config::redacted(&config).unwrap(),
///     json!({ "db": { "url": "postgres://me:***@db/shop", "api_key": "***" }, "port": 80 }),
/// );
/// ```
///
/// # Errors
/// If the configuration cannot be represented as JSON, such as a map whose keys are no text.
pub fn redacted<T: Serialize + ?Sized>(config: &T) -> Result<Value> {
    let mut value = serde_json::to_value(config).context("rendering the configuration as JSON")?;
    redact(&mut value);
    Ok(value)
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if is_sensitive(key) { mask(value) } else { redact(value) }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(redact),
        Value::String(text) => {
            if let Some(masked) = mask_url(text) {
                *text = masked;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Masks every leaf. What is absent and switches stay visible: that a password is not set is worth knowing.
fn mask(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(mask),
        Value::Array(list) => list.iter_mut().for_each(mask),
        Value::String(_) | Value::Number(_) => *value = Value::String(MASK.into()),
        Value::Null | Value::Bool(_) => {}
    }
}

/// Whether a key names a secret.
pub(crate) fn is_sensitive(key: &str) -> bool {
    words(key).any(|word| {
        let word = word.strip_suffix('s').unwrap_or(&word);
        // `monkey` and `turkey` are no keys; `apikey` and `authkey` are.
        WORDS.iter().any(|w| word == *w || (*w != "key" && word.ends_with(w)))
            || word
                .strip_suffix("key")
                .is_some_and(|w| matches!(w, "api" | "auth" | "private" | "access" | "ssh"))
    })
}

/// The words of `snake_case`, `kebab-case` and `camelCase`, in lower case.
fn words(key: &str) -> impl Iterator<Item = String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for c in key.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && after_lower) {
            words.push(String::new());
        }
        after_lower = c.is_lowercase() || c.is_numeric();
        if let (true, Some(word)) = (c.is_alphanumeric(), words.last_mut()) {
            word.extend(c.to_lowercase());
        }
    }
    words.into_iter().filter(|w| !w.is_empty())
}

/// The URL without its password, if it has one.
fn mask_url(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user_info, _) = authority.rsplit_once('@')?;
    let (user, _) = user_info.split_once(':')?;
    Some(format!("{scheme}://{user}:{MASK}{}", &rest[user_info.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_of_secrets_are_recognised_in_every_spelling() {
        for key in [
            "password",
            "DB_PASSWORD",
            "client-secret",
            "apiKey",
            "apikey",
            "tokens",
            "private_key",
            "dbpassword",
        ] {
            assert!(is_sensitive(key), "{key}");
        }
        for key in ["monkey", "keepalive", "addr", "timeout", "keyboard", "user"] {
            assert!(!is_sensitive(key), "{key}");
        }
    }

    #[test]
    fn everything_below_a_secret_key_is_masked_and_absence_stays_visible() {
        let shown = redacted(&json!({
            "tokens": [{ "name": "a" }, 7],
            "password": null,
            "plain": "x",
            "secret": crate::Secret::new("hunter2"),
            "hidden": crate::Secret::new("hunter2"),
        }));
        let expected = json!({ "tokens": [{ "name": "***" }, "***"], "password": null, "plain": "x", "secret": "***", "hidden": "***" });
        assert_eq!(shown.unwrap(), expected);
    }

    #[test]
    fn a_password_in_a_url_is_masked_and_other_urls_stay() {
        assert_eq!(mask_url("redis://:pw@h:1/0").as_deref(), Some("redis://:***@h:1/0"));
        assert_eq!(mask_url("mysql://u:p@ss@h/db?x=y").as_deref(), Some("mysql://u:***@h/db?x=y"));
        assert_eq!(mask_url("http://h/a:b@c"), None);
        assert_eq!(mask_url("http://u@h/"), None);
    }
}
