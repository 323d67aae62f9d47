//! Generates the standard messages and services that the runtime itself speaks.

fn main() -> Result<(), bowline_build::Error> {
    bowline_build::Config::new()
        .protos([
            "protos/grpc/health/v1/health.proto",
            "protos/grpc/reflection/v1/reflection.proto",
            "google/api/httpbody.proto",
            "google/rpc/error_details.proto",
            "google/rpc/status.proto",
        ])
        .includes(["protos"])
        .runtime("crate")
        .compile()
}
