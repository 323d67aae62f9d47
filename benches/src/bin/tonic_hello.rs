//! A hello service by tonic that prints when it is ready: for memory and start-up time.

use bowline_benches::with_tonic::greeter_server::{Greeter, GreeterServer};
use bowline_benches::with_tonic::{HelloReply, HelloRequest};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

struct Hello;

#[tonic::async_trait]
impl Greeter for Hello {
    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply { greeting: format!("hello {}", request.into_inner().name), at: 7 }))
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
        println!("ready");
        let server = Server::builder().add_service(GreeterServer::new(Hello));
        server.serve_with_incoming(incoming).await.expect("served");
    });
}
