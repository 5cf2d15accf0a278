//! What an answering hub works on: the log, the rows, and what keeps them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use periplus_daemon::drain::Drain;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use super::{Hub, HubError};
use crate::counters::Counters;
use crate::event::Event;
use crate::log::commit::{Applied, Apply, Commit, now_us};
use crate::log::disk::DiskLog;
use crate::log::shared::SharedLog;
use crate::log::{Damage, Entry, Journal, LogError, SegmentId};
use crate::search::Searcher;
use crate::store::files::{FileList, Files, FilesError};
use crate::store::upkeep::{self, Upkeep};
use crate::store::{Memory, Row};
use crate::wire::Gap;

/// Clocks of clusters may be this far apart, in microseconds, when it is asked whether an event could be in a file
/// already.
pub(crate) const SKEW_US: i64 = 15 * 60 * 1_000_000;
/// Rows received within this time are taken back into memory at a start.
const WARM_US: i64 = 3 * 3_600 * 1_000_000;
/// But not more than these.
const WARM_ROWS: u64 = 500_000;

/// Where the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// On the local disk.
    Disk,
    /// In the bucket.
    Shared,
}

/// An answering hub's parts.
#[derive(Debug)]
pub struct Active {
    /// Rows in memory.
    pub memory: Arc<RwLock<Memory>>,
    /// Files in the bucket.
    pub files: Arc<Files>,
    /// Questions.
    pub searcher: Searcher,
    /// Events as metrics.
    pub counters: Arc<Counters>,
    pub(crate) commit: Commit,
    /// The newest row's number; changes when there is a new one.
    pub(crate) newest: watch::Receiver<i64>,
    /// Held while it is decided whether an event is in a file and until it is in memory, so that no row leaves
    /// memory meanwhile.
    pub(crate) settling: Arc<tokio::sync::RwLock<()>>,
    /// Cancelled when this hub answers no more.
    pub(crate) end: CancellationToken,
    /// The segment written to.
    current: Arc<std::sync::atomic::AtomicU64>,
    is_shared: bool,
}

/// Applies the log to memory.
struct Applier {
    memory: Arc<RwLock<Memory>>,
    counters: Arc<Counters>,
    metrics: Metrics,
    newest: watch::Sender<i64>,
    current: Arc<std::sync::atomic::AtomicU64>,
    seed: u64,
}

impl Applier {
    /// Packs the open rows where it is time. This thread alone changes them, so none is lost in between.
    fn pack(&self, next: i64) {
        if !self.memory.read().is_full(next) {
            return;
        }
        let rows = self.memory.read().open_rows();
        let packed = Memory::pack(self.seed, &rows);
        self.memory.write().seal(packed);
    }
}

/// Rows taken in under one lock: questions wait that long.
const ROWS_A_LOCK: usize = 256;

impl Apply for Applier {
    fn apply(&mut self, segment: SegmentId, first_id: i64, entry: Entry) -> Applied {
        let mut applied = Applied::default();
        let (cluster, mut filed) = (entry.cluster, entry.filed);
        let mut events = entry.events.into_iter().enumerate().peekable();
        let now = now_us();
        while events.peek().is_some() {
            self.pack(first_id);
            let mut memory = self.memory.write();
            for (n, mut event) in events.by_ref().take(ROWS_A_LOCK) {
                event.cluster.clone_from(&cluster);
                let id = first_id.saturating_add(i64::try_from(n).unwrap_or(i64::MAX));
                let (last, counted) = (event.last_us, crate::counters::Key::new(&event));
                let count = event.count;
                let merged = memory.merge(segment, Row { id, event }, filed.remove(&n).as_ref());
                match merged {
                    Some(before) => {
                        applied.changed += 1;
                        self.counters.add(counted, u64::from(count.saturating_sub(before)), now);
                        self.metrics.lag(id.saturating_sub(last));
                    }
                    None => applied.unchanged += 1,
                }
            }
        }
        if !entry.gaps.is_empty() {
            let mut memory = self.memory.write();
            for mut gap in entry.gaps {
                gap.cluster.clone_from(&cluster);
                if memory.merge_gap(gap) {
                    self.metrics.gap();
                }
            }
        }
        let last = self.memory.read().last_id();
        self.counters.reached(last);
        if applied.changed > 0 {
            self.newest.send_replace(last);
        }
        applied
    }

    fn wrote(&mut self, outcome: Result<(), &LogError>, bytes: u64, current: SegmentId) {
        self.metrics.log(outcome.is_ok(), bytes);
        self.current.store(current, std::sync::atomic::Ordering::Relaxed);
        if let Err(error) = outcome {
            tracing::error!(%error, "the log can't be written: nothing is acknowledged until it can");
        }
    }
}

/// Events of the log on their way into a fresh memory.
struct Replay {
    memory: Memory,
    seed: u64,
    counters: Counters,
    /// Events that may be in a file: looked for there once the log is read.
    late: Vec<(SegmentId, Row)>,
    evicted_below: i64,
    rows: usize,
    last_id: i64,
}

impl Replay {
    fn take(&mut self, segment: SegmentId, first_id: i64, entry: Entry) {
        for (n, mut event) in entry.events.into_iter().enumerate() {
            let id = first_id.saturating_add(i64::try_from(n).unwrap_or(i64::MAX));
            self.last_id = self.last_id.max(id);
            // It is in a file, or was superseded before it got there.
            if id < self.memory.flushed_below() {
                continue;
            }
            self.rows += 1;
            event.cluster.clone_from(&entry.cluster);
            let key = self.memory.key(&event.cluster, &event.uid);
            if !self.memory.has(key) && may_be_filed(event.first_us, self.evicted_below) {
                self.late.push((segment, Row { id, event }));
                continue;
            }
            self.merge(segment, Row { id, event }, None);
        }
        for mut gap in entry.gaps {
            gap.cluster.clone_from(&entry.cluster);
            self.memory.merge_gap(gap);
        }
    }

    fn merge(&mut self, segment: SegmentId, row: Row, filed: Option<&Row>) {
        if self.memory.is_full(row.id) {
            let rows = self.memory.open_rows();
            self.memory.seal(Memory::pack(self.seed, &rows));
        }
        let (id, count, key) = (row.id, row.event.count, crate::counters::Key::new(&row.event));
        if let Some(before) = self.memory.merge(segment, row, filed)
            && id > self.counters.through_id()
        {
            self.counters.add(key, u64::from(count.saturating_sub(before)), id);
        }
    }
}

/// Whether an event that memory does not have could be in a file: it began before what memory has lost.
pub(crate) const fn may_be_filed(first_us: i64, evicted_below: i64) -> bool {
    first_us < evicted_below.saturating_add(SKEW_US)
}

/// Opens the store and reads the log; from then on this hub can answer.
///
/// # Errors
/// The bucket or the log can't be read.
pub async fn open(hub: &Hub, log: Log, drain: &Drain) -> Result<Arc<Active>, HubError> {
    let config = &hub.shared.config;
    let files = Arc::new(Files::new(hub.shared.bucket.clone(), config.index_cache)?);
    let warm_rows = WARM_ROWS.min(config.memory as u64 / 1024);
    let memory = upkeep::open(&files, now_us() - WARM_US, warm_rows).await?;
    let list = memory.files();
    let mut replay = Replay {
        seed: list.seed,
        evicted_below: memory.evicted_below(),
        last_id: memory.last_id(),
        memory,
        counters: Counters::load(&files, config.max_series).await?,
        late: Vec::new(),
        rows: 0,
    };
    let begun = std::time::Instant::now();
    let (journal, damage) = match log {
        Log::Disk => {
            let directory = config.data.join("log");
            let read = tokio::task::spawn_blocking(move || {
                let log = DiskLog::open(&directory, |s, id, entry| replay.take(s, id, entry));
                (log, replay)
            });
            let (log, back) = read.await.map_err(|_| LogError::Closed)?;
            replay = back;
            let (log, damage) = log?;
            (Journal::Disk(log), damage)
        }
        Log::Shared => {
            let (bucket, prefix) = (hub.shared.bucket.clone(), files.key("log")?);
            let owner = super::leader::owner(config);
            let (log, damage) =
                SharedLog::take_over(bucket, prefix, &owner, list.log_floor, |s, id, entry| {
                    replay.take(s, id, entry);
                })
                .await?;
            (Journal::Shared(log), damage)
        }
    };
    let late = std::mem::take(&mut replay.late);
    for (segment, row) in late {
        let (dead, below) = (replay.memory.dead(), replay.memory.evicted_below());
        let event = (row.event.cluster.as_str(), &row.event);
        let filed = find_filed(&files, &list, dead, below, event).await?;
        replay.merge(segment, row, filed.as_ref());
    }
    if damage.lost_bytes > 0 {
        replay.memory.merge_gap(damage_gap(damage));
        tracing::error!(
            ?damage,
            "the log was damaged: some acknowledged events are lost; a gap says so"
        );
    }
    tracing::info!(rows = replay.rows, took = ?begun.elapsed(), torn_bytes = damage.torn_bytes, "log read");
    start(hub, files, replay, journal, drain)
}

fn start(
    hub: &Hub,
    files: Arc<Files>,
    replay: Replay,
    journal: Journal,
    drain: &Drain,
) -> Result<Arc<Active>, HubError> {
    let config = &hub.shared.config;
    let (last_id, seed) = (replay.last_id, replay.seed);
    let counters = Arc::new(replay.counters);
    counters.reached(last_id);
    let memory = Arc::new(RwLock::new(replay.memory));
    let (newest, watch) = watch::channel(last_id);
    let current = Arc::new(std::sync::atomic::AtomicU64::new(journal.current()));
    let applier = Applier {
        memory: Arc::clone(&memory),
        counters: Arc::clone(&counters),
        metrics: hub.shared.metrics.clone(),
        newest,
        current: Arc::clone(&current),
        seed,
    };
    let (commit, _thread) = Commit::start(journal, last_id, applier).map_err(HubError::Thread)?;
    let (at_once, timeout) = (config.max_searches, config.search_timeout);
    let searcher = Searcher::new(Arc::clone(&memory), Arc::clone(&files), at_once, timeout);
    let active = Arc::new(Active {
        memory,
        files,
        searcher,
        counters,
        commit,
        newest: watch,
        settling: Arc::default(),
        end: drain.token().child_token(),
        current,
        is_shared: config.shared,
    });
    drain.spawn("events hub: upkeep", keep_up(hub.clone(), Arc::clone(&active)));
    Ok(active)
}

fn damage_gap(damage: Damage) -> Gap {
    let now = now_us();
    Gap {
        cluster: String::new(),
        id: ulid::Ulid::generate().to_string(),
        reason: "log_damaged".into(),
        from_us: now,
        to_us: now,
        events: 0,
        detail: format!(
            "{} bytes of the hub's log could not be read at its start",
            damage.lost_bytes
        ),
    }
}

/// The live row of an event's key among the rows that are in files only.
pub(crate) async fn find_filed(
    files: &Files,
    list: &FileList,
    dead: Arc<HashSet<i64>>,
    below: i64,
    (cluster, event): (&str, &Event),
) -> Result<Option<Row>, FilesError> {
    let since = event.first_us.saturating_sub(SKEW_US);
    files.find(list, |id| dead.contains(&id), since..below, (cluster, &event.uid)).await
}

/// As [`find_filed`], of an answering hub. To be called while `settling` is held.
pub(crate) async fn find_filed_of(
    active: &Active,
    cluster: &str,
    event: &Event,
) -> Result<Option<Row>, FilesError> {
    let (list, dead, below) = {
        let memory = active.memory.read();
        (memory.files(), memory.dead(), memory.evicted_below())
    };
    find_filed(&active.files, &list, dead, below, (cluster, event)).await
}

impl Active {
    /// Whether this hub may not acknowledge any more.
    pub(crate) fn is_deposed(&self) -> bool {
        self.end.is_cancelled() && self.is_shared
    }

    /// One round of upkeep, and of the log.
    ///
    /// # Errors
    /// The bucket does not answer: all stays where it is.
    pub async fn upkeep(&self, config: &super::Config) -> Result<upkeep::Round, FilesError> {
        let upkeep =
            Upkeep::new(config.upkeep(), Arc::clone(&self.memory), Arc::clone(&self.files));
        let round = {
            let now = now_us();
            let flushed = upkeep.flush(now).await?;
            let guard = self.settling.write().await;
            let evicted = self.memory.write().evict(config.memory);
            drop(guard);
            upkeep::Round { flushed, evicted, ..upkeep.rest(now).await? }
        };
        let current = self.current.load(std::sync::atomic::Ordering::Relaxed);
        let floor = upkeep.checkpoint(current).await?;
        self.commit.remove_below(floor).await;
        Ok(round)
    }
}

async fn keep_up(hub: Hub, active: Arc<Active>) {
    let config = &hub.shared.config;
    let list = active.memory.read().files();
    let every = config.upkeep_interval.max(Duration::from_millis(100));
    if let Err(error) = active.files.sweep(&list).await {
        tracing::warn!(%error, "looking for files that a crash left");
    }
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = active.end.cancelled() => {
                // Another hub may be counting already.
                if !active.is_shared {
                    save(&active).await;
                }
                return;
            }
        }
        match active.upkeep(config).await {
            Ok(round) => {
                hub.shared.metrics.flushed(round.flushed);
                if round != upkeep::Round::default() {
                    tracing::info!(?round, "events moved on");
                }
            }
            Err(error @ FilesError::Conflict(_)) => {
                tracing::error!(%error, "another hub writes to this bucket");
                hub.shared.metrics.upkeep_failed();
                if config.shared {
                    active.end.cancel();
                }
            }
            Err(error) => {
                tracing::error!(%error, "events stay in memory and in the log until this works");
                hub.shared.metrics.upkeep_failed();
            }
        }
        save(&active).await;
        let (rows, bytes, files) = {
            let memory = active.memory.read();
            (memory.rows(), memory.bytes(), memory.files().files.len())
        };
        hub.shared.metrics.store(rows, bytes, files);
    }
}

async fn save(active: &Active) {
    if let Err(error) = active.counters.save(&active.files).await {
        tracing::warn!(%error, "writing counters down; they are counted again from the log at the next start");
    }
}
