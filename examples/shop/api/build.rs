//! Generates the contracts.

fn main() -> Result<(), bowline_build::Error> {
    bowline_build::compile(
        [
            "protos/shop/common/v1/money.proto",
            "protos/shop/common/v1/trace.proto",
            "protos/shop/catalog/v1/catalog.proto",
            "protos/shop/inventory/v1/inventory.proto",
            "protos/shop/order/v1/order.proto",
        ],
        ["protos"],
    )
}
