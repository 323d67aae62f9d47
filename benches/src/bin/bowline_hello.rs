//! A hello service by bowline that prints when it is ready: for memory and start-up time.

use bowline::prelude::*;
use bowline::server::{Server, ServerOptions};
use bowline_benches::ours::bench::v1::{HelloReply, HelloRequest, greeter};

struct Greeter;

impl greeter::Service for Greeter {
    async fn say_hello(&self, _cx: &Context, req: HelloRequest) -> Result<HelloReply> {
        Ok(HelloReply { greeting: format!("hello {}", req.name), at: 7, ..Default::default() })
    }
}

fn main() -> std::process::ExitCode {
    bowline::main("hello", async |_boot: Boot| {
        let server = Server::new("hello", ServerOptions::at("127.0.0.1:0")?).mount(greeter::server(Greeter));
        let app = App::new("hello").server(server);
        app.on_ready(|_| async {
            println!("ready");
            Ok(())
        })
        .run()
        .await
    })
}
