//! Generates what the nodes of a registry tell each other.

fn main() -> Result<(), bowline_build::Error> {
    bowline_build::Config::new()
        .protos(["protos/bowline/registry/peer/v1/peer.proto"])
        .includes(["protos"])
        .runtime("::bowline_rpc")
        .compile()
}
