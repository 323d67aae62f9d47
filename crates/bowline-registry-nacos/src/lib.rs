//! Nacos' naming protocol.
//!
//! [`api`] has the messages of gRPC as Nacos 2 and 3 speak it, for both sides: `bowline-registry` answers them, and adapters
//! ask by them. [`names`] has what both sides do with names.

pub mod api;
pub mod names;
