//! The operators' pages of a process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::process::Command;
use std::time::Duration;

use bowline_tests_support::{Answer, Http, PATIENCE, Process, free_port};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A process of the test service.
struct Application {
    process: Process,
    port: u16,
    admin: u16,
    directory: TempDir,
}

fn config(port: u16, admin: u16, policies: &str) -> String {
    format!(
        "service:\n  \
           server: {{ listen: \"127.0.0.1:{port}\", policies: {{ {policies} }} }}\n  \
           admin: {{ listen: \"127.0.0.1:{admin}\" }}\n  \
           lifecycle: {{ propagation: 10m }}\n\
         database: {{ url: \"postgres://me:hunter2@db/shop\", user: me, password: hunter3, api_key: hunter4 }}\n"
    )
}

impl Application {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (port, admin) = (free_port(), free_port());
        let file = directory.path().join("testing.yaml");
        std::fs::write(&file, config(port, admin, "")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline-tests-protocols"));
        command.arg("--config").arg(file).env("TESTING__DATABASE__PASSWORD", "hunter5");
        command.envs([("BOWLINE_INSTANCE_ID", "t-1"), ("BOWLINE_ENV", "harbour"), ("BOWLINE_ZONE", "north")]);
        let mut process = Process::start(&mut command, directory.path().join("log"));
        process.ready(admin).await;
        Self { process, port, admin, directory }
    }

    /// Writes other policies down and tells the process.
    fn change(&self, policies: &str) {
        let file = self.directory.path().join("testing.yaml");
        std::fs::write(file, config(self.port, self.admin, policies)).unwrap();
        self.process.hang_up();
    }

    /// A request to the service.
    async fn call(&self, path: &str) -> Answer {
        Http::connect(self.port).await.call("GET", path, &[], "").await
    }

    async fn page(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    async fn ask(&self, method: &str, path: &str, body: impl AsRef<[u8]>) -> Answer {
        Http::connect(self.admin).await.call(method, path, &[], body.as_ref().to_vec()).await
    }

    async fn level(&self) -> Value {
        self.page("/log-level").await.json()["level"].clone()
    }

    /// Waits until a page fulfils a condition.
    async fn shows(&self, path: &str, condition: impl Fn(&Answer) -> bool) {
        let mut last = String::new();
        let shown = tokio::time::timeout(PATIENCE, async {
            loop {
                let answer = self.page(path).await;
                if condition(&answer) {
                    return;
                }
                last = format!("{} {}", answer.status, answer.text());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let shown = shown.await.is_ok();
        assert!(shown, "{path}: {last}");
    }
}

#[tokio::test]
async fn it_is_not_ready_from_when_it_is_told_to_stop_and_serves_on() {
    let mut application = Application::start().await;
    for (path, text) in [("/health/live", "live\n"), ("/health/ready", "ready\n")] {
        let answer = application.page(path).await;
        assert_eq!((answer.status, &*answer.text()), (200, text));
    }
    application.process.terminate();
    application
        .shows("/health/ready", |answer| (answer.status, &*answer.text()) == (503, "not ready\n"))
        .await;
    assert_eq!(application.page("/health/live").await.status, 200, "nobody must kill it now");
    assert_eq!(application.call("/v1/echo/a").await.status, 200, "who has not heard of it is served");
    application.process.terminate();
    application.process.ended().await;
}

#[tokio::test]
async fn metrics_count_calls_by_operation_and_outcome() {
    let application = Application::start().await;
    let sample = |method: &str, code: &str, count: u32| {
        format!(
            "bowline_server_calls_total{{service=\"testing.v1.Testing\",method=\"{method}\",code=\"{code}\"}} {count}\n"
        )
    };
    assert!(!application.page("/metrics").await.text().contains("method=\"Echo\",code="));
    for path in ["/v1/echo/a", "/v1/echo/b", "/v1/fail/NOT_FOUND", "/nowhere"] {
        application.call(path).await;
    }
    let expected = [sample("Echo", "OK", 2), sample("Fail", "NOT_FOUND", 1)];
    application.shows("/metrics", |page| expected.iter().all(|line| page.text().contains(line))).await;
    let page = application.page("/metrics").await;
    assert!(page.header("content-type").starts_with("application/openmetrics-text"));
    let text = page.text();
    for line in [
        "# TYPE bowline_server_calls counter\n",
        "bowline_server_duration_seconds_count{service=\"testing.v1.Testing\",method=\"Echo\"} 2\n",
        "bowline_server_in_flight{service=\"testing.v1.Testing\",method=\"Echo\"} 0\n",
        "bowline_server_unresolved_total 1\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn the_log_level_is_shown_and_changed_and_nonsense_refused() {
    let mut application = Application::start().await;
    assert_eq!(application.level().await, "info");
    application.call("/quiet").await;
    let changed = application.ask("PUT", "/log-level", "debug\n").await;
    assert_eq!((changed.status, changed.json()), (200, json!({"level": "debug"})));
    application.call("/loud").await;
    application.process.says("/loud").await;
    assert!(!application.process.log().contains("/quiet"), "{}", application.process.log());

    let changed = application.ask("POST", "/log-level", "warn,bowline_server=debug").await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    let level = application.level().await;
    let mut parts: Vec<_> = level.as_str().unwrap().split(',').collect();
    parts.sort_unstable();
    assert_eq!(parts, ["bowline_server=debug", "warn"]);

    for nonsense in ["loud", "", "info,loud", "bowline_server=loud", "info,,debug"] {
        let refused = application.ask("PUT", "/log-level", nonsense).await;
        let told = refused.text();
        assert_eq!(refused.status, 400, "{nonsense}: {told}");
        assert!(told.contains(&format!("`{nonsense}` is no log level: use error, warn, info")), "{told}");
    }
    let refused = application.ask("PUT", "/log-level", b"\xff\xfe").await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    let refused = application.ask("PUT", "/log-level", "x".repeat(5000)).await;
    assert!(refused.status >= 400 && refused.text().contains("4096 bytes"), "{}", refused.text());
    assert_eq!(application.level().await, level, "what is refused changes nothing");
}

#[tokio::test]
async fn the_configuration_in_force_is_shown_without_its_secrets() {
    let application = Application::start().await;
    let page = application.page("/config").await;
    let config = page.json();
    assert_eq!(
        config["database"],
        json!({"url": "postgres://me:***@db/shop", "user": "me", "password": "***", "api_key": "***"})
    );
    assert_eq!(config["service"]["server"]["listen"], format!("127.0.0.1:{}", application.port));
    assert_eq!(config["service"]["lifecycle"]["propagation"], "10m", "what a file says");
    assert_eq!(config["service"]["lifecycle"]["drain"], "20s", "what nobody says has its default");
    for text in [page.text(), application.process.log(), application.page("/info").await.text()] {
        assert!(!text.contains("hunter"), "{text}");
    }
}

#[tokio::test]
async fn info_says_who_this_is_and_other_paths_what_there_is() {
    let application = Application::start().await;
    let info = application.page("/info").await.json();
    for (key, value) in [
        ("service", "testing"),
        ("instance", "t-1"),
        ("version", "1.2.3"),
        ("env", "harbour"),
        ("zone", "north"),
    ] {
        assert_eq!(info[key], value, "{info}");
    }
    let nothing = application.page("/").await;
    assert_eq!(nothing.status, 404);
    for page in ["/health/live", "/health/ready", "/metrics", "/info", "/log-level", "/config"] {
        assert!(nothing.text().contains(page), "{}", nothing.text());
    }
    for (method, path, allowed) in
        [("POST", "/config", "GET, HEAD"), ("DELETE", "/log-level", "GET, HEAD, PUT, POST")]
    {
        let answer = application.ask(method, path, "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, allowed), "{method} {path}");
        assert_eq!(answer.text(), format!("{method} is not allowed at {path}; use {allowed}\n"));
    }
    assert_eq!(application.ask("POST", "/nowhere", "").await.status, 404);
    let head = application.ask("HEAD", "/health/ready", "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn policies_are_read_again_when_the_process_is_told_and_bad_ones_change_nothing() {
    let mut application = Application::start().await;
    application.change("/testing.v1.Testing/Echo: { rate: { per_second: 0.01, burst: 1 } }");
    let policy = "/service/server/policies/~1testing.v1.Testing~1Echo/rate/burst";
    application.shows("/config", |answer| answer.json().pointer(policy) == Some(&json!(1))).await;
    assert_eq!(application.call("/v1/echo/a").await.status, 200);
    assert_eq!(application.call("/v1/echo/a").await.status, 429);

    for (wrong, named) in [
        ("testing.v1.Tasting: {}", "a policy names testing.v1.Tasting, which is not mounted"),
        ("'*': { rates: {} }", "rates"),
    ] {
        application.change(wrong);
        application.process.says(named).await;
        assert_eq!(application.call("/v1/echo/a").await.status, 429);
    }
    application.change("");
    application.shows("/config", |answer| answer.json().pointer(policy).is_none()).await;
    assert_eq!(application.call("/v1/echo/a").await.status, 200);
}
