//! Whom a client trusts, and who it says it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bowline_core::{Error, Result, WrapErr};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// TLS on the client's side, from PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// The authorities that servers' certificates must come from.
    pub ca: PathBuf,
    /// Our own certificate chain and key, for servers that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that servers' certificates must have; the endpoint's host without it.
    pub server_name: Option<String>,
}

impl ClientTls {
    pub(crate) fn load(&self, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots.add(certificate).with_context(|| format!("trusting {}", self.ca.display()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("choosing TLS versions")?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, &e))?;
                builder
                    .with_client_auth_cert(certificates(chain)?, key)
                    .with_context(|| format!("using the certificate in {}", chain.display()))?
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| unreadable(path, &e))
}

fn unreadable(path: &Path, error: &rustls_pki_types::pem::Error) -> Error {
    Error::failed_precondition(format!("cannot read PEM from {}: {error}", path.display()))
}
