//! A sink that keeps rows as the hub does, and a second opinion on what the rows must be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use periplus_events::Event;
use periplus_events::filter::Filter;
use periplus_events::watch::api::Api;
use periplus_events::watch::cursor::CursorFile;
use periplus_events::watch::run::Shared;
use periplus_events::watch::{Sink, Start, WatchConfig, WatchMetrics, Watcher};
use periplus_events::wire::Gap;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) rows: Mutex<BTreeMap<String, Event>>,
    pub(crate) gaps: Mutex<Vec<Gap>>,
    /// Appends fail while this is set.
    pub(crate) full: std::sync::atomic::AtomicBool,
    pub(crate) appended: std::sync::atomic::AtomicUsize,
}

impl Sink for Rows {
    fn append(&self, events: Vec<Event>) -> std::io::Result<()> {
        if self.full.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.appended.fetch_add(events.len(), std::sync::atomic::Ordering::SeqCst);
        let mut rows = self.rows.lock();
        for event in events {
            rows.entry(event.uid.clone())
                .and_modify(|e| {
                    let _changed = e.merge(&event);
                })
                .or_insert(event);
        }
        Ok(())
    }

    fn gap(&self, gap: Gap) -> std::io::Result<()> {
        self.gaps.lock().push(gap);
        Ok(())
    }

    fn sync(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A watcher that runs against `url`.
pub(crate) struct Running {
    pub(crate) rows: Arc<Rows>,
    pub(crate) metrics: WatchMetrics,
    pub(crate) shared: Arc<Shared>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
    _directory: Option<tempfile::TempDir>,
}

pub(crate) fn config() -> WatchConfig {
    WatchConfig {
        cluster: "eu-1".into(),
        scope: "test".into(),
        page_events: 20,
        message_bytes: 1 << 20,
        backoff: (Duration::from_millis(1), Duration::from_millis(20)),
        gap_least: Duration::ZERO,
        cursor_every: Duration::ZERO,
        ..WatchConfig::default()
    }
}

pub(crate) async fn api(url: &str) -> Api {
    let mut config = kube::Config::new(url.parse().expect("a URL"));
    config.default_retry = false;
    Api::new(kube::Client::try_from(config).expect("a client"), None)
}

impl Running {
    pub(crate) async fn start(url: &str, config: WatchConfig) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = CursorFile::new(directory.path());
        let mut running = Self::with(url, config, Arc::default(), file, Start::Resume).await;
        running._directory = Some(directory);
        running
    }

    pub(crate) async fn with(
        url: &str,
        config: WatchConfig,
        rows: Arc<Rows>,
        file: CursorFile,
        start: Start,
    ) -> Self {
        let metrics = WatchMetrics::default();
        let sink = Arc::clone(&rows) as Arc<dyn Sink>;
        let watcher =
            Watcher::new(api(url).await, config, Filter::all(), sink, file, metrics.clone());
        let cancel = CancellationToken::new();
        let shared = watcher.shared();
        let task = tokio::spawn(watcher.run(start, cancel.clone()));
        Self { rows, metrics, shared, cancel, task, _directory: None }
    }

    /// Ends it in order.
    pub(crate) async fn stop(self) -> Arc<Rows> {
        self.cancel.cancel();
        self.task.await.expect("no panic");
        self.rows
    }
}

/// Waits until `done`, for long: machines are loaded.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(150), "still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What must be in a row, read from the JSON by another way than the watcher's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) version: u64,
    pub(crate) count: i64,
    pub(crate) last_us: i64,
    pub(crate) message: String,
    pub(crate) reason: String,
    pub(crate) type_: String,
    pub(crate) name: String,
}

pub(crate) fn us(value: &Value) -> Option<i64> {
    Some(value.as_str()?.parse::<jiff::Timestamp>().ok()?.as_microsecond())
}

pub(crate) fn expected(object: &Value) -> Expected {
    let either = |a: &str, b: &str| {
        let first = &object[a];
        if first.is_null() { object[b].clone() } else { first.clone() }
    };
    let count = either("count", "deprecatedCount").as_i64().unwrap_or(0);
    let count = count.max(object["series"]["count"].as_i64().unwrap_or(0)).max(1);
    let times = [
        either("firstTimestamp", "deprecatedFirstTimestamp"),
        either("lastTimestamp", "deprecatedLastTimestamp"),
        object["eventTime"].clone(),
        object["series"]["lastObservedTime"].clone(),
    ];
    let limit = jiff::Timestamp::now().as_microsecond() + 86_400_000_000;
    let believed = |t: &i64| (1_262_304_000_000_000..=limit).contains(t);
    let last = times.iter().filter_map(us).filter(believed).max();
    let text = |v: Value| v.as_str().unwrap_or_default().to_owned();
    let mut message = text(either("message", "note"));
    periplus_events::event::clean_text(&mut message, 1 << 20);
    let mut reason = text(object["reason"].clone());
    periplus_events::event::clean_name(&mut reason, 512);
    Expected {
        version: text(object["metadata"]["resourceVersion"].clone()).parse().unwrap_or(0),
        count,
        last_us: last.or_else(|| us(&object["metadata"]["creationTimestamp"])).expect("a time"),
        message,
        reason,
        type_: text(object["type"].clone()),
        name: text(either("involvedObject", "regarding")["name"].clone()),
    }
}

/// Whether a row is what it must be. `version`s may differ: an unchanged state is not passed on again.
pub(crate) fn assert_row(row: Option<&Event>, expect: &Expected, uid: &str) {
    let row = row.unwrap_or_else(|| panic!("{uid} is missing: {expect:?}"));
    assert_eq!(
        (
            i64::from(row.count),
            row.last_us,
            row.message.as_str(),
            row.reason.as_str(),
            row.type_.as_str(),
            row.name.as_str()
        ),
        (
            expect.count,
            expect.last_us,
            expect.message.as_str(),
            expect.reason.as_str(),
            expect.type_.as_str(),
            expect.name.as_str()
        ),
        "{uid}"
    );
}
