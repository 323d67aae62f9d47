//! Whose requests reach which instances through a channel.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod stage;

use std::time::Duration;

use bowline_client::{Balance, Canary, Mirroring};
use bowline_core::{Endpoint, Tenant};
use bowline_tests_support::eventually;

use stage::{Stage, Stand, cx, cx_of, tasks};

const REDIRECT: &str = "x-md-global-redirect";

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

/// Base, base and one of each tenant.
fn stands(tenants: &[&str]) -> Vec<Stand> {
    let mut stands = Stand::several(2);
    stands.extend(tenants.iter().map(|tenant| Stand::start(tenant).of(tenant)));
    stands
}

#[tokio::test]
async fn exactly_the_coloured_requests_reach_the_coloured_instance() {
    let stands = stands(&["blue"]);
    let stage = Stage::new(Balance::default(), &stands);
    for _ in 0..50 {
        stage.ask(&cx()).await.unwrap();
        stage.ask(&cx_of("blue")).await.unwrap();
        stage.ask(&cx_of("green")).await.unwrap();
    }
    assert_eq!(stands[2].tenants(), vec!["blue"; 50]);
    assert_eq!(stands[0].asked() + stands[1].asked(), 100, "green has no instance and goes to the base");

    stage.publisher.publish(stands[..2].iter().map(|stand| stand.instance.clone()));
    eventually(|| stage.in_state("healthy") == 2.0).await;
    assert_eq!(stage.ask_times(50, &cx_of("blue")).await, 0);
    assert_eq!(stands[2].asked(), 50, "it is gone, and so its requests go to the base");
}

#[tokio::test]
async fn production_never_reaches_a_coloured_instance_even_if_nobody_else_is_left() {
    let mut stands = stands(&["blue"]);
    let stage = Stage::new(Balance::default(), &stands);
    assert_eq!(stage.ask_times(10, &cx()).await, 0);
    let blue = stands.pop().unwrap();
    for stand in stands {
        stand.stop().await;
    }
    let error = stage.ask(&cx()).await.unwrap_err();
    assert_eq!(error.reason(), "UNREACHABLE", "{error}");
    stage.publisher.publish([blue.instance.clone()]);
    eventually(|| stage.in_state("healthy") == 1.0 && stage.in_state("dead") == 0.0).await;
    let error = stage.ask(&cx()).await.unwrap_err();
    assert_eq!((error.reason(), error.code()), ("NO_INSTANCE", bowline_core::Code::Unavailable));
    assert!(error.message().contains("without a tenant"), "{error}");
    assert_eq!(blue.asked(), 0);
    stage.publisher.publish([]);
    eventually(|| stage.in_state("healthy") == 0.0).await;
    assert_eq!(stage.ask(&cx()).await.unwrap_err().reason(), "NO_INSTANCE");
}

#[tokio::test]
async fn a_strict_channel_fails_rather_than_fall_back() {
    let stands = stands(&["blue"]);
    let stage = Stage::new(Balance { strict: true, ..Balance::default() }, &stands);
    stage.ask(&cx_of("blue")).await.unwrap();
    stage.ask(&cx()).await.unwrap();
    let error = stage.ask(&cx_of("green")).await.unwrap_err();
    assert_eq!(error.reason(), "TENANT_UNROUTABLE");
    assert_eq!(error.code(), bowline_core::Code::FailedPrecondition);
    assert!(error.message().contains("`green`"), "{error}");
    assert_eq!(stands[2].asked(), 1);
}

#[tokio::test]
async fn a_tenants_requests_go_where_they_are_redirected() {
    let stands = stands(&["blue", "green"]);
    let stage = Stage::new(Balance::default(), &stands);
    let to = |cx: bowline_core::Context, place: &str| cx.with_metadata(REDIRECT, place).unwrap();
    assert_eq!(stage.ask_times(10, &to(cx_of("blue"), "test=green")).await, 0);
    assert_eq!((stands[2].asked(), stands[3].asked()), (0, 10));
    assert_eq!(stage.ask_times(10, &to(cx_of("blue"), "other=green,test=@i1")).await, 0);
    assert_eq!((stands[0].asked(), stands[1].asked()), (0, 10));
    assert_eq!(stage.ask_times(10, &to(cx(), "test=green")).await, 0);
    assert_eq!(stands[3].asked(), 10, "production is not redirected by what a header says");
}

#[tokio::test]
async fn a_canary_gets_its_users_and_keeps_them() {
    let stands = stands(&["canary"]);
    let key = "x-md-global-user".to_owned();
    let canary = Some(Canary { tenant: tenant("canary"), percent: 30.0, key: Some(key.clone()) });
    let stage = Stage::new(Balance { canary: canary.clone(), ..Balance::default() }, &stands);
    let mut taken = 0;
    for user in 0..60 {
        let before = stands[2].asked();
        let cx = cx().with_metadata(&key, &user.to_string()).unwrap();
        assert_eq!(stage.ask_times(3, &cx).await, 0);
        let now = stands[2].asked() - before;
        assert!(now == 0 || now == 3, "user {user} saw two versions");
        taken += now / 3;
    }
    assert!((5..35).contains(&taken), "{taken} of 60 users");
    assert!(stands[2].tenants().iter().all(|tenant| tenant == "canary"), "the header says so as well");
    assert!(stands[..2].iter().all(|stand| stand.tenants().iter().all(String::is_empty)));
    assert_eq!(stage.ask_times(10, &cx_of("blue")).await, 0);
    assert_eq!(stands[2].asked(), taken * 3, "a tenant's request is nobody else's");

    // Without a canary its users go to the base, in a strict channel too.
    let balance = Balance { canary, strict: true, ..Balance::default() };
    let stage = Stage::new(balance, &stands[..2]);
    for user in 0..20 {
        stage.ask(&cx().with_metadata(&key, &user.to_string()).unwrap()).await.unwrap();
    }
}

fn to_shadow() -> Balance {
    let mut mirror = Mirroring::new(tenant("shadow"), 100.0, 10_000.0);
    mirror.timeout = Duration::from_millis(300);
    mirror.at_once = 8;
    Balance { mirror: Some(mirror), ..Balance::default() }
}

#[tokio::test]
async fn a_shadow_gets_copies_of_production_alone() {
    let stands = stands(&["shadow"]);
    let stage = Stage::new(to_shadow(), &stands);
    for _ in 0..30 {
        stage.ask(&cx().with_metadata(REDIRECT, "test=@i0").unwrap()).await.unwrap();
        stage.ask(&cx_of("blue")).await.unwrap();
        eventually(|| stage.mirrored("answered") == stands[2].asked() as f64).await;
    }
    eventually(|| stage.mirrored("answered") == 30.0).await;
    assert_eq!(stands[2].tenants(), vec!["shadow"; 30]);
    let of_base = [stands[0].tenants(), stands[1].tenants()].concat();
    assert_eq!(of_base.iter().filter(|tenant| tenant.is_empty()).count(), 30, "each original came once");
    assert!(!of_base.iter().any(|tenant| tenant == "shadow"));
}

#[tokio::test]
async fn a_copy_without_a_shadow_is_not_sent() {
    let stands = stands(&[]);
    let stage = Stage::new(to_shadow(), &stands);
    assert_eq!(stage.ask_times(20, &cx()).await, 0);
    eventually(|| stage.mirrored("no_instance") == 20.0).await;
    assert_eq!(stands[0].asked() + stands[1].asked(), 20);
}

#[tokio::test]
async fn a_shadow_that_is_dead_or_hangs_costs_the_original_nothing() {
    let stands = stands(&["shadow"]);
    stands[2].hang();
    let stage = Stage::new(to_shadow(), &stands);
    assert_eq!(stage.ask_times(3, &cx()).await, 0);
    eventually(|| stage.mirrored("timed_out") == 3.0).await;
    let before = tasks();
    let started = tokio::time::Instant::now();
    assert_eq!(stage.ask_times(200, &cx()).await, 0);
    // Were the copies waited for, it would be a minute.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let ended =
        || ["answered", "failed", "timed_out", "too_many"].map(|r| stage.mirrored(r)).iter().sum::<f64>();
    eventually(|| ended() == 203.0).await;
    assert!(stage.mirrored("too_many") > 0.0, "copies under way are bounded");
    assert_eq!(stage.mirrored("timed_out"), stands[2].asked() as f64);
    eventually(|| tasks() <= before).await;

    let mut dead = stands[2].instance.clone();
    dead.endpoints = vec![Endpoint::http("127.0.0.1", 1)];
    let list = stands[..2].iter().map(|stand| stand.instance.clone()).chain([dead]);
    stage.publisher.publish(list);
    let failed = stage.mirrored("failed");
    assert_eq!(stage.ask_times(50, &cx()).await, 0);
    eventually(|| stage.mirrored("failed") > failed).await;
    eventually(|| ended() == 253.0).await;
    drop(stage);
    drop(stands);
    eventually(|| tasks() == 0).await;
}
