//! Who may do what.
//!
//! A token stands for rights in namespaces. It comes as a bearer token (RFC 6750), as the password of HTTP's basic
//! authentication (RFC 7617), which Eureka's clients have, or as the `accessToken` of Nacos' clients, who log in with it as
//! their password. Tokens are kept and looked up by their digest, so that a comparison tells nothing of them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bowline_config::Secret;
use bowline_core::{Context, Error, Result};
use bowline_registry_bowline::api::bowline::registry::v1::registry_error;
use bowline_registry_bowline::names::{canonical, is_label};
use bowline_rpc::{Body, BoxFuture};
use bowline_server::{ListenAddr, Middleware, Next};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::node::Shared;
use crate::watch;

/// What one may do with a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Find services, and lists of them.
    Read,
    /// Register instances, renew them, and take them out.
    Register,
    /// Override what instances say, and end protections.
    Operate,
}

impl Right {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Register => "register",
            Self::Operate => "operate",
        }
    }
}

/// Rights in namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Grant {
    /// In which namespaces; `*` is all of them.
    pub namespaces: Vec<String>,
    /// What is allowed there.
    pub allow: Vec<Right>,
}

impl Grant {
    fn has(&self, right: Right, namespace: &str) -> bool {
        let namespace = canonical(namespace);
        self.allow.contains(&right) && self.namespaces.iter().any(|n| n == "*" || canonical(n) == namespace)
    }

    fn check(&self, whose: &str) -> Result<()> {
        if self.namespaces.is_empty() || self.allow.is_empty() {
            return Err(wrong(&format!("{whose} allows nothing; give it `namespaces` and what to `allow`")));
        }
        match self.namespaces.iter().find(|n| *n != "*" && !is_label(n)) {
            Some(n) => Err(wrong(&format!(
                "{whose} names `{n}`, which is no namespace; use up to 63 of a-z, A-Z, 0-9, `-` and `_`, or `*`"
            ))),
            None => Ok(()),
        }
    }
}

/// A token and what it allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Token {
    /// What it is called in messages; also the user's name for clients that log in with one.
    pub name: String,
    /// The token itself, 16 bytes or more; or its digest.
    pub token: Option<Secret>,
    /// The token's SHA-256 in hexadecimal digits, so that the token need not be in the configuration.
    pub sha256: Option<String>,
    /// In which namespaces; `*` is all of them.
    pub namespaces: Vec<String>,
    /// What is allowed there.
    pub allow: Vec<Right>,
}

/// Who may do what. Without tokens everybody may do everything, and the node listens at loopback addresses only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AccessConfig {
    /// The tokens. As soon as there is one, whoever has none may do no more than `anonymous` says.
    pub tokens: Vec<Token>,
    /// What is allowed without a token once there are some. Nothing by default; names by DNS, which knows no tokens, are
    /// served by this.
    pub anonymous: Option<Grant>,
    /// Whether to listen at addresses that others can reach though there is no token, or no TLS between nodes: for closed
    /// networks. The same as the flag `--insecure`.
    pub insecure: bool,
}

fn wrong(what: &str) -> Error {
    Error::invalid_argument(format!("the registry's settings: {what}"))
}

/// A digest in hexadecimal digits.
fn read_digest(text: &str) -> Option<Digest> {
    let mut read = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, digits) in read.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(read)
}

type Digest = [u8; 32];

fn digest_of(token: &str) -> Digest {
    let mut own = [0; 32];
    own.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    own
}

/// The rule of a node.
#[derive(Debug)]
pub(crate) struct Access {
    tokens: HashMap<Digest, Arc<Named>>,
    anonymous: Arc<Named>,
    insecure: bool,
}

#[derive(Debug)]
struct Named {
    name: String,
    grant: Grant,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Arc<Named>);

impl Access {
    /// # Errors
    /// `INVALID_ARGUMENT` with the setting and the mend.
    pub(crate) fn new(config: &AccessConfig) -> Result<Self> {
        let mut tokens = HashMap::new();
        for (n, token) in config.tokens.iter().enumerate() {
            let whose =
                if token.name.is_empty() { format!("token {}", n + 1) } else { format!("`{}`", token.name) };
            let whose = format!("`access.tokens`: {whose}");
            let digest = match (&token.token, &token.sha256) {
                (Some(token), None) if token.expose().len() >= 16 => digest_of(token.expose()),
                (Some(_), None) => {
                    return Err(wrong(&format!("{whose} is shorter than 16 bytes; use a random one")));
                }
                (None, Some(text)) => read_digest(text).ok_or_else(|| {
                    wrong(&format!("{whose} has a `sha256` that is not 64 hexadecimal digits"))
                })?,
                _ => return Err(wrong(&format!("{whose} needs either `token` or `sha256`"))),
            };
            let grant = Grant { namespaces: token.namespaces.clone(), allow: token.allow.clone() };
            grant.check(&whose)?;
            let named = Named { name: token.name.clone(), grant };
            if tokens.insert(digest, Arc::new(named)).is_some() {
                return Err(wrong(&format!("{whose} is there twice")));
            }
        }
        if let Some(grant) = &config.anonymous {
            grant.check("`access.anonymous`")?;
            if tokens.is_empty() {
                return Err(wrong(
                    "`access.anonymous` bounds nobody as long as there are no `access.tokens`: everybody may do everything; \
                     add a token, or leave it out",
                ));
            }
        }
        let anonymous = Named { name: String::new(), grant: config.anonymous.clone().unwrap_or_default() };
        Ok(Self { tokens, anonymous: Arc::new(anonymous), insecure: config.insecure })
    }

    /// Whether everybody may do everything.
    pub(crate) fn is_open(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Refuses to listen where others can reach a node that asks nobody who they are.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` with the mend.
    pub(crate) fn check_listen(&self, what: &str, at: SocketAddr) -> Result<()> {
        if !self.is_open() {
            return Ok(());
        }
        self.check_reach(what, at, "set `registry.access.tokens`")
    }

    /// As [`Access::check_listen`], whatever tokens there are.
    pub(crate) fn check_reach(&self, what: &str, at: SocketAddr, mend: &str) -> Result<()> {
        if self.insecure || at.ip().is_loopback() {
            return Ok(());
        }
        Err(Error::failed_precondition(format!(
            "{what} would listen at {at}, where whoever reaches it can change what services are told; {mend}, listen at a \
             loopback address, or start with `--insecure` in a closed network"
        )))
    }

    /// Who has a token; who has none is somebody too.
    ///
    /// # Errors
    /// `UNKNOWN_TOKEN`: who shows a wrong one has to be told.
    pub(crate) fn caller(&self, token: Option<&str>) -> Result<Caller> {
        let Some(token) = token.filter(|_| !self.is_open()) else {
            return Ok(Caller(Arc::clone(&self.anonymous)));
        };
        match self.tokens.get(&digest_of(token)) {
            Some(named) => Ok(Caller(Arc::clone(named))),
            None => Err(registry_error::unknown_token()
                .with_message("the token is unknown to this registry; use one of its `access.tokens`")),
        }
    }

    /// Whether a user's name and password may log in.
    ///
    /// # Errors
    /// `UNKNOWN_TOKEN`.
    pub(crate) fn log_in(&self, user: &str, password: &str) -> Result<()> {
        let caller = self.caller(Some(password))?;
        if self.is_open() || caller.0.name.is_empty() || caller.0.name == user {
            return Ok(());
        }
        Err(registry_error::unknown_token().with_message("the password is the token of another user"))
    }

    /// Whether somebody may do something.
    pub(crate) fn may(&self, caller: &Caller, right: Right, namespace: &str) -> bool {
        self.is_open() || caller.0.grant.has(right, namespace)
    }

    /// Fails unless somebody may do something.
    ///
    /// # Errors
    /// `NOT_ALLOWED`.
    pub(crate) fn check(&self, caller: &Caller, right: Right, namespace: &str) -> Result<()> {
        if self.may(caller, right, namespace) {
            return Ok(());
        }
        let (namespace, right, name) = (canonical(namespace), right.name(), &caller.0.name);
        let who = if Arc::ptr_eq(&caller.0, &self.anonymous) {
            "who shows no token".to_owned()
        } else {
            format!("the token `{name}`")
        };
        let shown: String = namespace.chars().take(80).collect();
        Err(registry_error::not_allowed()
            .with_message(format!("{who} may not {right} in the namespace `{shown}` of this registry")))
    }

    /// Fails unless somebody may do something anywhere.
    ///
    /// # Errors
    /// `NOT_ALLOWED`.
    pub(crate) fn check_any(&self, caller: &Caller, right: Right) -> Result<()> {
        // No grant is without a namespace.
        if caller.0.grant.allow.contains(&right) { Ok(()) } else { self.check(caller, right, "*") }
    }
}

impl Shared {
    /// Who asks, as the guard found out; nobody with rights where there is no guard.
    pub(crate) fn caller(&self, cx: &Context) -> Caller {
        cx.value::<Caller>().cloned().unwrap_or_else(|| Caller(Arc::clone(&self.access.anonymous)))
    }

    /// Fails unless who asks may do something.
    ///
    /// # Errors
    /// `NOT_ALLOWED`.
    pub(crate) fn allow(&self, cx: &Context, right: Right, namespace: &str) -> Result<()> {
        if self.access.is_open() {
            return Ok(());
        }
        self.access.check(&self.caller(cx), right, namespace)
    }
}

/// Finds out who asks, and lets no more than there is room for be answered.
pub(crate) struct Guard(pub(crate) Arc<Shared>);

impl Middleware for Guard {
    fn call<'a>(
        &'a self,
        cx: &'a Context,
        request: Request<Body>,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<Response<Body>>> {
        Box::pin(async move {
            let response = if self.0.access.is_open() {
                next.run(request).await?
            } else {
                let token = shown(request.headers())?;
                let caller = self.0.access.caller(token.as_deref())?;
                next.run_with(&cx.with_value(caller), request).await?
            };
            watch::bounded(&self.0, response)
        })
    }
}

/// The token that a request shows.
fn shown(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let malformed = || {
        registry_error::unknown_token().with_message(
            "the `authorization` is malformed; use `Bearer TOKEN`, or `Basic` with it as the password",
        )
    };
    let (scheme, rest) = value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or_else(malformed)?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(rest.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(malformed());
    }
    let decoded = STANDARD.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = decoded.ok_or_else(malformed)?;
    let (_, password) = decoded.split_once(':').ok_or_else(malformed)?;
    Ok(Some(password.to_owned()))
}

/// A server's address, if others can reach it.
pub(crate) fn reachable(listen: &str) -> Option<SocketAddr> {
    match listen.parse() {
        Ok(ListenAddr::Tcp(addr)) => Some(addr),
        // What is malformed is refused where it is used.
        Ok(ListenAddr::Unix(_) | ListenAddr::Memory(_)) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(token: &str, namespaces: &[&str], allow: &[Right]) -> AccessConfig {
        let namespaces = namespaces.iter().map(|n| (*n).to_owned()).collect();
        let token = Token {
            name: "shop".into(),
            token: Some(Secret::new(token)),
            namespaces,
            allow: allow.to_vec(),
            ..Token::default()
        };
        AccessConfig { tokens: vec![token], ..AccessConfig::default() }
    }

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn a_token_allows_what_it_says_and_no_more() {
        let access = Access::new(&config(TOKEN, &["shop"], &[Right::Read, Right::Register])).unwrap();
        let (caller, nobody) = (access.caller(Some(TOKEN)).unwrap(), access.caller(None).unwrap());
        access.check(&caller, Right::Register, "shop").unwrap();
        let error = access.check(&caller, Right::Operate, "shop").unwrap_err();
        assert!(
            registry_error::is_not_allowed(&error) && error.message().contains("`shop` may not operate"),
            "{error}"
        );
        assert!(access.check(&caller, Right::Read, "").is_err());
        assert!(access.check(&nobody, Right::Read, "shop").unwrap_err().message().contains("no token"));
        assert!(registry_error::is_unknown_token(&access.caller(Some("another")).unwrap_err()));
        assert!(access.log_in("shop", TOKEN).is_ok() && access.log_in("other", TOKEN).is_err());
        access.check_any(&caller, Right::Read).unwrap();
        assert!(
            access.check_any(&caller, Right::Operate).is_err()
                && access.check_any(&nobody, Right::Read).is_err()
        );
    }

    #[test]
    fn a_digest_does_as_well_and_a_star_is_every_namespace() {
        let mut config = config("", &["*"], &[Right::Read]);
        config.tokens[0].token = None;
        // Of TOKEN, by another program.
        let digest = "9f9f5111f7b27a781f1f1ddde5ebc2dd2b796bfc7365c9c28b548e564176929f";
        config.tokens[0].sha256 = Some(digest.into());
        let access = Access::new(&config).unwrap();
        let caller = access.caller(Some(TOKEN)).unwrap();
        access.check(&caller, Right::Read, "any").unwrap();
    }

    #[test]
    fn without_tokens_everybody_may_and_only_loopback_is_listened_at() {
        let mut config = AccessConfig::default();
        let access = Access::new(&config).unwrap();
        let nobody = access.caller(Some("whatever")).unwrap();
        access.check(&nobody, Right::Operate, "shop").unwrap();
        let (near, far) = (([127, 0, 0, 1], 1).into(), ([0, 0, 0, 0], 1).into());
        access.check_listen("the registry", near).unwrap();
        let error = access.check_listen("the registry", far).unwrap_err();
        assert!(error.message().contains("0.0.0.0:1") && error.message().contains("--insecure"), "{error}");
        config.insecure = true;
        Access::new(&config).unwrap().check_listen("the registry", far).unwrap();
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_with_their_mend() {
        let refused = |config: AccessConfig| Access::new(&config).unwrap_err().message().to_owned();
        assert!(refused(config("short", &["*"], &[Right::Read])).contains("shorter than 16 bytes"));
        assert!(refused(config(TOKEN, &[], &[Right::Read])).contains("allows nothing"));
        assert!(refused(config(TOKEN, &["a b"], &[Right::Read])).contains("`a b`, which is no namespace"));
        let grant = Grant { namespaces: vec!["public".into()], allow: vec![Right::Read] };
        let nobody_bound = AccessConfig { anonymous: Some(grant), ..AccessConfig::default() };
        assert!(refused(nobody_bound).contains("add a token"));
        let mut twice = config(TOKEN, &["*"], &[Right::Read]);
        twice.tokens.push(twice.tokens[0].clone());
        assert!(refused(twice).contains("twice"));
    }

    #[test]
    fn a_token_is_shown_as_bearer_or_as_a_password() {
        let shown = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            super::shown(&headers)
        };
        assert_eq!(shown("Bearer abc").unwrap().unwrap(), "abc");
        let basic = format!("basic {}", STANDARD.encode("user:a:b"));
        assert_eq!(shown(&basic).unwrap().unwrap(), "a:b");
        for malformed in ["Bearer", "Digest abc", "Basic !!!"] {
            assert!(registry_error::is_unknown_token(&shown(malformed).unwrap_err()), "{malformed}");
        }
    }
}
