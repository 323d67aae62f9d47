//! Is it free, is it ready.

use std::net::{TcpListener, ToSocketAddrs};
use std::time::Duration;

use bowline_core::{Error, Result, WrapErr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The time one question may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// `127.0.0.1:9001` of `http://127.0.0.1:9001/path`, and the path.
pub(crate) fn split(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    match rest.find('/') {
        Some(at) => (&rest[..at], &rest[at..]),
        None => (rest, "/"),
    }
}

/// Fails if something listens at `url`'s port.
pub(crate) fn is_free(app: &str, url: &str) -> Result<()> {
    let (authority, _) = split(url);
    let Some(address) = authority.to_socket_addrs().ok().and_then(|mut all| all.next()) else {
        return Err(Error::invalid_argument(format!("{app}: `{url}` is no address; use http://HOST:PORT")));
    };
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            Err(Error::failed_precondition(format!(
                "{app} needs {address}, which another process uses: stop that one (find it with `ss -ltnp`), or give {app} another address"
            )))
        }
        Err(error) => Err(Error::from_std(error).context(format!("{app} needs {address}"))),
    }
}

/// Whether `url` answers 200.
pub(crate) async fn is_ready(url: &str) -> bool {
    let asked = tokio::time::timeout(PATIENCE, status(url)).await;
    matches!(asked, Ok(Ok(200)))
}

async fn status(url: &str) -> Result<u16> {
    let (authority, path) = split(url);
    let mut stream = TcpStream::connect(authority).await.context("connecting")?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.context("asking")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.context("reading the answer")?;
    let code = std::str::from_utf8(&head[9..]).unwrap_or_default().parse();
    code.context("reading the status")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_the_mend() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", taken.local_addr().unwrap());
        let error = is_free("catalog", &url).unwrap_err().to_string();
        assert!(error.contains("catalog needs 127.0.0.1:") && error.contains("ss -ltnp"), "{error}");
        drop(taken);
        is_free("catalog", &url).unwrap();
        assert!(is_free("catalog", "nowhere").is_err());
    }
}
