//! Recent rows, merged.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::block::Block;
use super::columns::Row;
use super::files::FileList;
use super::summary::RowKey;
use crate::event::Event;
use crate::log::SegmentId;
use crate::wire::Gap;

/// Rows that are packed together.
pub const BLOCK_ROWS: usize = 4096;
/// Bytes of rows that are packed together at the latest.
const OPEN_BYTES_MAX: usize = 4 << 20;
/// Rows wait so long for others to be packed with.
const OPEN_US_MAX: i64 = 1_800_000_000;
/// The index grows by shards, never all at once.
const SHARDS: usize = 64;
/// Gaps kept; the oldest go first.
const GAPS_MAX: usize = 10_000;
/// Microseconds of a day.
pub const DAY_US: i64 = 86_400_000_000;

/// Keys are hashes already.
#[derive(Debug, Default)]
pub struct Already(u64);

impl Hasher for Already {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, n: u64) {
        self.0 = self.0.rotate_left(7) ^ n;
    }

    fn write_usize(&mut self, _: usize) {}
}

#[derive(Clone, Copy, Debug)]
struct Place {
    block: u32,
    row: u32,
}

type Shard = HashMap<RowKey, Place, BuildHasherDefault<Already>>;

/// Rows of a block that count no more.
#[derive(Clone, Debug, Default)]
pub struct Dead {
    words: Box<[u64]>,
    count: usize,
}

impl Dead {
    fn add(&mut self, row: usize, rows: usize) {
        if self.words.is_empty() {
            self.words = vec![0; rows.div_ceil(64)].into();
        }
        if let Some(word) = self.words.get_mut(row / 64) {
            let bit = 1 << (row % 64);
            self.count += usize::from(*word & bit == 0);
            *word |= bit;
        }
    }

    /// Whether a row counts no more.
    #[must_use]
    pub fn holds(&self, row: usize) -> bool {
        self.words.get(row / 64).is_some_and(|w| w >> (row % 64) & 1 == 1)
    }
}

/// A packed block and what became of its rows.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The rows.
    pub block: Arc<Block>,
    /// Those that count no more.
    pub dead: Arc<Dead>,
    /// What orders states: resource versions, and a hash of the whole state.
    states: Arc<[(u64, u32)]>,
    /// The oldest segment of the log that a row came from.
    segment: SegmentId,
}

impl Sealed {
    fn first_id(&self) -> i64 {
        self.block.columns.ids.first().copied().unwrap_or(i64::MAX)
    }

    fn last_id(&self) -> i64 {
        self.block.columns.ids.last().copied().unwrap_or(i64::MIN)
    }

    fn bytes(&self) -> usize {
        self.block.bytes() + self.states.len() * 16 + self.dead.words.len() * 8 + 200
    }

    /// Rows that count, ascending by number.
    #[must_use]
    pub fn live(&self) -> Vec<Row> {
        let rows = self.block.all().into_iter().enumerate();
        rows.filter(|(i, _)| !self.dead.holds(*i)).map(|(_, r)| r).collect()
    }
}

/// All that a question needs, as it was at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Packed rows, ascending by number.
    pub sealed: Vec<Sealed>,
    /// The newest rows, ascending by number.
    pub open: Vec<Arc<Row>>,
    /// Rows below are in files, and only there.
    pub evicted_below: i64,
    /// The files.
    pub files: Arc<FileList>,
    /// Rows in files that count no more.
    pub dead: Arc<HashSet<i64>>,
    /// The newest row's number.
    pub last_id: i64,
}

/// A row's content as a number, the receiver's time aside.
#[expect(clippy::cast_possible_truncation, reason = "a hash")]
fn state_hash(event: &Event) -> u32 {
    let state = Event { received_us: 0, ..event.clone() };
    let json = serde_json::to_vec(&state).unwrap_or_default();
    xxhash_rust::xxh3::xxh3_64(&json) as u32
}

/// Recent rows and what is known of the others.
#[derive(Debug)]
pub struct Memory {
    seed: u64,
    index: Vec<Shard>,
    sealed: VecDeque<Sealed>,
    sealed_bytes: usize,
    /// The number of the first sealed block.
    base: u32,
    open: Vec<Option<Arc<Row>>>,
    open_live: usize,
    open_bytes: usize,
    open_segment: Option<SegmentId>,
    evicted_below: i64,
    flushed_below: i64,
    dead: Arc<HashSet<i64>>,
    gaps: BTreeMap<(String, String), Gap>,
    files: Arc<FileList>,
    last_id: i64,
}

impl Memory {
    /// Empty, over files that hold everything below their list's `flushed_below`.
    #[must_use]
    pub fn new(files: Arc<FileList>) -> Self {
        let gaps = files.gaps.iter().map(|g| ((g.cluster.clone(), g.id.clone()), g.clone()));
        Self {
            seed: files.seed,
            index: (0..SHARDS).map(|_| Shard::default()).collect(),
            sealed: VecDeque::new(),
            sealed_bytes: 0,
            base: 0,
            open: Vec::new(),
            open_live: 0,
            open_bytes: 0,
            open_segment: None,
            evicted_below: files.flushed_below,
            flushed_below: files.flushed_below,
            dead: Arc::new(files.dead.iter().copied().collect()),
            gaps: gaps.collect(),
            last_id: files.flushed_below,
            files,
        }
    }

    /// The key of a row.
    #[must_use]
    pub fn key(&self, cluster: &str, uid: &str) -> RowKey {
        RowKey::new(self.seed, cluster, uid)
    }

    fn shard(&mut self, key: RowKey) -> &mut Shard {
        let n = (key.0[1] >> 58) as usize % SHARDS;
        &mut self.index[n]
    }

    fn find(&self, key: RowKey) -> Option<Place> {
        self.index.get((key.0[1] >> 58) as usize % SHARDS)?.get(&key).copied()
    }

    /// Whether memory has a row of this key.
    #[must_use]
    pub fn has(&self, key: RowKey) -> bool {
        self.find(key).is_some()
    }

    /// Rows below are in files only.
    #[must_use]
    pub const fn evicted_below(&self) -> i64 {
        self.evicted_below
    }

    /// Rows below are in files.
    #[must_use]
    pub const fn flushed_below(&self) -> i64 {
        self.flushed_below
    }

    /// The newest row's number.
    #[must_use]
    pub const fn last_id(&self) -> i64 {
        self.last_id
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> Arc<FileList> {
        Arc::clone(&self.files)
    }

    /// Rows in files that count no more.
    #[must_use]
    pub fn dead(&self) -> Arc<HashSet<i64>> {
        Arc::clone(&self.dead)
    }

    /// Bytes taken, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let index: usize = self.index.iter().map(|s| s.capacity() * 8 / 7 * 25).sum();
        self.sealed_bytes + self.open_bytes + index + self.dead.len() * 16
    }

    /// Bytes of packed rows that are in no file yet.
    #[must_use]
    pub fn unflushed_bytes(&self) -> usize {
        let unflushed = self.sealed.iter().rev().take_while(|s| s.last_id() >= self.flushed_below);
        unflushed.map(Sealed::bytes).sum()
    }

    /// Rows that count.
    #[must_use]
    pub fn rows(&self) -> usize {
        let sealed: usize = self.sealed.iter().map(|s| s.block.columns.rows() - s.dead.count).sum();
        sealed + self.open_live
    }

    /// How `new` relates to the row at a place: `Greater` is a later state.
    fn order(&self, new: &Event, at: Place) -> std::cmp::Ordering {
        let block = (at.block.wrapping_sub(self.base)) as usize;
        let row = at.row as usize;
        let Some(sealed) = self.sealed.get(block) else {
            let old = self.open.get(row).and_then(Option::as_ref);
            return old.map_or(std::cmp::Ordering::Greater, |old| new.state_order(&old.event));
        };
        let columns = &sealed.block.columns;
        let (version, hash) = sealed.states.get(row).copied().unwrap_or_default();
        let last = columns.last.get(row).copied().unwrap_or_default();
        let count = columns.count.get(row).copied().unwrap_or_default();
        let order = (new.resource_version, new.last_us, new.count).cmp(&(version, last, count));
        if order.is_ne() {
            return order;
        }
        if state_hash(new) == hash {
            return std::cmp::Ordering::Equal;
        }
        new.state_order(&sealed.block.row(row).event)
    }

    /// Counts a row no more. Gives its count.
    fn bury(&mut self, at: Place) -> u32 {
        let block = (at.block.wrapping_sub(self.base)) as usize;
        let row = at.row as usize;
        let Some(sealed) = self.sealed.get_mut(block) else {
            let old = self.open.get_mut(row).and_then(Option::take);
            self.open_live -= usize::from(old.is_some());
            return old.map_or(0, |old| {
                self.open_bytes = self.open_bytes.saturating_sub(old.event.bytes());
                old.event.count
            });
        };
        let rows = sealed.block.columns.rows();
        Arc::make_mut(&mut sealed.dead).add(row, rows);
        let id = sealed.block.columns.ids.get(row).copied().unwrap_or_default();
        if id < self.flushed_below {
            Arc::make_mut(&mut self.dead).insert(id);
        }
        sealed.block.columns.count.get(row).copied().unwrap_or_default()
    }

    /// Takes in one state of a row. `filed` is the row of this key that lies in files only, where there is one.
    /// `None`: this state or a later one was here. Else the count of the state it takes the place of, 0 for a new row.
    pub fn merge(&mut self, segment: SegmentId, row: Row, filed: Option<&Row>) -> Option<u32> {
        self.last_id = self.last_id.max(row.id);
        let key = self.key(&row.event.cluster, &row.event.uid);
        let mut before = 0;
        match self.find(key) {
            Some(at) if self.order(&row.event, at).is_gt() => before = self.bury(at),
            Some(_) => return None,
            None => {
                if let Some(old) = filed {
                    if !row.event.supersedes(&old.event) {
                        return None;
                    }
                    Arc::make_mut(&mut self.dead).insert(old.id);
                    before = old.event.count;
                }
            }
        }
        let at = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
        let block = self.base.wrapping_add(u32::try_from(self.sealed.len()).unwrap_or(u32::MAX));
        self.shard(key).insert(key, Place { block, row: at });
        self.open_bytes += row.event.bytes();
        self.open_segment = Some(self.open_segment.map_or(segment, |s| s.min(segment)));
        self.open.push(Some(Arc::new(row)));
        self.open_live += 1;
        Some(before)
    }

    /// Takes in a gap. Gives whether anything changed.
    pub fn merge_gap(&mut self, gap: Gap) -> bool {
        let key = (gap.cluster.clone(), gap.id.clone());
        if let Some(known) = self.gaps.get_mut(&key) {
            return known.merge(&gap);
        }
        if self.gaps.len() >= GAPS_MAX {
            let oldest = self.gaps.iter().min_by_key(|(_, g)| g.to_us).map(|(k, _)| k.clone());
            if let Some(oldest) = oldest {
                self.gaps.remove(&oldest);
            }
        }
        self.gaps.insert(key, gap);
        true
    }

    /// All gaps.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        self.gaps.values().cloned().collect()
    }

    /// Forgets gaps that ended before.
    pub fn forget_gaps(&mut self, before_us: i64) {
        self.gaps.retain(|_, g| g.to_us >= before_us);
    }

    /// Whether the open rows should be packed before a row numbered `next` comes: they are many or old, or it
    /// is of another day.
    #[must_use]
    pub fn is_full(&self, next: i64) -> bool {
        let first = self.open.iter().flatten().next().map_or(next, |r| r.id);
        self.open.len() >= BLOCK_ROWS
            || self.open_bytes >= OPEN_BYTES_MAX
            || next.saturating_sub(first) > OPEN_US_MAX
            || first.div_euclid(DAY_US) != next.div_euclid(DAY_US)
    }

    /// The open rows that count.
    #[must_use]
    pub fn open_rows(&self) -> Vec<Arc<Row>> {
        self.open.iter().flatten().cloned().collect()
    }

    /// Packs rows: to be called without any lock, on what [`Self::open_rows`] gave.
    #[must_use]
    pub fn pack(seed: u64, rows: &[Arc<Row>]) -> Option<Packed> {
        if rows.is_empty() {
            return None;
        }
        let key = |r: &Row| RowKey::new(seed, &r.event.cluster, &r.event.uid);
        let keyed: Vec<(RowKey, &Row)> = rows.iter().map(|r| (key(r), r.as_ref())).collect();
        let states = rows.iter().map(|r| (r.event.resource_version, state_hash(&r.event)));
        Some(Packed {
            block: Arc::new(Block::new(&keyed)),
            keys: keyed.iter().map(|(k, _)| *k).collect(),
            states: states.collect(),
        })
    }

    /// Puts packed rows in the place of the open ones. Nothing may have been merged in between.
    pub fn seal(&mut self, packed: Option<Packed>) {
        let segment = self.open_segment.take().unwrap_or(0);
        self.open = Vec::new();
        (self.open_live, self.open_bytes) = (0, 0);
        let Some(packed) = packed else { return };
        let block = self.base.wrapping_add(u32::try_from(self.sealed.len()).unwrap_or(u32::MAX));
        for (row, key) in (0..).zip(&packed.keys) {
            self.shard(*key).insert(*key, Place { block, row });
        }
        self.push(packed, segment);
    }

    fn push(&mut self, packed: Packed, segment: SegmentId) {
        let Packed { block, states, .. } = packed;
        let sealed = Sealed { block, states, dead: Arc::default(), segment };
        self.sealed_bytes += sealed.bytes();
        self.sealed.push_back(sealed);
    }

    /// Takes back rows from files, right below what memory holds: ascending, all live rows from `from_id` on.
    /// To be called before anything is merged.
    pub fn load(&mut self, from_id: i64, runs: Vec<Packed>) {
        for packed in runs {
            self.last_id = self.last_id.max(packed.block.columns.ids.last().copied().unwrap_or(0));
            let keys = packed.keys.clone();
            self.push(packed, SegmentId::MAX);
            let block = self.base.wrapping_add(u32::try_from(self.sealed.len() - 1).unwrap_or(0));
            for (row, key) in (0..).zip(&keys) {
                self.shard(*key).insert(*key, Place { block, row });
            }
        }
        self.evicted_below = from_id;
    }

    /// Everything a question needs.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            sealed: self.sealed.iter().cloned().collect(),
            open: self.open_rows(),
            evicted_below: self.evicted_below,
            files: Arc::clone(&self.files),
            dead: Arc::clone(&self.dead),
            last_id: self.last_id,
        }
    }

    /// About `max` live rows numbered above `id`, ascending, and the number up to which these are all.
    #[must_use]
    pub fn after(&self, id: i64, max: usize) -> (Vec<Row>, i64) {
        // One block at a time: unpacking happens under the lock.
        if let Some(sealed) = self.sealed.iter().find(|s| s.last_id() > id) {
            let ids = &sealed.block.columns.ids;
            let first = ids.partition_point(|i| *i <= id);
            let wanted: Vec<u32> = (first..ids.len())
                .filter(|row| !sealed.dead.holds(*row))
                .take(max)
                .map(|row| u32::try_from(row).unwrap_or(u32::MAX))
                .collect();
            let through = match wanted.last() {
                Some(last) if wanted.len() == max => ids.get(*last as usize).copied(),
                _ => Some(sealed.last_id()),
            };
            return (sealed.block.rows(&wanted), through.unwrap_or(id));
        }
        let mut out = Vec::new();
        let open = self.open.iter().flatten().filter(|r| r.id > id).take(max);
        out.extend(open.map(|r| Row::clone(r)));
        let through = match out.last() {
            Some(last) if out.len() == max => last.id,
            _ => self.last_id.max(id),
        };
        (out, through)
    }

    /// Packed blocks in no file whose newest row is numbered below `before`.
    #[must_use]
    pub fn settled(&self, before: i64) -> Vec<Sealed> {
        let unflushed = self.sealed.iter().filter(|s| s.first_id() >= self.flushed_below);
        unflushed.take_while(|s| s.last_id() < before).cloned().collect()
    }

    /// The rows of these blocks, as [`Self::settled`] gave them, are in the files of `files` now. Those that were
    /// superseded meanwhile are marked.
    pub fn flushed(&mut self, blocks: &[Sealed], files: Arc<FileList>) {
        let below = files.flushed_below;
        let was: HashMap<i64, &Sealed> = blocks.iter().map(|s| (s.first_id(), s)).collect();
        for now in &self.sealed {
            let Some(then) = was.get(&now.first_id()) else { continue };
            for (row, id) in now.block.columns.ids.iter().enumerate() {
                if now.dead.holds(row) && !then.dead.holds(row) {
                    Arc::make_mut(&mut self.dead).insert(*id);
                }
            }
        }
        self.flushed_below = self.flushed_below.max(below);
        self.files = files;
    }

    /// Other files hold the same rows, without those of `gone`.
    pub fn replaced(&mut self, files: Arc<FileList>, gone: &HashSet<i64>) {
        if !gone.is_empty() {
            Arc::make_mut(&mut self.dead).retain(|id| !gone.contains(id));
        }
        self.files = files;
    }

    /// The oldest segment of the log that is still needed; `current` where none is.
    #[must_use]
    pub fn log_floor(&self, current: SegmentId) -> SegmentId {
        let unflushed = self.sealed.iter().filter(|s| s.first_id() >= self.flushed_below);
        let oldest = unflushed.map(|s| s.segment).chain(self.open_segment).min();
        oldest.unwrap_or(current).min(current)
    }

    /// Lets go of the oldest rows that are in files until `bytes` are left, and a bit more. Gives whether it did.
    pub fn evict(&mut self, bytes: usize) -> bool {
        if self.bytes() <= bytes {
            return false;
        }
        let (mut gone, target) = (0_u32, bytes - bytes / 16);
        while let Some(first) = self.sealed.front() {
            // What the index gives back is not seen before it shrinks: count about 40 bytes a row.
            let freed = gone as usize * BLOCK_ROWS * 40;
            if first.last_id() >= self.flushed_below || self.bytes().saturating_sub(freed) <= target
            {
                break;
            }
            self.evicted_below = first.last_id() + 1;
            self.sealed_bytes = self.sealed_bytes.saturating_sub(first.bytes());
            self.sealed.pop_front();
            gone += 1;
        }
        self.base = self.base.wrapping_add(gone);
        let count = u32::try_from(self.sealed.len()).unwrap_or(u32::MAX);
        let base = self.base;
        if gone > 0 {
            for shard in &mut self.index {
                shard.retain(|_, at| at.block.wrapping_sub(base) <= count);
                shard.shrink_to(shard.len() + shard.len() / 8);
            }
        }
        gone > 0
    }
}

/// Packed rows on their way into memory.
#[derive(Debug)]
pub struct Packed {
    block: Arc<Block>,
    keys: Vec<RowKey>,
    states: Arc<[(u64, u32)]>,
}
