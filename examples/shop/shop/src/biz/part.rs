//! A part of a page, which the page can do without.

use std::time::Duration;

use bowline::prelude::*;
use bowline::tracing;

/// A part of a page: what it shows, or nothing and the knowledge that something is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<T> {
    name: &'static str,
    content: Option<T>,
}

impl<T: Default> Part<T> {
    /// Asks for a part, within its share of the time that the page has. A failure is handled here, by going without.
    pub async fn ask<F>(
        cx: &Context,
        name: &'static str,
        within: Duration,
        source: impl FnOnce(Context) -> F,
    ) -> Self
    where
        F: Future<Output = Result<T>>,
    {
        let share = share(cx, within);
        // Boxed, since a page holds several of them at a time.
        let asking = Box::pin(source(share.clone()));
        match share.run(asking).await.flatten() {
            Ok(content) => Self { name, content: Some(content) },
            Err(error) => {
                tracing::warn!(part = name, ?error, "a page goes without a part of it");
                Self { name, content: None }
            }
        }
    }

    /// What the part shows: nothing, if it is missing.
    pub fn content(self) -> T {
        self.content.unwrap_or_default()
    }

    /// The part's name, if it is missing.
    pub fn missing(&self) -> Option<&'static str> {
        self.content.is_none().then_some(self.name)
    }
}

/// A part gets its own time and never the last tenth of the page's: a part that hangs must not take the page with it.
fn share(cx: &Context, within: Duration) -> Context {
    let most = cx.remaining().map_or(within, |left| left - left / 10);
    cx.with_timeout(within.min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_part_that_is_late_or_fails_is_missing() {
        let cx = Context::background();
        let there = Part::ask(&cx, "a", SECOND, |_| async { Ok(vec![1]) }).await;
        assert_eq!((there.missing(), there.content()), (None, vec![1]));
        let failed =
            Part::ask(&cx, "b", SECOND, |_| async { Err::<Vec<u8>, _>(Error::unavailable("gone")) }).await;
        assert_eq!((failed.missing(), failed.content()), (Some("b"), vec![]));
        let late = Part::ask(&cx, "c", SECOND, |_| std::future::pending::<Result<Vec<u8>>>()).await;
        assert_eq!(late.missing(), Some("c"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_leaves_the_page_time_to_answer() {
        let remaining = |cx: &Context, within| share(cx, within).remaining();
        assert_eq!(remaining(&Context::background(), SECOND), Some(SECOND));
        let page = Context::background().with_timeout(SECOND);
        assert_eq!(remaining(&page, 2 * SECOND), Some(Duration::from_millis(900)));
        assert_eq!(remaining(&page, SECOND / 2), Some(SECOND / 2));
    }
}
