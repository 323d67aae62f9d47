//! Certificates, read again when they change on disk.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bowline_core::{Error, Result, WrapErr};
use rustls::RootCertStore;
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// How often the files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// A server's certificate, from PEM files.
///
/// The files are looked at once a second; a changed pair is used for new connections as soon as it is whole. A broken pair is
/// reported and the last good one stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// Authorities whose certificates clients must show; none are asked for without it.
    pub client_ca: Option<PathBuf>,
}

impl Tls {
    /// Reads the files and prepares the configuration.
    pub(crate) fn load(&self) -> Result<(Arc<ServerConfig>, Reloader)> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let current = Arc::new(Current(ArcSwap::from_pointee(self.read()?)));
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .context("choosing TLS versions")?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).with_context(|| format!("trusting {}", path.display()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .with_context(|| format!("trusting {}", path.display()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let reloader = Reloader { files: self.clone(), current, seen: self.stamps() };
        Ok((Arc::new(config), reloader))
    }

    fn read(&self) -> Result<CertifiedKey> {
        let chain = certificates(&self.certificate)?;
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|e| unreadable(&self.key, "private key", e))?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key)
            .with_context(|| format!("using the key in {}", self.key.display()))?;
        let pair = CertifiedKey::new(chain, key);
        pair.keys_match().map_err(|e| {
            Error::failed_precondition(format!(
                "the key in {} does not belong to the certificate in {}",
                self.key.display(),
                self.certificate.display()
            ))
            .with_source(e)
        })?;
        Ok(pair)
    }

    fn stamps(&self) -> [Option<(SystemTime, u64)>; 2] {
        [&self.certificate, &self.key].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| unreadable(path, "certificate", e))?;
    if chain.is_empty() {
        return Err(Error::failed_precondition(format!(
            "{} holds no certificate in PEM form",
            path.display()
        )));
    }
    Ok(chain)
}

fn unreadable(path: &Path, what: &str, error: rustls_pki_types::pem::Error) -> Error {
    Error::failed_precondition(format!("cannot read a {what} in PEM form from {}: {error}", path.display()))
        .with_source(error)
}

struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

/// Watches the files for as long as it is polled.
pub(crate) struct Reloader {
    files: Tls,
    current: Arc<Current>,
    seen: [Option<(SystemTime, u64)>; 2],
}

impl Reloader {
    pub(crate) async fn run(mut self) {
        let mut tick = tokio::time::interval(RELOAD_INTERVAL);
        loop {
            tick.tick().await;
            let now = self.files.stamps();
            if now == self.seen {
                continue;
            }
            match self.files.read() {
                Ok(pair) => {
                    tracing::info!(certificate = %self.files.certificate.display(), "certificate reloaded");
                    self.current.0.store(Arc::new(pair));
                    self.seen = now;
                }
                // Half a pair may be written; it is tried again until it is whole.
                Err(error) => tracing::warn!(%error, "certificate not reloaded, the last good one stays"),
            }
        }
    }
}
