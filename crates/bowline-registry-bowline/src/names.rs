//! The names of namespaces and environments.

/// The namespace and the environment that an empty one stands for.
const DEFAULT: &str = "default";

/// The form of a namespace's or an environment's name that the registry keeps: an empty one is `default`.
///
/// ```
/// assert_eq!(bowline_registry_bowline::canonical(""), "default");
/// assert_eq!(bowline_registry_bowline::canonical("prod"), "prod");
/// ```
pub fn canonical(name: &str) -> &str {
    if name.is_empty() { DEFAULT } else { name }
}
