//! Items in SQLite.

use bowline::prelude::*;
use shop_common::{Database, Money, query};
use sqlx::FromRow;

use crate::biz::{Item, ItemId, ItemRepository, Selection, fold};

/// The items in a database.
#[derive(Clone, Debug)]
pub struct SqliteItems {
    database: Database,
}

/// A row of the table `items`.
#[derive(Debug, FromRow)]
struct ItemPo {
    id: String,
    title: String,
    description: String,
    category: String,
    language: String,
    currency: String,
    price_units: i64,
}

/// A query for whole rows.
macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT id, title, description, category, language, currency, price_units FROM items ", $rest)
    };
}

impl TryFrom<ItemPo> for Item {
    type Error = Error;

    fn try_from(po: ItemPo) -> Result<Self> {
        let broken = |what: &str| Error::new(Code::DataLoss, format!("item {} is stored with {what}", po.id));
        Ok(Self {
            price: Money::new(&po.currency, po.price_units).ok_or_else(|| broken("no currency"))?,
            id: ItemId::new(po.id.as_str()).map_err(|e| broken("no valid id").with_source(e))?,
            title: po.title,
            description: po.description,
            category: po.category,
            language: po.language,
        })
    }
}

impl SqliteItems {
    /// The items in `database`.
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// Stores items if there are none.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn insert_if_empty(&self, cx: &Context, items: &[Item]) -> Result<()> {
        query(cx, "filling the catalog", async {
            let mut tx = self.database.pool().begin_with("BEGIN IMMEDIATE").await?;
            let filled: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM items)").fetch_one(&mut *tx).await?;
            if filled {
                return Ok(());
            }
            for item in items {
                sqlx::query(
                    "INSERT INTO items (id, title, title_folded, description, category, language, currency, price_units)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                )
                .bind(item.id.as_str())
                .bind(&item.title)
                .bind(fold(&item.title))
                .bind(&item.description)
                .bind(&item.category)
                .bind(&item.language)
                .bind(item.price.currency())
                .bind(item.price.units())
                .execute(&mut *tx)
                .await?;
            }
            tx.commit().await
        })
        .await
    }
}

impl ItemRepository for SqliteItems {
    async fn find(&self, cx: &Context, ids: &[ItemId]) -> Result<Vec<Item>> {
        // One statement for any number of ids, so that it is prepared once.
        let ids = format!("[{}]", ids.iter().map(|id| format!("\"{id}\"")).collect::<Vec<_>>().join(","));
        let rows: Vec<ItemPo> = query(
            cx,
            "reading items",
            sqlx::query_as(select!("WHERE id IN (SELECT value FROM json_each(?))"))
                .bind(ids)
                .fetch_all(self.database.pool()),
        )
        .await?;
        rows.into_iter().map(Item::try_from).collect()
    }

    async fn select(
        &self,
        cx: &Context,
        selection: &Selection,
        after: Option<&ItemId>,
        limit: i64,
    ) -> Result<Vec<Item>> {
        // `?1` selects, `?2` is where to go on, `?3` how far.
        let (statement, argument) = match selection {
            Selection::All => (select!("WHERE ?1 = '' AND id > ?2 ORDER BY id LIMIT ?3"), ""),
            Selection::Category(category) => {
                (select!("WHERE category = ?1 AND id > ?2 ORDER BY id LIMIT ?3"), category.as_str())
            }
            Selection::TitleContains(text) => {
                (select!("WHERE instr(title_folded, ?1) > 0 AND id > ?2 ORDER BY id LIMIT ?3"), text.as_str())
            }
        };
        let rows =
            sqlx::query_as(statement).bind(argument).bind(after.map_or("", ItemId::as_str)).bind(limit);
        let rows: Vec<ItemPo> = query(cx, "listing items", rows.fetch_all(self.database.pool())).await?;
        rows.into_iter().map(Item::try_from).collect()
    }
}
