//! `call` and `services`, against a registry node that is registered with itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use common::Project;
use serde_json::{Value, json};

const REGISTRY: &str = "bowline.registry.v1.Registry";

/// A running node, and its address for `--registry`.
async fn node() -> (Project, String) {
    let project = Project::new(&["node"]);
    project.succeed(&["up", "--detach"]).await;
    let address = project.apps[0].address();
    (project, address)
}

/// Registers the node with itself as an instance of `harbour`, by `bowline call`.
async fn register(project: &Project, id: &str) -> Value {
    let address = project.apps[0].address();
    let instance =
        json!({"id": id, "service": "harbour", "env": "default", "zone": "north", "endpoints": [address]});
    let request = json!({"instance": instance, "holder": id, "ttl": "600s"}).to_string();
    let to = address.strip_prefix("http://").unwrap();
    let said = project.succeed(&["call", &format!("{REGISTRY}/Register"), "--to", to, "-d", &request]).await;
    serde_json::from_str(&said).unwrap()
}

#[tokio::test]
async fn a_method_is_called_by_address_by_application_and_by_service() {
    let (project, registry) = node().await;
    let registered = register(&project, "h-1").await;
    assert_eq!(registered["ttl"], "600s", "{registered}");

    for service in ["harbour", REGISTRY] {
        let method = format!("{service}/ListServices");
        let said = project.succeed(&["call", &method, "--registry", &registry]).await;
        let answer: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(answer["services"][0]["service"], "harbour", "{answer}");
    }

    let lease = json!({"leaseIds": [registered["leaseId"]]}).to_string();
    let call = ["call", "harbour/KeepAlive", "--registry", &registry, "-d", &lease, "-d", "{}"];
    let said = project.succeed(&call).await;
    let answers: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 2, "each request of a stream is answered: {said}");
    assert_eq!(answers[0]["renewed"][0], registered["leaseId"], "{said}");

    let listed = project.succeed(&["call", "harbour", "--list", "--registry", &registry]).await;
    for line in [format!("{REGISTRY}/Register  one → one"), format!("{REGISTRY}/KeepAlive  stream → stream")]
    {
        assert!(listed.lines().any(|listed| listed == line), "{listed}");
    }
}

#[tokio::test]
async fn a_call_that_cannot_be_made_says_what_can() {
    let (project, registry) = node().await;
    register(&project, "h-1").await;
    for (arguments, message) in [
        (
            &["call", "port/Get"][..],
            "no registered application is called `port` or serves it; there are harbour",
        ),
        (&["call", "harbour/Get"], "`harbour` has no method `Get`; `bowline call harbour --list` shows"),
        (&["call", "harbour/ListServices", "-d", "{"], "the JSON does not fit"),
        (&["call", "harbour/KeepAlive", "-d", "{}", "-d", "{"], "the JSON does not fit"),
        (&["call", "harbour/ListServices", "-d", r#"{"colour": 1}"#], "colour"),
        (&["call", "harbour/ListServices", "-H", "tenant"], "`tenant` is no header; use KEY:VALUE"),
        (&["call", "harbour/Register"], "INVALID_ARGUMENT "),
    ] {
        let error = project.fail(&[arguments, &["--registry", &registry]].concat()).await;
        assert!(error.contains(message), "{arguments:?}: {error}");
    }
    let nobody = format!("127.0.0.1:{}", bowline_tests_support::free_port());
    let error = project.fail(&["call", "harbour/ListServices", "--to", &nobody]).await;
    assert!(error.contains(&format!("asking http://{nobody} what it serves")), "{error}");
    for command in [&["services"][..], &["call", "harbour/ListServices"]] {
        let error = project.fail(&[command, &["--registry", &format!("http://{nobody}")]].concat()).await;
        assert!(error.contains(&format!("asking the registry at http://{nobody}")), "{error}");
        assert!(error.contains("cannot be reached") && error.contains("refused"), "{error}");
    }
}

#[tokio::test]
async fn services_are_shown_with_their_instances_and_watched() {
    let (project, registry) = node().await;
    let none = project.succeed(&["services", "--registry", &registry]).await;
    assert_eq!(none, "no service is registered\n");
    let mut watch = project.start(&["services", "--watch", "--registry", &registry]);
    register(&project, "h-1").await;
    watch.says("h-1").await;
    register(&project, "h-2").await;
    watch.says("h-2").await;
    let shown = project.succeed(&["services", "--registry", &registry]).await;
    let line = |id: &str| format!("  {id}  {registry}  weight 100  zone north\n");
    assert_eq!(shown, format!("harbour\n{}{}", line("h-1"), line("h-2")));
    let elsewhere = project.succeed(&["services", "--registry", &registry, "--env", "elsewhere"]).await;
    assert_eq!(elsewhere, "no service is registered\n");
}
