//! Where the inventory keeps its books: SQLite.

mod ledger;
mod rows;
mod seed;

use bowline::prelude::*;
use shop_common::{Database, DatabaseConfig};

pub use ledger::SqliteLedger;
pub use seed::seed_stock;

/// Opens the database, brings it up to date and, if it is empty, fills it with [`seed_stock`].
///
/// # Errors
/// If the file cannot be used.
pub async fn open(cx: &Context, config: &DatabaseConfig) -> Result<Database> {
    let database = Database::open(cx, config, &sqlx::migrate!()).await?;
    SqliteLedger::new(database.clone()).insert_if_empty(cx, &seed_stock()?).await?;
    Ok(database)
}
