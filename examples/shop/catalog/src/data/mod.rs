//! Where the catalog keeps its items: SQLite.

mod items;
mod seed;
mod words;

use bowline::prelude::*;
use shop_common::{Database, DatabaseConfig};

pub use items::SqliteItems;
pub use seed::seed_items;

/// Opens the database, brings it up to date and, if it is empty, fills it with [`seed_items`].
///
/// # Errors
/// If the file cannot be used.
pub async fn open(cx: &Context, config: &DatabaseConfig) -> Result<Database> {
    let database = Database::open(cx, config, &sqlx::migrate!()).await?;
    SqliteItems::new(database.clone()).insert_if_empty(cx, &seed_items()?).await?;
    Ok(database)
}
