//! The bounds of overload, faults and balancing, with few seeds; `cargo xtask simulate --only resilience` runs more.

use bowline_tests_simulation::resilience::{
    Plan, Subject, faults, mirror, overload, storm, subsets, tenancy,
};

fn holds(subject: Subject) {
    let section = subject(&Plan { from: 1, seeds: 1, thorough: false });
    assert!(!section.bounds.is_empty());
    assert!(section.missed().is_empty(), "{}", section.missed().join("\n"));
}

#[test]
fn an_overloaded_server_does_what_it_can_and_what_matters_most() {
    holds(overload::section);
}

#[test]
fn retries_behind_three_layers_make_no_storm() {
    holds(storm::section);
}

#[test]
fn slow_failing_flapping_and_grey_instances_cost_little() {
    holds(faults::section);
}

#[test]
fn subsets_are_even_and_change_little() {
    holds(subsets::section);
}

#[test]
fn nobody_gets_what_is_not_theirs_and_nothing_is_lost() {
    holds(tenancy::section);
}

#[test]
fn originals_do_not_notice_what_becomes_of_their_copies() {
    holds(mirror::section);
}
