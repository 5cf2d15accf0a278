//! Moving rows on: from memory into files, from files of a day into one, and out.
//!
//! Rows go into a file once nothing has been heard of them for a while: the API server forgets an event an hour
//! after its last change, so by then hardly any comes again, and files need no changes. One task does all of it,
//! so each change of the list follows from the one before.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::columns::Row;
use super::files::{FileList, Files, FilesError};
use super::memory::{BLOCK_ROWS, DAY_US, Memory, Packed};
use crate::log::SegmentId;

/// When what moves.
#[derive(Clone, Copy, Debug)]
pub struct UpkeepConfig {
    /// Rows not changed for this long go into a file.
    pub settle: Duration,
    /// Bytes of rows in memory.
    pub memory_bytes: usize,
    /// Files are deleted once their rows are older.
    pub retention: Duration,
    /// Files of a day are merged into ones of at most this many rows; they are merged in memory.
    pub merge_rows_max: u64,
    /// No file is written for fewer rows than this, unless they have waited for as long again.
    pub flush_rows_min: usize,
}

impl Default for UpkeepConfig {
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(90 * 60),
            memory_bytes: 768 << 20,
            retention: Duration::from_secs(30 * 86_400),
            merge_rows_max: 131_072,
            flush_rows_min: 16_384,
        }
    }
}

/// What one round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Rows that went into files.
    pub flushed: usize,
    /// Files merged into others.
    pub merged: usize,
    /// Files forgotten.
    pub expired: usize,
    /// Whether memory let go of rows.
    pub evicted: bool,
}

fn micros(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}

/// Keeps a store in order.
#[derive(Debug)]
pub struct Upkeep {
    /// The settings.
    pub config: UpkeepConfig,
    memory: Arc<RwLock<Memory>>,
    files: Arc<Files>,
}

impl Upkeep {
    /// Over a store.
    #[must_use]
    pub const fn new(config: UpkeepConfig, memory: Arc<RwLock<Memory>>, files: Arc<Files>) -> Self {
        Self { config, memory, files }
    }

    /// One round; `current` is the segment of the log that is written to.
    ///
    /// # Errors
    /// The bucket does not answer: nothing is lost, rows stay in memory and in the log.
    pub async fn round(&self, now: i64) -> Result<Round, FilesError> {
        let flushed = self.flush(now).await?;
        let evicted = self.memory.write().evict(self.config.memory_bytes);
        Ok(Round { flushed, evicted, ..self.rest(now).await? })
    }

    /// A round without flushing and evicting.
    ///
    /// # Errors
    /// As [`Self::round`].
    pub async fn rest(&self, now: i64) -> Result<Round, FilesError> {
        let (expired, merged) = (self.expire(now).await?, self.merge(now).await?);
        Ok(Round { expired, merged, ..Round::default() })
    }

    /// Puts settled rows into files; all packed rows where memory is short.
    ///
    /// # Errors
    /// As [`Self::round`].
    pub async fn flush(&self, now: i64) -> Result<usize, FilesError> {
        let settle = micros(self.config.settle);
        let short = self.memory.read().unflushed_bytes() > self.config.memory_bytes / 2;
        let before = if short { i64::MAX } else { now.saturating_sub(settle) };
        let blocks = self.memory.read().settled(before);
        let Some(last) = blocks.last() else { return Ok(0) };
        let rows: usize = blocks.iter().map(|b| b.block.columns.rows()).sum();
        let oldest = blocks.first().and_then(|b| b.block.columns.ids.first().copied());
        let waited = oldest.is_some_and(|id| id < now.saturating_sub(settle.saturating_mul(2)));
        if rows < self.config.flush_rows_min && !waited && !short {
            return Ok(0);
        }
        let flushed_below = last.block.columns.ids.last().map_or(0, |id| id + 1);
        let mut list = FileList::clone(&self.memory.read().files());
        let (mut written, mut new) = (0, Vec::new());
        for day in blocks.chunk_by(|a, b| day_of(a) == day_of(b)) {
            // Bounded: a file holds as many rows as a merged one at most.
            let most = usize::try_from(self.config.merge_rows_max).unwrap_or(usize::MAX);
            for part in day.chunks((most / BLOCK_ROWS).clamp(1, 64)) {
                let live: Vec<Row> = part.iter().flat_map(super::memory::Sealed::live).collect();
                if live.is_empty() {
                    continue;
                }
                written += live.len();
                new.push(self.files.write(list.seed, live, 1).await?);
            }
        }
        list.files.extend(new);
        list.files.sort_by_key(|f| f.min_id);
        list.flushed_below = list.flushed_below.max(flushed_below);
        let list = self.commit(list).await?;
        self.memory.write().flushed(&blocks, list);
        Ok(written)
    }

    /// Commits a list with what memory knows besides.
    async fn commit(&self, mut list: FileList) -> Result<Arc<FileList>, FilesError> {
        {
            let memory = self.memory.read();
            list.gaps = memory.gaps();
            list.dead = memory.dead().iter().copied().collect();
            list.dead.sort_unstable();
        }
        self.files.commit(&list).await?;
        Ok(Arc::new(list))
    }

    /// Says in the list from where on the shared log is needed, and writes gaps and dead rows down. Gives
    /// from where on the log is needed.
    ///
    /// # Errors
    /// As [`Self::round`].
    pub async fn checkpoint(&self, current: SegmentId) -> Result<SegmentId, FilesError> {
        let floor = self.memory.read().log_floor(current);
        let mut list = FileList::clone(&self.memory.read().files());
        if list.log_floor == floor {
            return Ok(floor);
        }
        list.log_floor = floor;
        let gone = HashSet::new();
        let list = self.commit(list).await?;
        self.memory.write().replaced(list, &gone);
        Ok(floor)
    }

    async fn expire(&self, now: i64) -> Result<usize, FilesError> {
        let before = now.saturating_sub(micros(self.config.retention));
        let mut list = FileList::clone(&self.memory.read().files());
        let (old, kept): (Vec<_>, Vec<_>) = list.files.drain(..).partition(|f| f.max_id < before);
        self.memory.write().forget_gaps(before);
        if old.is_empty() {
            return Ok(0);
        }
        list.files = kept;
        let dead = self.memory.read().dead();
        let gone = dead.iter().copied().filter(|id| *id < before).collect();
        let list = self.commit(list).await?;
        self.memory.write().replaced(list, &gone);
        for file in &old {
            self.files.delete(file).await;
        }
        Ok(old.len())
    }

    /// Merges files of one past day, the oldest first: one merge a round.
    async fn merge(&self, now: i64) -> Result<usize, FilesError> {
        let mut list = FileList::clone(&self.memory.read().files());
        let today = now.div_euclid(DAY_US);
        let day = |id: i64| id.div_euclid(DAY_US);
        let mut some: Option<std::ops::Range<usize>> = None;
        let mut at = 0;
        while at < list.files.len() {
            let of = day(list.files[at].min_id);
            let (mut end, mut rows) = (at, 0);
            while let Some(f) = list.files.get(end) {
                if day(f.min_id) != of || (end > at && rows + f.rows > self.config.merge_rows_max) {
                    break;
                }
                rows += f.rows;
                end += 1;
            }
            // A day is over for good once what was received in it has settled. Within the day files
            // are merged by eight, so that there are never many.
            let over = of < today && now.rem_euclid(DAY_US) > 2 * micros(self.config.settle);
            if (over && end - at > 1) || end - at >= 24 {
                some = Some(at..end);
                break;
            }
            at = end;
        }
        let Some(range) = some else { return Ok(0) };
        let old: Vec<_> = list.files.drain(range.clone()).collect();
        let dead = self.memory.read().dead();
        let mut rows = Vec::new();
        for file in &old {
            rows.extend(self.files.rows(file, |id| !dead.contains(&id)).await?);
        }
        let ids: HashSet<i64> = rows.iter().map(|r| r.id).collect();
        let merged = old.iter().map(|f| f.merged).sum();
        if !rows.is_empty() {
            let file = self.files.write(list.seed, rows, merged).await?;
            list.files.insert(range.start, file);
        }
        // What has died since we looked is in the new file and stays dead.
        let bounds = old.iter().map(|f| f.min_id).min().unwrap_or(0)
            ..=old.iter().map(|f| f.max_id).max().unwrap_or(0);
        let gone = dead.iter().copied().filter(|id| bounds.contains(id) && !ids.contains(id));
        let gone: HashSet<i64> = gone.collect();
        let list = self.commit(list).await?;
        self.memory.write().replaced(list, &gone);
        for file in &old {
            self.files.delete(file).await;
        }
        Ok(old.len())
    }
}

fn day_of(sealed: &super::memory::Sealed) -> i64 {
    sealed.block.columns.ids.first().map_or(0, |id| id.div_euclid(DAY_US))
}

/// Makes a store out of what the bucket holds: the list, and in memory the rows received since `warm_since`, at
/// most `warm_rows`. The log comes on top of it.
///
/// # Errors
/// The bucket does not answer, or something in it is damaged.
pub async fn open(files: &Files, warm_since: i64, warm_rows: u64) -> Result<Memory, FilesError> {
    let list = Arc::new(files.load().await?);
    let mut memory = Memory::new(Arc::clone(&list));
    let dead = memory.dead();
    let (mut rows, mut from) = (Vec::new(), list.flushed_below);
    let mut total = 0;
    for meta in list.files.iter().rev() {
        if meta.max_id < warm_since || total + meta.rows > warm_rows {
            break;
        }
        total += meta.rows;
        rows.extend(files.rows(meta, |id| !dead.contains(&id)).await?);
        from = meta.min_id;
    }
    rows.sort_by_key(|r| r.id);
    let seed = list.seed;
    let rows: Vec<Arc<Row>> = rows.into_iter().map(Arc::new).collect();
    let packed = tokio::task::spawn_blocking(move || {
        let of_day =
            |a: &Arc<Row>, b: &Arc<Row>| a.id.div_euclid(DAY_US) == b.id.div_euclid(DAY_US);
        let days = rows.chunk_by(of_day);
        let runs = days.flat_map(|day| day.chunks(BLOCK_ROWS));
        runs.filter_map(|run| Memory::pack(seed, run)).collect::<Vec<Packed>>()
    });
    memory.load(from, packed.await.unwrap_or_default());
    Ok(memory)
}

#[cfg(test)]
mod tests;
