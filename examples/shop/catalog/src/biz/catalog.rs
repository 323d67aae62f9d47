//! Looking things up.

use std::collections::HashMap;

use bowline::prelude::*;
use shop_api::catalog::v1::catalog_error;
use shop_common::PageSize;

use super::{Item, ItemId, fold};

/// The most items of one batch.
pub const MAX_BATCH: usize = 100;

/// Which items a list is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Every one.
    All,
    /// Those on one shelf.
    Category(String),
    /// Those whose [folded](fold) title contains this text.
    TitleContains(String),
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The items, by id.
    pub items: Vec<Item>,
    /// After which item the next page begins; `None` on the last one.
    pub next: Option<ItemId>,
}

/// Where items are kept.
pub trait ItemRepository: Send + Sync + 'static {
    /// The items with these ids, in any order, without those that do not exist.
    fn find(&self, cx: &Context, ids: &[ItemId]) -> impl Future<Output = Result<Vec<Item>>> + Send;

    /// The first `limit` selected items after `after`, by id.
    fn select(
        &self,
        cx: &Context,
        selection: &Selection,
        after: Option<&ItemId>,
        limit: i64,
    ) -> impl Future<Output = Result<Vec<Item>>> + Send;
}

/// The shop's items.
#[derive(Debug)]
pub struct Catalog<R> {
    items: R,
}

impl<R: ItemRepository> Catalog<R> {
    /// A catalog of the items in a repository.
    pub fn new(items: R) -> Self {
        Self { items }
    }

    /// One item.
    ///
    /// # Errors
    /// `ITEM_NOT_FOUND`; what the repository answers.
    pub async fn item(&self, cx: &Context, id: &ItemId) -> Result<Item> {
        let found = self.items.find(cx, std::slice::from_ref(id)).await?;
        found.into_iter().next().ok_or_else(|| {
            let message = format!("there is no item {id}");
            catalog_error::item_not_found().with_message(message).with_metadata("item_id", id.as_str())
        })
    }

    /// Some items, each once, in the order asked for; without those that do not exist.
    ///
    /// # Errors
    /// `TOO_MANY_IDS`; what the repository answers.
    pub async fn batch(&self, cx: &Context, ids: &[ItemId]) -> Result<Vec<Item>> {
        if ids.len() > MAX_BATCH {
            let message =
                format!("{} ids are more than the {MAX_BATCH} of one call; ask in parts", ids.len());
            return Err(catalog_error::too_many_ids().with_message(message));
        }
        let found = self.items.find(cx, ids).await?;
        let mut found: HashMap<_, _> = found.into_iter().map(|item| (item.id.clone(), item)).collect();
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
    }

    /// A page of the items of one category, or of all.
    ///
    /// # Errors
    /// What the repository answers.
    pub async fn list(
        &self,
        cx: &Context,
        category: Option<String>,
        size: PageSize,
        after: Option<ItemId>,
    ) -> Result<Page> {
        let selection = category.map_or(Selection::All, Selection::Category);
        self.page(cx, &selection, size, after).await
    }

    /// A page of the items whose title contains `query`, upper and lower case alike.
    ///
    /// # Errors
    /// `EMPTY_QUERY`; what the repository answers.
    pub async fn search(
        &self,
        cx: &Context,
        query: &str,
        size: PageSize,
        after: Option<ItemId>,
    ) -> Result<Page> {
        let query = fold(query.trim());
        if query.is_empty() {
            return Err(catalog_error::empty_query());
        }
        self.page(cx, &Selection::TitleContains(query), size, after).await
    }

    async fn page(
        &self,
        cx: &Context,
        selection: &Selection,
        size: PageSize,
        after: Option<ItemId>,
    ) -> Result<Page> {
        let mut items = self.items.select(cx, selection, after.as_ref(), size.and_one_more()).await?;
        let more = items.len() > size.get();
        items.truncate(size.get());
        let next = if more { items.last().map(|item| item.id.clone()) } else { None };
        Ok(Page { items, next })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use shop_common::Money;

    use super::*;

    /// A repository in memory.
    struct Shelf(Vec<Item>);

    impl ItemRepository for Shelf {
        async fn find(&self, _cx: &Context, ids: &[ItemId]) -> Result<Vec<Item>> {
            let wanted: HashSet<_> = ids.iter().collect();
            Ok(self.0.iter().filter(|item| wanted.contains(&item.id)).cloned().collect())
        }

        async fn select(
            &self,
            _cx: &Context,
            selection: &Selection,
            after: Option<&ItemId>,
            limit: i64,
        ) -> Result<Vec<Item>> {
            let selected = |item: &&Item| match selection {
                Selection::All => true,
                Selection::Category(category) => item.category == *category,
                Selection::TitleContains(text) => fold(&item.title).contains(text),
            };
            let limit = usize::try_from(limit).unwrap();
            let from = self.0.iter().filter(|item| after.is_none_or(|after| item.id > *after));
            Ok(from.filter(selected).take(limit).cloned().collect())
        }
    }

    fn id(n: usize) -> ItemId {
        ItemId::new(format!("item-{n}")).unwrap()
    }

    fn catalog() -> Catalog<Shelf> {
        let item = |n: usize| Item {
            id: id(n),
            title: if n.is_multiple_of(2) { format!("Чашка {n}") } else { format!("Cup {n}") },
            description: String::new(),
            category: if n < 3 { "kitchen" } else { "garden" }.into(),
            language: "en".into(),
            price: Money::new("EUR", 100).unwrap(),
        };
        Catalog::new(Shelf((1..=5).map(item).collect()))
    }

    fn ids(page: &Page) -> Vec<&str> {
        page.items.iter().map(|item| item.id.as_str()).collect()
    }

    #[tokio::test]
    async fn an_item_that_does_not_exist_is_named() {
        let (cx, catalog) = (Context::background(), catalog());
        assert_eq!(catalog.item(&cx, &id(3)).await.unwrap().title, "Cup 3");
        let error = catalog.item(&cx, &id(9)).await.unwrap_err();
        assert!(catalog_error::is_item_not_found(&error));
        assert_eq!(error.metadata()["item_id"], "item-9");
    }

    #[tokio::test]
    async fn a_batch_keeps_the_order_and_leaves_out_what_is_unknown_or_said_twice() {
        let (cx, catalog) = (Context::background(), catalog());
        let items = catalog.batch(&cx, &[id(4), id(9), id(1), id(4)]).await.unwrap();
        assert_eq!(items.iter().map(|item| item.id.clone()).collect::<Vec<_>>(), [id(4), id(1)]);
        let too_many: Vec<_> = (0..=MAX_BATCH).map(id).collect();
        assert!(catalog_error::is_too_many_ids(&catalog.batch(&cx, &too_many).await.unwrap_err()));
    }

    #[tokio::test]
    async fn pages_cover_the_list_without_overlap() {
        let (cx, catalog, two) = (Context::background(), catalog(), PageSize::new(2).unwrap());
        let first = catalog.list(&cx, None, two, None).await.unwrap();
        let second = catalog.list(&cx, None, two, first.next.clone()).await.unwrap();
        let third = catalog.list(&cx, None, two, second.next.clone()).await.unwrap();
        assert_eq!((ids(&first), ids(&second)), (vec!["item-1", "item-2"], vec!["item-3", "item-4"]));
        assert_eq!((ids(&third), third.next.clone()), (vec!["item-5"], None));
        let garden = catalog.list(&cx, Some("garden".into()), PageSize::DEFAULT, None).await.unwrap();
        assert_eq!(garden.items.len(), 3);
    }

    #[tokio::test]
    async fn a_search_is_blind_to_case_and_needs_a_text() {
        let (cx, catalog) = (Context::background(), catalog());
        let found = catalog.search(&cx, " ЧАШКА ", PageSize::DEFAULT, None).await.unwrap();
        assert_eq!(ids(&found), ["item-2", "item-4"]);
        let error = catalog.search(&cx, "  ", PageSize::DEFAULT, None).await.unwrap_err();
        assert!(catalog_error::is_empty_query(&error));
    }
}
