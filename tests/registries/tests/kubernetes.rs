//! The suite for Kubernetes, and what is Kubernetes' alone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, not marked as tests"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bowline_core::{Context, Endpoint, Instance, InstanceStatus};
use bowline_discovery::{Discovery, Emptiness, Registrar, Snapshot, State, Watcher};
use bowline_registry_kubernetes::{KubernetesRegistry, Options, Register};
use bowline_testkit::Kubernetes as Server;
use bowline_tests_registries::{
    Backend, Kubernetes, KubernetesApi, LEASE, kubernetes_client, kubernetes_options,
};
use bowline_tests_support::Http;
use serde_json::{Value, json};

bowline_tests_registries::conformance!(Kubernetes);

const PATIENCE: Duration = Duration::from_secs(60);
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

fn cx() -> Context {
    Context::background().with_timeout(PATIENCE)
}

/// `None` where there is no API server: the test is skipped then.
async fn kubernetes() -> Option<(Server, KubernetesApi)> {
    if let Some(why) = Kubernetes::missing() {
        println!("skipped: {why}");
        return None;
    }
    let server = bowline_testkit::kubernetes().await.unwrap();
    let api = KubernetesApi::of(&server);
    Some((server, api))
}

fn client(server: &Server, token: &str, options: Options) -> Arc<KubernetesRegistry> {
    kubernetes_client(&server.address(), &server.ca(), &format!("token: {token}"), options)
}

fn admin(server: &Server) -> Arc<KubernetesRegistry> {
    client(server, Server::ADMIN, kubernetes_options(LEASE))
}

async fn until(watcher: &Watcher, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let mut own = watcher.clone();
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let current = own.current();
            if wanted(&current) {
                return current;
            }
            own.changed().await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("not in {PATIENCE:?}; it is {:?}", watcher.current()))
}

/// What is at a path once it is as wanted.
async fn seen(api: &KubernetesApi, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let found = api.get(path).await;
        if wanted(&found) {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "not in {PATIENCE:?}: {path}; it is {found}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn by_id(snapshot: &Snapshot) -> Vec<(&str, InstanceStatus)> {
    snapshot.instances.iter().map(|i| (i.id.as_str(), i.status)).collect()
}

/// A slice as the controller writes it.
fn slice(name: &str, family: &str, endpoints: Value) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/service-name": "s", "team": "shop",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        }},
        "addressType": family, "endpoints": endpoints,
        "ports": [{"name": "grpc", "port": 9000, "protocol": "TCP"}, {"name": "metrics", "port": 9100, "protocol": "TCP"}],
    })
}

fn pod(name: &str, address: &str, ready: bool, terminating: bool) -> Value {
    json!({
        "addresses": [address], "conditions": {"ready": ready, "serving": true, "terminating": terminating},
        "targetRef": {"kind": "Pod", "name": name, "namespace": "default"}, "nodeName": "node-1", "zone": "eu-1a",
    })
}

#[tokio::test]
async fn what_the_controller_writes_is_found_and_followed() {
    let Some((server, api)) = kubernetes().await else { return };
    let registry = admin(&server);
    let watcher = registry.watch("s");
    let (first, second) = (format!("{SLICES}/s-4"), format!("{SLICES}/s-6"));
    api.apply(&first, slice("s-4", "IPv4", json!([pod("a", "10.0.0.1", true, false)]))).await;
    let a_and_b = json!([pod("a", "2001:db8::1", true, false), pod("b", "2001:db8::2", false, false)]);
    api.apply(&second, slice("s-6", "IPv6", a_and_b)).await;
    let (up, starting, out) = (InstanceStatus::Up, InstanceStatus::Starting, InstanceStatus::OutOfService);
    let found =
        until(&watcher, |s| by_id(s) == [("a", up), ("b", starting)] && s.instances[0].endpoints.len() == 2)
            .await;
    let mut expected = Instance::new("s", "a").with_endpoint(Endpoint::http("10.0.0.1", 9000));
    expected.endpoints.push(Endpoint::http("2001:db8::1", 9000));
    expected.zone = "eu-1a".into();
    expected.metadata =
        [("kubernetes.node", "node-1"), ("team", "shop")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    assert_eq!((found.state, &*found.instances[0]), (State::Live, &expected));

    // A rolling update: who goes takes no new calls, who comes does once it is ready.
    let rolling = json!([pod("a", "10.0.0.1", false, true), pod("c", "10.0.0.3", true, false)]);
    api.apply(&first, slice("s-4", "IPv4", rolling)).await;
    api.delete(&second).await;
    until(&watcher, |s| by_id(s) == [("a", out), ("c", up)]).await;
    // Scaled to nothing.
    api.apply(&first, slice("s-4", "IPv4", json!([]))).await;
    until(&watcher, |s| s.state == State::Empty(Emptiness::Cancelled)).await;
}

#[tokio::test]
async fn who_registers_itself_is_seen_by_others_with_a_lease_that_is_renewed() {
    let Some((server, api)) = kubernetes().await else { return };
    let registry = admin(&server);
    let mut instance = Instance::new("s", "b-1").with_endpoint(Endpoint::http("192.0.2.7", 80));
    let held = registry.register(&cx(), instance.clone()).await.unwrap();
    let found =
        seen(&api, SLICES, |found| found["items"][0]["endpoints"][0]["addresses"][0] == "192.0.2.7").await;
    let found = found["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["metadata"]["labels"]["kubernetes.io/service-name"] == "s");
    let found = found.unwrap();
    assert_eq!(found["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"], "bowline");
    assert_eq!((&found["addressType"], &found["ports"][0]["port"]), (&json!("IPv4"), &json!(80)));
    assert_eq!(found["endpoints"][0]["conditions"]["ready"], true);
    let name = found["metadata"]["name"].as_str().unwrap();
    let (slice, lease) = (format!("{SLICES}/{name}"), format!("{LEASES}/{name}"));
    assert_eq!(found["metadata"]["ownerReferences"][0]["name"], name);
    let renewed = api.get(&lease).await["spec"]["renewTime"].clone();
    seen(&api, &lease, |lease| lease["spec"]["renewTime"] != renewed).await;

    // Another family of addresses takes a new slice, for that cannot be changed.
    instance.endpoints = vec![Endpoint::http("2001:db8::7", 80)];
    held.update(&cx(), instance.clone()).await.unwrap();
    let found = api.get(&slice).await;
    assert_eq!(
        (&found["addressType"], &found["endpoints"][0]["addresses"][0]),
        (&json!("IPv6"), &json!("2001:db8::7"))
    );
    // What Kubernetes refuses leaves what is there.
    let mut huge = instance.clone();
    huge.metadata.insert("huge".into(), "x".repeat(300 << 10));
    let error = held.update(&cx(), huge).await.unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("annotations"), "{error}");
    assert_eq!(api.get(&slice).await["metadata"]["uid"], found["metadata"]["uid"]);
    instance.status = InstanceStatus::OutOfService;
    held.update(&cx(), instance).await.unwrap();
    assert_eq!(api.get(&slice).await["endpoints"][0]["conditions"]["ready"], false);
    held.deregister(&cx()).await.unwrap();
    assert_eq!((api.get(&slice).await, api.get(&lease).await), (Value::Null, Value::Null));
}

#[tokio::test]
async fn what_somebody_deleted_by_hand_comes_back() {
    let Some((server, api)) = kubernetes().await else { return };
    let registry = admin(&server);
    let watcher = registry.watch("s");
    let _held = registry.register(&cx(), Instance::new("s", "a")).await.unwrap();
    until(&watcher, |s| s.state == State::Live).await;
    let leases = api.get(LEASES).await;
    let name = leases["items"][0]["metadata"]["name"].as_str().unwrap();
    for path in [format!("{SLICES}/{name}"), format!("{LEASES}/{name}")] {
        let uid = api.get(&path).await["metadata"]["uid"].clone();
        api.delete(&path).await;
        seen(&api, &path, |found| !found.is_null() && found["metadata"]["uid"] != uid).await;
        until(&watcher, |s| s.state == State::Live).await;
    }
}

#[tokio::test]
async fn in_a_pod_kubernetes_registers_and_the_process_writes_nothing() {
    let Some((server, api)) = kubernetes().await else { return };
    let mut options = kubernetes_options(LEASE);
    options.register = Some(Register::Pod);
    let registry = client(&server, Server::ADMIN, options);
    let held = registry.register(&cx(), Instance::new("s", "a")).await.unwrap();
    held.deregister(&cx()).await.unwrap();
    for path in [SLICES, LEASES] {
        let found = api.get(path).await;
        let ours = |object: &Value| object["metadata"]["name"].as_str().unwrap().starts_with("bowline-");
        assert!(!found["items"].as_array().unwrap().iter().any(ours), "{found}");
    }
}

#[tokio::test]
async fn what_was_not_renewed_for_long_is_deleted_by_the_next_one() {
    let Some((server, api)) = kubernetes().await else { return };
    let (slice_path, lease_path) = (format!("{SLICES}/bowline-s-old"), format!("{LEASES}/bowline-s-old"));
    let mut old = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "bowline-s-old", "labels": {"kubernetes.io/service-name": "s"}},
        "spec": {"holderIdentity": "1", "leaseDurationSeconds": 15, "renewTime": "2020-01-01T00:00:00.000000Z"},
    });
    // One that is another program's is none of ours to delete.
    let anothers = format!("{LEASES}/anothers");
    let mut kept = old.clone();
    kept["metadata"]["name"] = "anothers".into();
    api.apply(&anothers, &kept).await;
    old["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "bowline".into();
    api.apply(&lease_path, &old).await;
    let mut dead = slice("bowline-s-old", "IPv4", json!([]));
    dead["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] = "bowline".into();
    let value = json!({"id": "old", "name": "s", "endpoints": ["http://10.0.0.9:80"]}).to_string();
    dead["metadata"]["annotations"] = json!({"bowline/instance": value, "bowline/lease": "bowline-s-old"});
    api.apply(&slice_path, &dead).await;
    let registry = admin(&server);
    let watcher = registry.watch("s");
    let _held = registry.register(&cx(), Instance::new("s", "a")).await.unwrap();
    let found = until(&watcher, |s| s.state == State::Live).await;
    assert_eq!(by_id(&found), [("a", InstanceStatus::Up)], "who died before anybody looked is there");
    seen(&api, &lease_path, Value::is_null).await;
    seen(&api, &slice_path, Value::is_null).await;
    assert!(!api.get(&anothers).await.is_null());
    until(&watcher, |s| by_id(s) == [("a", InstanceStatus::Up)] && s.state == State::Live).await;
}

#[tokio::test]
async fn watches_that_end_go_on_and_nothing_is_missed_between_them() {
    let Some((server, api)) = kubernetes().await else { return };
    let mut options = kubernetes_options(LEASE);
    options.watch = Duration::from_secs(1);
    let registry = client(&server, Server::ADMIN, options);
    let watcher = registry.watch("s");
    until(&watcher, |s| s.state == State::Empty(Emptiness::Unknown)).await;
    let path = format!("{SLICES}/s-4");
    let start = Instant::now();
    for turn in 1.. {
        let id = format!("a-{turn}");
        api.apply(&path, slice("s-4", "IPv4", json!([pod(&id, "10.0.0.1", true, false)]))).await;
        let found = until(&watcher, |s| by_id(s) == [(id.as_str(), InstanceStatus::Up)]).await;
        assert_eq!(found.state, State::Live, "a watch that ended in time is no fault");
        if start.elapsed() > Duration::from_secs(5) {
            break;
        }
    }
}

#[tokio::test]
async fn who_hears_that_its_version_is_too_old_lists_again_and_goes_on() {
    if let Some(why) = Kubernetes::missing() {
        println!("skipped: {why}");
        return;
    }
    let server = bowline_testkit::kubernetes_without_cache().await.unwrap();
    let api = KubernetesApi::of(&server);
    let mut options = kubernetes_options(LEASE);
    options.watch = Duration::from_secs(4);
    let registry = client(&server, Server::ADMIN, options);
    let watcher = registry.watch("s");
    let path = format!("{SLICES}/s-4");
    let old = api.apply(&path, slice("s-4", "IPv4", json!([pod("a", "10.0.0.1", true, false)]))).await;
    until(&watcher, |s| by_id(s) == [("a", InstanceStatus::Up)]).await;
    // What others change moves the version on, and etcd forgets the one that this watch goes on from.
    let compacted = Instant::now();
    while compacted.elapsed() < Duration::from_secs(9) {
        let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"at": format!("{:?}", compacted.elapsed())}});
        let changed = api.apply("/api/v1/namespaces/default/configmaps/c", config).await;
        let revision = changed["metadata"]["resourceVersion"].as_str().unwrap();
        let mut etcd = Http::connect(server.etcd_port()).await;
        let compaction = json!({"revision": revision, "physical": true}).to_string();
        let answer = etcd.call("POST", "/v3/kv/compaction", &[], compaction).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(by_id(&watcher.current()), [("a", InstanceStatus::Up)]);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let version = old["metadata"]["resourceVersion"].as_str().unwrap();
    let event = api.get(&format!("{SLICES}?watch=true&timeoutSeconds=5&resourceVersion={version}")).await;
    assert_eq!(event["object"]["code"], 410, "{event}");
    assert_eq!(watcher.current().state, State::Live, "to list again is no fault");
    api.apply(&path, slice("s-4", "IPv4", json!([pod("b", "10.0.0.2", true, false)]))).await;
    until(&watcher, |s| by_id(s) == [("b", InstanceStatus::Up)] && s.state == State::Live).await;
}

#[tokio::test]
async fn the_role_that_is_shipped_is_what_it_takes_and_without_it_the_fault_names_what_is_missing() {
    let Some((server, api)) = kubernetes().await else { return };
    // As the control plane makes one for each namespace, and a token for each pod.
    let account = "/api/v1/namespaces/default/serviceaccounts/default";
    api.apply(
        account,
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}),
    )
    .await;
    let wanted =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}).to_string();
    let path = format!("{account}/token");
    let (status, made) = api.ask(http::Method::POST, &path, "application/json", wanted).await;
    assert_eq!(status, 201, "{made}");
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, made["status"]["token"].as_str().unwrap()).unwrap();
    let user = format!("tokenFile: {}", token.display());
    let account = || kubernetes_client(&server.address(), &server.ca(), &user, kubernetes_options(LEASE));
    let registry = account();
    let watcher = registry.watch("s");
    until(&watcher, |s| s.fault.as_deref().is_some_and(|fault| fault.contains("forbidden"))).await;
    assert_eq!(watcher.current().state, State::Pending);
    let error = registry.register(&cx(), Instance::new("s", "a")).await.err().unwrap();
    assert!(error.is_denied() && error.to_string().contains("leases"), "{error}");

    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/kubernetes/registry-role.yaml");
    let shipped = std::fs::read_to_string(shipped).unwrap();
    let (role, binding) = shipped.split_once("\n---\n").unwrap();
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    api.apply(&format!("{rbac}/roles/bowline-registry"), role).await;
    api.apply(&format!("{rbac}/rolebindings/bowline-registry"), binding).await;

    until(&watcher, |s| s.state == State::Empty(Emptiness::Unknown)).await;
    let provider = account();
    let held = provider.register(&cx(), Instance::new("s", "a")).await.unwrap();
    until(&watcher, |s| s.state == State::Live).await;
    held.deregister(&cx()).await.unwrap();
    until(&watcher, |s| s.state == State::Empty(Emptiness::Cancelled)).await;
}

#[tokio::test]
async fn a_client_certificate_within_the_kubeconfig_is_shown_and_a_wrong_token_is_refused() {
    let Some((server, _api)) = kubernetes().await else { return };
    let (certificate, key) = server.client();
    let data = |path: &std::path::Path| STANDARD.encode(std::fs::read(path).unwrap());
    let user = format!("client-certificate-data: {}, client-key-data: {}", data(&certificate), data(&key));
    let registry = kubernetes_client(&server.address(), &server.ca(), &user, kubernetes_options(LEASE));
    registry.watch("s").ready(&cx()).await.unwrap();
    let wrong = client(&server, "nobodys-token", kubernetes_options(LEASE));
    let error = wrong.register(&cx(), Instance::new("s", "a")).await.err().unwrap();
    assert!(error.is_denied() && !error.to_string().contains("nobodys"), "{error}");
    let mut options = kubernetes_options(LEASE);
    options.namespace = Some("nowhere".into());
    let nowhere = client(&server, Server::ADMIN, options);
    until(&nowhere.watch("s"), |s| {
        s.fault.as_deref().is_some_and(|fault| fault.contains("no namespace `nowhere`; create it"))
    })
    .await;
}
