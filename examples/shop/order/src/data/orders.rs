//! Orders in SQLite.

use std::collections::HashMap;
use std::time::SystemTime;

use bowline::prelude::*;
use shop_common::{Database, query};
use sqlx::SqliteConnection;
use sqlx::query::QueryAs;
use sqlx::sqlite::{Sqlite, SqliteArguments};

use super::rows::{LinePo, OrderPo, millis, state_to_text};
use crate::biz::{CustomerId, IdempotencyKey, Order, OrderId, OrderRepository};

/// The orders in a database.
#[derive(Clone, Debug)]
pub struct SqliteOrders {
    database: Database,
}

/// A query for whole rows.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, customer_id, idempotency_key, state, attempt, settled, version, created_at FROM orders ",
            $rest
        )
    };
}

impl SqliteOrders {
    /// The orders in `database`.
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// The orders of these rows, with their lines.
    async fn orders(
        &self,
        cx: &Context,
        rows: QueryAs<'_, Sqlite, OrderPo, SqliteArguments>,
    ) -> Result<Vec<Order>> {
        let rows = query(cx, "reading orders", rows.fetch_all(self.database.pool())).await?;
        // One statement for any number of orders, so that it is prepared once.
        let ids = rows.iter().map(|row| format!("\"{}\"", row.id)).collect::<Vec<_>>().join(",");
        let lines = sqlx::query_as(
            "SELECT order_id, item_id, title, quantity, currency, unit_price FROM order_lines
             WHERE order_id IN (SELECT value FROM json_each(?)) ORDER BY order_id, item_id",
        )
        .bind(format!("[{ids}]"));
        let lines: Vec<LinePo> =
            query(cx, "reading orders' lines", lines.fetch_all(self.database.pool())).await?;
        let mut by_order = HashMap::<_, Vec<_>>::new();
        for line in lines {
            by_order.entry(line.order_id.clone()).or_default().push(line);
        }
        rows.into_iter()
            .map(|row| {
                let lines = by_order.remove(&row.id).unwrap_or_default();
                row.with_lines(lines)
            })
            .collect()
    }
}

impl OrderRepository for SqliteOrders {
    async fn find(&self, cx: &Context, id: &OrderId) -> Result<Option<Order>> {
        let rows = sqlx::query_as(select!("WHERE id = ?")).bind(id.as_str());
        Ok(self.orders(cx, rows).await?.pop())
    }

    async fn find_by_key(
        &self,
        cx: &Context,
        customer: &CustomerId,
        key: &IdempotencyKey,
    ) -> Result<Option<Order>> {
        let rows = sqlx::query_as(select!("WHERE customer_id = ? AND idempotency_key = ?"));
        Ok(self.orders(cx, rows.bind(customer.as_str()).bind(key.as_str())).await?.pop())
    }

    async fn list(
        &self,
        cx: &Context,
        customer: &CustomerId,
        before: Option<&OrderId>,
        limit: i64,
    ) -> Result<Vec<Order>> {
        let rows = sqlx::query_as(select!(
            "WHERE customer_id = ?1 AND (?2 IS NULL OR id < ?2) AND state IN ('PLACED', 'CANCELLED')
             ORDER BY id DESC LIMIT ?3"
        ));
        self.orders(cx, rows.bind(customer.as_str()).bind(before.map(OrderId::as_str)).bind(limit)).await
    }

    async fn unsettled(&self, cx: &Context, before: SystemTime) -> Result<Vec<Order>> {
        let rows =
            sqlx::query_as(select!("WHERE settled = 0 AND updated_at <= ? ORDER BY updated_at LIMIT 100"));
        self.orders(cx, rows.bind(millis(before))).await
    }

    async fn insert(&self, cx: &Context, order: &Order) -> Result<Order> {
        let inserted = query(cx, "storing an order", async {
            let mut tx = self.database.pool().begin_with("BEGIN IMMEDIATE").await?;
            let inserted = insert(&mut tx, order).await?;
            tx.commit().await?;
            Ok(inserted)
        });
        if inserted.await? {
            return Ok(order.clone());
        }
        let existing = self.find_by_key(cx, &order.customer, &order.key).await?;
        existing.ok_or_else(|| Error::internal(format!("the id of {} was taken by another order", order.id)))
    }

    async fn update(&self, cx: &Context, order: &Order) -> Result<bool> {
        let update = sqlx::query(
            "UPDATE orders SET state = ?, attempt = ?, settled = ?, version = ?, updated_at = ?
             WHERE id = ? AND version = ?",
        )
        .bind(state_to_text(order.state))
        .bind(order.attempt)
        .bind(order.settled)
        .bind(order.version)
        .bind(millis(SystemTime::now()))
        .bind(order.id.as_str())
        .bind(order.version - 1);
        let updated = query(cx, "storing an order's change", update.execute(self.database.pool())).await?;
        Ok(updated.rows_affected() == 1)
    }
}

/// Whether the order is new.
async fn insert(connection: &mut SqliteConnection, order: &Order) -> sqlx::Result<bool> {
    let inserted = sqlx::query(
        "INSERT INTO orders
         (id, customer_id, idempotency_key, state, attempt, settled, version, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(order.id.as_str())
    .bind(order.customer.as_str())
    .bind(order.key.as_str())
    .bind(state_to_text(order.state))
    .bind(order.attempt)
    .bind(order.settled)
    .bind(order.version)
    .bind(millis(order.created_at))
    .bind(millis(order.created_at))
    .execute(&mut *connection)
    .await?;
    if inserted.rows_affected() == 0 {
        return Ok(false);
    }
    for line in &order.lines {
        sqlx::query(
            "INSERT INTO order_lines (order_id, item_id, title, quantity, currency, unit_price)
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(order.id.as_str())
        .bind(line.item.as_str())
        .bind(&line.title)
        .bind(line.quantity)
        .bind(line.unit_price.currency())
        .bind(line.unit_price.units())
        .execute(&mut *connection)
        .await?;
    }
    Ok(true)
}
