//! Generates the messages, client and server of Nacos' gRPC.

fn main() -> Result<(), bowline_build::Error> {
    bowline_build::Config::new()
        .protos(["protos/nacos/naming.proto"])
        .includes(["protos"])
        .runtime("::bowline_rpc")
        .compile()
}
