//! Real signals to a real process: this test program, started again.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test program throughout")]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use support::{Act, Scenario};

/// Which scenario the child plays.
const SCENARIO: &str = "BOWLINE_SIGNAL_TEST";

/// Not a test: what the child runs.
#[test]
#[ignore = "started by the tests below"]
fn child() {
    let Ok(which) = std::env::var(SCENARIO) else { return };
    let mut scenario = Scenario::new();
    if which == "hang" {
        scenario.server.drain = Act::Hang;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        let lifecycle = serde_json::from_str(r#"{ "propagation": "10ms" }"#).unwrap();
        let app = scenario.app().options(lifecycle);
        let handle = app.handle();
        let mut states = handle.watch_state();
        let tell = async {
            loop {
                println!("state {:?}", *states.borrow_and_update());
                if states.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            outcome = app.run() => outcome,
            () = tell => Ok(()),
            () = tokio::time::sleep(Duration::from_secs(60)) => panic!("no signal came, or it did not stop"),
        }
    });
    println!("events {}", scenario.log.events().join(", "));
    outcome.unwrap();
}

fn start(scenario: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(SCENARIO, scenario)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

fn read_until(output: &mut impl BufRead, wanted: &str) {
    let mut line = String::new();
    while !line.contains(wanted) {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the child ended before `{wanted}`");
    }
}

fn send(signal: &str, child: &Child) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.id())]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_signal_stops_in_good_order_and_exits_with_success() {
    for signal in ["TERM", "INT"] {
        let (mut child, mut output) = start("normal");
        read_until(&mut output, "state Running");
        send(signal, &child);
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert!(child.wait().unwrap().success(), "{rest}");
        assert!(rest.contains("deregister, drain http, background done, close cache, close db"), "{rest}");
    }
}

#[test]
fn a_second_signal_stops_at_once_and_exits_with_failure() {
    let (mut child, mut output) = start("hang");
    read_until(&mut output, "state Running");
    send("TERM", &child);
    read_until(&mut output, "state Draining");
    let before = Instant::now();
    send("TERM", &child);
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(!child.wait().unwrap().success(), "{rest}");
    assert!(rest.contains("drain http") && rest.contains("abort http"), "{rest}");
    assert!(before.elapsed() < Duration::from_secs(10), "the drain would have taken 20 s");
}
