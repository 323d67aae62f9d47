//! Looks after instances that cannot say themselves that they live.

mod probe;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowline_core::{Instant, Result, Rng, SystemRng};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::node::Shared;
use crate::store::{Check, Checked, Record, ServiceKey};
use probe::probe;

/// How often a node finds out what it has to check.
const LOOK: Duration = Duration::from_secs(1);
/// How exactly probes come when they are due.
const TICK: Duration = Duration::from_millis(100);
/// Probes at a time. Those that are due beyond that wait for the next one to end, and whoever waits longest is next.
const AT_A_TIME: usize = 256;
/// Of these the most for one namespace, so that one whose instances do not answer leaves places to the others.
const OF_A_NAMESPACE: usize = AT_A_TIME / 2;

type Key = (ServiceKey, Arc<str>);

/// What is known of one instance here.
struct Looked {
    record: Arc<Record>,
    since: Instant,
    check: Arc<Check>,
    due: Instant,
    is_running: bool,
    failures: u32,
    successes: u32,
    /// Since when it has been unhealthy, as far as this node has seen.
    unhealthy_since: Instant,
}

/// Checks what is this node's to check, for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut all: HashMap<Key, Looked> = HashMap::new();
    let (mut running, mut looked) = (FuturesUnordered::new(), None);
    loop {
        let now = shared.now();
        if looked.is_none_or(|at: Instant| at + LOOK <= now) {
            looked = Some(now);
            take_over(&shared, &mut all, now);
        }
        // Those of what is gone meanwhile have their places until they end.
        for key in due(&all, now).into_iter().take(AT_A_TIME - running.len()) {
            let Some(looked) = all.get_mut(&key) else { continue };
            looked.is_running = true;
            let check = Arc::clone(&looked.check);
            running.push(async move {
                let outcome = probe(&check).await;
                (key, check, outcome)
            });
        }
        let pause = if all.is_empty() { LOOK } else { TICK };
        tokio::select! {
            Some((key, check, outcome)) = running.next() => note(&shared, &mut all, &key, &check, outcome),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// What is to be looked at now, as far as there are places.
fn due(all: &HashMap<Key, Looked>, now: Instant) -> Vec<Key> {
    let mut running: HashMap<&str, usize> = HashMap::new();
    let mut due = Vec::new();
    for (key, looked) in all {
        if looked.is_running {
            *running.entry(key.0.namespace()).or_default() += 1;
        } else if looked.due <= now {
            due.push((looked.due, key));
        }
    }
    let mut room = AT_A_TIME.saturating_sub(running.values().sum());
    due.sort_by_key(|(at, _)| *at);
    due.retain(|(_, key)| {
        let of_it = running.entry(key.0.namespace()).or_default();
        let fits = room > 0 && *of_it < OF_A_NAMESPACE;
        if fits {
            *of_it += 1;
            room -= 1;
        }
        fits
    });
    due.into_iter().map(|(_, key)| key.clone()).collect()
}

/// Finds out what there is to check.
fn take_over(shared: &Shared, all: &mut HashMap<Key, Looked>, now: Instant) {
    let takes_over = shared.sweeps.load(Ordering::Relaxed);
    let checked = shared.change(|store, now| store.tend_checked(takes_over, now));
    let mut before = std::mem::take(all);
    for Checked { key, record, since } in checked {
        let key = (key, Arc::clone(record.id()));
        // What was taken out and is registered again begins anew.
        let known = before.remove(&key).filter(|known| known.since == since);
        if let Some(known) = known {
            let is_same = Arc::ptr_eq(&known.record, &record)
                || Check::told(record.instance()).is_ok_and(|check| check.as_ref() == Some(&*known.check));
            if is_same {
                all.insert(key, Looked { record, ..known });
                continue;
            }
        }
        // Whatever is registered has been checked; what another node's version understands may be more.
        let Ok(Some(check)) = Check::told(record.instance()) else { continue };
        // Not all at once.
        let due = now + SystemRng.jitter(check.interval.min(LOOK));
        let check = Arc::new(check);
        let looked = Looked {
            record,
            since,
            check,
            due,
            is_running: false,
            failures: 0,
            successes: 0,
            unhealthy_since: now,
        };
        all.insert(key, looked);
    }
}

/// A probe has ended.
fn note(shared: &Shared, all: &mut HashMap<Key, Looked>, key: &Key, check: &Arc<Check>, outcome: Result<()>) {
    let Some(looked) = all.get_mut(key).filter(|looked| Arc::ptr_eq(&looked.check, check)) else { return };
    let now = shared.now();
    looked.is_running = false;
    // Up to a tenth earlier, so that those that began together do not go on together.
    looked.due = now + check.interval - SystemRng.jitter(check.interval / 10);
    let was_healthy = !looked.record.instance().unhealthy;
    let healthy = match &outcome {
        Ok(()) => {
            (looked.failures, looked.successes) = (0, looked.successes.saturating_add(1));
            was_healthy || looked.successes >= check.healthy_after
        }
        Err(_) => {
            (looked.failures, looked.successes) = (looked.failures.saturating_add(1), 0);
            was_healthy && looked.failures < check.unhealthy_after
        }
    };
    let (service, id) = key;
    if healthy != was_healthy {
        looked.unhealthy_since = now;
        let said = shared.change(|store, now| {
            let said = store.set_health(service, id, healthy, now);
            (said, store.instance(service, id))
        });
        match outcome {
            Ok(()) => tracing::info!(%service, instance = %id, "it is well, say its probes"),
            Err(error) => tracing::warn!(%service, instance = %id, %error, "it is not well, say its probes"),
        }
        if let (true, Some(known)) = said {
            looked.record = known.registered;
        }
    }
    let unhealthy = (!healthy).then(|| now.saturating_duration_since(looked.unhealthy_since));
    if let (Some(unhealthy), Some(most)) = (unhealthy, check.remove_after)
        && unhealthy >= most
        && shared.change(|store, now| store.give_up(service, id, now))
    {
        tracing::warn!(%service, instance = %id, ?unhealthy, "it is removed, for it has not been well for long");
        all.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Registering;
    use crate::{Config, Limits, Node};
    use bowline_registry_bowline::api::bowline::registry::v1::{HealthCheck, Instance, TcpProbe};

    const SEC: Duration = Duration::from_secs(1);

    fn record(id: &str) -> Arc<Record> {
        let check = HealthCheck { probe: Some(TcpProbe::default().into()), ..Default::default() };
        let endpoints = vec!["http://10.0.0.1:80".to_owned()];
        let instance = Instance { id: id.into(), endpoints, check: check.into(), ..Default::default() };
        Arc::new(Record::new(instance, &Limits::default()).unwrap())
    }

    fn looked(record: &Arc<Record>, due: Instant) -> Looked {
        let check = Arc::new(Check::told(record.instance()).unwrap().unwrap());
        let (record, since, unhealthy_since) = (Arc::clone(record), due, due);
        Looked { record, since, check, due, is_running: false, failures: 0, successes: 0, unhealthy_since }
    }

    #[test]
    fn who_waits_longest_is_next_and_one_namespace_leaves_places_to_the_others() {
        let now = Instant::now() + 100 * SEC;
        let mut all = HashMap::new();
        let of = |namespace: &str| ServiceKey::new(namespace, "", "s").unwrap();
        let record = record("a");
        for n in 0..400_u32 {
            let at = now - 50 * SEC - SEC / 1_000 * n;
            all.insert((of("greedy"), format!("{n:03}").into()), looked(&record, at));
        }
        all.insert((of("other"), "late".into()), looked(&record, now));
        all.insert((of("other"), "later".into()), looked(&record, now + SEC));
        let mut chosen = due(&all, now);
        let other = chosen.pop().unwrap();
        assert_eq!((&*other.1, chosen.len()), ("late", OF_A_NAMESPACE));
        assert!(chosen.iter().zip((0..400).rev()).all(|((_, id), n)| **id == format!("{n:03}")), "by age");
        // They stay in their places, and nobody of the same namespace gets another one.
        chosen.iter().for_each(|key| all.get_mut(key).unwrap().is_running = true);
        assert_eq!(due(&all, now), [other]);
    }

    #[test]
    fn what_is_taken_out_and_registered_again_begins_anew() {
        let node = Node::new(Config::default()).unwrap();
        let (shared, key) = (node.shared(), ServiceKey::new("", "", "s").unwrap());
        let register = || {
            let (key, record) = (key.clone(), record("a"));
            let asked =
                Registering { key, record, ttl: None, holder: "".into(), sequence: 0, only_if_free: false };
            shared.change(|store, now| store.register(asked, now)).unwrap();
        };
        register();
        let (mut all, at) = (HashMap::new(), (key.clone(), Arc::from("a")));
        take_over(&shared, &mut all, shared.now());
        all.get_mut(&at).unwrap().successes = 7;
        // Registered twice it is the same; between two looks it may go and come.
        register();
        take_over(&shared, &mut all, shared.now());
        assert_eq!(all[&at].successes, 7);
        assert!(shared.change(|store, now| store.deregister(&key, "a", "", now)));
        register();
        take_over(&shared, &mut all, shared.now());
        assert_eq!(all[&at].successes, 0);
    }
}
