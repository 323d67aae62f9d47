//! The interface's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    bowline::main("shop", shop_interface::run)
}
