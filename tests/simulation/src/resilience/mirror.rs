//! Copies to a shadow that is dead: what becomes of the originals.
//!
//! Real channels and servers, over connections in memory, in tokio's paused time: it moves on when nothing is left to do,
//! so that what takes a second here takes none. How long an answer takes is decided by the request alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bowline_client::{Balance, Channel, ChannelOptions, Mirroring};
use bowline_core::{
    Context, Error, Instance, Instant, MethodKind, Operation, Result, Rng, SeededRng, Tenant,
};
use bowline_discovery::{Discovery, Publisher, Resolver, Watcher};
use bowline_rpc::{Body, BoxFuture, Scope, Transport};
use bowline_server::{Fallback, Server, ServerOptions};
use bowline_telemetry::{CallMetrics, Metrics, Side};
use http::request::Parts;
use http::{Request, Response};
use tokio::task::JoinSet;

use super::Plan;
use super::numbers::{mean, quantile};
use super::report::{Section, Table, Unit};

const REQUESTS: u64 = 2_000;
const EVERY: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(5);
const RESULTS: [&str; 5] = ["answered", "failed", "timed_out", "no_instance", "too_many"];

/// What the copies meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shadow {
    /// There are none.
    None,
    /// An instance that is well.
    Well,
    /// An instance at which nobody listens.
    Dead,
    /// An instance that never answers.
    Hanging,
}

impl Shadow {
    const ALL: [Self; 4] = [Self::None, Self::Well, Self::Dead, Self::Hanging];

    fn name(self) -> &'static str {
        match self {
            Self::None => "no copies",
            Self::Well => "a shadow that is well",
            Self::Dead => "a shadow that is dead",
            Self::Hanging => "a shadow that never answers",
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// How long each original took, in seconds.
    pub(crate) took: Vec<f64>,
    pub(crate) failed: u64,
    /// How the copies ended.
    pub(crate) copies: BTreeMap<&'static str, f64>,
}

/// Answers after a time that the request's path decides, or never.
struct Answers {
    operation: Operation,
    hangs: bool,
}

impl Fallback for Answers {
    fn resolve(&self, _: &Parts) -> Option<Operation> {
        Some(self.operation.clone())
    }

    fn call(&self, _: Scope, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>>> {
        if self.hangs {
            return Box::pin(std::future::pending());
        }
        let number = request.uri().path().rsplit('/').next().and_then(|last| last.parse().ok());
        let takes = Duration::from_millis(5 + SeededRng::new(number.unwrap_or(0)).below(20) as u64);
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            Ok(Response::new(Body::full("well")))
        })
    }
}

/// A registry of one service.
struct One(Publisher);

impl Discovery for One {
    fn watch(&self, _: &str) -> Watcher {
        self.0.watch()
    }
}

fn operation() -> Operation {
    Operation::new("catalog.v1.Catalog", "Get", MethodKind::Unary)
}

fn shadow_tenant() -> Result<Tenant> {
    Tenant::new("shadow").ok_or_else(|| Error::internal("`shadow` is no tenant's name"))
}

/// Runs it.
///
/// # Errors
/// If a server cannot listen or a channel cannot be made.
pub(crate) fn run(shadow: Shadow, seed: u64) -> Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| Error::internal(format!("no runtime: {error}")))?;
    runtime.block_on(simulate(shadow, seed))
}

async fn simulate(shadow: Shadow, seed: u64) -> Result<Seen> {
    let name = |id: &str| format!("simulation-{}-{seed}-{shadow:?}-{id}", std::process::id());
    let (mut servers, mut instances) = (Vec::new(), Vec::new());
    for id in ["base-1", "base-2", "shadow"] {
        let is_shadow = id == "shadow";
        if is_shadow && shadow == Shadow::None {
            continue;
        }
        let mut instance = Instance::new("catalog", id);
        if is_shadow {
            instance.tenant = shadow_tenant()?;
        }
        let address = format!("memory:{}", name(id));
        if is_shadow && shadow == Shadow::Dead {
            instances.push(instance.with_endpoint(address.parse()?));
            continue;
        }
        // The limit looks at the real processor, which knows of no paused time.
        let options = ServerOptions { admission: None, ..ServerOptions::at(&address)? };
        let answers = Answers { operation: operation(), hangs: is_shadow && shadow == Shadow::Hanging };
        let mut server = Server::new(id, options).fallback(answers);
        instances.push(instance.with_endpoint(server.bind()?));
        server.set_ready(true);
        servers.push(server);
    }
    let metrics = Metrics::new();
    let seen = ask(&channel(shadow, instances, &metrics)?, seed).await?;
    Ok(Seen { copies: copies(&metrics)?, ..seen })
}

fn channel(shadow: Shadow, instances: Vec<Instance>, metrics: &Metrics) -> Result<Channel> {
    let mirror = match shadow {
        Shadow::None => None,
        _ => Some(Mirroring::new(shadow_tenant()?, 100.0, 10_000.0)),
    };
    let (publisher, _) = Publisher::pair("catalog");
    publisher.publish(instances);
    let balance = Balance { mirror, ..Balance::default() };
    Channel::builder("discovery:///catalog")
        .options(ChannelOptions { balance, ..ChannelOptions::default() })
        .resolver(Arc::new(Resolver::new().with_registry(Arc::new(One(publisher)))))
        .calls(CallMetrics::new(metrics, Side::Client))
        .build()
}

/// Asks at a fixed rate, whether or not there are answers.
async fn ask(channel: &Channel, seed: u64) -> Result<Seen> {
    let mut calls = JoinSet::new();
    let mut seen = Seen::default();
    let began = Instant::now();
    for number in 0..REQUESTS {
        tokio::time::sleep_until(began + EVERY * number as u32).await;
        let channel = channel.clone();
        let uri = format!("http://catalog/catalog.v1.Catalog/Get/{}", seed * REQUESTS + number);
        let request = Request::post(uri).body(Body::full("which"));
        let request = request.map_err(|error| Error::internal(format!("no request: {error}")))?;
        calls.spawn(async move {
            let (cx, started) = (Context::background().with_timeout(PATIENCE), Instant::now());
            let answer = cx.run(channel.send(cx.clone(), operation(), request)).await;
            let is_good = matches!(answer, Ok(Ok(answer)) if answer.status().is_success());
            (is_good, started.elapsed().as_secs_f64())
        });
    }
    while let Some(call) = calls.join_next().await {
        let (is_good, took) = call.unwrap_or((false, f64::NAN));
        seen.failed += u64::from(!is_good);
        seen.took.push(took);
    }
    // The last copies end.
    tokio::time::sleep(PATIENCE).await;
    Ok(seen)
}

fn copies(metrics: &Metrics) -> Result<BTreeMap<&'static str, f64>> {
    let page = metrics.encode()?;
    let of = |result| {
        let name =
            format!("bowline_client_mirrored_total{{target=\"discovery:///catalog\",result=\"{result}\"}}");
        let value = page.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok());
        (result, value.unwrap_or(0.0))
    };
    Ok(RESULTS.map(of).into())
}

/// What holds of originals while their copies go to a shadow that is dead or hangs.
pub fn section(plan: &Plan) -> Section {
    let mut section = Section::new(
        "Mirror",
        format!(
            "Real channels and servers over connections in memory, in paused time: {REQUESTS} requests, one each \
             {} ms, all of which are copied to a shadow. How long an answer takes is decided by the request alone.",
            EVERY.as_millis()
        ),
    );
    let mut header = vec!["", "success", "p50", "p99", "slowest"];
    header.extend(RESULTS.map(|result| match result {
        "timed_out" => "copies timed out",
        "no_instance" => "without instance",
        "too_many" => "too many",
        "failed" => "copies failed",
        _ => "copies answered",
    }));
    let mut table = Table::new("Originals, and how their copies ended", &header);
    let mut alone: Option<[f64; 4]> = None;
    for shadow in Shadow::ALL {
        let runs: Result<Vec<Seen>> = plan.seeds().map(|seed| run(shadow, seed)).collect();
        let runs = match runs {
            Ok(runs) => runs,
            Err(error) => {
                section.bound(shadow.name(), "it runs".into(), error.to_string(), false);
                continue;
            }
        };
        let requests = (REQUESTS * plan.seeds.max(1)) as f64;
        let success = 1.0 - runs.iter().map(|seen| seen.failed).sum::<u64>() as f64 / requests;
        let mut took: Vec<f64> = runs.iter().flat_map(|seen| seen.took.iter().copied()).collect();
        let own = [success, quantile(&mut took, 0.5), quantile(&mut took, 0.99), quantile(&mut took, 1.0)];
        met(&mut section, shadow, &runs);
        let mut row = vec![shadow.name().to_owned(), Unit::Percent.tell(success)];
        row.extend(own[1..].iter().map(|seconds| Unit::Millis.tell(*seconds)));
        row.extend(RESULTS.map(|result| Unit::Count.tell(mean(runs.iter().map(|seen| seen.copies[result])))));
        table.rows.push(row);
        match alone {
            None => alone = Some(own),
            Some(alone) => unchanged(&mut section, shadow, own, alone),
        }
    }
    section.tables.push(table);
    section
}

/// The copies met what they were to meet.
fn met(section: &mut Section, shadow: Shadow, runs: &[Seen]) {
    let of = |result: &str| mean(runs.iter().map(|seen| seen.copies[result]));
    let all = if shadow == Shadow::None { 0.0 } else { REQUESTS as f64 };
    let seen = match shadow {
        Shadow::None => RESULTS.map(of).iter().sum(),
        Shadow::Well => of("answered"),
        Shadow::Dead => of("failed"),
        // So many at a time as may be under way; the others are not sent.
        Shadow::Hanging if of("timed_out") > 0.0 => of("timed_out") + of("too_many"),
        Shadow::Hanging => 0.0,
    };
    let how = match shadow {
        Shadow::None => "were sent",
        Shadow::Well => "were answered",
        Shadow::Dead => "failed",
        Shadow::Hanging => "timed out or were not sent",
    };
    let what = format!("copies that {how} with {}", shadow.name());
    section.bound(what, Unit::Count.tell(all), Unit::Count.tell(seen), (seen - all).abs() < 0.5);
}

/// Nothing is waited for: what differs is how times are rounded to a millisecond.
fn unchanged(section: &mut Section, shadow: Shadow, own: [f64; 4], alone: [f64; 4]) {
    section.at_least(format!("success with {}", shadow.name()), own[0], alone[0], Unit::Percent);
    for (what, i) in [("p50", 1), ("p99", 2), ("the slowest", 3)] {
        let what = format!("{what} with {} above that without copies", shadow.name());
        section.at_most(what, (own[i] - alone[i]).max(0.0), 0.001, Unit::Millis);
    }
}
