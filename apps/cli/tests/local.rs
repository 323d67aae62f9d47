//! `up`, `ps`, `restart`, `down`: a project's life.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::time::Duration;

use bowline_tests_support::PATIENCE;
use common::{Project, Row, hang_up, kill, processes};

/// Waits until the table is as wanted.
async fn table(project: &Project, wanted: impl Fn(&[Row]) -> bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let shown = tokio::time::timeout(PATIENCE, async {
        loop {
            rows = project.ps().await;
            if wanted(&rows) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let shown = shown.await.is_ok();
    assert!(shown, "{rows:?}");
    rows
}

#[tokio::test]
async fn a_detached_project_is_shown_restarted_and_stopped() {
    let project = Project::new(&["first", "second"]);
    assert!(project.succeed(&["ps"]).await.contains("harbour is not up"));
    assert!(project.fail(&["restart", "first"]).await.contains("harbour is not up"));

    let said = project.succeed(&["up", "--detach"]).await;
    assert!(said.contains("stop: bowline down"), "{said}");
    let rows = project.ps().await;
    assert_eq!(rows.len(), 2);
    for (row, app) in rows.iter().zip(&project.apps) {
        assert_eq!((&*row.name, &row.address, row.restarts), (app.name, &app.address(), 0));
        assert!(row.status == "ready" && row.pid > 0 && said.contains(&row.pid.to_string()), "{said}");
    }

    assert!(
        project.fail(&["restart", "third"]).await.contains("no application `third`; it has first, second")
    );
    assert!(project.succeed(&["restart", "first"]).await.contains("first was restarted"));
    let after = project.ps().await;
    assert!(after[0].pid != rows[0].pid && after[0].status == "ready" && after[0].restarts == 1, "{after:?}");
    assert_eq!(after[1].pid, rows[1].pid, "the other one runs on");

    assert!(project.fail(&["up"]).await.contains("harbour is up already; see `bowline ps`"));
    assert!(project.fail(&["up", "--detach"]).await.contains("harbour is up already; see `bowline ps`"));
    assert_eq!(project.ps().await[0].pid, after[0].pid, "who came second has disturbed nothing");

    assert!(project.succeed(&["down"]).await.contains("harbour is down"));
    project.is_gone().await;
    assert!(project.succeed(&["down"]).await.contains("harbour is not up"));
}

#[tokio::test]
async fn interrupted_it_stops_everything_in_reverse_order() {
    let project = Project::new(&["first", "second", "third"]);
    let mut up = project.start(&["up"]);
    up.says("all are ready; Ctrl-C stops them").await;
    up.interrupt();
    assert!(up.ended().await.success(), "{}", up.log());
    let said = up.log();
    let stopped: Vec<_> =
        said.lines().filter_map(|line| line.split_once("bowline | ")?.1.split_once(" stopped")).collect();
    let stopped: Vec<_> = stopped.iter().map(|(name, _)| *name).collect();
    assert_eq!(stopped, ["third", "second", "first"], "{said}");
    project.is_gone().await;
}

#[tokio::test]
async fn it_ends_with_its_terminal_unless_started_to_survive_it() {
    let project = Project::new(&["first"]);
    let mut up = project.start(&["up"]);
    up.says("all are ready").await;
    up.hang_up();
    assert!(up.ended().await.success(), "{}", up.log());
    assert!(up.log().contains("first stopped"), "{}", up.log());
    project.is_gone().await;

    project.succeed(&["up", "--detach"]).await;
    let first = project.ps().await[0].pid;
    let supervisor = processes(project.root()).into_iter().find(|pid| *pid != first).unwrap();
    hang_up(supervisor);
    assert_eq!(project.ps().await[0].pid, first, "in the background it has no terminal");
    project.succeed(&["down"]).await;
    project.is_gone().await;
}

#[tokio::test]
async fn a_crashed_application_is_started_again_later_each_time() {
    let project = Project::new(&["first", "second"]);
    let mut up = project.start(&["up"]);
    up.says("all are ready").await;
    let before = project.ps().await;
    for (times, delay) in [(1, "200ms"), (2, "400ms"), (3, "800ms")] {
        kill(project.ps().await[0].pid);
        up.says(&format!("first crashed (signal: 9 (SIGKILL)), starting it again in {delay}")).await;
        up.says_times("first is ready again", times).await;
    }
    let after = table(&project, |rows| rows[0].status == "ready").await;
    assert!(after[0].pid != before[0].pid && after[0].restarts == 3, "{after:?}");
    assert_eq!((after[1].pid, after[1].restarts), (before[1].pid, 0), "the other one runs on");
    up.terminate();
    assert!(up.ended().await.success(), "{}", up.log());
    project.is_gone().await;
}

#[tokio::test]
async fn one_that_does_not_come_back_keeps_nobody_else_from_it() {
    let project = Project::new(&["first", "second"]);
    let mut up = project.start(&["up"]);
    up.says("all are ready").await;
    let good = project.hide(0);
    project.ps().await.iter().for_each(|row| kill(row.pid));
    up.says("second is ready again").await;
    let rows = project.ps().await;
    assert_eq!((&*rows[0].status, &*rows[1].status), ("starting", "ready"));
    std::fs::write(project.root().join("first.yaml"), good).unwrap();
    kill(rows[0].pid);
    up.says("first is ready again").await;
}

#[tokio::test]
async fn a_restart_that_fails_says_why_and_the_application_comes_back_once_it_can() {
    let project = Project::new(&["first"]);
    project.succeed(&["up", "--detach"]).await;
    let config = project.root().join("first.yaml");
    let good = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, good.replace("registry: {}", "registry: { ttl: 1 }")).unwrap();
    let error = project.fail(&["restart", "first"]).await;
    assert!(error.contains("first ended while starting (exit status: 1)"), "{error}");
    assert!(error.contains("first.yaml") && error.contains("ttl"), "{error}");
    std::fs::write(&config, good).unwrap();
    table(&project, |rows| rows[0].status == "ready").await;
}

#[tokio::test]
async fn an_interrupt_does_not_wait_for_a_restart() {
    let project = Project::new(&["first"]);
    project.declare("start_seconds = 1000");
    let mut up = project.start(&["up"]);
    up.says("all are ready").await;
    project.hide(0);
    let mut restart = project.start(&["restart", "first"]);
    up.says("restarting first").await;
    up.interrupt();
    assert!(up.ended().await.success(), "{}", up.log());
    assert!(!restart.ended().await.success(), "{}", restart.log());
    assert!(common::one_error(&restart.log()).contains("the supervisor stopped before it answered"));
    project.is_gone().await;
}

#[tokio::test]
async fn what_a_killed_supervisor_left_is_named_and_stopped_by_down() {
    let project = Project::new(&["first", "second"]);
    let mut up = project.start(&["up"]);
    up.says("all are ready").await;
    let left = project.ps().await;
    up.kill();
    up.ended().await;
    for _ in 0..2 {
        let error = project.fail(&["up"]).await;
        assert!(error.contains(&format!("first (pid {}) still runs", left[0].pid)), "{error}");
        assert!(error.contains("run `bowline down` first"), "{error}");
    }
    let said = project.succeed(&["down"]).await;
    assert!(said.contains("left behind: second, first"), "{said}");
    project.is_gone().await;
}

#[tokio::test]
async fn commands_are_answered_while_it_builds_and_an_interrupt_ends_the_build() {
    let project = Project::with_build(&["first"], &["sh", "-c", "echo building; exec sleep 1000"]);
    let mut up = project.start(&["up"]);
    up.says("building").await;
    assert_eq!(project.ps().await[0].status, "waiting");
    assert!(project.fail(&["restart", "first"]).await.contains("harbour is still starting"));
    up.interrupt();
    assert!(!up.ended().await.success(), "{}", up.log());
    assert!(common::one_error(&up.log()).contains("interrupted while building"), "{}", up.log());
    project.is_gone().await;

    let mut up = project.start(&["up"]);
    up.says("building").await;
    assert!(project.succeed(&["down"]).await.contains("harbour is down"));
    assert!(up.ended().await.success(), "{}", up.log());
    project.is_gone().await;
}
