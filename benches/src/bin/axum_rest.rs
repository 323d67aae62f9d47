//! POST with JSON, one HTTP/1.1 connection: axum with serde_json.

use std::net::SocketAddr;

use axum::{Json, Router, routing::post};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct HelloRequest {
    name: String,
    #[serde(default)]
    #[allow(dead_code, reason = "read by the deserialiser only")]
    times: i32,
    #[serde(default)]
    #[allow(dead_code, reason = "read by the deserialiser only")]
    tags: Vec<String>,
}

#[derive(Serialize)]
struct HelloReply {
    greeting: String,
    at: String,
}

async fn hello(Json(request): Json<HelloRequest>) -> Json<HelloReply> {
    Json(HelloReply { greeting: format!("hello {}", request.name), at: "7".into() })
}

fn main() {
    bowline_benches::run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let addr: SocketAddr = listener.local_addr().expect("an address");
        let app = Router::new().route("/v1/hello", post(hello));
        tokio::task::spawn_local(async move { axum::serve(listener, app).await });
        bowline_benches::rest_calls(addr, bowline_benches::calls()).await;
    });
}
