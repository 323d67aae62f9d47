//! What a client is pointed at.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bowline_core::{Endpoint, Error};
use serde::{Deserialize, Serialize};

/// What a client is pointed at, as text:
///
/// | text | means |
/// |---|---|
/// | `discovery:///catalog` | the service `catalog`, through the registry |
/// | `dns:///catalog.local:9000` | every address of the name, at that port |
/// | `dns:///_grpc._tcp.catalog.local` | the SRV records of the name |
/// | `static:///10.0.0.1:80,10.0.0.2:80` | these |
/// | `http://host:port`, `https://host:port`, `unix:/path`, `memory:name` | this one |
///
/// ```
/// use bowline_discovery::Target;
///
/// let target: Target = "discovery:///catalog".parse().unwrap();
/// assert_eq!(target, Target::Discovery("catalog".into()));
/// let error = "catalog".parse::<Target>().unwrap_err();
/// assert!(error.message().contains("discovery:///catalog"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A service of the registry.
    Discovery(Arc<str>),
    /// A DNS name.
    Dns(DnsName),
    /// Fixed endpoints, at least one.
    Static(Vec<Endpoint>),
}

/// What to ask a name server for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DnsName {
    /// The A and AAAA records of a host, with a port beside them.
    Host {
        /// The name, or an IP address without brackets.
        host: Arc<str>,
        /// The port of every address.
        port: u16,
    },
    /// SRV records, which carry ports: `_service._proto.name`.
    Srv(Arc<str>),
}

/// The longest name in the DNS (RFC 1035), used for services too.
const MAX_NAME: usize = 253;

fn is_name(text: &str) -> bool {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(valid) && !text.starts_with('.')
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::invalid_argument(format!("`{text}` is no target: {why}"));
        let Some((scheme, rest)) = text.split_once(':') else {
            let hint = if is_name(text) { text } else { "NAME" };
            return Err(wrong(&format!(
                "it has no scheme; use discovery:///{hint} for a service of the registry or http://HOST:PORT for one address"
            )));
        };
        // `scheme:///rest`. The authority between the second and the third slash is always ours to choose.
        let path = |form: &str| {
            rest.strip_prefix("///").ok_or_else(|| wrong(&format!("write it with three slashes, {form}")))
        };
        match scheme {
            "discovery" => {
                let name = path("discovery:///NAME")?;
                if !is_name(name) {
                    return Err(wrong("a service is named by 1 to 253 of a-z, A-Z, 0-9, `-`, `_` and `.`"));
                }
                Ok(Self::Discovery(name.into()))
            }
            "dns" => path("dns:///HOST:PORT")?
                .parse()
                .map(Self::Dns)
                .map_err(|e: Error| wrong(e.message()).with_source(e)),
            "static" => {
                let list = path("static:///HOST:PORT,HOST:PORT")?;
                let endpoints: Result<_, Error> = list.split(',').map(|e| e.trim().parse()).collect();
                endpoints.map(Self::Static).map_err(|e| wrong(e.message()).with_source(e))
            }
            "http" | "https" | "grpc" | "grpcs" | "unix" | "memory" => {
                let endpoint = text.parse().map_err(|e: Error| wrong(e.message()).with_source(e))?;
                Ok(Self::Static(vec![endpoint]))
            }
            _ => Err(wrong(&format!(
                "unknown scheme `{scheme}`; use discovery:///NAME, dns:///HOST:PORT, static:///HOST:PORT,HOST:PORT, http://HOST:PORT, https://HOST:PORT, unix:/PATH or memory:NAME"
            ))),
        }
    }
}

impl FromStr for DnsName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.starts_with('_') && !text.contains(':') {
            if !is_name(text) || text.split('.').count() < 3 {
                return Err(Error::invalid_argument(format!(
                    "`{text}` is no SRV name; use _SERVICE._tcp.NAME"
                )));
            }
            return Ok(Self::Srv(text.into()));
        }
        let wrong = |why: &str| {
            Error::invalid_argument(format!("{why}; use HOST:PORT, or _SERVICE._tcp.NAME for SRV records"))
        };
        if !text.contains(':') {
            return Err(wrong(&format!("`{text}` has no port")));
        }
        // An endpoint without a scheme is a host and a port, with the same rules.
        let endpoint: Endpoint = match text.contains("//") {
            false => text.parse().map_err(|e: Error| wrong(e.message()).with_source(e))?,
            true => return Err(wrong(&format!("`{text}` is an address, not a name"))),
        };
        match endpoint.scheme() {
            bowline_core::Scheme::Http => {
                Ok(Self::Host { host: endpoint.host().into(), port: endpoint.port() })
            }
            _ => Err(wrong(&format!("`{text}` is an address, not a name"))),
        }
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { host, port } => f.write_str(&authority(host, *port)),
            Self::Srv(name) => f.write_str(name),
        }
    }
}

fn authority(host: &str, port: u16) -> String {
    Endpoint::http(host, port).authority()
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discovery(name) => write!(f, "discovery:///{name}"),
            Self::Dns(name) => write!(f, "dns:///{name}"),
            Self::Static(endpoints) => match &endpoints[..] {
                [one] => write!(f, "{one}"),
                several => {
                    f.write_str("static:///")?;
                    for (n, endpoint) in several.iter().enumerate() {
                        write!(f, "{}{endpoint}", if n == 0 { "" } else { "," })?;
                    }
                    Ok(())
                }
            },
        }
    }
}

impl Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_goes_there_and_back() {
        for text in [
            "discovery:///shop.catalog",
            "dns:///catalog.local:9000",
            "dns:///[::1]:9000",
            "dns:///_grpc._tcp.catalog.local",
            "static:///http://a:1,http://b:2",
            "http://10.0.0.1:80",
            "https://host:443",
            "unix:/run/a.sock",
            "memory:a",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        let short: Target = "static:///a:1,b:2".parse().unwrap();
        assert_eq!(short, Target::Static(vec![Endpoint::http("a", 1), Endpoint::http("b", 2)]));
    }

    #[test]
    fn malformed_targets_are_refused_with_the_mend() {
        for (text, mend) in [
            ("", "no scheme"),
            ("catalog", "use discovery:///catalog"),
            ("discovery://catalog", "discovery:///NAME"),
            ("discovery:///", "1 to 253"),
            ("discovery:///a/b", "1 to 253"),
            ("dns:///catalog", "use HOST:PORT"),
            ("dns:///catalog:x", "not a number"),
            ("dns:///_grpc._tcp", "_SERVICE._tcp.NAME"),
            ("dns:///http://a:1", "not a name"),
            ("static:///", "use http://HOST:PORT"),
            ("static:///a:1,,b:2", "use http://HOST:PORT"),
            ("ftp://a", "unknown scheme `ftp`"),
            ("localhost:80", "unknown scheme `localhost`"),
            ("http://a", "no port"),
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.message().contains(mend), "{text}: {error}");
            assert!(error.is_invalid());
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_means_the_same_when_printed(text in "(discovery|dns|static|http|unix|memory)?:?/{0,3}[a-c_.:,0-9\\[\\]]{0,12}") {
            if let Ok(target) = text.parse::<Target>() {
                prop_assert_eq!(target.to_string().parse::<Target>().unwrap(), target);
            }
        }
    }
}
