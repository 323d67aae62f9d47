//! Between the contract's messages (DTO) and the catalog's own types (DO).

use bowline::prelude::*;
use shop_api::catalog::v1::{self, catalog_error};
use shop_api::common::v1::Money;
use shop_common::PageSize;

use crate::biz::{Item, ItemId};

impl From<Item> for v1::Item {
    fn from(item: Item) -> Self {
        Self {
            id: item.id.to_string(),
            title: item.title,
            description: item.description,
            category: item.category,
            language: item.language,
            price: Money::from(item.price).into(),
            ..Default::default()
        }
    }
}

pub(super) fn items(items: Vec<Item>) -> Vec<v1::Item> {
    items.into_iter().map(v1::Item::from).collect()
}

pub(super) fn ids(ids: Vec<String>) -> Result<Vec<ItemId>> {
    ids.into_iter().map(ItemId::new).collect()
}

pub(super) fn page_size(asked: i32) -> Result<PageSize> {
    PageSize::new(asked).ok_or_else(|| {
        let message = format!("page_size is {asked}; use 1 to 100, or 0 for the default");
        catalog_error::invalid_page_size().with_message(message)
    })
}

/// A token is the id of the last item of the page before.
pub(super) fn page_token(token: String) -> Result<Option<ItemId>> {
    if token.is_empty() {
        return Ok(None);
    }
    ItemId::new(token).map(Some).map_err(|e| catalog_error::invalid_page_token().with_source(e))
}
