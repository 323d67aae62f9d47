//! The registry node's process.

fn main() -> std::process::ExitCode {
    bowline::main_with_flags("registry", &[bowline_registry::INSECURE], bowline_registry::run)
}
