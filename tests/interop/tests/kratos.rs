//! A service of Kratos, on Nacos' own client for Go: `interop/kratos`.

use bowline_tests_interop::{Foreign, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_kratos_finds_and_is_found_past_a_restart_of_the_node() {
    Stage::play(Foreign { name: "kratos-greeter", file: "kratos" }).await;
}
