//! The registry beside r-nacos: `registry OURS RNACOS [SCENARIO]...`, the first two being the servers' programs.
//!
//! Prints a line for each figure: `figure`, what is measured, its unit, ours, the peer's, which of the two is better (`more` or
//! `less`), and the target as a ratio or as ours alone, all with tabs between.

mod idle;
mod join;
mod load;
mod memory;
mod nacos;
mod native;
mod plain;
mod propagation;
mod servers;
mod watcher;

use servers::Programs;

/// Prints a figure.
pub(crate) fn figure(what: &str, unit: &str, ours: f64, peer: Option<f64>, better: &str, target: &str) {
    let peer = peer.map_or("-".to_owned(), |peer| peer.to_string());
    println!("figure\t{what}\t{unit}\t{ours}\t{peer}\t{better}\t{target}");
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut program = || {
        let program = arguments.next().expect("usage: registry OURS RNACOS [SCENARIO]...");
        std::fs::canonicalize(program).expect("a program")
    };
    let programs = Programs { ours: program(), rnacos: program() };
    let chosen: Vec<String> = arguments.collect();
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|chosen| chosen == name);
    if chosen.iter().any(|chosen| chosen == "profile") {
        load::profile(&programs).await;
        propagation::profile(&programs).await;
    }
    if is_chosen("load") {
        load::run(&programs).await;
    }
    if is_chosen("idle") {
        idle::run(&programs).await;
    }
    if is_chosen("propagation") {
        propagation::run(&programs).await;
    }
    if is_chosen("memory") {
        memory::run(&programs).await;
    }
    if is_chosen("join") {
        join::run(&programs).await;
    }
}
