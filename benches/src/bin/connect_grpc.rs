//! Unary gRPC calls, client and server in one process: bare connectrpc, with its generated server and client.

use bowline_benches::connect::bench::v1::{Greeter, GreeterClient, GreeterServer, HelloReply, HelloRequest};
use connectrpc::client::{ClientConfig, Http2Connection};
use connectrpc::{
    ConnectRpcService, Protocol, RequestContext, Response, Server, ServiceRequest, ServiceResult,
};

struct Hello;

impl Greeter for Hello {
    #[allow(refining_impl_trait, reason = "the concrete type is what a service's author writes")]
    async fn say_hello(
        &self,
        _ctx: RequestContext,
        request: ServiceRequest<'_, HelloRequest>,
    ) -> ServiceResult<HelloReply> {
        Response::ok(HelloReply { greeting: format!("hello {}", request.name), at: 7, ..Default::default() })
    }
}

fn main() {
    bowline_benches::run(async {
        let bound = Server::bind("127.0.0.1:0").await.expect("bound");
        let addr = bound.local_addr().expect("an address");
        let service = ConnectRpcService::new(GreeterServer::new(Hello));
        tokio::task::spawn_local(bound.serve_with_service(service));
        let uri: http::Uri = format!("http://{addr}").parse().expect("a URI");
        let connection =
            Http2Connection::connect_plaintext(uri.clone()).await.expect("connected").shared(1024);
        let client = GreeterClient::new(connection, ClientConfig::new(uri).with_protocol(Protocol::Grpc));
        for _ in 0..bowline_benches::calls() {
            let request =
                HelloRequest { name: "world".into(), times: 3, tags: vec!["a".into()], ..Default::default() };
            let reply = client.say_hello(request).await.expect("an answer").into_owned();
            assert_eq!(reply.greeting, "hello world");
        }
    });
}
