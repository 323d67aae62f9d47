//! A constant load: requests leave at their times, whether earlier ones were answered or not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::client::Channel;
use bowline::prelude::*;
use bowline::rpc::Caller;
use tokio::task::JoinSet;

/// A load that runs until it is told to stop.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<Report>>,
    task: JoinSet<()>,
}

/// What became of the requests.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many were sent.
    pub sent: usize,
    /// How many were answered well.
    pub succeeded: usize,
    /// The others, by what was said.
    pub failures: BTreeMap<String, usize>,
    /// How late the latest was sent, after its time.
    pub behind: Duration,
    /// How long those took that were answered well, each from the time when it was to be sent.
    pub took: Vec<Duration>,
    /// When the last of those that failed was to be sent, after the beginning.
    pub last_failure: Option<Duration>,
}

impl Report {
    /// How many failed.
    pub fn failed(&self) -> usize {
        self.sent - self.succeeded
    }

    /// In which time so many of 100 of the good answers came; 0 if there are none.
    pub fn percentile(&self, percent: f64) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        let index = (took.len() as f64 * percent / 100.0) as usize;
        took.get(index.min(took.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

impl Load {
    /// Sends `per_second` requests to `target` through a channel, which tries again only what was not begun.
    pub fn start<F, Fut>(target: &str, per_second: u32, call: F) -> Self
    where
        F: Fn(Context, Caller, usize) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        Self::through(&Channel::builder(target).build().unwrap(), per_second, call)
    }

    /// As [`Load::start`], through a channel of the caller's own.
    pub fn through<F, Fut>(channel: &Channel, per_second: u32, call: F) -> Self
    where
        F: Fn(Context, Caller, usize) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let caller = channel.caller().unwrap();
        let (stop, report) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Report::default())));
        let (stopped, shared, call) = (Arc::clone(&stop), Arc::clone(&report), Arc::new(call));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut calls = JoinSet::new();
            let start = tokio::time::Instant::now();
            let mut sent = 0_u32;
            while !stopped.load(Ordering::Relaxed) {
                let due = start + Duration::from_secs(1) * sent / per_second;
                tokio::time::sleep_until(due).await;
                let behind = due.elapsed();
                let (caller, shared, call) = (caller.clone(), Arc::clone(&shared), Arc::clone(&call));
                calls.spawn(async move {
                    let cx = Context::background().with_timeout(Duration::from_secs(10));
                    let answer = call(cx, caller, sent as usize).await;
                    let mut report = shared.lock().unwrap();
                    report.sent += 1;
                    report.behind = report.behind.max(behind);
                    match answer {
                        Ok(()) => {
                            report.succeeded += 1;
                            report.took.push(due.elapsed());
                        }
                        Err(error) => {
                            report.last_failure = report.last_failure.max(Some(due - start));
                            *report.failures.entry(format!("{} {error}", error.reason())).or_default() += 1
                        }
                    }
                });
                sent += 1;
                while calls.try_join_next().is_some() {}
            }
            while calls.join_next().await.is_some() {}
        });
        Self { stop, report, task }
    }

    /// How many requests were answered so far, well or not.
    pub fn answered(&self) -> usize {
        self.report.lock().unwrap().sent
    }

    /// Sends for so long, waits for the answers that are missing, and tells.
    pub async fn run_for(self, time: Duration) -> Report {
        tokio::time::sleep(time).await;
        self.finish().await
    }

    /// Waits until so many more were answered.
    ///
    /// # Panics
    /// If that takes longer than a minute.
    pub async fn more(&self, requests: usize) {
        let target = self.answered() + requests;
        let waited = tokio::time::timeout(Duration::from_secs(60), async {
            while self.answered() < target {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        waited.await.expect("the load stalls");
    }

    /// Stops sending, waits for the answers that are missing, and tells.
    pub async fn finish(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        while self.task.join_next().await.is_some() {}
        self.report.lock().unwrap().clone()
    }
}
