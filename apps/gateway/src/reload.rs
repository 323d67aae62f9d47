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

/// Reads the table for the first time.
pub(crate) fn read(path: &Path, channels: &ChannelFactory) -> Result<Table> {
    parse(path, channels, &Table::default())
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
    channels: ChannelFactory,
    proxy: Proxy,
) -> Result<()> {
    let mut seen = tokio::fs::read(&path).await.ok();
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
    channels: ChannelFactory,
    proxy: Proxy,
) -> impl FnOnce(Context) -> std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send + 'static {
    move |cx| Box::pin(watch_file(cx, path, channels, proxy))
}
