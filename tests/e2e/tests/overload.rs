//! Four times as much as a server can do: what it does of it, for whom, and how it comes back.
//!
//! The server is the shop's catalog, asked for something that takes [`TIME`] of a store of [`PLACES`] places: its method `Trace`,
//! which holds a call for a given time, with a bulkhead in front that lets so many run and has the others wait without end. So
//! its capacity is known, and nobody's processor is what limits it. The adaptive limit is `gradient`, which is the one for services
//! that wait for something else than a processor.
//!
//! What is offered comes from an open loop: requests leave at their times, whatever became of those before, and their latency is
//! counted from then on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that tells its figures"
)]

use std::time::{Duration, Instant};

use bowline::client::{Channel, ChannelOptions, ClientPolicies};
use bowline::core::Criticality;
use bowline::prelude::*;
use bowline::resilience::{ClientPolicy, Policies, RetryOptions, ThrottleOptions};
use bowline::rpc::Caller;
use bowline_tests_e2e::{App, Fleet, Instance, Load, Report};
use shop_api::catalog::v1::catalog_service;
use shop_api::common::v1::TraceRequest;
use tokio::task::JoinSet;

/// Each test measures and needs the machine for itself.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How many the store serves at a time.
const PLACES: u32 = 16;
/// How long each takes there.
const TIME: Duration = Duration::from_millis(80);
/// What that makes a second.
const CAPACITY: u32 = 200;

/// What each criticality asks for in a second: four times the capacity together, the most critical a quarter of it.
const OFFERED: [(Criticality, u32); 4] = [
    (Criticality::CriticalPlus, CAPACITY / 4),
    (Criticality::Critical, CAPACITY * 5 / 4),
    (Criticality::SheddablePlus, CAPACITY * 5 / 4),
    (Criticality::Sheddable, CAPACITY * 5 / 4),
];
/// How long a caller remembers what was refused: the default.
const THROTTLE_WINDOW: Duration = Duration::from_secs(10);
const OVERLOAD: Duration = Duration::from_secs(10);

async fn catalog() -> Fleet {
    let settings = format!(
        "service:\n  server:\n    admission: gradient\n    policies:\n      \
         /shop.catalog.v1.CatalogService/Trace: {{ bulkhead: {{ concurrency: {PLACES}, queue: 100000, patience: 10m }} }}\n"
    );
    let change = |instance: &mut Instance| {
        if instance.app == App::Catalog {
            instance.settings.clone_from(&settings);
        }
    };
    Fleet::start_with(&[(App::Catalog, 1)], change).await
}

/// A channel that sends everything, once: it hides nothing of what the server does.
fn plain(fleet: &Fleet) -> Channel {
    let retry = RetryOptions { attempts: 1, ..RetryOptions::default() };
    let throttle = ThrottleOptions { k: 0.0, ..ThrottleOptions::default() };
    let policy = ClientPolicy { retry: Some(retry), throttle: Some(throttle), ..ClientPolicy::default() };
    let policies = ClientPolicies::new(Policies::new([("*".to_owned(), policy)]).unwrap());
    let options = ChannelOptions { policies, ..ChannelOptions::default() };
    Channel::builder(fleet.target(App::Catalog)).options(options).build().unwrap()
}

async fn ask(cx: Context, caller: Caller, criticality: Criticality) -> Result<()> {
    let cx = cx.with_metadata(Criticality::KEY, criticality.as_str())?;
    let hold_millis = i64::try_from(TIME.as_millis()).unwrap_or(i64::MAX);
    let request = TraceRequest { hold_millis, ..Default::default() };
    catalog_service::Client::new(caller).trace(&cx, request).await.map(drop)
}

fn load(channel: &Channel, criticality: Criticality, per_second: u32) -> Load {
    Load::through(channel, per_second, move |cx, caller, _| ask(cx, caller, criticality))
}

/// Answers a second, at the most: half as many again as there are places ask without a pause.
async fn peak(channel: &Channel) -> f64 {
    let end = Instant::now() + Duration::from_secs(4);
    let mut callers = JoinSet::new();
    let began = Instant::now();
    for _ in 0..PLACES * 3 / 2 {
        let caller = channel.caller().unwrap();
        callers.spawn(async move {
            let mut answers = 0_u32;
            while Instant::now() < end {
                let cx = Context::background().with_timeout(Duration::from_secs(10));
                ask(cx, caller.clone(), Criticality::CriticalPlus).await.unwrap();
                answers += 1;
            }
            answers
        });
    }
    let answers: u32 = callers.join_all().await.into_iter().sum();
    f64::from(answers) / began.elapsed().as_secs_f64()
}

/// What came of an overload by four callers, how many good answers a second that were, and what came of a load of half of the capacity that began in the moment of its end.
async fn overload(channels: &[Channel; 4], after: Duration) -> (Vec<Report>, f64, Report) {
    let began = Instant::now();
    let each = OFFERED.iter().zip(channels);
    let loads: Vec<_> =
        each.map(|((criticality, per_second), channel)| load(channel, *criticality, *per_second)).collect();
    tokio::time::sleep(OVERLOAD).await;
    let ending = async {
        let mut reports = Vec::new();
        for load in loads {
            reports.push(load.finish().await);
        }
        let served: usize = reports.iter().map(|report| report.succeeded).sum();
        // The last answers came after the last requests.
        (reports, served as f64 / began.elapsed().as_secs_f64())
    };
    let after = load(&channels[1], Criticality::Critical, CAPACITY / 2).run_for(after);
    let ((reports, goodput), after) = tokio::join!(ending, after);
    (reports, goodput, after)
}

fn told(reports: &[Report]) {
    for ((criticality, _), report) in OFFERED.iter().zip(reports) {
        println!(
            "  {:13} {:4} of {:4} served, p50 {:?}, p99 {:?}, {:?}, sent {:?} late at most",
            criticality.as_str(),
            report.succeeded,
            report.sent,
            report.percentile(50.0),
            report.percentile(99.0),
            report.failures.iter().map(|(what, n)| (what.split(' ').next(), n)).collect::<Vec<_>>(),
            report.behind,
        );
    }
}

fn together(reports: &[Report]) -> Report {
    Report { took: reports.iter().flat_map(|report| report.took.clone()).collect(), ..Report::default() }
}

/// Waits until nothing is in flight and nothing has a place, as the server itself counts.
async fn quiet(server: &Instance) {
    let counts = ["bowline_server_in_flight", "bowline_server_admission_in_flight"];
    let quiet = tokio::time::timeout(Duration::from_secs(20), async {
        for count in counts {
            while server.measured(count, &[]).await != 0.0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    quiet.await.expect("a place is not given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_times_the_capacity_costs_neither_the_goodput_nor_the_most_critical() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let fleet = catalog().await;
    let server = fleet.one(App::Catalog);
    let channel = plain(&fleet);
    // Who has seen nothing yet does not know how long an answer takes.
    let unloaded = load(&channel, Criticality::Critical, CAPACITY / 4).run_for(Duration::from_secs(3)).await;
    assert_eq!(unloaded.failed(), 0, "{:?}", unloaded.failures);
    let peak = peak(&channel).await;
    let channels = std::array::from_fn(|_| plain(&fleet));
    let (reports, goodput, after) = overload(&channels, Duration::from_secs(4)).await;

    let (p99, alone) = (together(&reports).percentile(99.0), unloaded.percentile(99.0));
    println!(
        "4 times the capacity: {goodput:.0} a second of {peak:.0} at the peak ({:.0} %), p99 {p99:?} of {alone:?} unloaded",
        100.0 * goodput / peak
    );
    told(&reports);
    println!(
        "  after it: {} of {} failed, the last {:?} later",
        after.failed(),
        after.sent,
        after.last_failure
    );
    assert!(goodput >= 0.85 * peak, "{goodput} of {peak}");
    assert!(p99 <= alone * 5, "{p99:?} of {alone:?}");
    let critical_plus = &reports[0];
    assert!(critical_plus.succeeded * 100 >= critical_plus.sent * 99, "{:?}", critical_plus.failures);
    let share = |report: &Report| report.succeeded as f64 / report.sent as f64;
    assert!(share(&reports[1]) >= share(&reports[3]), "the sheddable come before the critical");
    for report in reports.iter().chain([&after]) {
        assert!(report.failures.keys().all(|what| what.starts_with("OVERLOADED ")), "{:?}", report.failures);
    }
    assert!(after.last_failure.is_none_or(|last| last <= Duration::from_secs(2)), "{:?}", after.last_failure);

    quiet(server).await;
    let refused: usize = reports.iter().chain([&after]).map(Report::failed).sum();
    assert_eq!(server.measured("bowline_server_rejected_total", &["OVERLOADED"]).await as usize, refused);
    assert_eq!(server.measured("bowline_server_rejected_total", &[]).await as usize, refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_with_the_defaults_hold_a_part_of_an_overload_back() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let fleet = catalog().await;
    let server = fleet.one(App::Catalog);
    let plain = plain(&fleet);
    let unloaded = load(&plain, Criticality::Critical, CAPACITY / 4).run_for(Duration::from_secs(3)).await;
    assert_eq!(unloaded.failed(), 0, "{:?}", unloaded.failures);
    let peak = peak(&plain).await;
    let calls = ["bowline_server_calls_total", "bowline_server_rejected_total"];
    let arrived = async || server.measured(calls[0], &[]).await + server.measured(calls[1], &[]).await;
    let before = arrived().await;
    // One application asks for all of it: what becomes of the least critical holds the most critical not back.
    let channel = Channel::builder(fleet.target(App::Catalog)).build().unwrap();
    let channels = std::array::from_fn(|_| channel.clone());
    let (reports, goodput, after) = overload(&channels, THROTTLE_WINDOW + Duration::from_secs(2)).await;

    let sent: usize = reports.iter().chain([&after]).map(|report| report.sent).sum();
    let arrived = arrived().await - before;
    println!(
        "4 times the capacity, callers with the defaults: {goodput:.0} a second of {peak:.0} at the peak ({:.0} %), {arrived} of {sent} arrived at the server",
        100.0 * goodput / peak
    );
    told(&reports);
    println!(
        "  after it: {} of {} failed, the last {:?} later",
        after.failed(),
        after.sent,
        after.last_failure
    );
    assert!(goodput >= 0.8 * peak, "{goodput} of {peak}");
    assert!(arrived < sent as f64 * 0.9, "{arrived} of {sent}");
    let critical_plus = &reports[0];
    assert!(critical_plus.succeeded * 100 >= critical_plus.sent * 99, "{:?}", critical_plus.failures);
    let known = |what: &String| what.starts_with("OVERLOADED ") || what.starts_with("CIRCUIT_OPEN ");
    for report in reports.iter().chain([&after]) {
        assert!(report.failures.keys().all(known), "{:?}", report.failures);
    }
    // A server that has time again is asked for all of it once its callers have forgotten.
    assert!(after.last_failure.is_none_or(|last| last <= THROTTLE_WINDOW), "{:?}", after.last_failure);
    quiet(server).await;
}
