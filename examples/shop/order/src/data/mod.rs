//! Where orders are kept, and who answers for prices and stock.

mod catalog;
mod inventory;
mod orders;
mod rows;

use bowline::prelude::*;
use shop_common::{Database, DatabaseConfig};

pub use catalog::CatalogPrices;
pub use inventory::InventoryStock;
pub use orders::SqliteOrders;

/// Opens the database and brings it up to date.
///
/// # Errors
/// If the file cannot be used.
pub async fn open(cx: &Context, config: &DatabaseConfig) -> Result<Database> {
    Database::open(cx, config, &sqlx::migrate!()).await
}
