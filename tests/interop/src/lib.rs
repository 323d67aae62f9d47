//! Programs of other platforms and services of Bowline that find and call each other by one registry node.
//!
//! A [`Foreign`] is a program of `interop/`, built by `cargo xtask tools`; a [`Stage`] is it, a node and the shop's catalog, each a
//! process. What a program has to do is said in [`Stage::play`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "support of tests"
)]

mod foreign;
mod processes;
mod stage;

pub use crate::foreign::Foreign;
pub use crate::stage::Stage;
