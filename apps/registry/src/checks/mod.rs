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
/// Probes at a time. Those that are due beyond that wait for the next one to end.
const AT_A_TIME: usize = 256;

type Key = (ServiceKey, Arc<str>);

/// What is known of one instance here.
struct Looked {
    record: Arc<Record>,
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
        let room = AT_A_TIME - running.len();
        let due = all.iter_mut().filter(|(_, looked)| !looked.is_running && looked.due <= now);
        for (key, looked) in due.take(room) {
            looked.is_running = true;
            let (key, check) = (key.clone(), Arc::clone(&looked.check));
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

/// Finds out what there is to check.
fn take_over(shared: &Shared, all: &mut HashMap<Key, Looked>, now: Instant) {
    let takes_over = shared.sweeps.load(Ordering::Relaxed);
    let checked = shared.change(|store, now| store.tend_checked(takes_over, now));
    let mut before = std::mem::take(all);
    for Checked { key, record } in checked {
        let key = (key, Arc::clone(record.id()));
        let known = before.remove(&key);
        if let Some(known) = known {
            let is_same = Arc::ptr_eq(&known.record, &record)
                || Check::of(record.instance()).is_ok_and(|check| check.as_ref() == Some(&*known.check));
            if is_same {
                all.insert(key, Looked { record, ..known });
                continue;
            }
        }
        // Whatever is registered has been checked; what another node's version understands may be more.
        let Ok(Some(check)) = Check::of(record.instance()) else { continue };
        // Not all at once.
        let due = now + SystemRng.jitter(check.interval.min(LOOK));
        let check = Arc::new(check);
        let looked =
            Looked { record, check, due, is_running: false, failures: 0, successes: 0, unhealthy_since: now };
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
