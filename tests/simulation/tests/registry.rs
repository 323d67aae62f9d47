//! Two hundred seeds of the registry's simulation; `cargo xtask simulate` runs more.

use bowline_tests_simulation::registry;

fn run(seeds: impl Iterator<Item = u64>) {
    let mut broken = Vec::new();
    for seed in seeds {
        if let Err(why) = registry::run(seed, false) {
            broken.push(format!("seed {seed}: {why}"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn what_the_registry_promises_holds_while_everything_breaks() {
    run((1..=200).step_by(2));
}

#[test]
fn what_the_registry_promises_holds_while_everything_breaks_otherwise() {
    run((2..=200).step_by(2));
}
