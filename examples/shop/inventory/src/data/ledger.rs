//! Stock and reservations in SQLite.

use bowline::prelude::*;
use shop_common::{Database, query};
use sqlx::SqliteConnection;

use super::rows::{LinePo, StockPo, state_from_text, state_to_text};
use crate::biz::{Decision, ItemId, Ledger, Line, Lines, Reservation, ReservationId, Stock};

/// The stock and the reservations in a database.
#[derive(Clone, Debug)]
pub struct SqliteLedger {
    database: Database,
}

impl SqliteLedger {
    /// The stock and the reservations in `database`.
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// Stores stock if there is none.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn insert_if_empty(&self, cx: &Context, stock: &[Stock]) -> Result<()> {
        query(cx, "filling the inventory", async {
            let mut tx = self.database.pool().begin_with("BEGIN IMMEDIATE").await?;
            let filled: bool =
                sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM stock)").fetch_one(&mut *tx).await?;
            if filled {
                return Ok(());
            }
            for Stock { item, available, reserved } in stock {
                sqlx::query("INSERT INTO stock (item_id, available, reserved) VALUES (?, ?, ?)")
                    .bind(item.as_str())
                    .bind(available)
                    .bind(reserved)
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await
        })
        .await
    }
}

impl Ledger for SqliteLedger {
    async fn stock(&self, cx: &Context, items: &[ItemId]) -> Result<Vec<Stock>> {
        let rows = query(cx, "reading stock", async {
            let mut connection = self.database.pool().acquire().await?;
            read_stock(&mut connection, items.iter()).await
        });
        rows.await?.into_iter().map(Stock::try_from).collect()
    }

    async fn change(
        &self,
        cx: &Context,
        id: &ReservationId,
        items: &[ItemId],
        decide: impl FnOnce(Option<Reservation>, Vec<Stock>) -> Result<Decision> + Send,
    ) -> Result<Reservation> {
        // A writer from the start: one that reads first and writes then could find that another has written in between.
        let begin = self.database.pool().begin_with("BEGIN IMMEDIATE");
        let mut tx = query(cx, "beginning a transaction", begin).await?;
        let existing = read_reservation(cx, &mut tx, id).await?;
        let own = existing.iter().flat_map(|reservation| reservation.lines.items());
        let rows = query(cx, "reading stock", read_stock(&mut tx, items.iter().chain(own))).await?;
        let stock = rows.into_iter().map(Stock::try_from).collect::<Result<_>>()?;
        match decide(existing, stock)? {
            Decision::Keep(reservation) => Ok(reservation),
            Decision::Store(reservation, stock) => {
                query(cx, "storing a reservation", async {
                    write(&mut tx, &reservation, &stock).await?;
                    tx.commit().await
                })
                .await?;
                Ok(reservation)
            }
        }
    }
}

async fn read_stock(
    connection: &mut SqliteConnection,
    items: impl Iterator<Item = &ItemId>,
) -> sqlx::Result<Vec<StockPo>> {
    // One statement for any number of items, so that it is prepared once.
    let items = format!("[{}]", items.map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(","));
    sqlx::query_as(
        "SELECT item_id, available, reserved FROM stock WHERE item_id IN (SELECT value FROM json_each(?))",
    )
    .bind(items)
    .fetch_all(connection)
    .await
}

async fn read_reservation(
    cx: &Context,
    connection: &mut SqliteConnection,
    id: &ReservationId,
) -> Result<Option<Reservation>> {
    let state = sqlx::query_scalar("SELECT state FROM reservations WHERE id = ?").bind(id.as_str());
    let state: Option<String> =
        query(cx, "reading a reservation", state.fetch_optional(&mut *connection)).await?;
    let Some(state) = state else { return Ok(None) };
    let lines = sqlx::query_as("SELECT item_id, quantity FROM reservation_lines WHERE reservation_id = ?");
    let lines = lines.bind(id.as_str()).fetch_all(connection);
    let lines: Vec<LinePo> = query(cx, "reading a reservation's lines", lines).await?;
    let lines = lines.into_iter().map(Line::try_from).collect::<Result<Vec<_>>>()?;
    Ok(Some(Reservation { id: id.clone(), lines: Lines::stored(lines), state: state_from_text(&state)? }))
}

async fn write(
    connection: &mut SqliteConnection,
    reservation: &Reservation,
    stock: &[Stock],
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO reservations (id, state) VALUES (?, ?) ON CONFLICT DO UPDATE SET state = excluded.state",
    )
    .bind(reservation.id.as_str())
    .bind(state_to_text(reservation.state))
    .execute(&mut *connection)
    .await?;
    for (item, quantity) in reservation.lines.iter() {
        // Once written, lines stay.
        sqlx::query(
            "INSERT INTO reservation_lines (reservation_id, item_id, quantity) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(reservation.id.as_str())
        .bind(item.as_str())
        .bind(quantity)
        .execute(&mut *connection)
        .await?;
    }
    for Stock { item, available, reserved } in stock {
        sqlx::query("UPDATE stock SET available = ?, reserved = ? WHERE item_id = ?")
            .bind(available)
            .bind(reserved)
            .bind(item.as_str())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
