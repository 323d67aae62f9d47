//! What `up` says when it cannot, and that it leaves nothing behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::net::TcpListener;

use common::{Project, one_error};

/// The ways to start: both say the same.
const UP: [&[&str]; 2] = [&["up"], &["up", "--detach"]];

#[tokio::test]
async fn a_taken_port_is_told_by_application_and_address_before_anything_starts() {
    let project = Project::new(&["first", "second"]);
    let second = &project.apps[1];
    for port in [second.port, second.admin] {
        let holder = TcpListener::bind(("127.0.0.1", port)).unwrap();
        for up in UP {
            let (success, said) = project.run(up).await;
            assert!(!success, "{said}");
            let error = one_error(&said);
            assert!(error.contains(&format!("second needs 127.0.0.1:{port}")), "{error}");
            assert!(!said.contains("first "), "nothing was started: {said}");
        }
        drop(holder);
    }
    project.is_gone().await;
}

#[tokio::test]
async fn a_missing_project_file_is_told_with_its_path() {
    let project = Project::new(&["first"]);
    let error = project.fail(&["up", "--file", "nowhere.toml"]).await;
    assert!(error.contains("nowhere.toml: No such file"), "{error}");
    std::fs::remove_file(project.root().join("bowline.toml")).unwrap();
    for command in [&["up"][..], &["up", "--detach"], &["ps"], &["down"], &["restart", "first"]] {
        let error = project.fail(command).await;
        let here = project.root().display();
        assert!(error.contains(&format!("there is no bowline.toml in {here} or above")), "{error}");
    }
    project.is_gone().await;
}

#[tokio::test]
async fn a_missing_configuration_is_told_and_what_ran_is_stopped() {
    let project = Project::new(&["first", "second"]);
    std::fs::remove_file(project.root().join("second.yaml")).unwrap();
    for up in UP {
        let error = project.fail(up).await;
        assert!(error.contains("second ended while starting (exit status: 1)"), "{error}");
        assert!(error.contains("second.yaml") && error.contains("No such file"), "{error}");
        project.is_gone().await;
    }
}

#[tokio::test]
async fn a_missing_program_is_told_with_its_path() {
    let project = Project::new(&["first"]);
    std::fs::remove_file(project.root().join("target/debug/bowline-registry")).unwrap();
    for up in UP {
        let error = project.fail(up).await;
        assert!(
            error.contains("first: there is no ") && error.contains("target/debug/bowline-registry"),
            "{error}"
        );
        project.is_gone().await;
    }
}

#[tokio::test]
async fn a_failing_build_shows_its_cause_and_starts_nothing() {
    let build = ["sh", "-c", "echo 'mismatched types' >&2; exit 3"];
    let project = Project::with_build(&["first"], &build);
    for up in UP {
        let (success, said) = project.run(up).await;
        assert!(!success && said.contains("mismatched types"), "{said}");
        assert!(one_error(&said).contains("the build failed (exit status: 3)"), "{said}");
        project.is_gone().await;
    }
    let project = Project::with_build(&["first"], &["no-such-program"]);
    for up in UP {
        let error = project.fail(up).await;
        assert!(error.contains("running no-such-program: No such file"), "{error}");
    }
}

#[tokio::test]
async fn an_application_that_is_never_ready_is_told_with_its_last_words() {
    let project = Project::new(&["first"]);
    project.declare("start_seconds = 1");
    project.hide(0);
    let error = project.fail(&["up"]).await;
    assert!(
        error.contains("first was not ready after 1s") && error.contains("/health/ready did not answer 200"),
        "{error}"
    );
    project.is_gone().await;
}
