//! How a page is put together, and what it does without.

mod home;
mod part;

pub use home::{Home, HomePage, HomeSources};
pub use part::Part;
