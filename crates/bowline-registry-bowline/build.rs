//! Generates the messages, the service and the client of the registry's API.

fn main() -> Result<(), bowline_build::Error> {
    bowline_build::Config::new()
        .protos(["protos/bowline/registry/v1/registry.proto"])
        .includes(["protos"])
        .runtime("::bowline_rpc")
        .compile()
}
