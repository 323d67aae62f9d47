//! Instances as Kratos writes them into Nacos, and ours among them. See the [crate] for the layout.

use std::collections::BTreeMap;

use bowline_core::{Endpoint, Error, Instance, InstanceId, InstanceStatus, Result, Scheme, Tenant};

use crate::api;

const KIND: &str = "kind";
const VERSION: &str = "version";
const WEIGHT: &str = "weight";
const OURS: &str = "bowline-";
const ID: &str = "bowline-id";
const ENV: &str = "bowline-env";
const ZONE: &str = "bowline-zone";
const CLUSTER: &str = "bowline-cluster";
const TENANT: &str = "bowline-tenant";
const STATUS: &str = "bowline-status";
const OWN_WEIGHT: &str = "bowline-weight";
const ENDPOINTS: &str = "bowline-endpoints";
const HOLDER: &str = "bowline-holder";
const DEFAULT_ENV: &str = "default";
/// The heaviest weight that Nacos takes.
const MAX_WEIGHT: u32 = 10_000;

/// Under which names a service may be found, what is preferred first; the last is its own.
pub(crate) fn names(service: &str) -> [String; 5] {
    let named = |kind: &str| format!("{service}.{kind}");
    [named("grpc"), named("grpcs"), named("http"), named("https"), service.to_owned()]
}

/// Who registered an instance: of two, the later one has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Holder {
    /// When it registered, in milliseconds since 1970.
    pub(crate) since: u64,
    pub(crate) number: u64,
}

impl Holder {
    fn text(self) -> String {
        format!("{}.{}", self.since, self.number)
    }

    fn of(text: &str) -> Option<Self> {
        let (since, number) = text.split_once('.')?;
        Some(Self { since: since.parse().ok()?, number: number.parse().ok()? })
    }
}

fn canonical(env: &str) -> &str {
    if env.is_empty() { DEFAULT_ENV } else { env }
}

/// What is registered for an instance: in which services, and what.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Written {
    pub(crate) services: [String; 2],
    kinds: [&'static str; 2],
    instance: api::Instance,
}

impl Written {
    /// Whether both are at the same place in Nacos.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        let place =
            |written: &Self| (written.services.clone(), written.instance.ip.clone(), written.instance.port);
        place(self) == place(other)
    }

    /// The instance for one of the services.
    pub(crate) fn instance(&self, nth: usize) -> api::Instance {
        let mut instance = self.instance.clone();
        if let Some(kind) = self.kinds.get(nth) {
            instance.metadata.insert(KIND.to_owned(), (*kind).to_owned());
        }
        instance
    }
}

/// Writes an instance. `env` is the environment of who has none of its own.
///
/// # Errors
/// `INVALID_ARGUMENT` if it has no host and port, no name, or uses metadata that is kept for a field.
pub(crate) fn write(instance: &Instance, env: &str, holder: Holder) -> Result<Written> {
    let no_place = |what: &str| {
        let (id, service) = (&instance.id, &instance.service);
        Err(Error::invalid_argument(format!("`{id}` of `{service}` has no place in Nacos: {what}")))
    };
    let service = &*instance.service;
    if service.is_empty() || service.contains("@@") || service.contains(char::is_whitespace) {
        return no_place("use a service's name without `@@` and blanks");
    }
    if instance.id.as_str().is_empty() {
        return no_place("give it an id");
    }
    let of_tcp = |endpoint: &&Endpoint| matches!(endpoint.scheme(), Scheme::Http | Scheme::Https);
    let Some(endpoint) = instance.endpoints.iter().find(of_tcp) else {
        return no_place("it keeps a host and a port; add an endpoint such as http://10.0.0.1:8000");
    };
    if let Some(key) = instance
        .metadata
        .keys()
        .find(|key| [KIND, VERSION, WEIGHT].contains(&key.as_str()) || key.starts_with(OURS))
    {
        return no_place(&format!(
            "the metadata key `{key}` is kept for a field; set that, or use another key"
        ));
    }
    let kinds = if endpoint.scheme() == Scheme::Https { ["grpcs", "https"] } else { ["grpc", "http"] };
    let mut metadata = instance.metadata.clone();
    let mut put = |key: &str, value: &str| metadata.insert(key.to_owned(), value.to_owned());
    put(VERSION, &instance.version);
    put(ID, instance.id.as_str());
    put(ENV, canonical(if instance.env.is_empty() { env } else { &instance.env }));
    put(HOLDER, &holder.text());
    for (key, value) in
        [(ZONE, &*instance.zone), (CLUSTER, &*instance.cluster), (TENANT, instance.tenant.as_str())]
    {
        if !value.is_empty() {
            put(key, value);
        }
    }
    match instance.status {
        InstanceStatus::Up => {}
        InstanceStatus::Starting => _ = put(STATUS, "starting"),
        InstanceStatus::OutOfService => _ = put(STATUS, "out_of_service"),
    }
    if instance.weight != Instance::DEFAULT_WEIGHT {
        put(OWN_WEIGHT, &instance.weight.to_string());
    }
    if instance.endpoints.len() > 1 {
        let all: Vec<String> = instance.endpoints.iter().map(ToString::to_string).collect();
        let all =
            serde_json::to_string(&all).map_err(|e| Error::internal("endpoints as JSON").with_source(e))?;
        put(ENDPOINTS, &all);
    }
    // Who is not up has no weight for others. It is not said to be unhealthy: r-nacos tells nobody of those.
    let is_up = instance.status == InstanceStatus::Up;
    let instance = api::Instance {
        ip: endpoint.host().to_owned(),
        port: endpoint.port(),
        weight: if is_up { f64::from(instance.weight.min(MAX_WEIGHT)) } else { 0.0 },
        metadata,
        ..Default::default()
    };
    Ok(Written { services: kinds.map(|kind| format!("{service}.{kind}")), kinds, instance })
}

/// An instance that was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Read {
    pub(crate) instance: Instance,
    /// Who registered it; the default for those of others.
    pub(crate) holder: Holder,
}

/// Reads one. `None` if it is one of another environment than `env`, or is to have no traffic.
///
/// # Errors
/// `INVALID_ARGUMENT` for what is malformed.
pub(crate) fn read(found: &api::Instance, service: &str, env: &str) -> Result<Option<Read>> {
    let mut metadata = found.metadata.clone();
    let here = metadata.remove(ENV).is_none_or(|its| its == canonical(env));
    if !found.enabled || !here {
        return Ok(None);
    }
    let kind = metadata.remove(KIND);
    let secure = match kind.as_deref() {
        Some(kind) => matches!(kind, "grpcs" | "https"),
        None => metadata.get("secure").is_some_and(|secure| secure == "true"),
    };
    let endpoints = match metadata.remove(ENDPOINTS) {
        Some(all) => endpoints(&all)?,
        None if secure => vec![Endpoint::https(&*found.ip, found.port)],
        None => vec![Endpoint::http(&*found.ip, found.port)],
    };
    let mut text = |key: &str| metadata.remove(key).unwrap_or_default();
    let (id, holder) = (text(ID), Holder::of(&text(HOLDER)).unwrap_or_default());
    let (zone, cluster, status, version) = (text(ZONE), text(CLUSTER), text(STATUS), text(VERSION));
    let tenant = text(TENANT);
    let tenant = Tenant::new(&tenant)
        .ok_or_else(|| Error::invalid_argument(format!("`{tenant}` in `{TENANT}` is no tenant")))?;
    // Kratos counts in hundreds, and says so in the metadata too.
    let scale = if kind.is_some() { 1.0 } else { 100.0 };
    let counted = (found.weight * scale).round().clamp(0.0, f64::from(u32::MAX)) as u32;
    if kind.is_some() {
        metadata.remove(WEIGHT);
    }
    let weight = match metadata.remove(OWN_WEIGHT).and_then(|weight| weight.parse().ok()) {
        Some(own) => own,
        None if id.is_empty() => counted,
        None => Instance::DEFAULT_WEIGHT,
    };
    let status = match (&*status, found.healthy) {
        ("out_of_service", _) => InstanceStatus::OutOfService,
        ("starting", _) | ("", false) => InstanceStatus::Starting,
        _ => InstanceStatus::Up,
    };
    let id = if id.is_empty() { format!("{}:{}", found.ip, found.port) } else { id };
    let instance = Instance {
        id: InstanceId::new(id),
        service: service.into(),
        version,
        env: env.to_owned(),
        zone,
        cluster,
        tenant,
        weight,
        status,
        endpoints,
        metadata: metadata.into_iter().collect::<BTreeMap<_, _>>(),
    };
    Ok(Some(Read { instance, holder }))
}

fn endpoints(json: &str) -> Result<Vec<Endpoint>> {
    let texts: Vec<String> = serde_json::from_str(json)
        .map_err(|e| Error::invalid_argument(format!("`{ENDPOINTS}` is no JSON: {e}")).with_source(e))?;
    texts.iter().map(|text| text.parse()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Instance {
        Instance {
            version: "v1".into(),
            zone: "z".into(),
            cluster: "blue".into(),
            tenant: Tenant::new("t").unwrap(),
            weight: 0,
            status: InstanceStatus::OutOfService,
            endpoints: vec![Endpoint::unix("/run/s"), Endpoint::https("::1", 443)],
            metadata: [("k".to_owned(), "v".to_owned())].into(),
            ..Instance::new("s", "a@b")
        }
    }

    #[test]
    fn an_instance_goes_there_and_back() {
        let holder = Holder { since: 7, number: 9 };
        let plain = Instance::new("s", "p").with_endpoint(Endpoint::http("10.0.0.1", 80));
        for (instance, services) in [(full(), ["s.grpcs", "s.https"]), (plain, ["s.grpc", "s.http"])] {
            let written = write(&instance, "prod", holder).unwrap();
            assert_eq!(written.services, services.map(str::to_owned));
            for nth in 0..2 {
                let read = read(&written.instance(nth), "s", "prod").unwrap().unwrap();
                let expected = Instance { env: "prod".into(), ..instance.clone() };
                assert_eq!(read, Read { instance: expected, holder });
            }
            assert_eq!(read(&written.instance(0), "s", "").unwrap(), None, "another environment");
        }
    }

    #[test]
    fn what_kratos_and_spring_register_is_read() {
        let metadata = [("kind", "grpc"), ("version", "v1"), ("weight", "30"), ("color", "blue")];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let kratos = api::Instance {
            ip: "10.0.0.1".into(),
            port: 9000,
            weight: 30.0,
            metadata: metadata.into(),
            ..Default::default()
        };
        let found = read(&kratos, "helloworld", "").unwrap().unwrap().instance;
        assert_eq!((found.id.as_str(), &*found.version, found.weight), ("10.0.0.1:9000", "v1", 30));
        assert_eq!(found.endpoints, [Endpoint::http("10.0.0.1", 9000)]);
        assert_eq!(found.metadata, [("color".to_owned(), "blue".to_owned())].into());
        let spring = api::Instance {
            ip: "b".into(),
            port: 443,
            weight: 0.5,
            healthy: false,
            metadata: [("secure".to_owned(), "true".to_owned())].into(),
            ..Default::default()
        };
        let found = read(&spring, "s", "").unwrap().unwrap().instance;
        assert_eq!((found.weight, found.status), (50, InstanceStatus::Starting));
        assert_eq!(found.endpoints, [Endpoint::https("b", 443)]);
    }

    #[test]
    fn what_kratos_looks_for_is_written() {
        let instance = Instance { weight: 7, ..full() };
        let written = write(&instance, "", Holder::default()).unwrap().instance(0);
        assert_eq!((&*written.ip, written.port, written.weight), ("::1", 443, 0.0), "it is out of service");
        let up = Instance { status: InstanceStatus::Up, ..instance };
        assert_eq!(write(&up, "", Holder::default()).unwrap().instance(0).weight, 7.0);
        assert_eq!((&*written.metadata["kind"], &*written.metadata["version"]), ("grpcs", "v1"));
    }

    #[test]
    fn what_has_no_place_is_refused_with_the_mend() {
        let mut kept = Instance::new("s", "a").with_endpoint(Endpoint::http("a", 1));
        kept.metadata.insert("kind".into(), "x".into());
        for (instance, mend) in [
            (Instance::new("s", "a").with_endpoint(Endpoint::unix("/x")), "add an endpoint"),
            (Instance::new("a@@b", "a"), "without `@@`"),
            (kept, "use another key"),
        ] {
            let error = write(&instance, "", Holder::default()).unwrap_err();
            assert!(error.is_invalid() && error.message().contains(mend), "{error}");
        }
    }
}
