//! Generates the messages and clients of etcd's API.

fn main() -> Result<(), bowline_build::Error> {
    bowline_build::Config::new()
        .protos(["protos/etcd/kv.proto", "protos/etcd/rpc.proto"])
        .includes(["protos"])
        .runtime("::bowline_rpc")
        .compile()
}
