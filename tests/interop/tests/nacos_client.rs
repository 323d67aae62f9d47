//! Services on Nacos' own client for Java: `interop/nacos-client`.

use bowline_tests_interop::{Foreign, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_with_the_java_client_of_nacos_2_finds_and_is_found_past_a_restart_of_the_node() {
    Stage::play(Foreign { name: "java-greeter", file: "nacos-client-2.jar" }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_with_the_java_client_of_nacos_3_finds_and_is_found_past_a_restart_of_the_node() {
    Stage::play(Foreign { name: "java-greeter", file: "nacos-client-3.jar" }).await;
}
