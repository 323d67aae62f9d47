//! Unary gRPC calls, client and server in one process: bowline with all its default layers. `bowline_grpc COUNT` has them
//! served; `bowline_grpc COUNT refused` has them refused by a server that is full.

use std::time::Duration;

use bowline::client::{Channel, ChannelOptions, ClientPolicies};
use bowline::prelude::*;
use bowline::server::{Server, ServerOptions};
use bowline_benches::ours::bench::v1::{HelloReply, HelloRequest, greeter};
use bowline_resilience::{Algorithm, ClientPolicy, Policies, RetryOptions, ThrottleOptions};

struct Greeter;

/// Whose call lasts for ever.
const STAYS: &str = "stays";
/// Longer than any run.
const LONG: Duration = Duration::from_secs(3600);

impl greeter::Service for Greeter {
    async fn say_hello(&self, _cx: &Context, req: HelloRequest) -> Result<HelloReply> {
        if req.name == STAYS {
            std::future::pending::<()>().await;
        }
        Ok(HelloReply { greeting: format!("hello {}", req.name), at: 7, ..Default::default() })
    }
}

fn request(name: &str) -> HelloRequest {
    HelloRequest { name: name.into(), times: 3, tags: vec!["a".into()], ..Default::default() }
}

/// Each call is one request: what is refused is sent nowhere else, and nothing is held back.
fn once() -> ChannelOptions {
    let throttle = Some(ThrottleOptions { k: 0.0, ..ThrottleOptions::default() });
    let policy = ClientPolicy { retry: Some(RetryOptions::OFF), throttle, ..ClientPolicy::default() };
    let policies = Policies::new([("*".to_owned(), policy)]).expect("policies");
    ChannelOptions { policies: ClientPolicies::new(policies), ..ChannelOptions::default() }
}

async fn served(client: &greeter::Client) {
    let reply = client.say_hello(&Context::background(), request("world")).await.expect("an answer");
    assert_eq!(reply.greeting, "hello world");
}

async fn refused(client: &greeter::Client) {
    let error = client.say_hello(&Context::background(), request("world")).await.expect_err("a refusal");
    assert_eq!(error.reason(), "OVERLOADED");
}

/// Calls that stay, until the server takes no more.
async fn fill(client: &greeter::Client) {
    loop {
        let mut staying = Box::pin(async {
            let cx = Context::background().with_timeout(LONG);
            client.say_hello(&cx, request(STAYS)).await.expect_err("it stays")
        });
        tokio::select! {
            error = &mut staying => match error.reason() {
                "OVERLOADED" => return,
                _ => panic!("{error:?}"),
            },
            // Whoever was let in has begun by then; its place is kept by a call that nobody waits for.
            () = tokio::time::sleep(Duration::from_millis(200)) => std::mem::forget(staying),
        }
    }
}

fn main() {
    let is_refused = std::env::args().nth(2).is_some_and(|how| how == "refused");
    bowline_benches::run(async move {
        let mut options = ServerOptions::at("127.0.0.1:0").expect("an address");
        if is_refused {
            (options.admission, options.unary_timeout) = (Some(Algorithm::Fixed(1)), Some(LONG));
        }
        let mut server = Server::new("bench", options).mount(greeter::server(Greeter));
        let endpoint = server.bind().expect("bound");
        server.set_ready(true);
        let channel = Channel::builder(endpoint.to_string());
        let channel = if is_refused { channel.options(once()) } else { channel };
        let client = greeter::Client::new(channel.build().expect("a channel").caller().expect("a caller"));
        if is_refused {
            // Whoever is left alone while it connects would keep the others waiting.
            served(&client).await;
            fill(&client).await;
        }
        for _ in 0..bowline_benches::calls() {
            if is_refused { refused(&client).await } else { served(&client).await }
        }
    });
}
