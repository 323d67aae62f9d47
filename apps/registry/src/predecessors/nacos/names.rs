//! Nacos' names and the registry's.
//!
//! Nacos allows signs in names that the registry does not, `:` of Dubbo's interfaces among them. They become `_.` and the
//! sign's byte as two hexadecimal digits; a group other than `DEFAULT_GROUP` stands in front of the service, and `_._`
//! between them. Names without anything of that kind are the same on both sides.

use bowline_core::Result;
use bowline_registry_nacos::names::{DEFAULT_CLUSTER, DEFAULT_GROUP, PUBLIC, grouped, split};

use super::super::params::invalid;
use crate::node::Shared;
use crate::store::ServiceKey;

/// Begins what stands for something else.
const ESCAPE: &str = "_.";
/// What stands between group and service, after [`ESCAPE`].
const BETWEEN: char = '_';

/// A service as Nacos names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) group: String,
    pub(super) service: String,
}

impl Name {
    /// A name of group and service. A group within the service's name counts; none is `DEFAULT_GROUP`.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if there is no name.
    pub(super) fn new(group: &str, service: &str) -> Result<Self> {
        let (own, service) = split(service);
        let group = [own, group].into_iter().find(|group| !group.is_empty()).unwrap_or(DEFAULT_GROUP);
        if service.is_empty() {
            return Err(invalid("the parameter `serviceName` is missing"));
        }
        Ok(Self { group: group.to_owned(), service: service.to_owned() })
    }

    /// The name of one of the registry's services; `None` for one that Nacos' clients could not ask for by it.
    pub(super) fn of(key: &ServiceKey) -> Option<Self> {
        let name = decode(key.service());
        let is_reachable = encode(&name.group, &name.service) == key.service();
        is_reachable.then_some(name)
    }

    /// Group and service in one.
    pub(super) fn grouped(&self) -> String {
        grouped(&self.group, &self.service)
    }

    /// The registry's name.
    ///
    /// # Errors
    /// `INVALID_NAME` if it is too long or the namespace is malformed.
    pub(super) fn key(&self, shared: &Shared, namespace: &str) -> Result<ServiceKey> {
        let name = encode(&self.group, &self.service);
        ServiceKey::new(namespace_of(namespace), &shared.config.nacos_env, &name)
    }
}

/// The registry's namespace.
pub(super) fn namespace_of(namespace: &str) -> &str {
    if namespace == PUBLIC { "" } else { namespace }
}

/// The registry's cluster.
pub(super) fn cluster_of(cluster: &str) -> &str {
    if cluster == DEFAULT_CLUSTER { "" } else { cluster }
}

fn encode(group: &str, service: &str) -> String {
    let mut name = String::with_capacity(group.len() + service.len() + 3);
    if group != DEFAULT_GROUP {
        encode_part(group, &mut name);
        name.push_str(ESCAPE);
        name.push(BETWEEN);
    }
    encode_part(service, &mut name);
    name
}

fn encode_part(part: &str, name: &mut String) {
    let bytes = part.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let is_plain = match byte {
            b'_' => bytes.get(at + 1) != Some(&b'.'),
            // A name does not begin with one.
            b'.' => !name.is_empty(),
            b'-' => true,
            other => other.is_ascii_alphanumeric(),
        };
        if is_plain {
            name.push(char::from(*byte));
        } else {
            name.push_str(ESCAPE);
            name.push_str(&format!("{byte:02X}"));
        }
    }
}

/// What stands for nothing is itself.
fn decode(name: &str) -> Name {
    let (mut group, mut bytes) = (None, Vec::with_capacity(name.len()));
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        if let Some(escaped) = rest.strip_prefix(ESCAPE) {
            if let Some(after) = escaped.strip_prefix(BETWEEN).filter(|_| group.is_none()) {
                group = Some(std::mem::take(&mut bytes));
                rest = after;
                continue;
            }
            let byte = escaped.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
            if let Some(byte) = byte {
                bytes.push(byte);
                rest = escaped.get(2..).unwrap_or_default();
                continue;
            }
        }
        bytes.extend_from_slice(first.encode_utf8(&mut [0; 4]).as_bytes());
        rest = rest.get(first.len_utf8()..).unwrap_or_default();
    }
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Name { group: group.map_or_else(|| DEFAULT_GROUP.to_owned(), text), service: text(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_registry_bowline::names::is_service;
    use proptest::prelude::*;

    #[test]
    fn common_names_stay_as_they_are_and_others_are_spelt() {
        for (group, service, expected) in [
            ("DEFAULT_GROUP", "catalog.http", "catalog.http"),
            ("DEFAULT_GROUP", "my_service-2", "my_service-2"),
            ("G1", "orders", "G1_._orders"),
            ("DEFAULT_GROUP", "providers:com.x.Demo:1.0.0:", "providers_.3Acom.x.Demo_.3A1.0.0_.3A"),
            ("DEFAULT_GROUP", ".hidden", "_.2Ehidden"),
            ("DEFAULT_GROUP", "a_.b", "a_.5F.b"),
        ] {
            assert_eq!(encode(group, service), expected);
            assert_eq!(decode(expected), Name { group: group.into(), service: service.into() });
        }
    }

    #[test]
    fn a_name_that_nacos_could_not_ask_for_is_not_told() {
        let told = |service: &str| Name::of(&ServiceKey::new("", "", service).unwrap()).is_some();
        assert!(told("catalog") && told("G_._catalog"));
        for service in ["a_.b", "a_.5f", "DEFAULT_GROUP_._a", "a_._b_._c", "_.FF"] {
            assert!(!told(service), "{service}");
        }
    }

    proptest! {
        #[test]
        fn every_name_goes_there_and_back(group in "[A-Za-z_.:-]{1,6}", service in "[a-z_.:/é-]{1,12}") {
            let name = encode(&group, &service);
            prop_assert!(is_service(&name), "{}", name);
            prop_assert_eq!(decode(&name), Name { group, service });
        }
    }
}
