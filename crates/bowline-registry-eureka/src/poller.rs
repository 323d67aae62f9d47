//! Asks for everything once, and then for what changed, on behalf of all who watch.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Result, Rng, SystemRng};
use bowline_discovery::Backoff;
use tokio::sync::watch;

use crate::apps::Apps;
use crate::client::Client;

/// What the watchers are told.
#[derive(Clone, Debug, Default)]
pub(crate) struct News {
    /// `None` before the first answer.
    pub(crate) apps: Option<Arc<Apps>>,
    /// Why there was no later answer.
    pub(crate) fault: Option<Arc<str>>,
}

/// Asks for as long as somebody watches, and waits for somebody otherwise.
pub(crate) async fn run(client: Arc<Client>, news: watch::Sender<News>, wanted: Arc<tokio::sync::Notify>) {
    let options = &client.options;
    let mut backoff = Backoff::new(options.backoff_first, options.backoff_max);
    let mut known: Option<Apps> = None;
    loop {
        while news.receiver_count() == 0 {
            // Old by the time somebody comes.
            known = None;
            news.send_replace(News::default());
            wanted.notified().await;
        }
        match round(&client, known.take()).await {
            Ok(apps) => {
                backoff.reset();
                news.send_replace(News { apps: Some(Arc::new(apps.clone())), fault: None });
                known = Some(apps);
                wait(&news, options.fetch - SystemRng.jitter(options.fetch / 10)).await;
            }
            Err(error) => {
                let delay = backoff.next(&SystemRng);
                tracing::debug!(%error, ?delay, "asking Eureka failed; trying again");
                news.send_modify(|news| news.fault = Some(error.to_string().into()));
                wait(&news, delay).await;
            }
        }
    }
}

/// Waits, unless the last watcher goes.
async fn wait(news: &watch::Sender<News>, time: Duration) {
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = news.closed() => {}
    }
}

/// What there is now. After a failure everything is asked for anew: the server may be another one, or have begun anew.
async fn round(client: &Client, known: Option<Apps>) -> Result<Apps> {
    if let Some(mut apps) = known
        && let Some(delta) = client.delta().await?
    {
        if apps.change(delta) {
            return Ok(apps);
        }
        tracing::debug!("changes at Eureka were missed; asking for everything");
    }
    let all = client.all().await?;
    // After the list, so that whoever is missing in it is told of with why.
    Ok(Apps::of(all, client.delta().await?))
}
