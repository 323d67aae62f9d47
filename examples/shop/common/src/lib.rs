//! What the shop's services share: opening a database, money, pages, following a call from hop to hop.
//!
//! It holds no business of any of them. What a service sells, counts or promises is its own.

mod database;
mod money;
mod page;
pub mod trace;

pub use database::{Database, DatabaseConfig, query};
pub use money::Money;
pub use page::PageSize;
