//! Stock, as the inventory has it.

use bowline::prelude::*;
use shop_api::inventory::v1::{ConfirmRequest, Line, ReleaseRequest, ReserveRequest, inventory_service};

use crate::biz::{Order, Stock};

/// Stock by way of the inventory.
#[derive(Clone, Debug)]
pub struct InventoryStock {
    inventory: inventory_service::Client,
}

impl InventoryStock {
    /// What this client answers.
    pub fn new(inventory: inventory_service::Client) -> Self {
        Self { inventory }
    }
}

impl Stock for InventoryStock {
    async fn reserve(&self, cx: &Context, order: &Order) -> Result<()> {
        let line = |line: &crate::biz::Line| Line {
            item_id: line.item.to_string(),
            quantity: line.quantity,
            ..Default::default()
        };
        let lines = order.lines.iter().map(line).collect();
        let request = ReserveRequest { reservation_id: order.reservation(), lines, ..Default::default() };
        self.inventory.reserve(cx, request).await.context("reserving an order's items")?;
        Ok(())
    }

    async fn confirm(&self, cx: &Context, order: &Order) -> Result<()> {
        let request = ConfirmRequest { reservation_id: order.reservation(), ..Default::default() };
        self.inventory.confirm(cx, request).await.context("confirming a reservation")?;
        Ok(())
    }

    async fn release(&self, cx: &Context, order: &Order) -> Result<()> {
        let request = ReleaseRequest { reservation_id: order.reservation(), ..Default::default() };
        self.inventory.release(cx, request).await.context("releasing a reservation")?;
        Ok(())
    }
}
