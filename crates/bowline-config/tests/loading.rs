//! How a configuration is put together, and what is said when it is wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_config::{ByteSize, Loader, Secret, Validate, redacted};
use bowline_core::{Error, Result};
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Config {
    server: Server,
    #[serde(default)]
    database: Database,
    #[serde(default)]
    routes: BTreeMap<String, Route>,
    #[serde(default)]
    peers: Vec<String>,
    #[serde(default)]
    mode: Mode,
}

// Without `deny_unknown_fields`, on purpose.
#[derive(Debug, Deserialize, Serialize)]
struct Server {
    addr: String,
    #[serde(with = "bowline_config::duration", default = "one_second")]
    timeout: Duration,
    #[serde(default, with = "bowline_config::duration::option")]
    idle: Option<Duration>,
    #[serde(default, rename = "max-body")]
    max_body: ByteSize,
    #[serde(default)]
    workers: Option<u16>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Database {
    url: String,
    password: Secret,
    pool: u8,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Route {
    to: String,
}

#[derive(Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Normal,
    ReadOnly,
    Limited {
        rate: f64,
    },
    Named(String),
}

fn one_second() -> Duration {
    Duration::from_secs(1)
}

impl Validate for Config {
    fn validate(&self) -> Result<()> {
        if self.server.timeout.is_zero() {
            return Err(Error::invalid_argument("server.timeout is 0; give it at least 1ms"));
        }
        Ok(())
    }
}

const BASE: &str = "\
server:
  addr: 0.0.0.0:8000
  max-body: 4MiB
database:
  url: sqlite://shop.db
  pool: 4
routes:
  home: { to: shop }
";

fn loader(overlay: &str, variables: &[(&str, &str)]) -> Result<Loader> {
    let loader = Loader::new().variables(variables.iter().copied()).env("CATALOG");
    loader.text("base.yaml", BASE)?.text("local.yaml", overlay)
}

fn load(overlay: &str, variables: &[(&str, &str)]) -> Result<Config> {
    loader(overlay, variables)?.load()
}

#[allow(clippy::unwrap_used, reason = "part of every test that calls it")]
fn error(overlay: &str, variables: &[(&str, &str)]) -> String {
    let error = load(overlay, variables).unwrap_err();
    assert!(error.is_invalid() && error.reason() == "CONFIG_INVALID", "{error:?}");
    error.message().to_owned()
}

#[test]
fn maps_are_merged_key_by_key_and_the_rest_is_replaced() {
    let overlay = "server: { timeout: 250ms }\nroutes: { cart: { to: order } }\npeers: [a]\n";
    let config = load(overlay, &[]).unwrap();
    assert_eq!(
        (config.server.addr.as_str(), config.server.timeout),
        ("0.0.0.0:8000", Duration::from_millis(250))
    );
    assert_eq!(config.routes.keys().collect::<Vec<_>>(), ["cart", "home"]);
    assert_eq!((config.peers, config.database.pool), (vec!["a".to_owned()], 4));
}

#[test]
fn the_environment_comes_last_and_is_read_by_the_type_of_the_key() {
    let variables = [
        ("CATALOG__SERVER__ADDR", "8080"),
        ("CATALOG__SERVER__TIMEOUT", "2s"),
        ("CATALOG__SERVER__MAX_BODY", "1MiB"),
        ("CATALOG__SERVER__WORKERS", "3"),
        ("CATALOG__DATABASE__PASSWORD", "a: [b"),
        ("CATALOG__PEERS__1", "second"),
        ("CATALOG__ROUTES__HOME__TO", "new"),
        ("CATALOG__MODE", "read_only"),
        ("CATALOG_PORT", "tcp://10.0.0.1:80"),
    ];
    let config = load("peers: [first]", &variables).unwrap();
    assert_eq!(config.server.addr, "8080");
    assert_eq!((config.server.timeout, config.server.max_body), (Duration::from_secs(2), ByteSize::mib(1)));
    assert_eq!((config.server.workers, config.database.password.expose()), (Some(3), "a: [b"));
    assert_eq!((config.peers, config.mode), (vec!["first".to_owned(), "second".to_owned()], Mode::ReadOnly));
    assert_eq!(config.routes["home"].to, "new");
}

#[test]
fn a_variable_that_matches_nothing_is_refused() {
    let message = error("", &[("CATALOG__SERVER__TIMEOUTS", "1s"), ("CATALOG__SERVR__ADDR", "x")]);
    assert!(message.contains("environment variable CATALOG__SERVER__TIMEOUTS: server.timeouts: unknown key `timeouts`; did you mean `timeout`?"), "{message}");
    assert!(message.contains("unknown key `servr`; did you mean `server`?"), "{message}");
    assert!(error("", &[("CATALOG____X", "1")]).contains("a part of the name is empty"));
    assert!(error("", &[("CATALOG__PEERS__1", "1")]).contains("peers"));
}

#[test]
fn unknown_keys_are_refused_with_place_and_suggestion_whether_or_not_the_struct_asks_for_it() {
    assert_eq!(
        error("server:\n  adrr: x\n", &[]),
        "local.yaml:2:3: server.adrr: unknown key `adrr`; did you mean `addr`?"
    );
    assert_eq!(
        error("database: { uri: x }\n", &[]),
        "local.yaml:1:13: database.uri: unknown key `uri`; did you mean `url`?"
    );
    let message = error("colour: red\n", &[]);
    assert!(message.ends_with("use one of `server`, `database`, `routes`, `peers`, `mode`"), "{message}");
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let message = error("server: { a: 1 }\nroutes:\n  x: { to: y, b: 2 }\nc: 3\n", &[("CATALOG__D", "4")]);
    assert_eq!(message.lines().count(), 5, "{message}");
    for key in ["`a`", "`b`", "`c`", "`d`"] {
        assert!(message.contains(key), "{key} in {message}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_told_with_its_place() {
    for (overlay, expected) in [
        ("database:\n  pool: many", "local.yaml:2:9: database.pool: expected u8, found string \"many\""),
        (
            "database:\n  pool: 300",
            "local.yaml:2:9: database.pool: invalid value: integer `300`, expected u8",
        ),
        ("database: { pool: '4' }", "local.yaml:1:19: database.pool: expected u8, found string \"4\""),
        (
            "server: { timeout: 10 }",
            "local.yaml:1:20: server.timeout: `10` is no duration: a unit is missing; write it like 250ms, 10s or 1m30s",
        ),
        (
            "server: { max-body: 4 apples }",
            "local.yaml:1:21: server.max-body: `4 apples` is no size: there is no such unit; write it like 512B, 64KiB or 4MiB",
        ),
        ("peers: [a, [b]]", "local.yaml:1:12: peers[1]: expected a string, found sequence"),
        ("routes: { 'a.b': { to: {} } }", "local.yaml:1:24: routes.\"a.b\".to: expected a string, found map"),
        ("routes: { a: {} }", "local.yaml:1:14: routes.a: the key `to` is missing; set it"),
        (
            "mode: readonly",
            "local.yaml:1:7: mode: `readonly` is not possible here; did you mean `read_only`?",
        ),
        ("server: x", "local.yaml:1:9: server: expected struct Server, found string \"x\""),
    ] {
        assert_eq!(error(overlay, &[]), expected);
    }
    let message = error("", &[("CATALOG__DATABASE__POOL", "x")]);
    assert_eq!(
        message,
        "environment variable CATALOG__DATABASE__POOL: database.pool: expected u8, found string \"x\""
    );
}

#[test]
fn errors_do_not_quote_secrets() {
    let message = error("database: { password: [hunter2] }", &[]);
    assert!(!message.contains("hunter2"), "{message}");

    #[derive(Debug, Deserialize)]
    struct Keys {
        #[allow(dead_code)]
        api_key: u64,
    }
    let error = Loader::new().text("f", "api_key: hunter2").unwrap().load::<Keys>().unwrap_err();
    assert!(error.message().contains("api_key: the value is not of the form"), "{error}");
}

#[test]
fn enums_are_read_in_each_of_their_forms() {
    for (overlay, mode) in [
        ("mode: read_only", Mode::ReadOnly),
        ("mode: { limited: { rate: 2 } }", Mode::Limited { rate: 2.0 }),
        ("mode: { named: x }", Mode::Named("x".into())),
        ("mode: { read_only: }", Mode::ReadOnly),
    ] {
        assert_eq!(load(overlay, &[]).unwrap().mode, mode);
    }
    assert!(error("mode: { limited: { rat: 2 } }", &[]).contains("mode.limited.rat: unknown key `rat`"));
    assert!(error("mode: { a: 1, b: 2 }", &[]).contains("exactly one key"));
}

#[test]
fn variables_are_filled_into_the_strings_of_files_and_not_into_other_variables() {
    let overlay = "server: { addr: 'h:${PORT}', workers: '${WORKERS:-7}' }\ndatabase:\n  password: ${PW}\n";
    let variables = [("PORT", "80"), ("PW", "${PORT}"), ("CATALOG__DATABASE__URL", "${PORT}")];
    let config = load(overlay, &variables).unwrap();
    assert_eq!((config.server.addr.as_str(), config.server.workers), ("h:80", Some(7)));
    assert_eq!((config.database.password.expose(), config.database.url.as_str()), ("${PORT}", "${PORT}"));
    assert_eq!(
        error("server: { addr: '${PORT}' }", &[]),
        "local.yaml:1:17: server.addr: the environment variable PORT is not set; set it or write ${PORT:-default}"
    );
}

#[test]
fn a_variable_in_a_value_that_is_overridden_need_not_be_set() {
    let config = load("server: { addr: '${NOT_SET}' }", &[("CATALOG__SERVER__ADDR", "x")]).unwrap();
    assert_eq!(config.server.addr, "x");
}

#[test]
fn nothing_is_none_for_an_optional_key_and_refused_for_text() {
    let config =
        load("server: { workers: , idle: ~ }\ndatabase:\n", &[("CATALOG__SERVER__IDLE", "")]).unwrap();
    assert_eq!((config.server.workers, config.server.idle), (None, None));
    assert_eq!(config.database.pool, 0, "an empty section is one of defaults");
    assert!(error("server: { addr: }", &[]).contains("server.addr: expected a string, found unit value"));
}

#[test]
fn files_are_read_from_disk_and_a_missing_one_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.yaml");
    std::fs::write(&path, BASE).unwrap();
    let absent = directory.path().join("absent.yaml");
    let loader = Loader::new().file(&path).unwrap().optional_file(&absent).unwrap();
    assert_eq!(loader.load::<Config>().unwrap().database.pool, 4);
    let error = Loader::new().file(&absent).unwrap_err();
    let why = error.find::<std::io::Error>().map(std::io::Error::kind);
    assert_eq!(why, Some(std::io::ErrorKind::NotFound));
    assert!(error.to_string().contains("absent.yaml"), "{error}");
    assert!(
        Loader::new().text("list.yaml", "- a").unwrap_err().message().contains("a map of keys and values")
    );
}

#[test]
fn a_validation_is_part_of_loading() {
    let loaded = loader("server: { timeout: 0s }", &[]).unwrap().load_validated::<Config>();
    let error = loaded.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the configuration is not valid: server.timeout is 0; give it at least 1ms"
    );
    assert!(loader("", &[]).unwrap().load_validated::<Config>().is_ok());
}

#[test]
fn what_is_shown_of_a_configuration_holds_no_secret() {
    let overlay = "database: { password: hunter2, url: 'postgres://shop:hunter2@db/shop' }";
    let shown = redacted(&load(overlay, &[]).unwrap()).unwrap();
    assert!(!shown.to_string().contains("hunter2"), "{shown}");
    assert_eq!(shown["server"]["timeout"], "1s");
    assert_eq!(shown["server"]["max-body"], "4MiB");
}
