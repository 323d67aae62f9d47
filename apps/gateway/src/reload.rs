//! Reading the route table, and reading it again when it changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bowline::client::ChannelFactory;
use bowline::config::Loader;
use bowline::prelude::*;
use bowline::tracing;

use crate::Proxy;
use crate::config::Routes;
use crate::table::Table;

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// What the file held when it was last looked at; nothing if it could not be read.
type Seen = Option<Vec<u8>>;

/// Reads the table for the first time. What was seen goes to [`watch`], which must notice a change from the start on.
pub(crate) fn read(path: &Path, channels: &ChannelFactory) -> Result<(Table, Seen)> {
    let seen = std::fs::read(path).ok();
    Ok((parse(path, channels, &Table::default())?, seen))
}

fn parse(path: &Path, channels: &ChannelFactory, known: &Table) -> Result<Table> {
    let file: Routes = Loader::new().file(path)?.load()?;
    Table::new(&file.routes, channels, known).with_context(|| path.display().to_string())
}

/// Looks at the file until the application stops. Contents are compared, not times: a file that was replaced through a
/// symbolic link, as Kubernetes does, keeps its times.
pub(crate) async fn watch_file(
    cx: Context,
    path: PathBuf,
    mut seen: Seen,
    channels: ChannelFactory,
    proxy: Proxy,
) -> Result<()> {
    while cx.run(tokio::time::sleep(INTERVAL)).await.is_ok() {
        let now = tokio::fs::read(&path).await.ok();
        if now == seen {
            continue;
        }
        seen = now;
        match parse(&path, &channels, &proxy.table()) {
            Ok(table) => {
                proxy.set_table(table);
                tracing::info!(file = %path.display(), "route table reloaded");
            }
            Err(error) => tracing::error!(%error, "route table not reloaded, the last good one stays"),
        }
    }
    Ok(())
}

/// As [`watch_file`], in the form of a background task.
pub(crate) fn watch(
    path: PathBuf,
    seen: Seen,
    channels: ChannelFactory,
    proxy: Proxy,
) -> impl FnOnce(Context) -> std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send + 'static {
    move |cx| Box::pin(watch_file(cx, path, seen, channels, proxy))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bowline::client::Channel;

    use super::*;

    #[tokio::test]
    async fn a_change_between_the_first_read_and_the_watch_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("routes.yaml");
        let table = |prefix| format!("routes: [{{ prefix: {prefix}, service: \"static:///h:1\" }}]");
        std::fs::write(&path, table("/v1")).unwrap();
        let channels: ChannelFactory = Arc::new(|target| Channel::builder(target).build());
        let (first, seen) = read(&path, &channels).unwrap();
        std::fs::write(&path, table("/v2")).unwrap();
        let proxy = Proxy::new(first);
        let (cx, canceller) = Context::background().with_cancel();
        let changed = async {
            while proxy.table().find("h", "/v2").is_none() {
                tokio::time::sleep(INTERVAL).await;
            }
            canceller.cancel();
        };
        let watch = watch_file(cx, path, seen, channels, proxy.clone());
        let both = tokio::time::timeout(INTERVAL * 100, async { tokio::join!(watch, changed) });
        both.await.expect("the change is seen").0.unwrap();
    }
}
