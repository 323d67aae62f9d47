//! Whose request goes where, over random deployments.

use std::fmt::Write;
use std::time::Duration;

use bowline_balance::{Ask, Ejection, Index, IndexOptions, Outcome, Request};
use bowline_core::{Clock, Instance, ManualClock, Rng, SeededRng, Tenant};

use super::Plan;
use super::nodes::{AnyPicker, Node};
use super::report::{Section, Unit};

/// Nobody has an instance of the last one.
const TENANTS: [&str; 5] = ["", "blue", "green", "alice", "shadow"];

const REDIRECTS: [&str; 7] =
    ["", "catalog=green", "catalog=@n-0", "users=blue", "catalog=,=,,@", "catalog=@", "catalog=none"];

/// What must not be, counted.
#[derive(Debug, Default)]
struct Counts {
    requests: u64,
    /// Requests of the base that reached an instance of somebody.
    leaked: u64,
    /// A tenant's requests that reached another tenant, without being redirected there.
    astray: u64,
    /// Requests without an instance, or with one that cannot be reached, although the base has one that can.
    lost: u64,
    /// A tenant's requests at the base, although an instance of its own is well.
    withheld: u64,
    /// Strict requests that were served by another, or refused although there is an instance.
    strict: u64,
    /// The first of them, for whoever looks for the reason.
    first: String,
}

/// What holds of tenants.
pub fn section(plan: &Plan) -> Section {
    let topologies = if plan.thorough { 10_000 } else { 1_000 };
    let mut section = Section::new(
        "Tenancy",
        format!(
            "{topologies} random deployments of up to 30 instances of any tenant, zone, cluster, weight and state; in \
             each of them one request of each of five tenants by each picker in turn, with a random redirect and some \
             instances tried before."
        ),
    );
    let mut counts = Counts::default();
    for seed in plan.from..plan.from.saturating_add(topologies) {
        look(seed, &mut counts);
    }
    let none = [
        ("requests of the base at a tenant's instance", counts.leaked),
        ("a tenant's requests at another tenant's instance", counts.astray),
        ("requests lost where the base can serve", counts.lost),
        ("a tenant's requests at the base, where an instance of its own is well", counts.withheld),
        ("strict requests served by another or refused without need", counts.strict),
    ];
    for (what, number) in none {
        section.at_most(what, number as f64, 0.0, Unit::Count);
    }
    let _ = write!(section.text, "\n\n{} requests.", counts.requests);
    if !counts.first.is_empty() {
        let _ = write!(section.text, " The first that went wrong: {}.", counts.first);
    }
    section
}

fn topology(rng: &SeededRng, clock: &ManualClock) -> Index<Node> {
    let one = |list: &[&'static str]| list[rng.below(list.len())];
    let mut all = Vec::new();
    for i in 0..rng.below(30) {
        let mut instance = Instance::new("catalog", format!("n-{i}"));
        instance.weight = [0, 1, 100, 100, 100, 700][rng.below(6)];
        // All of these are names of tenants.
        instance.tenant = Tenant::new(one(&TENANTS[..4])).unwrap_or_default();
        (instance.zone, instance.cluster) = (one(&["", "a", "b"]).into(), one(&["", "x", "y"]).into());
        all.push(Node { live: rng.below(4) > 0, ..Node::new(instance) });
    }
    let mut options = IndexOptions::default();
    options.zones.local = one(&["", "a", "c"]).into();
    options.zones.at_least = rng.below(10);
    let index = Index::build(all, &options, None, clock.now());
    let rules = Ejection { percentage: 30, ..Ejection::default() };
    for node in index.iter().filter(|_| rng.below(5) == 0) {
        for _ in 0..5 {
            node.load.begin().end(Outcome::Failed, Duration::ZERO, clock.now());
        }
    }
    rules.look(&index, clock.now());
    if rng.below(2) == 0 {
        clock.advance(Duration::from_secs(30));
        rules.sweep(&index, clock.now());
    }
    index
}

fn look(seed: u64, counts: &mut Counts) {
    let (rng, clock) = (SeededRng::new(seed), ManualClock::new());
    let index = topology(&rng, &clock);
    let picker = AnyPicker::ALL[(seed % 5) as usize];
    for name in TENANTS {
        let tenant = Tenant::new(name).unwrap_or_default();
        let redirect = REDIRECTS[rng.below(REDIRECTS.len())];
        let tried: Vec<usize> = (0..index.len()).filter(|_| rng.below(6) == 0).collect();
        let ask = Ask::new(clock.now(), &rng).without(&tried).with_key(rng.next_u64());
        let request = Request::of(&tenant).with_redirects(redirect);
        let picked = index.pick(&picker, &request, &ask).ok().flatten();
        let before = counts.wrong();
        counts.judge(&index, name, redirect, &tried, picked);
        counts.judge_strict(&index, &tenant, index.pick(&picker, &Request::of(&tenant).strictly(), &ask));
        if before == 0 && counts.wrong() > 0 {
            counts.first = format!("seed {seed}, tenant {name:?}, redirect {redirect:?}, picked {picked:?}");
        }
    }
}

fn is_well(node: &Node) -> bool {
    node.live && node.instance.weight > 0 && !node.load.health().is_ejected()
}

impl Counts {
    fn wrong(&self) -> u64 {
        self.leaked + self.astray + self.lost + self.withheld + self.strict
    }

    fn judge(
        &mut self,
        index: &Index<Node>,
        name: &str,
        redirect: &str,
        tried: &[usize],
        picked: Option<usize>,
    ) {
        self.requests += 1;
        let of = |name: &'static str| index.iter().filter(move |node| node.instance.tenant.as_str() == name);
        let own = || index.iter().enumerate().filter(|(_, node)| node.instance.tenant.as_str() == name);
        let base_can = of("").any(|node| node.live);
        let Some(node) = picked.map(|position| &index[position]) else {
            self.lost += u64::from(of("").next().is_some() || own().next().is_some());
            return;
        };
        let to = node.instance.tenant.as_str();
        let redirected = !name.is_empty()
            && (redirect == "catalog=green" && to == "green"
                || redirect == "catalog=@n-0" && node.instance.id.as_str() == "n-0");
        self.leaked += u64::from(name.is_empty() && !to.is_empty());
        self.astray += u64::from(!name.is_empty() && !to.is_empty() && to != name && !redirected);
        self.lost += u64::from(!node.live && base_can);
        let has_own = own().any(|(position, node)| is_well(node) && !tried.contains(&position));
        let at_base = to != name && !redirected && redirect != "catalog=green";
        self.withheld += u64::from(at_base && has_own);
    }

    fn judge_strict<E>(&mut self, index: &Index<Node>, tenant: &Tenant, picked: Result<Option<usize>, E>) {
        let own = index.iter().any(|node| node.instance.tenant == *tenant);
        let right = match picked {
            Ok(Some(position)) => index[position].instance.tenant == *tenant,
            Ok(None) => tenant.is_base() && !own,
            Err(_) => !tenant.is_base() && !own,
        };
        self.strict += u64::from(!right);
    }
}
