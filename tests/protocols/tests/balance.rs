//! Which instances a channel sends requests to when some of them fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod stage;

use std::time::Duration;

use bowline_client::{ActiveProbes, Balance, PickerKind, SLOT, SlowStart, Zones};
use bowline_core::{Context, Endpoint, Error, Instance};
use bowline_rpc::Streaming;
use bowline_tests_support::eventually;

use stage::{Stage, Stand, cx, quickly, tasks};

const MS: Duration = Duration::from_millis(1);

/// Each in its turn, so that everybody gets requests.
fn in_turn() -> Balance {
    Balance { picker: PickerKind::WeightedRoundRobin, slow_start: SlowStart::OFF, ..Balance::default() }
}

#[tokio::test]
async fn one_that_fails_is_ejected_and_comes_back_by_one_request() {
    let stands = Stand::several(5);
    let stage = Stage::new(Balance { ejection: quickly(300 * MS), probes: None, ..in_turn() }, &stands);
    assert_eq!(stage.ask_times(50, &cx()).await, 0);
    stands[2].fail();
    let mut failed = 0;
    while stage.in_state("ejected") == 0.0 {
        failed += stage.ask_times(5, &cx()).await;
        assert!(failed <= 10, "it is not ejected after {failed} failures");
    }
    assert!(failed >= 5, "{failed}");
    let asked = stands[2].asked();
    // It still fails when its time is over: one request finds that out, and it is out for longer.
    eventually(|| stage.in_state("probation") == 1.0).await;
    assert_eq!(stands[2].asked(), asked, "it was left alone meanwhile");
    assert_eq!(stage.ask_times(20, &cx()).await, 1);
    assert_eq!(stands[2].asked(), asked + 1);
    eventually(|| stage.in_state("ejected") == 1.0).await;

    stands[2].recover();
    eventually(|| stage.in_state("probation") == 1.0).await;
    assert_eq!(stage.ask_times(20, &cx()).await, 0);
    eventually(|| stage.in_state("healthy") == 5.0).await;
    let before = stands[2].asked();
    assert_eq!(stage.ask_times(50, &cx()).await, 0);
    assert!((9..=11).contains(&(stands[2].asked() - before)), "it has its share again");
    assert_eq!(stage.measured("bowline_client_ejections_total{target=\"discovery:///test\"}"), Some(2.0));
}

#[tokio::test]
async fn one_that_is_well_again_comes_back_by_the_head_of_a_stream_that_goes_on() {
    let stands = Stand::several(5);
    let stage = Stage::new(Balance { ejection: quickly(300 * MS), probes: None, ..in_turn() }, &stands);
    stands[2].fail();
    while stage.in_state("ejected") == 0.0 {
        stage.ask_times(5, &cx()).await;
    }
    stands[2].recover();
    eventually(|| stage.in_state("probation") == 1.0).await;
    let asked = stands[2].asked();
    let cx = cx();
    let mut held = Vec::new();
    while stands[2].asked() == asked {
        assert!(held.len() < 20, "none of the streams was the probe");
        let (sender, numbers) = Streaming::channel(1);
        held.push((sender, stage.client.double(&cx, numbers).await.unwrap()));
    }
    eventually(|| stage.in_state("healthy") == 5.0).await;
    let before = stands[2].asked();
    assert_eq!(stage.ask_times(50, &cx).await, 0);
    assert!((9..=11).contains(&(stands[2].asked() - before)), "it has its share while the streams go on");
    drop(held);
}

#[tokio::test]
async fn one_that_hangs_is_ejected_and_comes_back_though_nobody_asks() {
    let stands = Stand::several(5);
    let stage = Stage::new(Balance { ejection: quickly(200 * MS), ..in_turn() }, &stands);
    stage.ask_times(10, &cx()).await;
    stands[0].hang();
    let mut late = 0;
    while stage.in_state("ejected") == 0.0 {
        let short = Context::background().with_timeout(150 * MS);
        late += usize::from(stage.ask(&short).await.is_err());
        assert!(late <= 6, "it is not ejected after {late} requests that it held for too long");
    }
    assert!(late >= 5, "{late}");
    assert_eq!(stage.ask_times(20, &cx()).await, 0);
    stands[0].recover();
    let asked = stands[0].asked();
    // Nobody sends a request: it is asked over its health service.
    eventually(|| stage.in_state("healthy") == 5.0).await;
    assert_eq!(stands[0].asked(), asked);
}

#[tokio::test]
async fn callers_that_give_up_eject_nobody() {
    let stands = Stand::several(2);
    let stage = Stage::new(Balance { ejection: quickly(10_000 * MS), ..in_turn() }, &stands);
    stage.ask_times(4, &cx()).await;
    stands.iter().for_each(Stand::hang);
    for _ in 0..20 {
        let (canceled, canceller) = cx().with_cancel();
        let call = stage.ask(&canceled);
        let asked = stands[0].asked() + stands[1].asked();
        let cancel = async {
            eventually(|| stands[0].asked() + stands[1].asked() > asked).await;
            canceller.cancel();
        };
        let (answer, ()) = tokio::join!(call, cancel);
        assert!(answer.unwrap_err().is_canceled());
    }
    stands.iter().for_each(Stand::recover);
    // Two sweeps later still nobody is.
    tokio::time::sleep(120 * MS).await;
    assert_eq!((stage.in_state("healthy"), stage.in_state("ejected")), (2.0, 0.0));
}

#[tokio::test]
async fn a_dead_cluster_is_drained() {
    let mut stands: Vec<Stand> =
        (0..5).map(|n| Stand::start(&format!("a{n}")).zone("z").cluster("a")).collect();
    stands.extend((0..5).map(|n| Stand::start(&format!("b{n}")).zone("z").cluster("b")));
    let stage = Stage::new(Balance { ejection: quickly(60_000 * MS), ..in_turn() }, &stands);
    assert_eq!(stage.ask_times(100, &cx()).await, 0);
    assert!(stands.iter().all(|stand| stand.asked() > 0));
    stands[5..].iter().for_each(Stand::fail);
    let mut failed = 0;
    while stage.in_state("ejected") < 5.0 {
        failed += stage.ask_times(10, &cx()).await;
        assert!(failed < 200, "{} are ejected after {failed} failures", stage.in_state("ejected"));
    }
    assert_eq!(stage.ask_times(100, &cx()).await, 0, "it gets nothing any more");
}

#[tokio::test]
async fn those_of_a_list_that_nobody_confirms_are_asked_whether_they_are_there() {
    let mut stands = Stand::several(3);
    let probes = Some(ActiveProbes { quiet: 50 * MS, ..ActiveProbes::default() });
    let stage = Stage::new(Balance { probes, ..in_turn() }, &stands);
    assert_eq!(stage.ask_times(9, &cx()).await, 0);
    stands.pop();
    // The registry stands behind the list: nobody asks, and nobody knows.
    tokio::time::sleep(300 * MS).await;
    assert_eq!(stage.in_state("dead"), 0.0);
    stage.publisher.fail(&Error::unavailable("the registry is down"));
    eventually(|| stage.in_state("dead") == 1.0).await;
    assert_eq!(stage.in_state("healthy"), 2.0, "the others answered");
    assert_eq!(stage.ask_times(9, &cx()).await, 0);
}

#[tokio::test]
async fn requests_stay_in_the_zone_until_it_cannot_take_them() {
    let near: Vec<Stand> = (0..3).map(|n| Stand::start(&format!("near{n}")).zone("here")).collect();
    let far: Vec<Stand> = (0..3).map(|n| Stand::start(&format!("far{n}")).zone("there")).collect();
    let zones = Zones { local: "here".into(), ..Zones::default() };
    let stage = Stage::new(Balance { zones, ..Balance::default() }, &[]);
    stage.publisher.publish(near.iter().chain(&far).map(|stand| stand.instance.clone()));
    assert_eq!(stage.ask_times(60, &cx()).await, 0);
    assert_eq!(near.iter().map(Stand::asked).sum::<usize>(), 60);
    for stand in near {
        stand.stop().await;
    }
    assert_eq!(stage.ask_times(60, &cx()).await, 0);
    assert_eq!(far.iter().map(Stand::asked).sum::<usize>(), 60);
}

#[tokio::test]
async fn the_picker_is_the_one_that_was_asked_for() {
    let stands = Stand::several(4);
    let stage = Stage::new(in_turn(), &stands);
    stage.ask_times(100, &cx()).await;
    assert!(
        stands.iter().all(|stand| stand.asked() == 25),
        "{:?}",
        stands.iter().map(Stand::asked).collect::<Vec<_>>()
    );

    let key = "x-md-global-user".to_owned();
    let picker = PickerKind::ConsistentHash { key: key.clone() };
    let stage = Stage::new(Balance { picker, ..Balance::default() }, &stands);
    let mut taken = std::collections::HashSet::new();
    for user in 0..20 {
        let cx = cx().with_metadata(&key, &user.to_string()).unwrap();
        let before: Vec<_> = stands.iter().map(Stand::asked).collect();
        stage.ask_times(5, &cx).await;
        let own: Vec<_> = (0..4).filter(|at| stands[*at].asked() > before[*at]).collect();
        assert_eq!(own.len(), 1, "user {user} met {own:?}");
        taken.insert(own[0]);
    }
    assert!(taken.len() > 1, "users are spread");

    for picker in [PickerKind::LeastRequest, PickerKind::WeightedRandom, PickerKind::P2c] {
        let before: Vec<_> = stands.iter().map(Stand::asked).collect();
        let stage = Stage::new(Balance { picker: picker.clone(), ..Balance::default() }, &stands);
        assert_eq!(stage.ask_times(80, &cx()).await, 0);
        let all_got = (0..4).all(|at| stands[at].asked() > before[at]);
        // P2C prefers who answered fastest; it may leave somebody out.
        assert!(all_got || picker == PickerKind::P2c, "{picker:?}");
    }
}

#[tokio::test]
async fn only_the_subset_is_connected_to_until_too_few_of_it_are_left() {
    let stands = Stand::several(24);
    let picker = PickerKind::WeightedRandom;
    let balance = Balance { subset: Some(20), client: "me".into(), picker, ..Balance::default() };
    let stage = Stage::new(balance, &stands);
    assert_eq!(stage.ask_times(500, &cx()).await, 0);
    let outside = stands.iter().filter(|stand| stand.asked() == 0).count();
    assert_eq!(outside, 4);
    // 11 of the 20 go: the others take part.
    let (mut stay, mut gone) = (Vec::new(), 0);
    for stand in stands {
        if stand.asked() > 0 && gone < 11 {
            gone += 1;
            stand.stop().await;
        } else {
            stay.push(stand);
        }
    }
    assert_eq!(stage.ask_times(500, &cx()).await, 0);
    assert!(stay.iter().all(|stand| stand.asked() > 0));
}

#[tokio::test]
async fn a_subset_follows_the_clients_slot() {
    let mut stands = Stand::several(30);
    for (slot, stand) in stands.iter_mut().enumerate() {
        stand.instance.metadata.insert(SLOT.into(), slot.to_string());
    }
    let (slot, slots) = tokio::sync::watch::channel(None);
    let (held, mut letting_go) = tokio::sync::oneshot::channel::<()>();
    let balance = Balance { subset: Some(20), client: "me".into(), ..in_turn() };
    let stage = Stage::with(balance, &stands, |builder| builder.slot(slots, held));
    let mut seen = Vec::new();
    for number in [None, Some(0), Some(7)] {
        slot.send_replace(number);
        // Another subset: somebody is asked who was not, and 20 are.
        let mut subset = std::collections::BTreeSet::new();
        let is_new = async {
            while subset.len() != 20 || seen.contains(&subset) {
                let before: Vec<_> = stands.iter().map(Stand::asked).collect();
                assert_eq!(stage.ask_times(40, &cx()).await, 0);
                subset = (0..30).filter(|at| stands[*at].asked() > before[*at]).collect();
            }
        };
        tokio::time::timeout(5_000 * MS, is_new).await.expect("the subset stays as it was");
        seen.push(subset);
    }
    assert!(letting_go.try_recv().is_err_and(|e| e == tokio::sync::oneshot::error::TryRecvError::Empty));
    drop(stage);
    assert!(letting_go.await.is_err(), "the lease ends with the channel");
}

#[tokio::test]
async fn a_thousand_updates_leave_no_task_behind() {
    let stands = Stand::several(2);
    let stage = Stage::new(Balance::default(), &stands);
    stage.ask_times(10, &cx()).await;
    let before = tasks();
    for n in 0..1000_u16 {
        let mut list: Vec<_> = stands.iter().map(|stand| stand.instance.clone()).collect();
        // Another one each time, where nobody listens.
        list.push(Instance::new("test", format!("gone{n}")).with_endpoint(Endpoint::http("127.0.0.1", 1)));
        stage.publisher.publish(list);
        assert_eq!(stage.ask_times(1, &cx()).await, 0);
    }
    stage.publisher.publish(stands.iter().map(|stand| stand.instance.clone()));
    eventually(|| stage.in_state("healthy") == 2.0 && stage.in_state("dead") == 0.0).await;
    eventually(|| tasks() <= before).await;
    drop(stage);
    drop(stands);
    eventually(|| tasks() == 0).await;
}
