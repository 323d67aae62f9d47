//! The contract `shop.inventory.v1.InventoryService`, answered by the inventory.

mod convert;

use bowline::prelude::*;
use shop_api::common::v1::{TraceReply, TraceRequest};
use shop_api::inventory::v1::{
    BatchGetStockReply, BatchGetStockRequest, ConfirmRequest, GetStockRequest, ReleaseRequest, Reservation,
    ReserveRequest, Stock, inventory_service,
};
use shop_common::trace::Tracer;

use crate::biz::{Inventory, ItemId, Ledger, ReservationId};
use convert::{items, lines};

/// Answers what `shop.inventory.v1.InventoryService` is asked.
#[derive(Debug)]
pub struct InventoryService<L> {
    inventory: Inventory<L>,
    tracer: Tracer,
}

impl<L: Ledger> InventoryService<L> {
    /// Answers for an inventory.
    pub fn new(inventory: Inventory<L>, tracer: Tracer) -> Self {
        Self { inventory, tracer }
    }
}

impl<L: Ledger> inventory_service::Service for InventoryService<L> {
    async fn get_stock(&self, cx: &Context, req: GetStockRequest) -> Result<Stock> {
        let stock = self.inventory.stock(cx, &ItemId::new(req.item_id)?).await?;
        Ok(stock.into())
    }

    async fn batch_get_stock(&self, cx: &Context, req: BatchGetStockRequest) -> Result<BatchGetStockReply> {
        let stock = self.inventory.batch(cx, &items(req.item_ids)?).await?;
        Ok(BatchGetStockReply { stock: stock.into_iter().map(Stock::from).collect(), ..Default::default() })
    }

    async fn reserve(&self, cx: &Context, req: ReserveRequest) -> Result<Reservation> {
        let (id, lines) = (ReservationId::new(req.reservation_id)?, lines(req.lines)?);
        let reservation = self.inventory.reserve(cx, &id, &lines).await?;
        Ok(reservation.into())
    }

    async fn release(&self, cx: &Context, req: ReleaseRequest) -> Result<Reservation> {
        let reservation = self.inventory.release(cx, &ReservationId::new(req.reservation_id)?).await?;
        Ok(reservation.into())
    }

    async fn confirm(&self, cx: &Context, req: ConfirmRequest) -> Result<Reservation> {
        let reservation = self.inventory.confirm(cx, &ReservationId::new(req.reservation_id)?).await?;
        Ok(reservation.into())
    }

    async fn trace(&self, cx: &Context, req: TraceRequest) -> Result<TraceReply> {
        self.tracer.trace(cx, req).await
    }
}
