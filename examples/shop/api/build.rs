//! Generates the contracts.

#![allow(clippy::print_stdout, reason = "this is how cargo is told")]

use std::path::PathBuf;

use bowline_build::{Config, Error};

fn main() -> Result<(), Error> {
    let services = [
        "protos/shop/common/v1/money.proto",
        "protos/shop/common/v1/trace.proto",
        "protos/shop/catalog/v1/catalog.proto",
        "protos/shop/inventory/v1/inventory.proto",
        "protos/shop/order/v1/order.proto",
    ];
    bowline_build::compile(services, ["protos"])?;

    // Apart, because what customers see has REST paths of its own, some of which are the same as a service's.
    let interface = "protos/shop/interface/v1/shop.proto";
    println!("cargo:rerun-if-changed={interface}");
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    Config::new().protos([interface]).includes(["protos"]).out_dir(out.join("interface")).compile()
}
