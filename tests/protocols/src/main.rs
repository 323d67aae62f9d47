//! The service as an application: for what only a process has, such as operators' pages.

use std::process::ExitCode;

use bowline::config::Secret;
use bowline::prelude::*;
use bowline_tests_protocols::TestService;
use bowline_tests_protocols::api::testing::v1::testing;
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Config {
    service: Settings,
    database: Database,
}

/// What a real service would have: some of it is for nobody to see.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Database {
    url: String,
    user: String,
    password: Secret,
    api_key: String,
}

fn main() -> ExitCode {
    bowline::main("testing", async |boot: Boot| {
        let config: Config = boot.config()?;
        let service = boot.service(&config.service, &config)?;
        let server = service.server()?.mount(testing::server(TestService::default()));
        service.serve(server).version("1.2.3").run().await
    })
}
