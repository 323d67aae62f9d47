//! Long polls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::Result;
use bowline_rpc::Scope;

use super::super::params::{Params, invalid};
use super::model::Instances;
use super::{Asked, Said, key, keys, value};
use crate::node::Shared;
use crate::store::ServiceKey;

/// How long a poll parks.
const PARK: Duration = Duration::from_secs(30);
/// How long before its deadline a poll answers, so that the answer arrives.
const MARGIN: Duration = Duration::from_millis(500);

pub(super) async fn poll(shared: &Arc<Shared>, params: &Params, host: &str, scope: &Scope) -> Result<Said> {
    let key = key(params, params.required("appid")?)?;
    params.required("hostname")?;
    let known: u64 = params.number("latest_timestamp")?;
    let asked = Asked { zone: params.text("zone"), status: 1, host };
    asked.get(shared, &key)?;
    let news = || {
        let found = asked.look(shared, &key).filter(Instances::has_any)?;
        (found.latest_timestamp != known).then(|| value(&found))
    };
    match park(shared, vec![key.clone()], scope, news).await? {
        Some(found) => Ok(Said::Data(found?)),
        None => Ok(Said::NotModified),
    }
}

pub(super) async fn polls(shared: &Arc<Shared>, params: &Params, host: &str, scope: &Scope) -> Result<Said> {
    let keys = keys(shared, params)?;
    params.required("hostname")?;
    let known: Vec<u64> = params.numbers("latest_timestamp")?;
    if !known.is_empty() && known.len() != keys.len() {
        return Err(invalid(format!(
            "there are {} of `appid` and {} of `latest_timestamp`; give one for each, or none",
            keys.len(),
            known.len()
        )));
    }
    let asked = Asked { zone: params.text("zone"), status: 1, host };
    // Clients of this protocol pass over a list without instances, its timestamp included: told of one, they would ask
    // again at once, for ever. So a service is told of when it has some.
    let look = || keys.iter().map(|key| (key, asked.look(shared, key).filter(Instances::has_any)));
    let news = || {
        let known = known.iter().copied().chain(std::iter::repeat(0));
        let (mut found, mut missing) = (BTreeMap::new(), Vec::new());
        for ((key, now), known) in look().zip(known) {
            match now {
                Some(now) if now.latest_timestamp != known => _ = found.insert(key.service(), now),
                Some(_) => {}
                None => missing.push(key.service().to_owned()),
            }
        }
        (!found.is_empty()).then(|| value(&found).map(|found| Said::Some(found, missing)))
    };
    park(shared, keys.clone(), scope, news).await?.unwrap_or(Ok(Said::NotModified))
}

/// Waits for news of these services, for as long as a poll parks.
async fn park<T>(
    shared: &Arc<Shared>,
    mut keys: Vec<ServiceKey>,
    scope: &Scope,
    news: impl Fn() -> Option<T>,
) -> Result<Option<T>> {
    let mut nodes = shared.front.subscribe();
    if let Some(news) = news() {
        return Ok(Some(news));
    }
    keys.sort();
    keys.dedup();
    let watching = shared.fanout.watch(keys)?;
    let wait = scope.cx.remaining().map_or(PARK, |left| PARK.min(left.saturating_sub(MARGIN)));
    let change = async {
        loop {
            // All are looked at, whichever has news.
            while watching.take().is_some() {}
            if let Some(news) = news() {
                return news;
            }
            tokio::select! {
                () = watching.news() => {}
                // The sender lives as long as the node.
                _ = nodes.changed() => {}
            }
        }
    };
    tokio::select! {
        biased;
        error = shared.closed() => Err(error),
        change = tokio::time::timeout(wait, change) => Ok(change.ok()),
    }
}
