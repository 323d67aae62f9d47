//! The contract `shop.catalog.v1.CatalogService`, answered by the catalog.

mod convert;

use bowline::prelude::*;
use shop_api::catalog::v1::{
    BatchGetItemsReply, BatchGetItemsRequest, GetItemRequest, Item, ListItemsReply, ListItemsRequest,
    SearchItemsReply, SearchItemsRequest, catalog_service,
};
use shop_api::common::v1::{TraceReply, TraceRequest};
use shop_common::trace::Tracer;

use crate::biz::{Catalog, ItemId, ItemRepository, Page};
use convert::{ids, items, page_size, page_token};

/// Answers what `shop.catalog.v1.CatalogService` is asked.
#[derive(Debug)]
pub struct CatalogService<R> {
    catalog: Catalog<R>,
    tracer: Tracer,
}

impl<R: ItemRepository> CatalogService<R> {
    /// Answers for a catalog.
    pub fn new(catalog: Catalog<R>, tracer: Tracer) -> Self {
        Self { catalog, tracer }
    }
}

impl<R: ItemRepository> catalog_service::Service for CatalogService<R> {
    async fn get_item(&self, cx: &Context, req: GetItemRequest) -> Result<Item> {
        let item = self.catalog.item(cx, &ItemId::new(req.id)?).await?;
        Ok(item.into())
    }

    async fn list_items(&self, cx: &Context, req: ListItemsRequest) -> Result<ListItemsReply> {
        let category = Some(req.category).filter(|category| !category.is_empty());
        let (size, after) = (page_size(req.page_size)?, page_token(req.page_token)?);
        let Page { items: found, next } = self.catalog.list(cx, category, size, after).await?;
        let next_page_token = next.map(|id| id.to_string()).unwrap_or_default();
        Ok(ListItemsReply { items: items(found), next_page_token, ..Default::default() })
    }

    async fn batch_get_items(&self, cx: &Context, req: BatchGetItemsRequest) -> Result<BatchGetItemsReply> {
        let found = self.catalog.batch(cx, &ids(req.ids)?).await?;
        Ok(BatchGetItemsReply { items: items(found), ..Default::default() })
    }

    async fn search_items(&self, cx: &Context, req: SearchItemsRequest) -> Result<SearchItemsReply> {
        let (size, after) = (page_size(req.page_size)?, page_token(req.page_token)?);
        let Page { items: found, next } = self.catalog.search(cx, &req.query, size, after).await?;
        let next_page_token = next.map(|id| id.to_string()).unwrap_or_default();
        Ok(SearchItemsReply { items: items(found), next_page_token, ..Default::default() })
    }

    async fn trace(&self, cx: &Context, req: TraceRequest) -> Result<TraceReply> {
        self.tracer.trace(cx, req).await
    }
}
