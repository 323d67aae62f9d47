//! The gateway's process: what it passes on, what it answers itself, and a route table that changes while it runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bowline::client::{ChannelOptions, ClientTls};
use bowline::core::{Context, Endpoint};
use bowline::rpc::{Body, BoxFuture, Streaming};
use bowline::server::{Middleware, Next, Server, ServerOptions};
use bowline_tests_protocols::api::testing::v1::{Everything, SleepRequest, testing};
use bowline_tests_protocols::{Running, TestService, client, number};
use bowline_tests_support::{Answer, Http, PATIENCE, Process, admin_page, build, free_port, programs};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const GRPC: [(&str, &str); 2] = [("content-type", "application/grpc+json"), ("te", "trailers")];

/// A gateway's process with a table of its own.
struct Gateway {
    process: Process,
    port: u16,
    admin: u16,
    directory: TempDir,
}

impl Gateway {
    async fn start(routes: &str) -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), routes, "").await
    }

    /// With more settings of its server.
    async fn start_with(directory: TempDir, routes: &str, settings: &str) -> Self {
        Self::start_in(directory, routes, settings, "").await
    }

    /// With more settings of its server, and of the rest.
    async fn start_in(directory: TempDir, routes: &str, settings: &str, more: &str) -> Self {
        let (port, admin) = (free_port(), free_port());
        let table = directory.path().join("routes.yaml");
        let config = format!(
            "service:\n  server: {{ listen: \"127.0.0.1:{port}\"{settings} }}\n  admin: {{ listen: \"127.0.0.1:{admin}\" }}\n{more}routes: {}\n",
            table.display()
        );
        std::fs::write(&table, routes).unwrap();
        std::fs::write(directory.path().join("gateway.yaml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline-gateway"));
        command.arg("--config").arg(directory.path().join("gateway.yaml"));
        let mut process = Process::start(&mut command, directory.path().join("log"));
        process.ready(admin).await;
        Self { process, port, admin, directory }
    }

    fn table(&self) -> PathBuf {
        self.directory.path().join("routes.yaml")
    }

    /// Replaces the table at once, as a deployment does.
    fn set_table(&self, routes: &str) {
        let new = self.directory.path().join("routes.new");
        std::fs::write(&new, routes).unwrap();
        std::fs::rename(new, self.table()).unwrap();
    }

    async fn get(&self, host: &str, path: &str) -> Answer {
        let mut http = Http::connect(self.port).await;
        http.call("GET", path, &[("host", host)], "").await
    }

    /// Waits until a path is answered with a status.
    async fn answers(&self, path: &str, status: u16) {
        let mut last = 0;
        let answered = tokio::time::timeout(PATIENCE, async {
            loop {
                last = self.get("gateway", path).await.status;
                if last == status {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let answered = answered.await.is_ok();
        assert!(answered, "{path}: {last} instead of {status}\n{}", self.process.log());
    }
}

fn target(service: &Running) -> String {
    format!("static:///{}", service.endpoint.authority())
}

#[tokio::test]
async fn host_and_prefix_choose_the_service() {
    let services = [Running::start().unwrap(), Running::start().unwrap(), Running::start().unwrap()];
    let [any, below, exact] = services.each_ref().map(target);
    let gateway = Gateway::start(&format!(
        "routes:\n\
         - {{ prefix: /v1, service: \"{any}\" }}\n\
         - {{ prefix: /testing.v1.Testing, service: \"{any}\" }}\n\
         - {{ host: \"*.example.com\", prefix: /v1, service: \"{below}\" }}\n\
         - {{ host: api.example.com, prefix: /v1/echo, service: \"{exact}\" }}\n"
    ))
    .await;
    let begun = || services.each_ref().map(|running| running.service.begun.load(Ordering::SeqCst));
    let mut expected = [0; 3];
    for (host, path, chosen) in [
        ("elsewhere", "/v1/echo/a", 0),
        ("127.0.0.1:80", "/v1/echo/a", 0),
        ("example.com", "/v1/echo/a", 0),
        ("www.example.com", "/v1/echo/a", 1),
        ("api.example.com:8000", "/v1/echo/a", 2),
        ("API.Example.com", "/v1/echo/a", 2),
        ("api.example.com", "/v1/sleep/0", 1),
    ] {
        let answer = gateway.get(host, path).await;
        assert_eq!(answer.status, 200, "{host}{path}: {}", answer.text());
        expected[chosen] += 1;
        assert_eq!(begun(), expected, "{host}{path}");
    }
    let mut http2 = Http::connect_h2(gateway.port).await;
    let answer = http2.call("GET", "/v1/echo/a", &[("host", "api.example.com")], "").await;
    assert_eq!((answer.status, begun()[2]), (200, expected[2] + 1), "HTTP/2 has the host in its authority");
    let answer = http2.call("POST", "/testing.v1.Testing/Echo", &GRPC, b"\0\0\0\0\x02{}".to_vec()).await;
    assert_eq!((answer.header("grpc-status"), begun()[0]), ("0", expected[0] + 1));
}

#[tokio::test]
async fn a_routes_time_ends_with_the_answers_beginning_and_is_no_deadline_of_the_service() {
    let service = Running::start().unwrap();
    let timeout = Duration::from_millis(500);
    let gateway = Gateway::start(&format!(
        "routes: [{{ prefix: /, service: \"{}\", timeout: {timeout:?} }}]",
        target(&service)
    ))
    .await;
    let client = client(&format!("http://127.0.0.1:{}", gateway.port), ChannelOptions::default()).unwrap();
    let cx = Context::background();

    // A stream that is longer than the route's time.
    let (sender, requests) = Streaming::channel(1);
    let mut doubled = client.double(&cx, requests).await.unwrap();
    sender.send(number(1)).await.unwrap();
    assert_eq!(doubled.message().await.unwrap().unwrap().value, 2);
    tokio::time::sleep(timeout * 2).await;
    sender.send(number(2)).await.unwrap();
    assert_eq!(doubled.message().await.unwrap().expect("it is not cut").value, 4);
    drop(sender);
    assert!(doubled.message().await.unwrap().is_none());

    // What the service has is its own time, or the caller's.
    let mut http = Http::connect(gateway.port).await;
    let asked = async |http: &mut Http, headers: &[(&str, &str)]| -> i64 {
        let answer = http.call("GET", "/v1/sleep/0", headers, "").await.json();
        answer["remainingMillis"].as_str().unwrap().parse().unwrap()
    };
    assert!(asked(&mut http, &[]).await > 20_000, "the service's 30 s");
    let given = [("x-envoy-expected-rq-timeout-ms", "5000")];
    assert!((500..=5_000).contains(&asked(&mut http, &given).await));

    // The wait is bounded by both.
    for headers in [&[][..], &given, &[("x-envoy-expected-rq-timeout-ms", "80")]] {
        let late = http.call("GET", "/v1/sleep/60000", headers, "").await;
        assert_eq!((late.status, &late.json()["reason"]), (504, &"DEADLINE_EXCEEDED".into()), "{headers:?}");
    }
    let stopped = tokio::time::timeout(PATIENCE, async {
        while service.service.canceled.load(Ordering::SeqCst) < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    stopped.await.expect("nobody waits, so the service stops");
    let late = client.sleep(&cx, SleepRequest { millis: 60_000, ..Default::default() }).await;
    assert!(late.unwrap_err().is_timeout());
}

/// The sum over the lines of a metric of the gateway's that have a label.
async fn measured(gateway: &Gateway, name: &str, label: &str) -> f64 {
    let (_, page) = admin_page(gateway.admin, "/metrics").await.unwrap();
    let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test]
async fn a_service_that_does_not_begin_to_answer_in_a_routes_time_has_failed_and_nobody_went_away() {
    let service = Running::start().unwrap();
    let gateway = Gateway::start(&format!(
        "routes: [{{ prefix: /, service: \"{}\", timeout: 200ms }}]",
        target(&service)
    ))
    .await;
    let mut http = Http::connect(gateway.port).await;
    // Five in a row that did not get through: the rule for those.
    for _ in 0..5 {
        let late = http.call("GET", "/v1/sleep/60000", &[], "").await;
        assert_eq!((late.status, &late.json()["reason"]), (504, &"DEADLINE_EXCEEDED".into()));
    }
    let told = tokio::time::timeout(PATIENCE, async {
        while measured(&gateway, "bowline_client_ejections_total", "").await == 0.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    told.await.expect("it is ejected");
    assert_eq!(measured(&gateway, "bowline_client_calls_total", "DEADLINE_EXCEEDED").await, 5.0);
    assert_eq!(measured(&gateway, "bowline_client_calls_total", "CANCELLED").await, 0.0);
}

#[tokio::test]
async fn a_sender_that_does_not_send_is_not_held_against_the_service() {
    let service = Running::start().unwrap();
    let gateway = Gateway::start(&format!(
        "routes: [{{ prefix: /, service: \"{}\", timeout: 200ms }}]",
        target(&service)
    ))
    .await;
    for _ in 0..8 {
        let mut sender = tokio::net::TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
        // More than is kept; it is passed on as it comes, and it does not come.
        let head = "POST /v1/echo HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n{";
        sender.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        sender.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 504");
    }
    assert_eq!(measured(&gateway, "bowline_client_calls_total", "DEADLINE_EXCEEDED").await, 8.0);
    assert_eq!(measured(&gateway, "bowline_client_ejections_total", "").await, 0.0);
    assert_eq!(gateway.get("gateway", "/v1/echo/a").await.status, 200);
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_told_without_its_address() {
    let gateway = Gateway::start("routes: [{ prefix: /, service: \"static:///127.0.0.1:1\" }]").await;
    let error = gateway.get("gateway", "/v1/echo/a").await;
    assert_eq!(
        (error.status, error.json()),
        (
            503,
            serde_json::json!({"code": 503, "reason": "UNREACHABLE", "message": "the service cannot be reached", "metadata": {}})
        )
    );
    let mut http2 = Http::connect_h2(gateway.port).await;
    let error = http2.call("POST", "/testing.v1.Testing/Echo", &GRPC, b"\0\0\0\0\x02{}".to_vec()).await;
    assert_eq!(
        (error.header("grpc-status"), error.header("grpc-message")),
        ("14", "the service cannot be reached")
    );
    let log = gateway.process.log();
    assert!(log.contains("127.0.0.1:1 cannot be reached") && log.contains("refused"), "{log}");
}

#[tokio::test]
async fn a_list_from_disk_is_used_and_its_age_told_while_the_registry_is_down() {
    let service = Running::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let snapshots = directory.path().join("registry");
    std::fs::create_dir(&snapshots).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let list = serde_json::json!({
        "version": 1,
        "service": "testing",
        "written_at_ms": (now - Duration::from_secs(90)).as_millis() as u64,
        "instances": [{"id": "t-1", "service": "testing", "endpoints": [service.endpoint]}],
    });
    std::fs::write(snapshots.join("testing.json"), list.to_string()).unwrap();
    let port = free_port();
    let registry = format!(
        "  registry: {{ target: \"http://127.0.0.1:{port}\", snapshots: {} }}\n",
        snapshots.display()
    );
    let routes = "routes: [{ prefix: /, service: \"discovery:///testing\" }]";
    let mut gateway = Gateway::start_in(directory, routes, "", &registry).await;
    assert_eq!(gateway.get("gateway", "/v1/echo/a").await.status, 200);
    let log = gateway.process.log();
    let told = log.lines().find(|line| line.contains("a list from disk is used")).expect(&log);
    assert!(told.contains(r#""level":"warn""#) && told.contains(r#""service":"testing""#), "{told}");
    assert!(told.contains(r#""age_s":9"#), "{told}");
    assert!(age(&gateway).await >= 90.0);

    build(&[("bowline-registry", "bowline-registry")]);
    let config = gateway.directory.path().join("registry.yaml");
    let node =
        format!("service: {{ server: {{ listen: \"127.0.0.1:{port}\" }} }}\nregistry: {{ settle: 0s }}\n");
    std::fs::write(&config, node).unwrap();
    let mut command = Command::new(programs().join("bowline-registry"));
    command.arg("--config").arg(config);
    let _registry = Process::start(&mut command, gateway.directory.path().join("registry-log"));
    gateway.process.says("the list is live again").await;
    assert!(age(&gateway).await == 0.0, "now the registry stands behind it");
}

/// The age of the list of `testing`, in seconds.
async fn age(gateway: &Gateway) -> f64 {
    let (_, page) = admin_page(gateway.admin, "/metrics").await.unwrap();
    let name = "bowline_discovery_snapshot_age_seconds{service=\"testing\"} ";
    page.lines().find_map(|line| line.strip_prefix(name)).expect(&page).parse().unwrap()
}

/// Notes how callers spoke with the gateway.
#[derive(Clone, Default)]
struct Spoken(Arc<Mutex<Vec<String>>>);

impl Middleware for Spoken {
    fn call<'a>(
        &'a self,
        _: &'a Context,
        request: http::Request<Body>,
        next: Next<'a>,
    ) -> BoxFuture<'a, bowline::core::Result<http::Response<Body>>> {
        let told = request.headers().get("x-forwarded-proto").and_then(|value| value.to_str().ok());
        self.0.lock().unwrap().push(told.unwrap_or_default().to_owned());
        Box::pin(next.run(request))
    }
}

#[tokio::test]
async fn services_are_told_whether_the_gateway_was_spoken_to_with_tls() {
    let spoken = Spoken::default();
    let mut server = Server::new("spoken", ServerOptions::at("127.0.0.1:0").unwrap())
        .mount(testing::server(TestService::default()))
        .middleware(spoken.clone());
    let endpoint: Endpoint = server.bind().unwrap();
    let routes = format!("routes: [{{ prefix: /, service: \"static:///{}\" }}]", endpoint.authority());

    let plain = Gateway::start(&routes).await;
    assert_eq!(plain.get("gateway", "/v1/echo/a").await.status, 200);

    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(path("cert.pem"), certified.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), certified.signing_key.serialize_pem()).unwrap();
    let settings = format!(
        ", tls: {{ certificate: {}, key: {} }}",
        path("cert.pem").display(),
        path("key.pem").display()
    );
    let tls = ClientTls { ca: path("cert.pem"), identity: None, server_name: Some("localhost".into()) };
    let secure = Gateway::start_with(directory, &routes, &settings).await;
    let options = ChannelOptions { tls: Some(tls), ..ChannelOptions::default() };
    let client = client(&format!("https://127.0.0.1:{}", secure.port), options).unwrap();
    client.echo(&Context::background(), Everything::default()).await.unwrap();
    assert_eq!(*spoken.0.lock().unwrap(), ["http", "https"]);
}

#[tokio::test]
async fn what_has_no_route_is_told_in_each_protocols_form() {
    let service = Running::start().unwrap();
    let routes =
        format!("routes: [{{ host: api.example.com, prefix: /v1, service: \"{}\" }}]", target(&service));
    let gateway = Gateway::start(&routes).await;
    for (host, path) in
        [("elsewhere", "/v1/echo/a"), ("api.example.com", "/v10/echo/a"), ("api.example.com", "/")]
    {
        let answer = gateway.get(host, path).await;
        let error = answer.json();
        assert_eq!((answer.status, &error["code"]), (404, &404.into()), "{error}");
        assert_eq!(error["reason"], "ROUTE_NOT_FOUND");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(path)), "{error}");
    }
    let (mut http, mut http2) = (Http::connect(gateway.port).await, Http::connect_h2(gateway.port).await);
    let path = "/testing.v1.Testing/Echo";
    let body = b"\0\0\0\0\x02{}".to_vec();
    let grpc = http2.call("POST", path, &GRPC, body.clone()).await;
    assert_eq!((grpc.status, grpc.header("grpc-status")), (200, "12"), "UNIMPLEMENTED: {:?}", grpc.headers);
    assert!(grpc.header("grpc-message").contains(path), "{:?}", grpc.headers);
    let web = http.call("POST", path, &[("content-type", "application/grpc-web+json")], body).await;
    let told = web.text().replace(' ', "");
    assert!(
        web.status == 200 && (told.contains("grpc-status:12") || web.header("grpc-status") == "12"),
        "{told}"
    );
    let connect = [("content-type", "application/json"), ("connect-protocol-version", "1")];
    let answer = http.call("POST", path, &connect, "{}").await;
    assert_eq!((answer.status, &answer.json()["code"]), (404, &"unimplemented".into()));
    assert_eq!(service.service.begun.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_changed_table_is_in_force_without_a_restart_and_cuts_off_nothing_under_way() {
    let (old, new) = (Running::start().unwrap(), Running::start().unwrap());
    let route =
        |prefix: &str, service| format!("routes: [{{ prefix: {prefix}, service: \"{}\" }}]", target(service));
    let mut gateway = Gateway::start(&route("/v1", &old)).await;
    gateway.answers("/v1/echo/a", 200).await;

    let mut held = Http::connect(gateway.port).await;
    let held = async { held.call("GET", "/v1/sleep/3000", &[], "").await };
    let changed = async {
        let sleeping = tokio::time::timeout(PATIENCE, async {
            while old.service.begun.load(Ordering::SeqCst) < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        sleeping.await.expect("the held request arrives");
        gateway.set_table(&route("/v1/echo", &new));
        gateway.process.says("route table reloaded").await;
        assert_eq!(gateway.get("gateway", "/v1/echo/a").await.status, 200);
        assert_eq!(new.service.begun.load(Ordering::SeqCst), 1, "the new route is in force");
        assert_eq!(gateway.get("gateway", "/v1/sleep/0").await.status, 404, "the old route is gone");
    };
    let (held, ()) = tokio::join!(held, changed);
    assert_eq!(held.status, 200, "{}", held.text());
}

#[tokio::test]
async fn a_broken_table_is_refused_with_its_fault_and_the_last_good_one_stays() {
    let service = Running::start().unwrap();
    let good = format!("routes: [{{ prefix: /v1, service: \"{}\" }}]", target(&service));
    let mut gateway = Gateway::start(&good).await;
    gateway.answers("/v1/echo/a", 200).await;
    for (times, (broken, fault)) in (1..).zip([
        ("routes: [", "routes.yaml"),
        (
            "routes: [{ prefix: v1, service: \"static:///127.0.0.1:1\" }]",
            "route 1 (v1): `v1` is no path prefix",
        ),
        ("routes: [{ prefix: /, service: nowhere }]", "`nowhere` is no target"),
        ("routes: [{ prefix: /, service: \"discovery:///catalog\" }]", "route 1 (/): "),
        ("routes: [{ prefix: /, servise: x }]", "servise"),
        ("", "routes"),
    ]) {
        gateway.set_table(broken);
        gateway.process.says_times("route table not reloaded, the last good one stays", times).await;
        let log = gateway.process.log();
        let told = log.lines().rfind(|line| line.contains("not reloaded")).unwrap();
        assert!(told.contains(r#""level":"error""#) && told.contains(fault), "{fault}: {told}");
        assert_eq!(gateway.get("gateway", "/v1/echo/a").await.status, 200, "{broken}");
    }
    std::fs::remove_file(gateway.table()).unwrap();
    gateway.process.says_times("route table not reloaded, the last good one stays", 7).await;
    assert_eq!(gateway.get("gateway", "/v1/echo/a").await.status, 200);
    gateway.set_table(&good.replace("/v1", "/v1/sleep"));
    gateway.answers("/v1/echo/a", 404).await;
    gateway.answers("/v1/sleep/0", 200).await;
    gateway.process.terminate();
    assert!(gateway.process.ended().await.success(), "{}", gateway.process.log());
}

#[tokio::test]
async fn it_does_not_start_with_a_broken_table() {
    let directory = tempfile::tempdir().unwrap();
    let config = format!(
        "service: {{ server: {{ listen: \"127.0.0.1:{}\" }} }}\nroutes: {}/routes.yaml\n",
        free_port(),
        directory.path().display()
    );
    std::fs::write(directory.path().join("gateway.yaml"), config).unwrap();
    for (table, fault) in [
        (None, "No such file"),
        (
            Some("routes: [{ prefix: v1, service: \"static:///127.0.0.1:1\" }]"),
            "route 1 (v1): `v1` is no path prefix",
        ),
    ] {
        if let Some(table) = table {
            std::fs::write(directory.path().join("routes.yaml"), table).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline-gateway"));
        command.arg("--config").arg(directory.path().join("gateway.yaml"));
        let mut process = Process::start(&mut command, directory.path().join("log"));
        assert!(!process.ended().await.success());
        let log = process.log();
        assert!(log.contains(fault) && log.contains("routes.yaml"), "{log}");
    }
}
