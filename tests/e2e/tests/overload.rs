//! Four times as much as a server can do: what it does of it, for whom, and how it comes back.
//!
//! The server is the shop's catalog, once with its processors as what limits it, and once with a store. Its method `Trace` computes for a
//! given number of steps, under `bbr`, the default. Or it holds a call for [`TIME`], with a bulkhead in front that lets [`PLACES`] run
//! and has the others wait without end: so the capacity is known, and nobody's processor is what limits it. That is under `gradient`,
//! which is for services that wait for something else than a processor.
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

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bowline::client::{Channel, ChannelOptions, ClientPolicies};
use bowline::core::Criticality;
use bowline::prelude::*;
use bowline::resilience::{ClientPolicy, Policies, RetryOptions, ThrottleOptions};
use bowline::rpc::Caller;
use bowline_tests_e2e::{App, Fleet, Instance, Load, Report, undisturbed};
use shop_api::catalog::v1::catalog_service;
use shop_api::common::v1::TraceRequest;
use tokio::task::JoinSet;

/// How many the store serves at a time.
const PLACES: u32 = 16;
/// How long each takes there.
const TIME: Duration = Duration::from_millis(80);
/// What that makes a second.
const CAPACITY: u32 = 200;

/// What each criticality asks for, of the capacity: four times as much together.
const OFFERED: [(Criticality, f64); 4] = [
    (Criticality::CriticalPlus, 0.25),
    (Criticality::Critical, 1.25),
    (Criticality::SheddablePlus, 1.25),
    (Criticality::Sheddable, 1.25),
];

/// What a call asks for.
#[derive(Clone, Copy)]
enum Work {
    /// To wait for the store.
    Waits,
    /// To compute so much.
    Computes(i64),
}
/// How many ask without a pause to see what it does at the most: half as many again as there are places.
const CALLERS: u32 = PLACES * 3 / 2;
/// How long a caller remembers what was refused: the default.
const THROTTLE_WINDOW: Duration = Duration::from_secs(10);
const OVERLOAD: Duration = Duration::from_secs(10);

/// A catalog with a store.
async fn with_store() -> Fleet {
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

async fn ask(cx: Context, caller: Caller, criticality: Criticality, work: Work) -> Result<()> {
    let cx = cx.with_metadata(Criticality::KEY, criticality.as_str())?;
    let mut request = TraceRequest::default();
    match work {
        Work::Waits => request.hold_millis = i64::try_from(TIME.as_millis()).unwrap_or(i64::MAX),
        Work::Computes(much) => request.compute = much,
    }
    catalog_service::Client::new(caller).trace(&cx, request).await.map(drop)
}

fn load(channel: &Channel, criticality: Criticality, work: Work, per_second: f64) -> Load {
    let per_second = per_second.round() as u32;
    Load::through(channel, per_second.max(1), move |cx, caller, _| ask(cx, caller, criticality, work))
}

/// Whose time it is.
#[derive(Clone, Copy)]
enum Whose {
    Clock,
    Server,
}

impl Whose {
    fn seconds(self, server: &Instance) -> f64 {
        static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
        match self {
            Self::Clock => BEGAN.elapsed().as_secs_f64(),
            Self::Server => server.processor_time().as_secs_f64(),
        }
    }
}

/// The answers to so many who ask without a pause for 4 s.
async fn as_fast_as_it_goes(channel: &Channel, work: Work) -> u32 {
    let end = Instant::now() + Duration::from_secs(4);
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let caller = channel.caller().unwrap();
        callers.spawn(async move {
            let mut answers = 0_u32;
            while Instant::now() < end {
                let cx = Context::background().with_timeout(Duration::from_secs(10));
                ask(cx, caller.clone(), Criticality::CriticalPlus, work).await.unwrap();
                answers += 1;
            }
            answers
        });
    }
    callers.join_all().await.into_iter().sum()
}

/// What came of an overload by four callers, the time when it was over, and what came of a load of `calm` of the capacity that began
/// in the moment of its end.
async fn overload(
    channels: &[Channel; 4],
    work: Work,
    (capacity, calm): (f64, f64),
    after: Duration,
    seconds: impl Fn() -> f64,
) -> (Vec<Report>, f64, Report) {
    let each = OFFERED.iter().zip(channels);
    let loads: Vec<_> = each
        .map(|((criticality, part), channel)| load(channel, *criticality, work, part * capacity))
        .collect();
    tokio::time::sleep(OVERLOAD).await;
    let ending = async {
        let mut reports = Vec::new();
        for load in loads {
            reports.push(load.finish().await);
        }
        // The last answers came after the last requests.
        (reports, seconds())
    };
    let after = load(&channels[1], Criticality::Critical, work, calm * capacity).run_for(after);
    let ((reports, ended), after) = tokio::join!(ending, after);
    (reports, ended, after)
}

fn served(reports: &[Report]) -> f64 {
    reports.iter().map(|report| report.succeeded).sum::<usize>() as f64
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

/// Four times what `fleet`'s catalog can do of `work`, by callers who send everything. Answers a second are those of a second of
/// `whose`: the clock's, or the server's on the processors, which it shares with its callers. Before and after, `calm` of the capacity
/// is asked for.
async fn four_times(fleet: &Fleet, work: Work, capacity: Option<f64>, whose: Whose, calm: f64, slower: u32) {
    let server = fleet.one(App::Catalog);
    let channel = plain(fleet);
    let seconds = || whose.seconds(server);
    let began = (seconds(), Instant::now());
    let answers = f64::from(as_fast_as_it_goes(&channel, work).await);
    let (peak, capacity) =
        (answers / (seconds() - began.0), capacity.unwrap_or(answers / began.1.elapsed().as_secs_f64()));
    // Who has seen nothing yet does not know how long an answer takes.
    let unloaded =
        load(&channel, Criticality::Critical, work, calm * capacity).run_for(Duration::from_secs(3)).await;
    assert_eq!(unloaded.failed(), 0, "{:?}", unloaded.failures);
    let channels = std::array::from_fn(|_| plain(fleet));
    let began = seconds();
    let (reports, ended, after) =
        overload(&channels, work, (capacity, calm), Duration::from_secs(4), seconds).await;
    let goodput = served(&reports) / (ended - began);

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
    assert!(p99 <= alone * slower, "{p99:?} of {alone:?}");
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
async fn four_times_what_a_store_does_costs_neither_the_goodput_nor_the_most_critical() {
    let _alone = undisturbed().await;
    let capacity = Some(f64::from(CAPACITY));
    four_times(&with_store().await, Work::Waits, capacity, Whose::Clock, 0.5, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_times_what_the_processors_do_costs_neither_the_goodput_nor_the_most_critical() {
    let _alone = undisturbed().await;
    let fleet = Fleet::start(&[(App::Catalog, 1)]).await;
    let work = Work::Computes(worth(&plain(&fleet), Duration::from_millis(40)).await);
    // Twelve at a time are six for each of two processors, and before that they wait to be read, which takes a processor too. Without a
    // limit it would be some 200 times.
    // What others on the machine leave it is enough for an eighth of what it can do alone.
    four_times(&fleet, work, None, Whose::Server, 0.125, 60).await;
}

/// How much can be computed in so long.
async fn worth(channel: &Channel, time: Duration) -> i64 {
    const SOME: i64 = 1_000;
    let took = load(channel, Criticality::Critical, Work::Computes(SOME), 20.0)
        .run_for(Duration::from_secs(2))
        .await;
    assert_eq!(took.failed(), 0, "{:?}", took.failures);
    (SOME as f64 * time.as_secs_f64() / took.percentile(50.0).as_secs_f64()) as i64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_with_the_defaults_hold_a_part_of_an_overload_back() {
    let _alone = undisturbed().await;
    let fleet = with_store().await;
    let server = fleet.one(App::Catalog);
    let plain = plain(&fleet);
    let unloaded = load(&plain, Criticality::Critical, Work::Waits, f64::from(CAPACITY) / 4.0)
        .run_for(Duration::from_secs(3))
        .await;
    assert_eq!(unloaded.failed(), 0, "{:?}", unloaded.failures);
    let (began, seconds) = (Instant::now(), || Whose::Clock.seconds(server));
    let peak = f64::from(as_fast_as_it_goes(&plain, Work::Waits).await) / began.elapsed().as_secs_f64();
    let calls = ["bowline_server_calls_total", "bowline_server_rejected_total"];
    let arrived = async || server.measured(calls[0], &[]).await + server.measured(calls[1], &[]).await;
    let before = arrived().await;
    // One application asks for all of it: what becomes of the least critical holds the most critical not back.
    let channel = Channel::builder(fleet.target(App::Catalog)).build().unwrap();
    let channels = std::array::from_fn(|_| channel.clone());
    let began = seconds();
    let (reports, ended, after) = overload(
        &channels,
        Work::Waits,
        (f64::from(CAPACITY), 0.5),
        THROTTLE_WINDOW + Duration::from_secs(2),
        seconds,
    )
    .await;
    let goodput = served(&reports) / (ended - began);

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
