//! Ships what is to be shipped, again and again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream as futures_stream};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::ShipError;
use super::config::ShipConfig;
use super::destination::Destination;
use super::head::Heads;
use super::local::{self, LocalBlock, Scan};
use super::metrics::{Reason, ShipMetrics};
use super::prometheus::{Upstream, advice};
use super::select::{self, Choice};
use super::state::Shipped;
use super::stream::{self, Workplace};
use super::upload::{self, Attributes};

/// A block older than this may have been compacted in the bucket since it was shipped.
const MAYBE_COMPACTED_AFTER: Duration = Duration::from_secs(30 * 60);
/// Descriptions asked for at a time.
const METAS_AT_A_TIME: usize = 8;
/// How often Prometheus's flags are looked at.
const FLAGS_INTERVAL: Duration = Duration::from_secs(3600);

/// External labels; `None`: not known yet.
pub type LabelsFn = dyn Fn() -> Option<BTreeMap<String, String>> + Send + Sync;

/// What one round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Blocks that were sent.
    pub shipped: Vec<Ulid>,
    /// Bytes that went over the wire for them.
    pub bytes: u64,
    /// Blocks that turned out to be there already, themselves or in others.
    pub there: Vec<Ulid>,
    /// What went wrong with single blocks.
    pub problems: Vec<String>,
}

/// Ships one Prometheus's blocks.
pub struct Shipper {
    pub(super) config: ShipConfig,
    pub(super) place: Workplace,
    pub(super) to: Arc<dyn Destination>,
    labels: Box<LabelsFn>,
    pub(super) upstream: Option<Arc<dyn Upstream>>,
    pub(super) metrics: ShipMetrics,
    pub(super) shipped: Shipped,
    pub(super) heads: Heads,
    /// The end of the newest block known to be in the bucket, ms.
    pub(super) newest_shipped: Option<i64>,
    /// Sources of blocks in the bucket, where they are of this stream. Descriptions never change.
    held: HashMap<Ulid, BTreeSet<Ulid>>,
}

impl fmt::Debug for Shipper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shipper").field("config", &self.config).field("to", &self.to).finish()
    }
}

/// How it went with one block.
enum Outcome {
    Sent(u64),
    There,
    Gone,
}

impl Shipper {
    /// A shipper with its data directory locked. Nothing is asked of the destination yet.
    ///
    /// # Errors
    /// Another process has the data directory, or it can't be written to.
    pub fn new(
        config: ShipConfig,
        to: Arc<dyn Destination>,
        upstream: Option<Arc<dyn Upstream>>,
        labels: Box<LabelsFn>,
        metrics: ShipMetrics,
    ) -> Result<Self, ShipError> {
        let place = Workplace::open(&config.tsdb)?;
        let shipped = Shipped::load(&config.tsdb.join(&config.state_file));
        let heads = Heads::load(&place.directory);
        let (newest_shipped, held) = (None, HashMap::new());
        Ok(Self {
            config,
            place,
            to,
            labels,
            upstream,
            metrics,
            shipped,
            heads,
            newest_shipped,
            held,
        })
    }

    /// Ships until told to stop, then gives the stream back.
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        self.run_until(stop).boxed()
    }

    async fn run_until(mut self, stop: CancellationToken) {
        let mut looked_at_flags: Option<Instant> = None;
        let mut next_head = Instant::now();
        let mut last_error = String::new();
        loop {
            if looked_at_flags.is_none_or(|at| at.elapsed() >= FLAGS_INTERVAL)
                && self.look_at_flags().await
            {
                looked_at_flags = Some(Instant::now());
            }
            let done = tokio::select! {
                done = self.round(&mut next_head).boxed() => done,
                () = stop.cancelled() => break,
            };
            self.tell(done, &mut last_error);
            tokio::select! {
                () = tokio::time::sleep(self.config.interval) => {}
                () = stop.cancelled() => break,
            }
        }
        if let Err(error) = self.to.release().await {
            tracing::warn!(%error, "the stream is not given back; it is free when its time is over");
        }
    }

    async fn round(&mut self, next_head: &mut Instant) -> Result<Report, ShipError> {
        let report = self.sync().boxed().await?;
        match self.config.head {
            Some(interval) if Instant::now() >= *next_head => {
                *next_head = Instant::now() + interval;
                self.ship_head().boxed().await?;
            }
            // Snapshots from when they were asked for.
            None if !self.heads.is_empty() => self.retire_heads().boxed().await?,
            _ => {}
        }
        Ok(report)
    }

    fn tell(&self, done: Result<Report, ShipError>, last_error: &mut String) {
        match done {
            Ok(report) => {
                if !report.shipped.is_empty() {
                    let (blocks, bytes) = (report.shipped.len(), report.bytes);
                    tracing::info!(blocks, bytes, to = self.to.name(), "blocks shipped");
                }
                last_error.clear();
            }
            Err(error) => {
                self.count(&error);
                // The same one again and again is one line.
                let text = error.to_string();
                if *last_error == text {
                    tracing::debug!(%error, "shipping");
                } else {
                    tracing::error!(%error, "shipping");
                }
                *last_error = text;
            }
        }
    }

    pub(super) fn count(&self, error: &ShipError) {
        self.metrics.failures.get_or_create(&Reason { reason: error.kind() }).inc();
    }

    /// Says what follows from Prometheus's flags. Whether it could.
    async fn look_at_flags(&self) -> bool {
        let Some(upstream) = &self.upstream else { return true };
        let Ok(flags) = upstream.flags().await else { return false };
        let mut warnings = 0;
        for advice in advice(&flags, &self.config) {
            if advice.is_warning {
                warnings += 1;
                tracing::warn!("{}", advice.text);
            } else {
                tracing::info!("{}", advice.text);
            }
        }
        self.metrics.flag_warnings.set(warnings);
        true
    }

    /// This Prometheus's external labels.
    pub(super) fn stream(&self) -> Result<BTreeMap<String, String>, ShipError> {
        let not_known =
            || ShipError::Prometheus("its external labels are not known yet".to_owned());
        let labels = (self.labels)().ok_or_else(not_known)?;
        if labels.is_empty() { Err(ShipError::NoLabels) } else { Ok(labels) }
    }

    pub(super) async fn hold(&self, labels: &BTreeMap<String, String>) -> Result<(), ShipError> {
        let held = stream::hold(self.to.as_ref(), &self.config, &self.place.owner, labels).await;
        self.metrics.refused.set(i64::from(matches!(held, Err(ShipError::Owned { .. }))));
        held
    }

    /// One round: ships all blocks that are to be shipped, oldest first.
    ///
    /// # Errors
    /// What concerns all blocks: another one has the stream, the destination refuses or does not
    /// answer. What concerns one block is in the report, and the others go on.
    pub async fn sync(&mut self) -> Result<Report, ShipError> {
        let labels = self.stream()?;
        self.hold(&labels).await?;
        let Scan { blocks, bad } = self.scan(self.config.tsdb.clone()).await?;
        let there: BTreeSet<_> = blocks.iter().map(|b| b.meta.ulid).collect();
        self.shipped.keep(|id| there.contains(&id));
        let mut report = Report::default();
        self.metrics.bad_blocks.set(i64::try_from(bad.len()).unwrap_or(i64::MAX));
        report.problems.extend(bad.iter().map(ToString::to_string));
        let mut waiting = Vec::new();
        for block in blocks {
            if self.shipped.has(block.meta.ulid) {
                self.newest_shipped = self.newest_shipped.max(Some(block.meta.max_time));
            } else if select::at_a_glance(&block.meta, self.config.compacted) == Choice::Ship {
                waiting.push(block);
            }
        }
        self.metrics.covered_in_part.set(0);
        let mut waiting = std::collections::VecDeque::from(waiting);
        self.measure(waiting.front(), waiting.len());
        let mut failed = Vec::new();
        while let Some(block) = waiting.pop_front() {
            let id = block.meta.ulid;
            match self.ship_and_hold(&block, &labels).await {
                Ok(outcome) => {
                    if !matches!(outcome, Outcome::Gone) {
                        self.newest_shipped = self.newest_shipped.max(Some(block.meta.max_time));
                    }
                    match outcome {
                        Outcome::Sent(bytes) => {
                            report.shipped.push(id);
                            report.bytes += bytes;
                        }
                        Outcome::There => report.there.push(id),
                        Outcome::Gone => {}
                    }
                }
                Err(error) if error.is_about_one_block() => {
                    self.count(&error);
                    tracing::error!(%error, block = %id, "the block is not shipped; the others are");
                    report.problems.push(error.to_string());
                    failed.push(block);
                }
                Err(error) => {
                    self.save()?;
                    return Err(error);
                }
            }
            let oldest = failed.first().or(waiting.front());
            self.measure(oldest, waiting.len() + failed.len());
        }
        self.save()?;
        Ok(report)
    }

    pub(super) async fn scan(&self, directory: PathBuf) -> Result<Scan, ShipError> {
        let shown = directory.clone();
        let scanned = tokio::task::spawn_blocking(move || local::scan(&directory)).await;
        scanned.unwrap_or_else(|e| Err(ShipError::local("list", &shown, std::io::Error::other(e))))
    }

    fn save(&mut self) -> Result<(), ShipError> {
        self.shipped.save(&self.config.tsdb.join(&self.config.state_file))
    }

    fn measure(&self, oldest: Option<&LocalBlock>, unshipped: usize) {
        self.metrics.unshipped.set(i64::try_from(unshipped).unwrap_or(i64::MAX));
        self.metrics.oldest_unshipped_seconds.set(oldest.map_or(0.0, |b| age(b.meta.max_time)));
        if let Some(newest) = self.newest_shipped {
            self.metrics.lag_seconds.set(age(newest));
        }
    }

    /// Ships a block and keeps the stream meanwhile: a large one takes longer than the lease.
    async fn ship_and_hold(
        &mut self,
        block: &LocalBlock,
        labels: &BTreeMap<String, String>,
    ) -> Result<Outcome, ShipError> {
        let (to, owner, config) =
            (Arc::clone(&self.to), self.place.owner.clone(), self.config.clone());
        let keep = async {
            let mut ticks = tokio::time::interval(config.lease / 4);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // A store that is away for a moment is the upload's to notice.
                let held = stream::hold(to.as_ref(), &config, &owner, labels).await;
                if let Err(error @ (ShipError::Owned { .. } | ShipError::NoLabels)) = held {
                    return error;
                }
            }
        };
        tokio::select! {
            biased;
            outcome = self.ship(block, labels) => outcome,
            error = keep => Err(error),
        }
    }

    async fn ship(
        &mut self,
        block: &LocalBlock,
        labels: &BTreeMap<String, String>,
    ) -> Result<Outcome, ShipError> {
        let id = block.meta.ulid;
        if upload::is_there(self.to.as_ref(), id, labels).await?
            || !self.is_new(block, labels).await?
        {
            self.shipped.add(id);
            return Ok(Outcome::There);
        }
        let (linking, uploads) = (block.clone(), self.place.upload());
        let linked = tokio::task::spawn_blocking(move || linking.link(&uploads)).await;
        let linked = linked.unwrap_or_else(|e| {
            Err(ShipError::local("link", &block.directory, std::io::Error::other(e)))
        })?;
        let Some(linked) = linked else { return Ok(Outcome::Gone) };
        let with = Attributes { labels, extensions: None };
        let sent = upload::send(self.to.as_ref(), block, &linked, &with, self.config.files).await;
        linked.unlink()?;
        let bytes = sent?;
        self.shipped.add(id);
        self.save()?;
        self.metrics.blocks.inc();
        self.metrics.bytes.inc_by(bytes);
        tracing::info!(block = %id, bytes, to = self.to.name(), "block shipped");
        Ok(Outcome::Sent(bytes))
    }

    /// Whether the bucket lacks what a block holds.
    async fn is_new(
        &mut self,
        block: &LocalBlock,
        labels: &BTreeMap<String, String>,
    ) -> Result<bool, ShipError> {
        let id = block.meta.ulid;
        let age = SystemTime::now().duration_since(id.datetime()).unwrap_or_default();
        if block.meta.compaction.level <= 1 && age < MAYBE_COMPACTED_AFTER {
            return Ok(true);
        }
        let sources = select::sources(&block.meta);
        let Some(first) = sources.iter().map(Ulid::timestamp_ms).min() else { return Ok(true) };
        // A block is never older than its sources.
        let names = self.to.blocks().await?.into_iter().filter(|id| id.timestamp_ms() >= first);
        let names: Vec<_> = names.collect();
        self.look_up(&names, labels).await?;
        let held = names.iter().filter_map(|id| self.held.get(id)).flatten().copied().collect();
        match select::against(&block.meta, &held) {
            Choice::Covered => Ok(false),
            Choice::CoveredInPart(there) => {
                self.metrics.covered_in_part.inc();
                let reason = format!(
                    "it was compacted here from {} blocks of which the bucket has {}; shipping it \
                     would double those. It stays local only",
                    sources.len(),
                    there.len()
                );
                Err(ShipError::BadBlock { block: id, reason })
            }
            _ => Ok(true),
        }
    }

    async fn look_up(
        &mut self,
        names: &[Ulid],
        labels: &BTreeMap<String, String>,
    ) -> Result<(), ShipError> {
        let mut asks = Vec::new();
        for id in names.iter().copied().filter(|id| !self.held.contains_key(id)) {
            let to = Arc::clone(&self.to);
            asks.push(async move { (id, to.meta(id).await) }.boxed());
        }
        let mut asked = futures_stream::iter(asks).buffer_unordered(METAS_AT_A_TIME);
        while let Some((id, meta)) = asked.next().await {
            let meta = match meta {
                Ok(Some(meta)) => meta,
                // Not whole, or nonsense: it holds nothing that can be relied upon.
                Ok(None) => continue,
                Err(error) if error.kind() == periplus_bucket::Kind::Corrupt => continue,
                Err(error) => return Err(error.into()),
            };
            let is_ours = meta.thanos.labels == *labels && !meta.is_head_snapshot();
            let sources = if is_ours { meta.compaction.sources } else { Vec::new() };
            self.held.insert(id, sources.into_iter().collect());
        }
        Ok(())
    }
}

/// Seconds since a time in milliseconds; 0 for the future.
pub(super) fn age(ms: i64) -> f64 {
    let now = jiff::Timestamp::now().as_millisecond();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let seconds = now.saturating_sub(ms).max(0) as f64 / 1000.0;
    seconds
}
