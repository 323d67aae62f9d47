//! Prices, as the catalog has them.

use bowline::prelude::*;
use shop_api::catalog::v1::{BatchGetItemsRequest, Item, catalog_service};
use shop_common::Money;

use crate::biz::{ItemId, Offer, Prices};

/// Prices by way of the catalog.
#[derive(Clone, Debug)]
pub struct CatalogPrices {
    catalog: catalog_service::Client,
}

impl CatalogPrices {
    /// What this client answers.
    pub fn new(catalog: catalog_service::Client) -> Self {
        Self { catalog }
    }
}

impl Prices for CatalogPrices {
    async fn offers(&self, cx: &Context, items: &[ItemId]) -> Result<Vec<Offer>> {
        let ids = items.iter().map(ItemId::to_string).collect();
        let request = BatchGetItemsRequest { ids, ..Default::default() };
        let reply =
            self.catalog.batch_get_items(cx, request).await.context("asking the catalog for prices")?;
        reply.items.into_iter().map(offer).collect()
    }
}

fn offer(item: Item) -> Result<Offer> {
    // Whatever is wrong here, it is not the customer's request.
    let broken = |e| Error::internal(format!("the catalog's item {} has no price", item.id)).with_source(e);
    let price = item.price.into_option().unwrap_or_default();
    Ok(Offer {
        price: Money::try_from(price).map_err(broken)?,
        item: ItemId::new(item.id.as_str()).map_err(broken)?,
        title: item.title,
    })
}
