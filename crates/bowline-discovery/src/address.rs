//! The addresses of registries, as settings have them.

use std::fmt;
use std::time::Duration;

use bowline_core::{Endpoint, Error, Result};
use percent_encoding::percent_decode_str;

/// How the addresses of a kind of registry look.
#[derive(Clone, Copy, Debug)]
pub struct AddressForm {
    /// What errors call the registry.
    pub name: &'static str,
    /// What an address may begin with, and whether that is over TLS.
    pub schemes: &'static [(&'static str, bool)],
    /// The port of a server that names none.
    pub port: u16,
    /// What errors say to use.
    pub usage: &'static str,
}

/// Who asks. The password is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, …)", self.user)
    }
}

/// An address that was read: `SCHEME://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/PATH][?KEY=VALUE&…]`.
///
/// ```
/// use bowline_core::Endpoint;
/// use bowline_discovery::{Address, AddressForm};
///
/// let form = AddressForm { name: "Tide", schemes: &[("tide", false)], port: 7, usage: "use tide://HOST:PORT" };
/// let address = Address::read("tide://u:p%40ss@a,b:1/x/?ttl=5s", form).unwrap();
/// assert_eq!(address.servers, [Endpoint::http("a", 7), Endpoint::http("b", 1)]);
/// assert_eq!((address.path.as_str(), address.credentials.unwrap().password.as_str()), ("x", "p@ss"));
/// assert!(Address::read("wave://a", form).unwrap_err().message().contains("use tide://"));
/// ```
pub struct Address {
    form: AddressForm,
    /// Who asks, if it says.
    pub credentials: Option<Credentials>,
    /// The servers; at least one.
    pub servers: Vec<Endpoint>,
    /// What follows the servers, as it is written, without the slashes before and after.
    pub path: String,
    /// What follows the question mark, in its order, decoded.
    pub settings: Vec<(String, String)>,
}

/// Without what may be a secret.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.settings.iter().map(|(key, _)| key).collect();
        let mut shown = f.debug_struct("Address");
        shown.field("credentials", &self.credentials).field("servers", &self.servers);
        shown.field("path", &self.path).field("settings", &keys).finish_non_exhaustive()
    }
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with what is wrong and the usage. No part that may be a secret is in the message.
    pub fn read(url: &str, form: AddressForm) -> Result<Self> {
        let begins =
            |(scheme, secure): &(&str, bool)| Some((url.strip_prefix(scheme)?.strip_prefix("://")?, *secure));
        let (rest, secure) = form.schemes.iter().find_map(begins).ok_or_else(|| {
            let schemes: Vec<_> = form.schemes.iter().map(|(scheme, _)| format!("{scheme}://")).collect();
            form.wrong(&format!("it does not begin with {}", schemes.join(" or ")))
        })?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let decode = |text: &str| {
            let decoded = percent_decode_str(text).decode_utf8().map(|text| text.into_owned());
            decoded.map_err(|_| form.wrong("a part is not UTF-8"))
        };
        let (credentials, rest) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((credentials, rest)) => {
                let (user, password) = credentials
                    .split_once(':')
                    .ok_or_else(|| form.wrong("there is a user and no password"))?;
                (Some(Credentials { user: decode(user)?, password: decode(password)? }), rest)
            }
        };
        let (servers, path) = rest.split_once('/').unwrap_or((rest, ""));
        let scheme = if secure { "https" } else { "http" };
        let server = |text: &str| {
            let has_port = text.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
            let port = if has_port { String::new() } else { format!(":{}", form.port) };
            let server: Result<Endpoint> = format!("{scheme}://{text}{port}").parse();
            server.map_err(|_| form.wrong("a server is not HOST:PORT"))
        };
        let servers = servers.split(',').map(server).collect::<Result<_>>()?;
        let setting = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((key.to_owned(), decode(value)?))
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let settings = pairs.map(setting).collect::<Result<_>>()?;
        let path = path.trim_end_matches('/').to_owned();
        Ok(Self { form, credentials, servers, path, settings })
    }

    /// The error for what a kind of registry does not take.
    pub fn wrong(&self, why: &str) -> Error {
        self.form.wrong(why)
    }

    /// The error for a setting that there is not.
    pub fn unknown(&self, key: &str) -> Error {
        self.wrong(&format!("`{key}` is unknown"))
    }

    /// A setting that is a time, such as `15s`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if it is no whole number of seconds.
    pub fn seconds(&self, key: &str, value: &str) -> Result<Duration> {
        let seconds = value.strip_suffix('s').and_then(|seconds| seconds.parse().ok());
        let wrong = || self.wrong(&format!("`{key}` is no whole number of seconds such as 15s"));
        seconds.map(Duration::from_secs).ok_or_else(wrong)
    }
}

impl AddressForm {
    fn wrong(&self, why: &str) -> Error {
        let Self { name, usage, .. } = self;
        Error::invalid_argument(format!("the address of {name} is malformed: {why}; {usage}"))
    }
}
