//! A list that somebody wrote down.

use bowline_core::{Endpoint, Instance};

use crate::{Discovery, Snapshot, Watcher};

/// A fixed list of endpoints: what `static:///a:1,b:2` means. Every service asked for lives there.
///
/// ```
/// use bowline_core::Endpoint;
/// use bowline_discovery::{Discovery, Static};
///
/// let fixed = Static::new([Endpoint::http("10.0.0.1", 80), Endpoint::http("10.0.0.2", 80)]);
/// assert_eq!(fixed.watch("catalog").current().instances.len(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct Static(Vec<Endpoint>);

impl Static {
    /// The given endpoints, each an instance whose id is its address.
    pub fn new(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        Self(endpoints.into_iter().collect())
    }
}

impl Discovery for Static {
    fn watch(&self, service: &str) -> Watcher {
        let instances = self.0.iter().map(|e| Instance::new(service, e.to_string()).with_endpoint(e.clone()));
        Watcher::fixed(Snapshot::live(service, instances))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_core::Context;

    #[tokio::test]
    async fn a_list_is_ready_at_once_and_names_an_endpoint_once() {
        let endpoint = Endpoint::http("h", 1);
        let watcher = Static::new([endpoint.clone(), endpoint.clone()]).watch("s");
        let snapshot = watcher.ready(&Context::background()).await.unwrap();
        assert_eq!(snapshot.instances.len(), 1);
        assert_eq!(snapshot.instances[0].endpoints, [endpoint]);
    }
}
