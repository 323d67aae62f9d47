//! The registry node's process.

fn main() -> std::process::ExitCode {
    bowline::main("registry", bowline_registry::run)
}
