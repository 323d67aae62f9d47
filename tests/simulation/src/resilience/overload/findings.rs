//! What holds in an overload.

use std::time::Duration;

use bowline_core::Criticality;

use super::{CALLERS, CAPACITY, Load, MIX, Others, PATIENCE, SURGE, Seen, Shedder, run};
use crate::resilience::Plan;
use crate::resilience::numbers::mean;
use crate::resilience::report::{Axis, Bars, Lines, Section, Table, Unit};

/// Times the capacity.
const LOADS: [f64; 7] = [0.5, 0.9, 1.0, 1.5, 2.0, 5.0, 10.0];

/// How much of the peak is still answered, at which load.
const GOODPUT: [(f64, f64); 3] = [(2.0, 0.98), (5.0, 0.95), (10.0, 0.90)];

/// Where `CRITICAL_PLUS` alone is nine tenths of the capacity.
const MOSTLY_CRITICAL: [(f64, [u64; 4]); 3] =
    [(2.0, [15, 15, 25, 45]), (5.0, [30, 22, 30, 18]), (10.0, [35, 26, 30, 9])];

/// What a shedder makes of a load, over all seeds.
#[derive(Clone, Copy, Default)]
struct Point {
    goodput: f64,
    p99: f64,
    critical_plus: f64,
    /// The slowest of all seeds.
    recovery: f64,
    left: u32,
}

/// What holds in an overload.
pub fn section(plan: &Plan) -> Section {
    let mut section = Section::new(
        "Overload",
        format!(
            "A server with eight processors does at most {CAPACITY} requests a second; a refusal costs a hundredth of \
             a request. Half of that is asked for 15 s, then a multiple of it for 30 s, then half again. Callers give up \
             after {} s. Figures are of the 30 s, as means over the seeds; recovery is the slowest, and its 10 s are the \
             most that is watched.\n\nWhat others published is written anew from their formulas and runs in the same \
             world.",
            PATIENCE.as_secs()
        ),
    );
    // A test is about bounds, and the others have none.
    let shedders = if plan.thorough { &Shedder::ALL[..] } else { &Shedder::ALL[..2] };
    let of = |shedder: &Shedder| (*shedder, LOADS.map(|times| point(*shedder, times, plan)));
    let all: Vec<(Shedder, [Point; 7])> = shedders.iter().map(of).collect();
    for (shedder, points) in all.iter().filter(|(shedder, _)| shedder.is_ours()) {
        bound(&mut section, shedder.name(), points);
    }
    mostly_critical(&mut section, plan);
    cold_start(&mut section, plan);
    busy_machine(&mut section, plan);
    flood(&mut section, shedders, plan);
    plots(&mut section, &all);
    tables(&mut section, &all);
    section
}

fn point(shedder: Shedder, times: f64, plan: &Plan) -> Point {
    let load = Load::surge(times);
    let (from, to) = SURGE;
    let mut all = Vec::new();
    for seed in plan.seeds() {
        let seen = run(shedder, &load, seed);
        all.push(Point {
            goodput: seen.goodput(from, to),
            p99: seen.latency(0.99, from, to),
            critical_plus: seen.success(Criticality::CriticalPlus, from, to),
            recovery: seen.recovery(to, load.end).as_secs_f64(),
            left: seen.left,
        });
    }
    Point {
        goodput: mean(all.iter().map(|point| point.goodput)),
        p99: mean(all.iter().map(|point| point.p99)),
        critical_plus: mean(all.iter().map(|point| point.critical_plus)),
        recovery: all.iter().map(|point| point.recovery).fold(0.0, f64::max),
        left: all.iter().map(|point| point.left).max().unwrap_or_default(),
    }
}

fn peak(points: &[Point; 7]) -> f64 {
    points.iter().map(|point| point.goodput).fold(0.0, f64::max)
}

fn bound(section: &mut Section, name: &str, points: &[Point; 7]) {
    let at =
        |times: f64| LOADS.into_iter().zip(points).find(|(load, _)| *load == times).map(|(_, point)| *point);
    for (times, part) in GOODPUT {
        let goodput = at(times).unwrap_or_default().goodput;
        let what = format!("{name}: goodput at {times}× of its peak");
        section.at_least(what, goodput / peak(points), part, Unit::Percent);
    }
    let calm = at(0.5).unwrap_or_default().p99;
    for (times, point) in LOADS.into_iter().zip(points) {
        if times > 1.0 {
            let what = format!("{name}: p99 of the admitted at {times}× against that at 0.5×");
            section.at_most(what, point.p99 / calm, 2.0, Unit::Times);
            section.at_least(
                format!(
                    "{name}: CRITICAL_PLUS at {times}×, whose own demand is {:.3} of the capacity",
                    times * 0.05
                ),
                point.critical_plus,
                0.999,
                Unit::Percent,
            );
        }
    }
    let slowest = points.iter().map(|point| point.recovery).fold(0.0, f64::max);
    section.at_most(format!("{name}: recovery after the surge, the slowest"), slowest, 2.0, Unit::Seconds);
    let left = points.iter().map(|point| point.left).max().unwrap_or_default();
    section.at_most(format!("{name}: places not given back"), f64::from(left), 0.0, Unit::Count);
}

fn mostly_critical(section: &mut Section, plan: &Plan) {
    for (times, parts) in MOSTLY_CRITICAL {
        let mut load = Load::surge(times);
        for ((_, part), own) in load.mix.iter_mut().zip(parts) {
            *part = own;
        }
        let seen = plan.seeds().map(|seed| run(Shedder::Ours, &load, seed));
        let success = mean(seen.map(|seen| seen.success(Criticality::CriticalPlus, SURGE.0, SURGE.1)));
        let what = format!("CRITICAL_PLUS at {times}×, whose own demand is 0.9 of the capacity");
        section.at_least(what, success, 0.999, Unit::Percent);
    }
}

fn cold_start(section: &mut Section, plan: &Plan) {
    let load = Load::cold(2.0);
    let all: Vec<Seen> = plan.seeds().map(|seed| run(Shedder::Ours, &load, seed)).collect();
    let blindly: u32 = all.iter().map(|seen| seen.refused_blindly).sum();
    let what = "cold start at 2×: refused while nothing was known";
    section.at_most(what, f64::from(blindly), 0.0, Unit::Count);
    let begun = Duration::from_secs(2);
    let goodput = mean(all.iter().map(|seen| seen.goodput(begun, load.end)));
    section.at_least(
        "cold start at 2×: goodput of the capacity after 2 s",
        goodput / CAPACITY,
        0.95,
        Unit::Percent,
    );
}

/// Others keep the machine busy, and the server has less to do than what they leave it.
fn busy_machine(section: &mut Section, plan: &Plan) {
    let cases = [
        ("others hold the server up for up to 150 ms each second, at 0.3×", Others::InTurns, 0.3, 0.999),
        // Of what two processors do that is four fifths: by chance there are sometimes twenty at a time.
        ("others leave the server two processors of eight, at 0.2×", Others::Always, 0.2, 0.995),
    ];
    for (name, others, times, wanted) in cases {
        let load = Load::beside(others, times);
        let success = mean(plan.seeds().map(|seed| run(Shedder::Ours, &load, seed).served()));
        section.at_least(format!("{name}: answered in time"), success, wanted, Unit::Percent);
    }
}

/// One caller sends nineteen in twenty of ten times the capacity; what the others ask for together is half of it.
fn flood(section: &mut Section, shedders: &[Shedder], plan: &Plan) {
    let mut load = Load::surge(10.0);
    load.first = 0.95;
    let mut bars = Bars {
        title: "One caller floods at 10×: success of the others, and of CRITICAL_PLUS".into(),
        y: Axis { label: "answered in time, %", most: Some(100.0), ..Axis::default() },
        groups: vec!["the others, mean".into(), "the others, worst".into(), "CRITICAL_PLUS".into()],
        series: Vec::new(),
    };
    for shedder in shedders {
        let all: Vec<Seen> = plan.seeds().map(|seed| run(*shedder, &load, seed)).collect();
        let of = |caller| mean(all.iter().map(|seen| seen.success_of(caller, SURGE.0, SURGE.1)));
        let others: Vec<f64> = (1..CALLERS).map(of).collect();
        let worst = others.iter().copied().fold(1.0, f64::min);
        let critical = mean(all.iter().map(|seen| seen.success(Criticality::CriticalPlus, SURGE.0, SURGE.1)));
        let values = [mean(others), worst, critical].map(|part| part * 100.0);
        bars.series.push((shedder.name().into(), values.into()));
    }
    section.bars.push(bars);
}

fn plots(section: &mut Section, all: &[(Shedder, [Point; 7])]) {
    let mut plot = |title: &str, y: Axis, value: fn(&Point) -> f64| {
        let x = Axis {
            label: "asked for, times the capacity",
            log: true,
            ticks: LOADS.into(),
            ..Axis::default()
        };
        let series = all.iter().map(|(shedder, points)| {
            let points = LOADS.into_iter().zip(points).map(|(times, point)| (times, value(point)));
            (shedder.name().to_owned(), points.collect())
        });
        section.lines.push(Lines { title: title.into(), x, y, series: series.collect() });
    };
    let axis = |label, log| Axis { label, log, ..Axis::default() };
    plot("Goodput", axis("answers in time per second", false), |point| point.goodput);
    plot("p99 of the admitted", axis("milliseconds", true), |point| point.p99 * 1_000.0);
    plot("CRITICAL_PLUS", axis("answered in time, %", false), |point| point.critical_plus * 100.0);
    plot("Recovery after the surge, the slowest", axis("seconds", false), |point| point.recovery);
}

fn tables(section: &mut Section, all: &[(Shedder, [Point; 7])]) {
    for (shedder, points) in all {
        let header =
            ["asked for", "goodput", "of the peak", "p99 of the admitted", "CRITICAL_PLUS", "recovery"];
        let mut table = Table::new(shedder.name(), &header);
        for (times, point) in LOADS.into_iter().zip(points) {
            table.rows.push(vec![
                format!("{times}×"),
                format!("{:.1}/s", point.goodput),
                Unit::Percent.tell(point.goodput / peak(points)),
                Unit::Millis.tell(point.p99),
                Unit::Percent.tell(point.critical_plus),
                Unit::Seconds.tell(point.recovery),
            ]);
        }
        section.tables.push(table);
    }
    let mix = MIX.map(|(criticality, part)| format!("{part} % {}", criticality.as_str())).join(", ");
    section.text.push_str(&format!("\n\nRequests are {mix}; one caller of ten sends half of them."));
}
