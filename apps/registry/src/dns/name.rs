//! What a DNS name asks for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bowline_core::Result;
use hickory_proto::rr::Name;

use crate::store::ServiceKey;

/// The zone's only label.
const ZONE: &str = "bowline";
/// Under it, addresses have names: SRV records need some.
const ADDRESSES: &str = "addr";

/// A name under the zone.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The zone itself.
    Zone,
    /// The instances of a service.
    Service {
        key: ServiceKey,
        /// Whose instances, before the base's.
        tenant: Option<String>,
        /// Whose instances, before those elsewhere.
        zone: Option<String>,
    },
    /// The address that the name spells.
    Address(IpAddr),
    /// A name that nothing can have.
    Nothing,
}

/// The zone's name.
pub(super) fn zone() -> Name {
    under_zone(&[])
}

/// The name of an address: `ip-10-0-0-1.addr.bowline.`, or eight groups for IPv6.
pub(super) fn of_address(address: IpAddr) -> Name {
    let spelt = match address {
        IpAddr::V4(v4) => v4.octets().map(|octet| octet.to_string()).join("-"),
        IpAddr::V6(v6) => v6.segments().map(|segment| format!("{segment:x}")).join("-"),
    };
    under_zone(&[&format!("ip-{spelt}"), ADDRESSES])
}

fn under_zone(labels: &[&str]) -> Name {
    let labels = labels.iter().copied().chain([ZONE]).map(str::as_bytes);
    let mut name = Name::from_labels(labels).unwrap_or_default();
    name.set_fqdn(true);
    name
}

impl Asked {
    /// Reads a name; `None` if it is not under the zone. Letter case does not count in DNS: names are looked up in lower case.
    pub(super) fn of(name: &Name) -> Option<Self> {
        let labels: Option<Vec<String>> =
            name.iter().map(|label| Some(std::str::from_utf8(label).ok()?.to_ascii_lowercase())).collect();
        let labels = labels.unwrap_or_default();
        let mut labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        if labels.pop()? != ZONE {
            return None;
        }
        Some(match labels.as_slice() {
            [] => Self::Zone,
            [spelt, ADDRESSES] => address(spelt).map_or(Self::Nothing, Self::Address),
            labels => service(labels).unwrap_or(Self::Nothing),
        })
    }
}

/// `[_PORT._PROTOCOL.][TENANT._tenant.][ZONE._zone.]SERVICE.ENV.NAMESPACE`; a service's name may have dots.
fn service(mut labels: &[&str]) -> Option<Asked> {
    if let [port, "_tcp" | "_udp", rest @ ..] = labels
        && port.starts_with('_')
    {
        labels = rest;
    }
    let (mut tenant, mut zone) = (None, None);
    loop {
        match labels {
            [name, "_tenant", rest @ ..] if tenant.is_none() => {
                (tenant, labels) = (Some((*name).to_owned()), rest);
            }
            [name, "_zone", rest @ ..] if zone.is_none() => (zone, labels) = (Some((*name).to_owned()), rest),
            _ => break,
        }
    }
    let [service @ .., env, namespace] = labels else { return None };
    let key: Result<ServiceKey> = ServiceKey::new(namespace, env, &service.join("."));
    Some(Asked::Service { key: key.ok()?, tenant, zone })
}

fn address(spelt: &str) -> Option<IpAddr> {
    let groups: Vec<&str> = spelt.strip_prefix("ip-")?.split('-').collect();
    if let Ok(octets) = <[&str; 4]>::try_from(groups.as_slice()) {
        let mut address = [0; 4];
        for (to, octet) in address.iter_mut().zip(octets) {
            *to = octet.parse().ok()?;
        }
        return Some(Ipv4Addr::from(address).into());
    }
    let segments = <[&str; 8]>::try_from(groups.as_slice()).ok()?;
    let mut address = [0; 8];
    for (to, segment) in address.iter_mut().zip(segments) {
        *to = u16::from_str_radix(segment, 16).ok()?;
    }
    Some(Ipv6Addr::from(address).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str) -> Option<Asked> {
        Asked::of(&Name::from_ascii(name).unwrap())
    }

    fn service(service: &str, tenant: Option<&str>, zone: Option<&str>) -> Option<Asked> {
        let key = ServiceKey::new("default", "prod", service).unwrap();
        Some(Asked::Service { key, tenant: tenant.map(Into::into), zone: zone.map(Into::into) })
    }

    #[test]
    fn names_say_service_tenant_and_zone() {
        assert_eq!(asked("Catalog.Prod.default.BOWLINE."), service("catalog", None, None));
        assert_eq!(asked("shop.catalog.prod.default.bowline."), service("shop.catalog", None, None));
        assert_eq!(
            asked("canary._tenant.z1._zone.catalog.prod.default.bowline."),
            service("catalog", Some("canary"), Some("z1"))
        );
        assert_eq!(asked("_grpc._tcp.catalog.prod.default.bowline."), service("catalog", None, None));
        assert_eq!(asked("bowline."), Some(Asked::Zone));
        assert_eq!(asked("catalog.prod.default.example."), None);
        for nothing in ["catalog.bowline.", "default.bowline.", "prod.default.bowline.", "x.addr.bowline."] {
            assert_eq!(asked(nothing), Some(Asked::Nothing), "{nothing}");
        }
    }

    #[test]
    fn an_address_has_a_name_and_the_name_the_address() {
        for address in ["10.0.0.1", "255.255.255.255", "::1", "2001:db8::ff00:42:8329"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(Asked::of(&of_address(address)), Some(Asked::Address(address)));
        }
        assert_eq!(of_address(Ipv4Addr::LOCALHOST.into()).to_ascii(), "ip-127-0-0-1.addr.bowline.");
        assert_eq!(asked("ip-1-2-3.addr.bowline."), Some(Asked::Nothing));
        assert_eq!(asked("ip-1-2-3-256.addr.bowline."), Some(Asked::Nothing));
    }
}
