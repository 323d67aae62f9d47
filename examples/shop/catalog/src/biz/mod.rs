//! What a catalog is and does, without a word about how it is stored or asked.

mod catalog;
mod item;

pub use catalog::{Catalog, ItemRepository, MAX_BATCH, Page, Selection};
pub use item::{Item, ItemId, fold};
