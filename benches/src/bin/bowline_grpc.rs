//! Unary gRPC calls, client and server in one process: bowline with all its default layers.

use bowline::client::Channel;
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
        let channel = Channel::builder(endpoint.to_string()).build().expect("a channel");
        let client = greeter::Client::new(channel.caller().expect("a caller"));
        let cx = Context::background();
        for _ in 0..bowline_benches::calls() {
            let request =
                HelloRequest { name: "world".into(), times: 3, tags: vec!["a".into()], ..Default::default() };
            let reply = client.say_hello(&cx, request).await.expect("an answer");
            assert_eq!(reply.greeting, "hello world");
        }
    });
}
