//! Which path and method mean what.

use bowline_core::{MethodKind, Operation};
use http::Method as Verb;
use percent_encoding::percent_decode_str;

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Apps,
    Delta,
    App(String),
    Instance(String, String),
    Status(String, String),
    Metadata(String, String),
    AnyInstance(String),
    Vip(String),
    SecureVip(String),
}

impl Target {
    /// The target of a path, with or without the version, with or without a slash at the end.
    pub(super) fn of(path: &str) -> Option<Self> {
        let path = path.strip_prefix("/eureka/")?;
        let path = path.strip_prefix("v2/").unwrap_or(path);
        let decode = |part: &str| percent_decode_str(part).decode_utf8().ok().map(|part| part.into_owned());
        let parts: Vec<String> = path.trim_end_matches('/').split('/').map(decode).collect::<Option<_>>()?;
        let mut parts = parts.into_iter();
        let kind = parts.next()?;
        let rest: Vec<String> = parts.collect();
        let all = <[String; 3]>::try_from(rest.clone());
        Some(match (kind.as_str(), rest.as_slice()) {
            ("apps", []) => Self::Apps,
            ("apps", [one]) if one == "delta" => Self::Delta,
            ("apps", [app]) => Self::App(app.clone()),
            ("apps", [app, id]) => Self::Instance(app.clone(), id.clone()),
            ("apps", _) => match all.ok()? {
                [app, id, what] if what == "status" => Self::Status(app, id),
                [app, id, what] if what == "metadata" => Self::Metadata(app, id),
                _ => return None,
            },
            ("instances", [id]) => Self::AnyInstance(id.clone()),
            ("vips", [vip]) => Self::Vip(vip.clone()),
            ("svips", [vip]) => Self::SecureVip(vip.clone()),
            _ => return None,
        })
    }

    /// The name of what a method does with it.
    fn operation(&self, method: &Verb) -> Option<&'static str> {
        Some(match (self, method.as_str()) {
            (Self::Apps, "GET") => "apps",
            (Self::Delta, "GET") => "delta",
            (Self::App(_), "GET") => "app",
            (Self::App(_), "POST") => "register",
            (Self::Instance(..), "GET") => "instance",
            (Self::Instance(..), "PUT") => "heartbeat",
            (Self::Instance(..), "DELETE") => "cancel",
            (Self::Status(..), "PUT") => "override",
            (Self::Status(..), "DELETE") => "clear-override",
            (Self::Metadata(..), "PUT") => "metadata",
            (Self::AnyInstance(_), "GET") => "instances",
            (Self::Vip(_), "GET") => "vips",
            (Self::SecureVip(_), "GET") => "svips",
            _ => return None,
        })
    }
}

/// All names of operations.
const NAMES: [&str; 13] = [
    "apps",
    "delta",
    "app",
    "register",
    "instance",
    "heartbeat",
    "cancel",
    "override",
    "clear-override",
    "metadata",
    "instances",
    "vips",
    "svips",
];

/// The operations, made once.
pub(in super::super) struct Operations(Vec<(&'static str, Operation)>);

impl Operations {
    pub(in super::super) fn new() -> Self {
        let operation = |name| (name, Operation::new("eureka", name, MethodKind::Unary));
        Self(NAMES.into_iter().map(operation).collect())
    }

    pub(in super::super) fn resolve(&self, method: &Verb, path: &str) -> Option<Operation> {
        let name = Target::of(path)?.operation(method)?;
        self.0.iter().find(|(n, _)| *n == name).map(|(_, operation)| operation.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_their_targets_with_and_without_version_and_slash() {
        let instance = Target::Instance("A".into(), "h:a:80".into());
        for (path, expected) in [
            ("/eureka/apps", Some(Target::Apps)),
            ("/eureka/v2/apps/", Some(Target::Apps)),
            ("/eureka/apps/delta", Some(Target::Delta)),
            ("/eureka/v2/apps/A/h%3Aa%3A80", Some(instance.clone())),
            ("/eureka/apps/A/h:a:80", Some(instance)),
            ("/eureka/apps/A/i/status", Some(Target::Status("A".into(), "i".into()))),
            ("/eureka/apps/A/i/else", None),
            ("/eureka/apps/A/i/status/x", None),
            ("/eureka/instances", None),
            ("/apps", None),
        ] {
            assert_eq!(Target::of(path), expected, "{path}");
        }
    }

    #[test]
    fn every_operation_has_a_name_of_the_list() {
        let operations = Operations::new();
        for (method, path, name) in [
            (Verb::PUT, "/eureka/apps/A/i", "heartbeat"),
            (Verb::POST, "/eureka/v2/apps/A", "register"),
            (Verb::DELETE, "/eureka/apps/A/i/status", "clear-override"),
            (Verb::GET, "/eureka/svips/v", "svips"),
        ] {
            assert_eq!(operations.resolve(&method, path).unwrap().path(), format!("/eureka/{name}"));
        }
        assert!(operations.resolve(&Verb::POST, "/eureka/apps").is_none());
    }
}
