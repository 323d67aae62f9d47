//! The catalog's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    bowline::main("catalog", shop_catalog::run)
}
