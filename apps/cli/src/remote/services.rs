//! `bowline services`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use bowline_core::Result;
use bowline_discovery::{Snapshot, State};
use clap::Args;

use super::{PATIENCE, Registry};

/// How often the list of services is asked for while watching; each service's instances are pushed.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct ServicesArgs {
    /// Go on, and print what changes.
    #[arg(long, short)]
    watch: bool,
    #[command(flatten)]
    registry: Registry,
}

/// Prints who is registered.
pub(crate) async fn services(args: ServicesArgs) -> Result<()> {
    let resolver = args.registry.resolver()?;
    let mut watchers = BTreeMap::new();
    let mut shown: BTreeMap<String, String> = BTreeMap::new();
    loop {
        match args.registry.list().await {
            Ok(listed) => {
                for service in listed {
                    let target = format!("discovery:///{}", service.service).parse()?;
                    if let Entry::Vacant(unknown) = watchers.entry(service.service) {
                        unknown.insert(resolver.watch(&target)?);
                    }
                }
            }
            Err(error) if args.watch => eprintln!("{error}"),
            Err(error) => return Err(error),
        }
        for (name, watcher) in &watchers {
            let cx = bowline_core::Context::background().with_timeout(PATIENCE);
            let snapshot = watcher.ready(&cx).await?;
            let text = render(&snapshot);
            if shown.get(name) != Some(&text) {
                print!("{text}");
                shown.insert(name.clone(), text);
            }
        }
        if !args.watch {
            if watchers.is_empty() {
                println!("no service is registered");
            }
            return Ok(());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn render(snapshot: &Snapshot) -> String {
    let state = match &snapshot.state {
        State::Live => String::new(),
        State::Stale { .. } => "  (the registry does not answer: last known)".into(),
        other => format!("  ({other:?})"),
    };
    let mut text = format!("{}{state}\n", snapshot.service);
    if snapshot.instances.is_empty() {
        text.push_str("  no instances\n");
    }
    for instance in snapshot.instances.iter() {
        let endpoints: Vec<_> = instance.endpoints.iter().map(ToString::to_string).collect();
        text.push_str(&format!("  {}  {}  weight {}", instance.id, endpoints.join(" "), instance.weight));
        for (name, value) in
            [("zone", &instance.zone), ("cluster", &instance.cluster), ("version", &instance.version)]
        {
            if !value.is_empty() {
                text.push_str(&format!("  {name} {value}"));
            }
        }
        if !instance.tenant.is_base() {
            text.push_str(&format!("  tenant {}", instance.tenant));
        }
        text.push('\n');
    }
    text
}
