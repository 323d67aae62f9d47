//! Watches of prefixes, and what keeps many watchers from asking for too much at a time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_core::{Context, Result};
use bowline_registry::Config;
use bowline_registry_bowline::api::bowline::registry::v1::watch_response::Event;
use bowline_registry_bowline::api::bowline::registry::v1::{
    DeregisterRequest, Instance, RegisterRequest, Subscription, WatchRequest, WatchResponse, registry_error,
};
use bowline_rpc::Streaming;
use common::*;

async fn register(link: &Link, service: &str, id: &str, version: &str) {
    let (id, service, version) = (id.into(), service.into(), version.into());
    let instance = Instance { id, service, version, ..Default::default() };
    let request = RegisterRequest { instance: instance.into(), ..Default::default() };
    link.raw().register(&Context::background(), request).await.unwrap();
}

async fn watch(link: &Link, services: &[&str], prefixes: &[&str]) -> Result<Streaming<WatchResponse>> {
    let services =
        services.iter().map(|s| Subscription { service: (*s).into(), ..Default::default() }).collect();
    let prefixes = prefixes.iter().map(|p| (*p).to_owned()).collect();
    let request = WatchRequest { services, prefixes, ..Default::default() };
    link.raw().watch(&Context::background(), request).await
}

/// What a watcher knows of each service, and the services whose SYNCED came, in order; an empty name for all.
#[derive(Default)]
struct Told {
    services: BTreeMap<String, Vec<String>>,
    synced: Vec<String>,
}

impl Told {
    async fn until(&mut self, stream: &mut Streaming<WatchResponse>, enough: impl Fn(&Self) -> bool) {
        while !enough(self) {
            let message = stream.message().await.unwrap().unwrap();
            let ids = self.services.entry(message.service.clone()).or_default();
            let entries = match message.event {
                Some(Event::Synced(_)) => {
                    self.synced.push(message.service);
                    continue;
                }
                Some(Event::Snapshot(part)) => part.entries,
                Some(Event::Delta(delta)) => {
                    ids.retain(|id| delta.removed.iter().all(|gone| gone.id != *id));
                    delta.upserted
                }
                None => continue,
            };
            ids.extend(entries.into_iter().map(|entry| entry.instance.into_option().unwrap().id));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_prefix_follows_services_that_are_there_and_those_that_come() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    for (service, id) in [("shop.cart", "a"), ("shop.user", "b"), ("shopping", "c"), ("other", "d")] {
        register(&link, service, id, "").await;
    }
    let mut stream = watch(&link, &["other"], &["shop."]).await.unwrap();
    let mut told = Told::default();
    told.until(&mut stream, |told| told.synced.iter().any(String::is_empty)).await;
    assert_eq!(told.synced, ["other", "shop.cart", "shop.user", ""], "all, and then the word that it is all");
    register(&link, "shop.new", "e", "").await;
    register(&link, "shopping", "f", "").await;
    register(&link, "shop.cart", "g", "").await;
    let is_there = |told: &Told| told.services.get("shop.cart").is_some_and(|ids| ids.len() == 2);
    told.until(&mut stream, |told| is_there(told) && told.synced.contains(&"shop.new".into())).await;
    assert_eq!(told.services["shop.new"], ["e"]);
    assert!(!told.services.contains_key("shopping"));
    assert_eq!(told.synced.iter().filter(|s| s.is_empty()).count(), 1, "{:?}", told.synced);
}

#[tokio::test(start_paused = true)]
async fn an_empty_prefix_is_the_whole_environment_and_nothing_of_another() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let elsewhere =
        Instance { id: "a".into(), service: "s".into(), env: "prod".into(), ..Default::default() };
    let request = RegisterRequest { instance: elsewhere.into(), ..Default::default() };
    link.raw().register(&Context::background(), request).await.unwrap();
    let mut stream = watch(&link, &[], &[""]).await.unwrap();
    let mut told = Told::default();
    told.until(&mut stream, |told| !told.synced.is_empty()).await;
    assert_eq!(told.synced, [""], "there is nothing, and that is said");
    register(&link, "t", "b", "").await;
    told.until(&mut stream, |told| told.services.contains_key("t")).await;
    assert!(!told.services.contains_key("s"));
}

#[tokio::test(start_paused = true)]
async fn more_services_than_a_stream_may_have_are_refused_at_first_and_end_it_later() {
    let mut config = Config::default();
    config.limits.services_per_watch = 2;
    let running = Running::start(config);
    let link = Link::to(&running);
    register(&link, "s1", "a", "").await;
    register(&link, "s2", "a", "").await;
    let mut stream = watch(&link, &[], &["s"]).await.unwrap();
    Told::default().until(&mut stream, |told| told.synced.len() == 3).await;
    register(&link, "s3", "a", "").await;
    let error = loop {
        if let Err(error) = stream.message().await {
            break error;
        }
    };
    assert!(error.is_temporary() && error.message().contains("watch again"), "{error}");
    let error = watch(&link, &[], &["s"]).await.unwrap_err();
    assert!(error.is_invalid() && error.message().contains("longer prefixes"), "{error}");
    let error = watch(&link, &[], &["a b"]).await.unwrap_err();
    assert!(registry_error::is_invalid_name(&error) && error.message().contains(": use "), "{error}");
}

#[tokio::test(start_paused = true)]
async fn services_that_come_and_go_under_a_prefix_end_no_stream() {
    let mut config = Config::default();
    config.limits.services_per_watch = 3;
    config.forget_after = SEC;
    let running = Running::start(config);
    let link = Link::to(&running);
    register(&link, "s.stays", "a", "").await;
    let mut stream = watch(&link, &["other"], &["s."]).await.unwrap();
    let mut told = Told::default();
    told.until(&mut stream, |told| told.synced.iter().any(String::is_empty)).await;
    for n in 0..20 {
        let service = format!("s.{n}");
        register(&link, &service, "a", "").await;
        told.until(&mut stream, |told| told.services.get(&service).is_some_and(|ids| ids == &["a"])).await;
        let (instance_id, service) = ("a".to_owned(), service);
        let request = DeregisterRequest { service: service.clone(), instance_id, ..Default::default() };
        assert!(link.raw().deregister(&Context::background(), request).await.unwrap().removed);
        told.until(&mut stream, |told| told.services[&service].is_empty()).await;
        eventually(|| running.node.stats().services == 1).await;
    }
    // One that is there again is told anew.
    register(&link, "s.7", "b", "").await;
    told.until(&mut stream, |told| told.services["s.7"] == ["b"]).await;
    assert_eq!(told.synced.iter().filter(|s| s.is_empty()).count(), 1, "{:?}", told.synced);
}

#[tokio::test(start_paused = true)]
async fn whole_lists_beyond_the_budget_are_refused_with_a_time_and_who_takes_none_gives_way() {
    let mut config = Config::default();
    config.limits.snapshot_bytes = 6 << 20;
    let running = Running::start(config);
    let link = Link::to(&running);
    for n in 0..180 {
        register(&link, "s", &format!("i{n}"), &"x".repeat(30_000)).await;
    }
    let first = async || watch(&link, &["s"], &[]).await.unwrap();
    let (mut slow, mut refused) = (first().await, first().await);
    // It has begun to take its list, and takes no more.
    slow.message().await.unwrap();
    let error = refused.message().await.err().unwrap();
    assert!(registry_error::is_too_many_snapshots(&error), "{error}");
    assert!(error.is_temporary() && error.retry_after() >= Some(SEC), "{error:?}");
    tokio::time::advance(Duration::from_secs(11)).await;
    let mut next = first().await;
    Told::default().until(&mut next, |told| !told.synced.is_empty()).await;
    let error = slow.message().await.unwrap_err();
    assert!(
        registry_error::is_too_many_snapshots(&error) && error.message().contains("watch again"),
        "{error}"
    );
    // Who has its list makes room.
    let mut after = first().await;
    Told::default().until(&mut after, |told| !told.synced.is_empty()).await;
}
