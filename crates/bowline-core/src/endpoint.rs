//! Where one server of an instance listens.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Error;

/// How an endpoint is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// HTTP/1.1 and HTTP/2 (prior knowledge) in the clear.
    Http,
    /// HTTP/1.1 and HTTP/2 (ALPN) over TLS.
    Https,
    /// HTTP/1.1 and HTTP/2 (prior knowledge) over a Unix socket.
    Unix,
    /// Inside this process.
    Memory,
}

/// An address a client can connect to: `http://10.0.0.1:8000`, `https://host:443`, `unix:/run/a.sock`, `memory:name`.
///
/// ```
/// use bowline_core::{Endpoint, Scheme};
///
/// let endpoint: Endpoint = "http://[::1]:8000".parse().unwrap();
/// assert_eq!((endpoint.scheme(), endpoint.host(), endpoint.port()), (Scheme::Http, "::1", 8000));
/// assert_eq!("grpc://h:1".parse::<Endpoint>().unwrap().to_string(), "http://h:1");
/// assert!("http://nowhere".parse::<Endpoint>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    scheme: Scheme,
    /// A host, a path or a name.
    target: Arc<str>,
    port: u16,
}

impl Endpoint {
    /// A TCP endpoint in the clear.
    pub fn http(host: impl AsRef<str>, port: u16) -> Self {
        Self { scheme: Scheme::Http, target: host.as_ref().into(), port }
    }

    /// A TCP endpoint with TLS.
    pub fn https(host: impl AsRef<str>, port: u16) -> Self {
        Self { scheme: Scheme::Https, target: host.as_ref().into(), port }
    }

    /// A Unix socket.
    pub fn unix(path: impl AsRef<str>) -> Self {
        Self { scheme: Scheme::Unix, target: path.as_ref().into(), port: 0 }
    }

    /// A server in this process.
    pub fn memory(name: impl AsRef<str>) -> Self {
        Self { scheme: Scheme::Memory, target: name.as_ref().into(), port: 0 }
    }

    /// How to speak to it.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host of a TCP endpoint without brackets, the path of a Unix socket, the name of an in-process server.
    pub fn host(&self) -> &str {
        &self.target
    }

    /// The port of a TCP endpoint, 0 otherwise.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path of a Unix socket.
    pub fn path(&self) -> Option<PathBuf> {
        (self.scheme == Scheme::Unix).then(|| PathBuf::from(&*self.target))
    }

    /// `host:port`, with brackets around an IPv6 address; for a `host` header and for connecting.
    pub fn authority(&self) -> String {
        match self.scheme {
            Scheme::Http | Scheme::Https if self.target.contains(':') => {
                format!("[{}]:{}", self.target, self.port)
            }
            Scheme::Http | Scheme::Https => format!("{}:{}", self.target, self.port),
            Scheme::Unix | Scheme::Memory => "localhost".into(),
        }
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Error::invalid_argument(format!(
                "`{text}` is no endpoint: {why}; use http://HOST:PORT, https://HOST:PORT or unix:/PATH"
            ))
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(wrong("the path is empty")) } else { Ok(Self::unix(path)) };
        }
        if let Some(name) = text.strip_prefix("memory:") {
            return if name.is_empty() { Err(wrong("the name is empty")) } else { Ok(Self::memory(name)) };
        }
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::Http, text),
            Some(("http" | "grpc", rest)) => (Scheme::Http, rest),
            Some(("https" | "grpcs", rest)) => (Scheme::Https, rest),
            Some((other, _)) => return Err(wrong(&format!("unknown scheme `{other}`"))),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| wrong("there is no port"))?;
        let host = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']').ok_or_else(|| wrong("a bracket is not closed"))?,
            None if host.contains(':') => return Err(wrong("an IPv6 address needs brackets")),
            None => host,
        };
        let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'%');
        if host.is_empty() || !host.bytes().all(valid) {
            return Err(wrong("the host is malformed"));
        }
        let port = port.parse().map_err(|e| wrong("the port is not a number up to 65535").with_source(e))?;
        Ok(Self { scheme, target: host.into(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::Http => write!(f, "http://{}", self.authority()),
            Scheme::Https => write!(f, "https://{}", self.authority()),
            Scheme::Unix => write!(f, "unix:{}", self.target),
            Scheme::Memory => write!(f, "memory:{}", self.target),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

impl Serialize for Endpoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_there_and_back() {
        for text in [
            "http://10.0.0.1:80",
            "https://a-b.example:443",
            "http://[::1]:8000",
            "unix:/run/a.sock",
            "memory:a",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn malformed_endpoints_are_refused_with_the_mend() {
        for text in [
            "",
            "h",
            "h:",
            "h:x",
            "h:99999",
            "ftp://h:1",
            "http://:1",
            "http://a b:1",
            "http://[::1:1",
            "::1:1",
        ] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert!(error.message().contains("use http://HOST:PORT"), "{text}: {error}");
        }
    }
}
