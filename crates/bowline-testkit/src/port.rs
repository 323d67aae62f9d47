//! Free ports.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use bowline_core::{Error, Result};

/// From here on, below those that the kernel gives to outgoing connections (32768 and up): one of them could take the port
/// before the server does.
const FIRST: u16 = 10_000;
/// How many, shared by all processes that test at a time.
const COUNT: u16 = 10_000;

/// A port of loopback that is free now. No two calls of one process get the same one soon.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` if there is none.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes begin far from each other.
    let start = std::process::id().wrapping_mul(2_654_435_761) % u32::from(COUNT);
    for _ in 0..COUNT {
        let offset = (start + u32::from(NEXT.fetch_add(1, Ordering::Relaxed))) % u32::from(COUNT);
        let port = FIRST + u16::try_from(offset).unwrap_or_default();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    let last = FIRST + COUNT - 1;
    Err(Error::resource_exhausted(format!("no port of 127.0.0.1 from {FIRST} to {last} is free")))
}
