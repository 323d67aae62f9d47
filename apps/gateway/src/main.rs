//! The gateway's process.

fn main() -> std::process::ExitCode {
    bowline::main("gateway", bowline_gateway::run)
}
