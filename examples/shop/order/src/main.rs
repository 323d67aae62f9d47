//! The order service's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    bowline::main("order", shop_order::run)
}
