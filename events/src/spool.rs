//! The spool: what the hub has not acknowledged yet, on disk, bounded in bytes and age.
//!
//! A directory of segments, each a run of frames ([`segment`]): rows are appended to the youngest segment,
//! read from the oldest, and a segment whose frames are all acknowledged is deleted. How far is acknowledged
//! stands in the file `acknowledged`; if that is lost, more is sent again. Nothing is kept in memory but a
//! few numbers a segment, so a hub that is gone for a day costs disk, not memory.
//!
//! When there is no room the oldest segment goes. What was lost with it is counted and kept as a gap until the
//! hub has it ([`gaps`]). A frame that a crash cut off is cut away at the next start, before anything is
//! appended; one that the disk damaged costs the rest of its segment, and is a gap too.

pub mod gaps;
pub mod segment;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::event::Event;
use crate::watch::cursor::replace;
use crate::watch::metrics::{ByReason, Reason};
use crate::watch::{Sink, now_us};
use crate::wire::Gap;
use gaps::Gaps;
use segment::{FRAME_EVENTS_MAX, FrameError, Frames};

/// The file that says how far is acknowledged.
const ACKNOWLEDGED: &str = "acknowledged";

/// The smallest spool that can be configured, in bytes.
pub const SPOOL_BYTES_LEAST: u64 = 1 << 20;

/// How large a spool may be.
#[derive(Clone, Debug)]
pub struct SpoolConfig {
    /// Its directory; made if it's not there.
    pub directory: PathBuf,
    /// Most bytes on disk.
    pub bytes_max: u64,
    /// Rows older than this go.
    pub age_max: Duration,
    /// The cluster, for gaps.
    pub cluster: String,
}

/// A place in the spool: just behind a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    segment: u64,
    offset: u64,
}

/// Rows to send, and what to acknowledge when they were taken.
#[derive(Debug, Default)]
pub struct Pending {
    /// The rows, oldest first.
    pub events: Vec<Event>,
    /// How many they are; stays when the rows are taken out.
    pub rows: u64,
    /// The gaps that the hub has not acknowledged.
    pub gaps: Vec<Gap>,
    /// The place behind the last row.
    pub place: Place,
}

/// The spool's metrics. Clones are the same values.
#[derive(Clone, Debug, Default)]
pub struct SpoolMetrics {
    /// Bytes on disk.
    pub bytes: Gauge,
    /// Rows not yet acknowledged.
    pub events: Gauge,
    /// Rows appended.
    pub appended: Counter,
    /// Rows lost, by reason: `spool_bytes`, `spool_age`, `spool_damaged`.
    pub dropped: ByReason,
    /// Appends that failed.
    pub failures: Counter,
}

impl SpoolMetrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("periplus_events_spool");
        r.register("bytes", "Bytes of the spool on disk", self.bytes.clone());
        r.register(
            "events",
            "Rows in the spool that the hub has not acknowledged",
            self.events.clone(),
        );
        r.register("appended", "Rows appended to the spool", self.appended.clone());
        r.register("dropped", "Rows lost from the spool, by reason", self.dropped.clone());
        r.register("failures", "Appends to the spool that failed", self.failures.clone());
    }
}

/// What is known of a segment without reading it.
#[derive(Clone, Debug, Default)]
struct Segment {
    id: u64,
    bytes: u64,
    events: u64,
    /// Of these acknowledged.
    acknowledged: u64,
    /// When its first and last frame were appended, microseconds since 1970.
    from_us: i64,
    to_us: i64,
}

#[derive(Debug)]
struct Inner {
    segments: VecDeque<Segment>,
    /// The youngest segment, open for appending.
    file: Option<File>,
    acknowledged: Place,
    gaps: Gaps,
    /// When the last frame that was read had been appended; 0 before the first.
    read_us: i64,
    /// Rows were lost since somebody last asked.
    lost: bool,
}

/// The spool. Its methods block on the disk.
#[derive(Debug)]
pub struct Spool {
    config: SpoolConfig,
    segment_bytes: u64,
    inner: Mutex<Inner>,
    metrics: SpoolMetrics,
    /// Something was appended.
    pub appended: tokio::sync::Notify,
}

impl Spool {
    /// Opens a spool, or makes one. What a crash left half-written is cut away.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(config: SpoolConfig, metrics: SpoolMetrics) -> io::Result<Self> {
        std::fs::create_dir_all(&config.directory)?;
        let acknowledged = read_place(&config.directory.join(ACKNOWLEDGED));
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&config.directory)? {
            if let Some(id) = segment::id_of(&entry?.file_name().to_string_lossy()) {
                ids.push(id);
            }
        }
        ids.sort_unstable();
        let mut segments = VecDeque::new();
        let mut gaps = Gaps::load(&config.directory);
        let last = ids.last().copied();
        for id in ids {
            let path = segment::path(&config.directory, id);
            let (mut scanned, whole) = scan(&path, id, acknowledged)?;
            let size = std::fs::metadata(&path)?.len();
            if size > scanned.bytes && Some(id) == last {
                tracing::warn!(path = %path.display(), size, whole = scanned.bytes,
                    "cutting off what a crash left half-written");
                if !whole {
                    gaps.add(&config.cluster, "spool_damaged", scanned.from_us, now_us(), 0);
                }
                File::options().write(true).open(&path)?.set_len(scanned.bytes)?;
            } else {
                // The damage is met when it is read.
                scanned.bytes = size;
            }
            segments.push_back(scanned);
        }
        // What is acknowledged may be of segments that are gone; ids never come back.
        if let Some(newest) = last.filter(|&id| id < acknowledged.segment) {
            tracing::warn!(newest, ?acknowledged, "the spool is older than its acknowledgements");
        }
        let segment_bytes = (config.bytes_max / 16).clamp(64 << 10, 8 << 20);
        let inner = Inner { segments, file: None, acknowledged, gaps, read_us: 0, lost: false };
        let spool = Self {
            config,
            segment_bytes,
            inner: Mutex::new(inner),
            metrics,
            appended: tokio::sync::Notify::new(),
        };
        {
            let mut inner = spool.inner.lock();
            spool.make_room(&mut inner, 0);
            spool.show(&inner);
        }
        Ok(spool)
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.config.directory
    }

    /// Appends rows.
    ///
    /// # Errors
    /// The disk's. Then nothing was appended, or some of the rows; none is half there.
    pub fn append(&self, events: &[Event]) -> io::Result<()> {
        for some in events.chunks(FRAME_EVENTS_MAX) {
            let now = now_us();
            let frame = segment::encode(some, now)?;
            let mut inner = self.inner.lock();
            let outcome = self.append_frame(&mut inner, &frame, some.len(), now);
            self.show(&inner);
            if let Err(error) = outcome {
                self.metrics.failures.inc();
                return Err(error);
            }
            self.metrics.appended.inc_by(some.len() as u64);
        }
        self.appended.notify_one();
        Ok(())
    }

    fn append_frame(
        &self,
        inner: &mut Inner,
        frame: &[u8],
        events: usize,
        now: i64,
    ) -> io::Result<()> {
        let bytes = frame.len() as u64;
        self.make_room(inner, bytes);
        let full = inner.segments.back().is_none_or(|s| s.bytes >= self.segment_bytes);
        if full {
            self.roll(inner)?;
        }
        let Inner { segments, file, .. } = inner;
        let Some(segment) = segments.back_mut() else {
            return Err(io::Error::other("no segment to append to"));
        };
        let path = segment::path(&self.config.directory, segment.id);
        let out = match file {
            Some(out) => out,
            None => file.insert(File::options().create(true).append(true).open(&path)?),
        };
        if let Err(error) = out.write_all(frame) {
            // A part of the frame may be there: what follows must not stand behind it.
            if out.set_len(segment.bytes).is_err() {
                *file = None;
                segments.push_back(Segment { id: segment_after(segments), ..Segment::default() });
            }
            return Err(error);
        }
        if segment.events == 0 {
            segment.from_us = now;
        }
        segment.to_us = segment.to_us.max(now);
        segment.bytes += bytes;
        segment.events += events as u64;
        Ok(())
    }

    /// Begins a new segment; the old one is made durable.
    fn roll(&self, inner: &mut Inner) -> io::Result<()> {
        if let Some(file) = inner.file.take() {
            file.sync_data()?;
        }
        let id = segment_after(&inner.segments).max(inner.acknowledged.segment + 1);
        let path = segment::path(&self.config.directory, id);
        inner.file = Some(File::options().create_new(true).append(true).open(path)?);
        File::open(&self.config.directory)?.sync_all()?;
        inner.segments.push_back(Segment { id, ..Segment::default() });
        Ok(())
    }

    /// Lets the oldest segments go while they are too old, or while there is no room for `more` bytes.
    fn make_room(&self, inner: &mut Inner, more: u64) {
        let oldest = self.oldest_us();
        loop {
            let total: u64 = inner.segments.iter().map(|s| s.bytes).sum();
            let Some(first) = inner.segments.front() else { return };
            let reason = if total + more > self.config.bytes_max {
                "spool_bytes"
            } else if first.events > 0 && first.to_us < oldest {
                "spool_age"
            } else {
                return;
            };
            self.drop_first(inner, reason);
        }
    }

    /// Before this time nothing in the spool was appended.
    fn oldest_us(&self) -> i64 {
        let age = i64::try_from(self.config.age_max.as_micros()).unwrap_or(i64::MAX);
        now_us().saturating_sub(age)
    }

    fn drop_first(&self, inner: &mut Inner, reason: &'static str) {
        let Some(segment) = inner.segments.pop_front() else { return };
        if inner.segments.is_empty() {
            inner.file = None;
        }
        if segment.events > segment.acknowledged {
            self.lose(inner, reason, &segment);
        }
        remove(&segment::path(&self.config.directory, segment.id));
        inner.acknowledged =
            inner.acknowledged.max(Place { segment: segment.id, offset: segment.bytes });
    }

    fn lose(&self, inner: &mut Inner, reason: &'static str, segment: &Segment) {
        let lost = segment.events.saturating_sub(segment.acknowledged);
        self.metrics.dropped.get_or_create(&Reason { reason }).inc_by(lost);
        tracing::warn!(reason, lost, "events were lost from the spool");
        inner.lost = true;
        inner.gaps.add(&self.config.cluster, reason, segment.from_us, segment.to_us, lost);
        if let Err(error) = inner.gaps.save(&self.config.directory) {
            tracing::warn!(%error, "keeping a gap");
        }
    }

    /// Reads rows that are not acknowledged, the oldest first: whole frames, at least one, further ones while there are
    /// at most `events_max` rows of at most `bytes_max` bytes in memory. Empty: there are none.
    ///
    /// # Errors
    /// The disk's.
    pub fn read(&self, events_max: usize, bytes_max: usize) -> io::Result<Pending> {
        let mut inner = self.inner.lock();
        self.make_room(&mut inner, 0);
        let mut pending =
            Pending { place: inner.acknowledged, gaps: inner.gaps.all(), ..Pending::default() };
        let mut bytes = 0;
        loop {
            let place = pending.place;
            let Some(segment) = inner.segments.iter().find(|s| {
                s.id > place.segment || (s.id == place.segment && s.bytes > place.offset)
            }) else {
                break;
            };
            let (id, end) = (segment.id, segment.bytes);
            let offset = if id == place.segment { place.offset } else { 0 };
            let path = segment::path(&self.config.directory, id);
            let mut frames = Frames::open(&path, offset)?;
            let outcome = loop {
                if frames.offset() >= end {
                    break Ok(());
                }
                match frames.next() {
                    Ok(Some(frame)) => {
                        let size: usize = frame.events.iter().map(Event::bytes).sum();
                        let fits = pending.events.len() + frame.events.len() <= events_max
                            && bytes + size <= bytes_max;
                        if !pending.events.is_empty() && !fits {
                            return Ok(pending);
                        }
                        bytes += size;
                        inner.read_us = frame.at_us;
                        pending.rows += frame.events.len() as u64;
                        pending.events.extend(frame.events);
                        pending.place = Place { segment: id, offset: frames.offset() };
                    }
                    Ok(None) => break Err(FrameError::Damaged("it ends too early")),
                    Err(error) => break Err(error),
                }
            };
            match outcome {
                Ok(()) => pending.place = Place { segment: id, offset: end },
                Err(FrameError::Io(error)) => return Err(error),
                // What was read before is sent first; then the damage is first in line.
                Err(_) if !pending.events.is_empty() => return Ok(pending),
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "a segment of the spool is damaged");
                    self.skip_damage(&mut inner, id);
                    pending.place = inner.acknowledged;
                    pending.gaps = inner.gaps.all();
                }
            }
        }
        Ok(pending)
    }

    /// Gives up the rest of a segment.
    fn skip_damage(&self, inner: &mut Inner, id: u64) {
        let youngest = inner.segments.back().is_some_and(|s| s.id == id);
        let Some(at) = inner.segments.iter().position(|s| s.id == id) else { return };
        let Some(mut segment) = inner.segments.remove(at) else { return };
        // What stood in the damaged part was appended after what was read before, and before what follows.
        let known = [segment.to_us, inner.read_us].into_iter().filter(|&us| us > 0).max();
        segment.from_us = known.unwrap_or_else(|| self.oldest_us());
        segment.to_us = inner.segments.get(at).map_or_else(now_us, |next| next.from_us);
        if youngest {
            inner.file = None;
        }
        self.lose(inner, "spool_damaged", &segment);
        remove(&segment::path(&self.config.directory, id));
        let behind = Place { segment: id, offset: segment.bytes };
        inner.acknowledged = inner.acknowledged.max(behind);
        self.keep_place(inner.acknowledged);
        self.show(inner);
    }

    /// The hub has everything that a [`read`](Self::read) gave: segments without anything else are deleted.
    ///
    /// # Errors
    /// The disk's; what was acknowledged may then be sent again.
    pub fn acknowledge(&self, pending: &Pending) -> io::Result<()> {
        let mut inner = self.inner.lock();
        if inner.gaps.remove(&pending.gaps) {
            inner.gaps.save(&self.config.directory)?;
        }
        if pending.place <= inner.acknowledged {
            return Ok(());
        }
        inner.acknowledged = pending.place;
        self.keep_place(pending.place);
        let mut left = pending.rows;
        for segment in &mut inner.segments {
            if segment.id > pending.place.segment {
                break;
            }
            let take = left.min(segment.events - segment.acknowledged);
            segment.acknowledged += take;
            left -= take;
        }
        while let Some(first) = inner.segments.front() {
            let done = first.id < pending.place.segment
                || (first.id == pending.place.segment && first.bytes <= pending.place.offset);
            // The youngest goes only when it is full: else each acknowledgement would begin a new file.
            if !done || (inner.segments.len() == 1 && first.bytes < self.segment_bytes) {
                break;
            }
            let path = segment::path(&self.config.directory, first.id);
            inner.segments.pop_front();
            if inner.segments.is_empty() {
                inner.file = None;
            }
            remove(&path);
        }
        self.show(&inner);
        Ok(())
    }

    /// Keeps a gap until the hub has it.
    ///
    /// # Errors
    /// The disk's.
    pub fn gap(&self, gap: Gap) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.gaps.push(gap);
        inner.gaps.save(&self.config.directory)?;
        drop(inner);
        self.appended.notify_one();
        Ok(())
    }

    /// Makes all rows durable.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync(&self) -> io::Result<()> {
        // A second handle, so that appending goes on meanwhile.
        let file = self.inner.lock().file.as_ref().map(File::try_clone).transpose()?;
        file.map_or(Ok(()), |f| f.sync_data())
    }

    /// Whether rows were lost since this was last asked.
    #[must_use]
    pub fn take_lost(&self) -> bool {
        std::mem::take(&mut self.inner.lock().lost)
    }

    /// Counts rows that the hub will never take, as a gap too.
    pub fn refused(&self, reason: &'static str, events: &[&Event]) {
        let lost = events.len() as u64;
        let from = events.iter().map(|e| e.received_us).min().unwrap_or(0);
        let to = events.iter().map(|e| e.received_us).max().unwrap_or(0);
        self.metrics.dropped.get_or_create(&Reason { reason }).inc_by(lost);
        let mut inner = self.inner.lock();
        inner.gaps.add(&self.config.cluster, reason, from, to, lost);
        if let Err(error) = inner.gaps.save(&self.config.directory) {
            tracing::warn!(%error, "keeping a gap");
        }
    }

    /// Rows that are not acknowledged.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.inner.lock().segments.iter().map(|s| s.events - s.acknowledged).sum()
    }

    /// Whether all rows are acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn keep_place(&self, place: Place) {
        let text = format!("{} {}\n", place.segment, place.offset);
        let path = self.config.directory.join(ACKNOWLEDGED);
        // Not made durable: after a crash of the machine a few rows are sent again.
        let next = path.with_extension("next");
        let kept = std::fs::write(&next, text).and_then(|()| std::fs::rename(&next, &path));
        if let Err(error) = kept {
            tracing::warn!(%error, path = %path.display(), "keeping how far the hub acknowledged");
        }
    }

    fn show(&self, inner: &Inner) {
        let bytes: u64 = inner.segments.iter().map(|s| s.bytes).sum();
        let events: u64 = inner.segments.iter().map(|s| s.events - s.acknowledged).sum();
        self.metrics.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.metrics.events.set(i64::try_from(events).unwrap_or(i64::MAX));
    }
}

impl Sink for Spool {
    fn append(&self, events: Vec<Event>) -> io::Result<()> {
        Self::append(self, &events)
    }

    fn gap(&self, gap: Gap) -> io::Result<()> {
        Self::gap(self, gap)
    }

    fn sync(&self) -> io::Result<()> {
        Self::sync(self)
    }
}

fn segment_after(segments: &VecDeque<Segment>) -> u64 {
    segments.back().map_or(0, |s| s.id) + 1
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(%error, path = %path.display(), "deleting a segment of the spool");
    }
}

fn read_place(path: &Path) -> Place {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(segment)), Some(Ok(offset))) => Place { segment, offset },
        _ => Place::default(),
    }
}

/// What a segment holds, up to the first frame that is not whole, and whether that is only unfinished, not damaged.
fn scan(path: &Path, id: u64, acknowledged: Place) -> io::Result<(Segment, bool)> {
    let mut segment = Segment { id, ..Segment::default() };
    let mut frames = Frames::open(path, 0)?;
    let whole = loop {
        let head = match frames.skip() {
            Ok(Some(head)) => head,
            Ok(None) => break true,
            Err(FrameError::Io(error)) => return Err(error),
            Err(FrameError::Damaged(_)) => break false,
        };
        if segment.events == 0 {
            segment.from_us = head.at_us;
        }
        segment.to_us = segment.to_us.max(head.at_us);
        segment.events += u64::from(head.events);
        segment.bytes = frames.offset();
        let place = Place { segment: id, offset: segment.bytes };
        if place <= acknowledged {
            segment.acknowledged = segment.events;
        }
    };
    Ok((segment, whole))
}

/// Replaces a small file of the spool.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes)
}

/// Writes all bytes to a new file; for tests of damage.
#[cfg(test)]
pub(crate) fn overwrite(path: &Path, at: usize, bytes: &[u8]) -> io::Result<()> {
    use std::io::{Seek as _, SeekFrom};
    let mut file = File::options().write(true).open(path)?;
    file.seek(SeekFrom::Start(at as u64))?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests;
