//! What lies in the bucket, as planning sees it.

use std::collections::{BTreeMap, BTreeSet};

use periplus_columnar::{Day, Resolution};
use ulid::Ulid;

/// External labels.
pub type Stream = BTreeMap<String, String>;

/// A block that says it is for more days is not believed.
pub const DAYS_MAX: i32 = 400;

/// A stream's labels less those that tell replicas apart.
#[must_use]
pub fn reduced(stream: &Stream, replica_labels: &[String]) -> Stream {
    let kept = stream.iter().filter(|(name, _)| !replica_labels.contains(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// A stream as people read it.
#[must_use]
pub fn stream_name(stream: &Stream) -> String {
    periplus_bucket::blocks::meta::stream_name(stream)
}

/// A block that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// Its name.
    pub id: Ulid,
    /// Its external labels.
    pub stream: Stream,
    /// What its samples stand for.
    pub resolution: Resolution,
    /// The first millisecond it is for.
    pub min_t: i64,
    /// The last one.
    pub max_t: i64,
    /// The blocks it was made from.
    pub sources: BTreeSet<Ulid>,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its samples, as it says.
    pub samples: u64,
    /// It is to be deleted: nothing is made from it any more.
    pub is_going: bool,
    /// It is not to be merged with others.
    pub no_compact: bool,
    /// It is not to be downsampled.
    pub no_downsample: bool,
}

impl BlockInfo {
    /// The days it is for.
    pub fn days(&self) -> impl Iterator<Item = Day> + use<> {
        let first = Day::of_ms(self.min_t).0;
        let last = Day::of_ms(self.max_t).0;
        (first..=last.min(first.saturating_add(DAYS_MAX))).map(Day)
    }
}

/// A committed part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartInfo {
    /// Its name.
    pub id: Ulid,
    /// Its external labels.
    pub stream: Stream,
    /// Labels that were taken out of them by merging replicas.
    pub replica_labels: Vec<String>,
    /// Its day.
    pub day: Day,
    /// What its samples stand for.
    pub resolution: Resolution,
    /// The blocks whose samples of that day are in it.
    pub sources: BTreeSet<Ulid>,
    /// What it was made from, for people; a single `block ULID` tells a block that stands alone.
    pub inputs: Vec<String>,
    /// Series in it; 0 where there was nothing that day.
    pub series: u64,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Something that may be quarantined.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A whole block.
    Block(Ulid),
    /// A day of a block.
    BlockDay(Ulid, Day),
    /// A part.
    Part(Ulid),
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Blocks that are whole.
    pub blocks: Vec<BlockInfo>,
    /// Parts that are committed.
    pub parts: Vec<PartInfo>,
    /// What nothing is made from.
    pub quarantined: BTreeSet<Subject>,
    /// Now.
    pub now_ms: i64,
}

/// The world, sorted.
pub(super) struct Index<'a> {
    pub(super) world: &'a World,
    /// Blocks by stream and resolution.
    pub(super) blocks: BTreeMap<(&'a Stream, Resolution), Vec<&'a BlockInfo>>,
    /// Parts by stream, resolution and day.
    parts: BTreeMap<Resolution, BTreeMap<&'a Stream, BTreeMap<Day, Vec<&'a PartInfo>>>>,
}

impl<'a> Index<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        let mut blocks: BTreeMap<_, Vec<&BlockInfo>> = BTreeMap::new();
        for block in &world.blocks {
            if !block.is_going && !world.quarantined.contains(&Subject::Block(block.id)) {
                blocks.entry((&block.stream, block.resolution)).or_default().push(block);
            }
        }
        let mut parts: BTreeMap<_, BTreeMap<&Stream, BTreeMap<Day, Vec<&PartInfo>>>> =
            BTreeMap::new();
        for part in &world.parts {
            let streams = parts.entry(part.resolution).or_default();
            let days = streams.entry(&part.stream).or_default();
            days.entry(part.day).or_default().push(part);
        }
        Self { world, blocks, parts }
    }

    /// A stream's parts of a day.
    pub(super) fn parts(&self, stream: &Stream, res: Resolution, day: Day) -> &[&'a PartInfo] {
        let days = self.parts.get(&res).and_then(|streams| streams.get(stream));
        days.and_then(|days| days.get(&day)).map_or(&[], Vec::as_slice)
    }

    /// All streams' parts of a resolution by day.
    pub(super) fn days<'s>(
        &'s self,
        resolution: Resolution,
    ) -> impl Iterator<Item = (&'a Stream, Day, &'s [&'a PartInfo])> {
        let streams = self.parts.get(&resolution).into_iter().flatten();
        streams.flat_map(|(stream, days)| {
            days.iter().map(move |(day, parts)| (*stream, *day, parts.as_slice()))
        })
    }

    /// Whether something may be used.
    pub(super) fn is_usable(&self, subject: &Subject) -> bool {
        !self.world.quarantined.contains(subject)
    }

    /// Whether a part is that of a single block that is not to be merged with others.
    pub(super) fn stands_alone(&self, part: &PartInfo) -> bool {
        let blocks = self.world.blocks.iter().filter(|b| b.no_compact);
        let inputs: Vec<_> = part.inputs.iter().filter(|i| !i.starts_with("erased ")).collect();
        match inputs.as_slice() {
            [only] => blocks.into_iter().any(|b| **only == format!("block {}", b.id)),
            _ => false,
        }
    }
}

/// The sources of several parts.
pub(super) fn sources_of(parts: &[&PartInfo]) -> BTreeSet<Ulid> {
    parts.iter().flat_map(|p| p.sources.iter().copied()).collect()
}
