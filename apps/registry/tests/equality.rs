//! After any sequence of events a watcher sees what the registry holds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

mod common;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bowline_core::Context;
use bowline_discovery::{Discovery, Registrar, Registration, State};
use bowline_registry::Config;
use common::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Register(u8, u8),
    Update(u8, u32),
    Deregister(u8),
    Drop(u8),
    Pass(u8),
    CutConsumer,
    CutProvider,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..6_u8, 0..2_u8).prop_map(|(id, service)| Step::Register(id, service)),
        3 => (0..6_u8, 0..4_u32).prop_map(|(id, weight)| Step::Update(id, weight)),
        3 => (0..6_u8).prop_map(Step::Deregister),
        1 => (0..6_u8).prop_map(Step::Drop),
        3 => (0..40_u8).prop_map(Step::Pass),
        2 => Just(Step::CutConsumer),
        2 => Just(Step::CutProvider),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 0..40)
}

async fn play(steps: Vec<Step>) {
    let mut config = Config::default();
    config.limits.changes_kept = 4;
    // Whoever is dropped is to go, however many are dropped at a time.
    config.protection_threshold = 0;
    let mut running = Running::start(config.clone());
    let (link, consumers) = (Link::to(&running), Link::to(&running));
    let (provider, consumer) = (link.client(), consumers.client());
    let watchers = [consumer.watch("s0"), consumer.watch("s1")];
    let mut held: BTreeMap<u8, (Box<dyn Registration>, bowline_core::Instance)> = BTreeMap::new();
    let (mut has_restarted, mut has_dropped) = (false, false);
    for step in steps {
        match step {
            Step::Register(id, service) => {
                if let Entry::Vacant(free) = held.entry(id) {
                    let instance = instance(&format!("s{service}"), &format!("i{id}"));
                    let cx = within(60 * SEC);
                    free.insert((provider.register(&cx, instance.clone()).await.unwrap(), instance));
                }
            }
            Step::Update(id, weight) => {
                if let Some((registration, instance)) = held.get_mut(&id) {
                    instance.weight = weight;
                    registration.update(&within(60 * SEC), instance.clone()).await.unwrap();
                }
            }
            Step::Deregister(id) => {
                if let Some((registration, _)) = held.remove(&id) {
                    registration.deregister(&within(60 * SEC)).await.unwrap();
                }
            }
            Step::Drop(id) => has_dropped |= held.remove(&id).is_some(),
            Step::Pass(secs) => tokio::time::sleep(u32::from(secs) * SEC).await,
            Step::CutConsumer => {
                consumers.cut();
                consumers.connect(&running);
            }
            Step::CutProvider => {
                link.cut();
                link.connect(&running);
            }
            Step::Restart => {
                has_restarted = true;
                running = Running::start(config.clone());
                for link in [&link, &consumers] {
                    link.cut();
                    link.connect(&running);
                }
            }
        }
    }
    // Leases of what was dropped, graces of what was missing, and every backoff are over after this.
    tokio::time::sleep(120 * SEC).await;
    let mut total = 0;
    for (n, watcher) in watchers.iter().enumerate() {
        let expected: Vec<_> =
            held.values().map(|(_, i)| i).filter(|i| *i.service == format!("s{n}")).collect();
        let snapshot = watcher.current();
        let seen: Vec<_> = snapshot.instances.iter().map(|i| &**i).collect();
        // A registry that restarted and to which nobody came back has no say about who was there before; nor is the last one
        // forgotten whom nobody took out.
        if (has_restarted || has_dropped)
            && expected.is_empty()
            && matches!(snapshot.state, State::Stale { .. })
        {
            assert!(!seen.is_empty(), "{snapshot:?}");
            continue;
        }
        assert_eq!(seen, expected, "{snapshot:?}");
        assert!(snapshot.state.is_current(), "{snapshot:?}");
        assert_eq!(matches!(snapshot.state, State::Empty(_)), expected.is_empty());
        total += expected.len();
    }
    assert_eq!(running.node.stats().instances, total);
    for (registration, _) in held.values() {
        registration.deregister(&Context::background()).await.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn after_any_steps_and_some_quiet_watchers_see_exactly_who_is_held(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(play(steps));
    }
}
