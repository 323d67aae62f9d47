//! How even subsets are, and how many connections change with the instances.

mod rules;

use bowline_balance::LEAST;
use bowline_core::{Rng, SeededRng};

use super::Plan;
use super::numbers::mean;
use super::report::{Axis, Lines, Section, Table, Unit};
use rules::{Backend, Rule, Subsets, subsets};

/// From how many to how many clients and instances there are.
const SIZES: [u32; 5] = [10, 33, 100, 333, 1_000];

/// The largest in a test.
const SMALL: u32 = 100;

/// In how many steps a rolling restart replaces all instances.
const WAVES: u32 = 10;

/// What a rule makes of a size.
#[derive(Clone, Copy, Debug)]
struct Point {
    clients: u32,
    instances: u32,
    /// How many subsets the fullest instance is in, and the average one.
    most: f64,
    mean: f64,
    /// Connections made, and the fewest that could have been.
    added: [f64; 2],
    removed: [f64; 2],
    rolling: [f64; 2],
}

/// What holds of subsets.
pub fn section(plan: &Plan) -> Section {
    let mut section = Section::new(
        "Subsets",
        format!(
            "Each client connects to {LEAST} instances of those there are. How many subsets the fullest one is in, \
             against its share; and how many connections are made when one is added, when one in the middle goes, and \
             when all are replaced in {WAVES} steps by successors that inherit their slots. The fewest that could be made \
             are the share of the one that comes, those of the one that goes, and each one once. Of a share of a few \
             connections one more or less is many per cent."
        ),
    );
    let most = if plan.thorough { u32::MAX } else { SMALL };
    let sizes: Vec<u32> = SIZES.into_iter().filter(|size| *size <= most).collect();
    // A test is about bounds, and the others have none.
    let rules = if plan.thorough { &Rule::ALL[..] } else { &[Rule::Slots] };
    for rule in rules.iter().copied() {
        let pairs =
            sizes.iter().flat_map(|clients| sizes.iter().map(move |instances| (*clients, *instances)));
        let points: Vec<Point> =
            pairs.map(|(clients, instances)| point(rule, clients, instances, plan.from)).collect();
        if rule == Rule::Slots {
            bound(&mut section, &points);
        }
        plot(&mut section, rule, &points);
        section.tables.push(table(rule, &points));
    }
    at_random(&mut section, plan);
    section
}

fn point(rule: Rule, clients: u32, instances: u32, seed: u64) -> Point {
    let mut update = seed << 16;
    let mut choose = |backends: &[Backend]| {
        update += 1;
        subsets(rule, clients, backends, update)
    };
    let all: Vec<Backend> = (0..instances).map(|n| Backend { id: n, slot: n }).collect();
    let before = choose(&all);
    let size = LEAST.min(all.len()) as f64;
    let (most, mean) = fullest(&before, &all);

    let mut more = all.clone();
    more.push(Backend { id: instances, slot: instances });
    let share = f64::from(clients) * (LEAST as f64 / more.len() as f64).min(1.0);
    let added = [made(&before, &choose(&more)), share];

    let gone = all[all.len() / 2];
    let fewer: Vec<Backend> = all.iter().copied().filter(|backend| *backend != gone).collect();
    let had_it = before.iter().filter(|subset| subset.binary_search(&gone.id).is_ok()).count();
    let must = if all.len() > LEAST { had_it } else { 0 };
    let removed = [made(&before, &choose(&fewer)), must as f64];

    let (mut now, mut backends, mut rolled) = (before, all, 0.0);
    for wave in 0..WAVES {
        let in_wave = |backend: &&mut Backend| backend.slot * WAVES / instances == wave;
        backends.iter_mut().filter(in_wave).for_each(|backend| backend.id += instances);
        let after = choose(&backends);
        rolled += made(&now, &after);
        now = after;
    }
    let rolling = [rolled, f64::from(clients) * size];
    Point { clients, instances, most, mean, added, removed, rolling }
}

/// How many subsets the fullest one is in, and the average one.
fn fullest(subsets: &Subsets, backends: &[Backend]) -> (f64, f64) {
    let count =
        |backend: &Backend| subsets.iter().filter(|subset| subset.binary_search(&backend.id).is_ok()).count();
    let most = backends.iter().map(count).max().unwrap_or_default();
    (most as f64, subsets.iter().map(Vec::len).sum::<usize>() as f64 / backends.len() as f64)
}

/// How many connections are made on the way from one to the other.
fn made(before: &Subsets, after: &Subsets) -> f64 {
    let new = |(before, after): (&Vec<u32>, &Vec<u32>)| {
        after.iter().filter(|id| before.binary_search(id).is_err()).count()
    };
    before.iter().zip(after).map(new).sum::<usize>() as f64
}

impl Point {
    fn name(&self) -> String {
        format!("{} clients, {} instances", self.clients, self.instances)
    }

    /// At most 5 % or one connection more than the share, whichever is more: nobody is in 0.2 subsets.
    fn is_even(&self) -> bool {
        is_within(self.most, self.mean, 1.05, 1.0)
    }
}

fn is_within(most: f64, mean: f64, times: f64, more: f64) -> bool {
    most <= (times * mean).max(mean.ceil() + more)
}

/// How much more than the fewest: 1 where nothing had to be done and nothing was.
fn times([made, least]: [f64; 2]) -> f64 {
    if made == 0.0 { 1.0 } else { made / least }
}

/// One kind of change: connections made, and the fewest that could have been.
type Churn = fn(&Point) -> [f64; 2];

fn bound(section: &mut Section, points: &[Point]) {
    let uneven: Vec<String> = points.iter().filter(|point| !point.is_even()).map(Point::name).collect();
    section.bound(
        format!("fullest of its share, in {} sizes", points.len()),
        "≤ 1.05× or one connection more".into(),
        if uneven.is_empty() { "in all".into() } else { format!("not with {}", uneven.join("; ")) },
        uneven.is_empty(),
    );
    let churns: [(&str, Churn); 3] = [
        ("one added", |point| point.added),
        ("one removed", |point| point.removed),
        ("rolling restart, slots inherited", |point| point.rolling),
    ];
    for (name, of) in churns {
        let is_over = |point: &&Point| of(point)[0] > (of(point)[1] * 1.1).ceil() + 1.0;
        let over: Vec<String> = points.iter().filter(is_over).map(Point::name).collect();
        let worst = points.iter().filter(|point| of(point)[1] >= 20.0).map(|point| times(of(point)));
        let worst = worst.fold(0.0, f64::max);
        section.bound(
            format!("connections made against the fewest: {name}"),
            "≤ 1.10× or one connection more".into(),
            match &over[..] {
                [] => format!("at most {worst:.3}×, where 20 had to be made"),
                _ => format!("{worst:.3}×; over with {}", over.join("; ")),
            },
            over.is_empty(),
        );
    }
}

/// Sizes nobody chose.
fn at_random(section: &mut Section, plan: &Plan) {
    let rng = SeededRng::new(plan.from);
    let (number, most) = if plan.thorough { (200, 991) } else { (20, 241) };
    let (mut even, mut worst, mut broken) = (0.0, 0.0_f64, Vec::new());
    for _ in 0..number {
        let (clients, instances) = (10 + rng.below(most) as u32, 10 + rng.below(most) as u32);
        let all: Vec<Backend> = (0..instances).map(|n| Backend { id: n, slot: n }).collect();
        let (fullest, mean) = fullest(&subsets(Rule::Slots, clients, &all, 0), &all);
        even += if is_within(fullest, mean, 1.05, 1.0) { 1.0 } else { 0.0 };
        if mean >= 40.0 {
            worst = worst.max(fullest / mean);
        }
        if !is_within(fullest, mean, 1.07, 2.0) {
            broken.push(format!("{clients} clients, {instances} instances"));
        }
    }
    let part = even / f64::from(number);
    section.at_least(
        format!("random sizes ({number}) with the fullest at 1.05× or one connection more"),
        part,
        0.90,
        Unit::Percent,
    );
    section.bound(
        format!("fullest of its share, in {number} random sizes"),
        "≤ 1.07× or two connections more".into(),
        match &broken[..] {
            [] => format!("in all; at most {worst:.3}×, where the share is 40 or more"),
            _ => format!("not with {}", broken.join("; ")),
        },
        broken.is_empty(),
    );
}

fn plot(section: &mut Section, rule: Rule, points: &[Point]) {
    if section.lines.is_empty() {
        let axis =
            |label| Axis { label, log: true, ticks: vec![1.0, 1.5, 2.0, 3.0, 5.0, 10.0], ..Axis::default() };
        let sizes: Vec<f64> = SIZES.map(f64::from).into();
        let x = Axis { label: "instances", log: true, ticks: sizes, ..Axis::default() };
        let of = |title: &str, label| Lines {
            title: title.into(),
            x: x.clone(),
            y: axis(label),
            series: Vec::new(),
        };
        section.lines = vec![
            of("The fullest against its share, with the most clients", "times"),
            of("Connections made in a rolling restart against the fewest, with the most clients", "times"),
        ];
    }
    let most = points.iter().map(|point| point.clients).max().unwrap_or_default();
    let own = || points.iter().filter(|point| point.clients == most);
    let even = own().map(|point| (f64::from(point.instances), point.most / point.mean)).collect();
    let churn = own().map(|point| (f64::from(point.instances), times(point.rolling))).collect();
    for (plot, points) in section.lines.iter_mut().zip([even, churn]) {
        plot.series.push((rule.name().into(), points));
    }
}

fn table(rule: Rule, points: &[Point]) -> Table {
    let header =
        ["clients × instances", "share", "fullest", "of its share", "added", "removed", "rolling restart"];
    let mut table = Table::new(format!("{}: connections made are against the fewest", rule.name()), &header);
    table.rows = points
        .iter()
        .map(|point| {
            vec![
                format!("{} × {}", point.clients, point.instances),
                format!("{:.1}", point.mean),
                Unit::Count.tell(point.most),
                Unit::Times.tell(point.most / point.mean),
                Unit::Times.tell(times(point.added)),
                Unit::Times.tell(times(point.removed)),
                Unit::Times.tell(times(point.rolling)),
            ]
        })
        .collect();
    let of = |value: fn(&Point) -> f64| {
        let enough = points.iter().filter(|point| point.mean >= 20.0);
        Unit::Times.tell(mean(enough.map(value).filter(|value| value.is_finite())))
    };
    table.rows.push(vec![
        "mean, of shares from 20".into(),
        String::new(),
        String::new(),
        of(|point| point.most / point.mean),
        of(|point| times(point.added)),
        of(|point| times(point.removed)),
        of(|point| times(point.rolling)),
    ]);
    table
}
