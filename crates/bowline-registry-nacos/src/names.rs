//! Names in Nacos: a service is a group and a name within it.

/// The group of who names none.
pub const DEFAULT_GROUP: &str = "DEFAULT_GROUP";
/// The cluster of who names none.
pub const DEFAULT_CLUSTER: &str = "DEFAULT";
/// The namespace of who names none, as it is written where something has to be.
pub const PUBLIC: &str = "public";
/// Stands between group and service where both are in one text.
const SPLITTER: &str = "@@";

/// Group and service in one text.
///
/// ```
/// assert_eq!(bowline_registry_nacos::names::grouped("DEFAULT_GROUP", "catalog"), "DEFAULT_GROUP@@catalog");
/// ```
pub fn grouped(group: &str, service: &str) -> String {
    format!("{group}{SPLITTER}{service}")
}

/// Group and service of a text; the group is empty if it names none.
///
/// ```
/// use bowline_registry_nacos::names::split;
///
/// assert_eq!(split("DEFAULT_GROUP@@catalog"), ("DEFAULT_GROUP", "catalog"));
/// assert_eq!(split("catalog"), ("", "catalog"));
/// ```
pub fn split(name: &str) -> (&str, &str) {
    name.split_once(SPLITTER).unwrap_or(("", name))
}

/// The id that Nacos gives an instance that has none: address, cluster and service.
///
/// ```
/// let id = bowline_registry_nacos::names::instance_id("10.0.0.1", 80, "", "G@@s");
/// assert_eq!(id, "10.0.0.1#80#DEFAULT#G@@s");
/// ```
pub fn instance_id(ip: &str, port: u16, cluster: &str, grouped: &str) -> String {
    let cluster = if cluster.is_empty() { DEFAULT_CLUSTER } else { cluster };
    format!("{ip}#{port}#{cluster}#{grouped}")
}
