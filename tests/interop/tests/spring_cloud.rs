//! A service as Spring Cloud makes it, on Netflix' client: `interop/spring-cloud`.

use bowline_tests_interop::{Foreign, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_spring_cloud_finds_and_is_found_past_a_restart_of_the_node() {
    Stage::play(Foreign { name: "spring-greeter", file: "spring-cloud.jar" }).await;
}
