//! Who the requests are from.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bowline_core::{Error, Instant, Result, WrapErr};
use http::HeaderValue;

/// How long a token from a file is used before the file is read again, as Kubernetes' own client for Go does: tokens of pods
/// live for an hour, and are replaced in the file well before.
const FRESH: Duration = Duration::from_secs(60);

/// The bearer token, wherever it comes from. It is not shown.
#[derive(Default)]
pub(crate) struct Token {
    source: Source,
    read: Mutex<Option<(HeaderValue, Instant)>>,
}

/// Where a token is.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nowhere: a certificate says who asks, or nobody does.
    #[default]
    None,
    Text(String),
    File(PathBuf),
}

impl Token {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, read: Mutex::default() }
    }

    /// What `authorization` says, if anything.
    pub(crate) async fn header(&self) -> Result<Option<HeaderValue>> {
        match &self.source {
            Source::None => Ok(None),
            Source::Text(token) => header(token).map(Some),
            Source::File(path) => {
                if let Some((token, until)) = &*self.read.lock().unwrap_or_else(PoisonError::into_inner)
                    && Instant::now() < *until
                {
                    return Ok(Some(token.clone()));
                }
                let text = tokio::fs::read_to_string(path).await;
                let text = text.with_context(|| format!("reading the token in {}", path.display()))?;
                let token = header(text.trim())?;
                let fresh = Some((token.clone(), Instant::now() + FRESH));
                *self.read.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
                Ok(Some(token))
            }
        }
    }

    /// The API server does not take it: the file is read again.
    pub(crate) fn forget(&self) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn header(token: &str) -> Result<HeaderValue> {
    let header = HeaderValue::try_from(format!("Bearer {token}"));
    let mut header =
        header.map_err(|_| Error::invalid_argument("the token for Kubernetes is no header's value"))?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_in_a_file_is_kept_for_a_while_and_read_again_when_it_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let token = Token::new(Source::File(path.clone()));
        assert_eq!(token.header().await.unwrap().unwrap(), "Bearer one");
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(token.header().await.unwrap().unwrap(), "Bearer one");
        token.forget();
        assert_eq!(token.header().await.unwrap().unwrap(), "Bearer two");
        assert!(!format!("{:?}", token.header().await.unwrap()).contains("two"));
        std::fs::remove_file(&path).unwrap();
        token.forget();
        assert!(token.header().await.unwrap_err().to_string().contains("reading the token in"));
    }
}
