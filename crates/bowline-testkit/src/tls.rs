//! Certificates for servers, and asking those that have one.

use std::io::{Error as IoError, Result as IoResult};
use std::path::Path;
use std::sync::Arc;

use bowline_core::{Result, WrapErr};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Writes `ca.pem` of a new authority, `server.pem` and `server.key` for loopback, and `client.pem` and `client.key` for a client
/// with this name in this organization.
pub(crate) fn write_certificates(directory: &Path, name: &str, organization: &str) -> Result<()> {
    let write = |file: &str, text: String| {
        std::fs::write(directory.join(file), text).with_context(|| format!("writing {file}"))
    };
    let ca_key = KeyPair::generate().context("an authority's key")?;
    let mut ca = CertificateParams::new(Vec::<String>::new()).context("an authority's certificate")?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "tests");
    write("ca.pem", ca.self_signed(&ca_key).context("an authority's certificate")?.pem())?;
    let issuer = Issuer::new(ca, ca_key);

    let server = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]);
    let server = server.context("a server's certificate")?;
    let mut client = CertificateParams::new(Vec::<String>::new()).context("a client's certificate")?;
    client.distinguished_name.push(DnType::CommonName, name);
    client.distinguished_name.push(DnType::OrganizationName, organization);
    client.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
    for (file, params) in [("server", server), ("client", client)] {
        let key = KeyPair::generate().context("a key")?;
        let certificate = params.signed_by(&key, &issuer).context("signing a certificate")?;
        write(&format!("{file}.pem"), certificate.pem())?;
        write(&format!("{file}.key"), key.serialize_pem())?;
    }
    Ok(())
}

/// Shakes hands with a server on loopback.
pub(crate) async fn connect(stream: TcpStream, ca: &Path) -> IoResult<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).map_err(IoError::other)?).map_err(IoError::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(IoError::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").map_err(IoError::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}
