//! POST with JSON, one HTTP/1.1 connection: bowline with all its default layers.

use bowline::prelude::*;
use bowline::server::{Server, ServerOptions};
use bowline_benches::ours::bench::v1::{HelloReply, HelloRequest, greeter};

struct Greeter;

impl greeter::Service for Greeter {
    async fn say_hello(&self, _cx: &Context, req: HelloRequest) -> Result<HelloReply> {
        Ok(HelloReply { greeting: format!("hello {}", req.name), at: 7, ..Default::default() })
    }
}

fn main() {
    bowline_benches::run(async {
        let options = ServerOptions::at("127.0.0.1:0").expect("an address");
        let mut server = Server::new("bench", options).mount(greeter::server(Greeter));
        let endpoint = server.bind().expect("bound");
        server.set_ready(true);
        let addr = endpoint.authority().parse().expect("an address");
        bowline_benches::rest_calls(addr, bowline_benches::calls()).await;
    });
}
