//! Bodies in their envelopes.

use std::collections::HashMap;

use bowline_core::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::wire::Metadata;
pub use super::wire::Payload;

/// What a [`Payload`] carries.
pub trait Body: Serialize + DeserializeOwned {
    /// Its name in the metadata.
    const TYPE: &'static str;

    /// In an envelope.
    ///
    /// # Errors
    /// `INTERNAL` if JSON cannot hold it.
    ///
    /// ```
    /// use bowline_registry_nacos::api::{Body, HealthCheckRequest, kind};
    ///
    /// let payload = HealthCheckRequest::default().payload().unwrap();
    /// assert_eq!(kind(&payload), "HealthCheckRequest");
    /// HealthCheckRequest::of(&payload).unwrap();
    /// ```
    fn payload(&self) -> Result<Payload> {
        let json = serde_json::to_vec(self)
            .map_err(|e| Error::internal(format!("a {} as JSON", Self::TYPE)).with_source(e))?;
        let mut payload = Payload::default();
        payload.metadata.get_or_insert_default().r#type = Self::TYPE.to_owned();
        payload.body.get_or_insert_default().value = json.into();
        Ok(payload)
    }

    /// Out of an envelope.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if it carries something else, or the JSON is malformed.
    fn of(payload: &Payload) -> Result<Self> {
        let kind = kind(payload);
        if kind != Self::TYPE {
            let shown: String = kind.chars().take(80).collect();
            return Err(Error::invalid_argument(format!("a `{shown}` where a `{}` is due", Self::TYPE)));
        }
        serde_json::from_slice(&payload.body.value).map_err(|e| {
            Error::invalid_argument(format!("the body of the {} is malformed: {e}", Self::TYPE))
                .with_source(e)
        })
    }
}

/// What a payload carries, by name.
pub fn kind(payload: &Payload) -> &str {
    &payload.metadata.r#type
}

/// The id by which an answer tells what it answers; empty if there is none.
pub fn request_id(payload: &Payload) -> String {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Id {
        request_id: Option<String>,
    }
    let id: Option<Id> = serde_json::from_slice(&payload.body.value).ok();
    id.and_then(|id| id.request_id).unwrap_or_default()
}

/// The headers of a payload: `accessToken` and others.
pub fn headers(payload: &Payload) -> HashMap<String, String> {
    payload.metadata.headers.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// The payload with a header.
#[must_use]
pub fn with_header(mut payload: Payload, name: &str, value: &str) -> Payload {
    let metadata: &mut Metadata = payload.metadata.get_or_insert_default();
    metadata.headers.insert(name.to_owned(), value.to_owned());
    payload
}

/// Takes `null` for the default, as Java's clients of some versions write it.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Bodies and their names, which are those of the types.
macro_rules! bodies {
    ($($body:ident),* $(,)?) => {$(
        impl $crate::api::Body for $body {
            const TYPE: &'static str = stringify!($body);
        }
    )*};
}
pub(super) use bodies;
