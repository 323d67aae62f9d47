//! The inventory's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    bowline::main("inventory", shop_inventory::run)
}
