//! Slots: each member of a group has a number of its own, and who replaces one has the same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

mod common;

use std::collections::BTreeSet;

use bowline_core::{Context, Instance};
use bowline_discovery::{Discovery as _, Registrar as _};
use bowline_registry::Config;
use bowline_registry_bowline::api::bowline::registry::v1::{
    LeaseSlotRequest, ListServicesRequest, ListSlotsRequest, ReleaseSlotRequest, WatchRequest, registry_error,
};
use bowline_registry_bowline::{SlotLease, WithSlot};
use common::*;

async fn number(lease: &mut SlotLease) -> u32 {
    loop {
        if let Some(number) = lease.number() {
            return number;
        }
        lease.changed().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn members_have_the_smallest_numbers_and_a_number_that_is_let_go_is_the_next_ones() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let client = link.client();
    let mut leases = Vec::new();
    for n in 0..4 {
        let mut lease = client.lease_slot("cart-of-catalog", "").unwrap();
        assert_eq!(number(&mut lease).await, n);
        leases.push(lease);
    }
    leases.remove(1).release(&within(SEC)).await.unwrap();
    let mut next = client.lease_slot("cart-of-catalog", "").unwrap();
    assert_eq!(number(&mut next).await, 1);
    let mut elsewhere = client.lease_slot("another", "").unwrap();
    assert_eq!(number(&mut elsewhere).await, 0, "groups have nothing to do with each other");
    // Held for as long as they are wanted; what is dropped runs out.
    tokio::time::sleep(300 * SEC).await;
    assert_eq!(running.node.stats().instances, 5);
    drop(leases);
    tokio::time::sleep(40 * SEC).await;
    assert_eq!(running.node.stats().instances, 2);
    let mut first = client.lease_slot("cart-of-catalog", "").unwrap();
    assert_eq!(number(&mut first).await, 0);
}

#[tokio::test(start_paused = true)]
async fn members_that_ask_at_the_same_moment_have_a_number_each_over_one_stream() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let clients = [link.client(), link.client()];
    // More than one message takes.
    let member = |n: usize| clients[n % 2].lease_slot("g", &format!("m-{n}")).unwrap();
    let mut leases: Vec<_> = (0..300).map(member).collect();
    let mut numbers = BTreeSet::new();
    for lease in &mut leases {
        numbers.insert(number(lease).await);
    }
    assert_eq!(numbers, (0..300).collect());
    let first = leases.swap_remove(0);
    let number = first.number();
    first.release(&within(SEC)).await.unwrap();
    let mut next = clients[1].lease_slot("g", "another").unwrap();
    next.changed().await.unwrap();
    assert_eq!(next.number(), number);
    for (method, calls) in [("KeepAlive", 2), ("LeaseSlot", 0), ("ReleaseSlot", 0)] {
        assert_eq!(link.calls(method), calls, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_refused_keeps_no_other_from_its_slot() {
    let mut config = Config::default();
    config.limits.instances_per_service = 1;
    let running = Running::start(config);
    let link = Link::to(&running);
    let client = link.client();
    let members = ["one", "two"].map(|member| client.lease_slot("full", member).unwrap());
    let mut elsewhere = client.lease_slot("another", "").unwrap();
    assert_eq!(number(&mut elsewhere).await, 0);
    eventually(|| members.iter().any(|lease| lease.number() == Some(0))).await;
    tokio::time::sleep(60 * SEC).await;
    let numbers: Vec<_> = members.iter().map(SlotLease::number).collect();
    assert!(numbers.contains(&None) && numbers.contains(&Some(0)), "{numbers:?}");
    assert_eq!(link.calls("KeepAlive"), 1);
    // It is tried for ever.
    let [first, second] = members;
    let (has, mut waits) = if first.number().is_some() { (first, second) } else { (second, first) };
    has.release(&within(SEC)).await.unwrap();
    assert_eq!(number(&mut waits).await, 0);
}

#[tokio::test(start_paused = true)]
async fn who_replaces_a_member_inherits_its_number_also_after_a_crash() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let (old, others) = (link.client(), link.client());
    let mut kept = Vec::new();
    for member in ["cart-0", "cart-1", "cart-2"] {
        let client = if member == "cart-1" { &old } else { &others };
        let mut lease = client.lease_slot("g", member).unwrap();
        number(&mut lease).await;
        kept.push(lease);
    }
    // The process is gone without a word, and its replacement is there before the lease is over.
    let gone = kept.remove(1);
    assert_eq!(gone.number(), Some(1));
    drop((gone, old));
    let new = link.client();
    let mut lease = new.lease_slot("g", "cart-1").unwrap();
    assert_eq!(number(&mut lease).await, 1);
    tokio::time::sleep(120 * SEC).await;
    assert_eq!(lease.number(), Some(1), "the end of the old lease changes nothing");
    let request = ListSlotsRequest { group: "g".into(), ..Default::default() };
    let slots = link.raw().list_slots(&Context::background(), request).await.unwrap().slots;
    let slots: Vec<_> = slots.iter().map(|slot| (slot.slot, slot.member.as_str())).collect();
    assert_eq!(slots, [(0, "cart-0"), (1, "cart-1"), (2, "cart-2")]);
}

#[tokio::test(start_paused = true)]
async fn numbers_survive_a_registry_that_forgets_everything() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let client = link.client();
    let mut leases: Vec<_> = (0..5).map(|n| client.lease_slot("g", &format!("m{n}")).unwrap()).collect();
    let mut before = BTreeSet::new();
    for lease in &mut leases {
        before.insert(number(lease).await);
    }
    assert_eq!(before, (0..5).collect());
    link.cut();
    drop(running);
    let again = Running::start(Config::default());
    link.connect(&again);
    eventually(|| again.node.stats().leases == 5).await;
    tokio::time::sleep(60 * SEC).await;
    let after: BTreeSet<_> = leases.iter().map(|lease| lease.number().unwrap()).collect();
    assert_eq!(after, before, "each has one of its own");
}

#[tokio::test(start_paused = true)]
async fn slots_are_no_services_and_twice_is_once() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let (client, cx) = (link.raw(), Context::background());
    let request =
        |holder: &str| LeaseSlotRequest { group: "g".into(), holder: holder.into(), ..Default::default() };
    let first = client.lease_slot(&cx, request("h")).await.unwrap();
    let again = client.lease_slot(&cx, request("h")).await.unwrap();
    assert_eq!((first.slot, first.lease_id), (again.slot, again.lease_id));
    let error = client.lease_slot(&cx, request("")).await.unwrap_err();
    assert!(registry_error::is_invalid_request(&error) && error.message().contains("`holder`"), "{error}");
    assert!(client.list_services(&cx, ListServicesRequest::default()).await.unwrap().services.is_empty());
    let everything = WatchRequest { prefixes: vec![String::new()], ..Default::default() };
    let mut stream = client.watch(&cx, everything).await.unwrap();
    let all = stream.message().await.unwrap().unwrap();
    assert!(all.service.is_empty() && all.event.is_some(), "SYNCED, and nothing before: {all:?}");
    let release = |holder: &str| ReleaseSlotRequest {
        group: "g".into(),
        slot: first.slot,
        holder: holder.into(),
        ..Default::default()
    };
    assert!(!client.release_slot(&cx, release("another")).await.unwrap().released);
    let error = client.release_slot(&cx, release("")).await.unwrap_err();
    assert!(registry_error::is_invalid_request(&error) && error.message().contains("`holder`"), "{error}");
    assert!(client.release_slot(&cx, release("h")).await.unwrap().released);
    assert!(!client.release_slot(&cx, release("h")).await.unwrap().released);
    // It may change its mind, though the number is the smallest that is free.
    assert_eq!(client.lease_slot(&cx, request("h")).await.unwrap().slot, first.slot);
    assert!(client.release_slot(&cx, release("h")).await.unwrap().released);
}

#[tokio::test(start_paused = true)]
async fn an_instance_tells_its_slot_for_as_long_as_it_is_registered() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let client = std::sync::Arc::new(link.client());
    let registrar = WithSlot::new(std::sync::Arc::clone(&client), "slot");
    let slots = || {
        let watched = client.watch("catalog").current();
        let slot =
            |i: &std::sync::Arc<Instance>| (i.id.to_string(), i.metadata.get("slot").cloned(), i.weight);
        watched.instances.iter().map(slot).collect::<Vec<_>>()
    };
    let _watcher = client.watch("catalog");
    let told = |id: &str, slot: &str, weight| (id.to_owned(), Some(slot.to_owned()), weight);
    let first = registrar.register(&within(SEC), instance("catalog", "a")).await.unwrap();
    let second = registrar.register(&within(SEC), instance("catalog", "b")).await.unwrap();
    eventually(|| slots() == [told("a", "0", 100), told("b", "1", 100)]).await;
    let mut light = instance("catalog", "b");
    light.weight = 7;
    second.update(&within(SEC), light).await.unwrap();
    eventually(|| slots() == [told("a", "0", 100), told("b", "1", 7)]).await;

    first.deregister(&within(SEC)).await.unwrap();
    let third = registrar.register(&within(SEC), instance("catalog", "c")).await.unwrap();
    eventually(|| slots() == [told("b", "1", 7), told("c", "0", 100)]).await;
    drop(third);
    eventually(|| slots() == [told("b", "1", 7)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_down_keeps_no_instance_from_starting_and_the_slot_is_told_later() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let client = std::sync::Arc::new(link.client());
    let _watcher = client.watch("catalog");
    link.cut();
    drop(running);
    let registrar = WithSlot::new(std::sync::Arc::clone(&client), "slot");
    let _registered = registrar.register(&within(10 * SEC), instance("catalog", "a")).await.unwrap();
    let again = Running::start(Config::default());
    link.connect(&again);
    let is_told = || {
        let list = client.watch("catalog").current();
        list.instances.iter().any(|i| i.metadata.get("slot").is_some_and(|slot| slot == "0"))
    };
    eventually(is_told).await;
}
