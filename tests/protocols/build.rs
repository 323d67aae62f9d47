//! Generates the test service.

fn main() -> Result<(), bowline_build::Error> {
    bowline_build::Config::new()
        .protos(["protos/testing/v1/testing.proto"])
        .includes(["protos"])
        .runtime("::bowline_rpc")
        .compile()
}
