//! Generates the interface's own contract. It is generated here and not in `shop-api`, because apps call it and no service
//! does, and because its REST paths are those that customers see: some are the same as a service's own.

fn main() -> Result<(), bowline_build::Error> {
    bowline_build::compile(["../api/protos/shop/interface/v1/shop.proto"], ["../api/protos"])
}
