//! The home page.

use bowline::prelude::*;

use super::Part;
use crate::HomeConfig;

/// Where the parts of the home page come from. The types are whatever the sources answer with.
pub trait HomeSources: Send + Sync + 'static {
    /// An item.
    type Item: Send;
    /// The stock of an item.
    type Stock: Send;
    /// An order.
    type Order: Send;

    /// The items with these ids.
    fn items(&self, cx: Context, ids: Vec<String>) -> impl Future<Output = Result<Vec<Self::Item>>> + Send;

    /// The stock of the items with these ids.
    fn stock(&self, cx: Context, ids: Vec<String>) -> impl Future<Output = Result<Vec<Self::Stock>>> + Send;

    /// The customer's newest orders.
    fn recent_orders(
        &self,
        cx: Context,
        customer: String,
    ) -> impl Future<Output = Result<Vec<Self::Order>>> + Send;
}

/// The parts of the home page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomePage<I, S, O> {
    /// What the shop wants to sell.
    pub featured: Part<Vec<I>>,
    /// How much there is of that.
    pub stock: Part<Vec<S>>,
    /// What the customer has bought.
    pub recent_orders: Part<Vec<O>>,
}

impl<I, S, O> HomePage<I, S, O> {
    /// The names of the parts that are missing.
    pub fn degraded(&self) -> Vec<String> {
        let missing = [self.featured.missing(), self.stock.missing(), self.recent_orders.missing()];
        missing.into_iter().flatten().map(str::to_owned).collect()
    }
}

/// Puts the home page together.
#[derive(Debug)]
pub struct Home<B> {
    sources: B,
    config: HomeConfig,
}

impl<B: HomeSources> Home<B> {
    /// A home page from these sources.
    pub fn new(sources: B, config: HomeConfig) -> Self {
        Self { sources, config }
    }

    /// The page, for a customer or for anybody. All parts are asked for at the same time, each with its own share of the
    /// deadline.
    ///
    /// # Errors
    /// Only why `cx` ended: everything else is a part that is missing.
    pub async fn page(
        &self,
        cx: &Context,
        customer: Option<String>,
    ) -> Result<HomePage<B::Item, B::Stock, B::Order>> {
        let (sources, config) = (&self.sources, &self.config);
        let featured = |cx| sources.items(cx, config.featured.clone());
        let stock = |cx| sources.stock(cx, config.featured.clone());
        let recent_orders = async |cx| match customer {
            Some(customer) => sources.recent_orders(cx, customer).await,
            None => Ok(Vec::new()),
        };
        let (featured, stock, recent_orders) = tokio::join!(
            Part::ask(cx, "featured", config.featured_within, featured),
            Part::ask(cx, "stock", config.stock_within, stock),
            Part::ask(cx, "recent_orders", config.recent_orders_within, recent_orders),
        );
        cx.check()?;
        Ok(HomePage { featured, stock, recent_orders })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Answers with names, unless it is told to fail or to hang.
    #[derive(Default)]
    struct Sources {
        failing: Option<&'static str>,
        hanging: Option<&'static str>,
    }

    impl Sources {
        async fn answer(&self, name: &'static str) -> Result<Vec<String>> {
            if self.hanging == Some(name) {
                std::future::pending::<()>().await;
            }
            // Long enough that one after the other would be too late.
            tokio::time::sleep(Duration::from_millis(60)).await;
            if self.failing == Some(name) {
                Err(Error::internal("broken"))
            } else {
                Ok(vec![name.to_owned()])
            }
        }
    }

    impl HomeSources for Sources {
        type Item = String;
        type Stock = String;
        type Order = String;

        async fn items(&self, _cx: Context, _ids: Vec<String>) -> Result<Vec<String>> {
            self.answer("featured").await
        }

        async fn stock(&self, _cx: Context, _ids: Vec<String>) -> Result<Vec<String>> {
            self.answer("stock").await
        }

        async fn recent_orders(&self, _cx: Context, _customer: String) -> Result<Vec<String>> {
            self.answer("recent_orders").await
        }
    }

    async fn page(sources: Sources, cx: &Context) -> Result<HomePage<String, String, String>> {
        let within = Duration::from_millis(100);
        let config = HomeConfig {
            featured: vec!["a".into()],
            featured_within: within,
            stock_within: within,
            recent_orders_within: within,
        };
        Home::new(sources, config).page(cx, Some("ada".into())).await
    }

    #[tokio::test(start_paused = true)]
    async fn all_parts_are_asked_for_at_the_same_time() {
        let cx = Context::background().with_timeout(Duration::from_millis(100));
        let page = page(Sources::default(), &cx).await.unwrap();
        assert!(page.degraded().is_empty());
        assert_eq!(page.recent_orders.content(), ["recent_orders"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_fails_or_hangs_takes_nothing_else_with_it() {
        for name in ["featured", "stock", "recent_orders"] {
            for sources in [
                Sources { failing: Some(name), ..Sources::default() },
                Sources { hanging: Some(name), ..Sources::default() },
            ] {
                let cx = Context::background().with_timeout(Duration::from_millis(90));
                let page = page(sources, &cx).await.unwrap();
                assert_eq!(page.degraded(), [name]);
                let shown = [page.featured.content(), page.stock.content(), page.recent_orders.content()];
                assert_eq!(shown.concat().len(), 2);
            }
        }
    }

    #[tokio::test]
    async fn nobody_gets_a_page_who_has_gone() {
        let (cx, canceller) = Context::background().with_cancel();
        canceller.cancel();
        assert!(page(Sources::default(), &cx).await.unwrap_err().is_canceled());
    }
}
