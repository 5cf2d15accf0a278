//! A part as the catalog describes it, checked, in the form that planning wants.

use periplus_bucket::{Key, catalog};
use periplus_columnar::{NameFilter, PartFile, Resolution};
use periplus_model::{Labels, TimeRange};
use ulid::Ulid;

/// One file of a part.
#[derive(Clone, Debug)]
pub struct StoredFile {
    /// Which.
    pub which: PartFile,
    /// Where it is.
    pub key: Key,
    /// Its size in bytes.
    pub size: u64,
    /// How many of its last bytes hold its footer and indexes.
    pub tail_len: u64,
    /// Their CRC-32.
    pub tail_crc32: u32,
}

/// A part.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its name.
    pub id: Ulid,
    /// Where its files are.
    pub directory: String,
    /// The external labels of all its series.
    pub external: Labels,
    /// The replica labels that merging took out; empty where it is of one replica.
    pub replica_labels: Vec<String>,
    /// Its day since 1970.
    pub day: i32,
    /// Its resolution; 0: as scraped.
    pub resolution_ms: i64,
    /// The blocks whose samples of that day are in it.
    pub sources: Vec<Ulid>,
    /// First and last sample; empty where it has none.
    pub range: TimeRange,
    /// Which metric names it may have.
    pub names: NameFilter,
    /// Its files; none where it has no samples.
    pub files: Vec<StoredFile>,
}

impl Part {
    /// From the catalog's entry.
    ///
    /// # Errors
    /// What in it can't be.
    pub fn new(entry: &catalog::Part) -> Result<Self, String> {
        let resolution = Resolution::ALL.iter().find(|r| r.as_str() == entry.resolution);
        let resolution = resolution.ok_or_else(|| format!("resolution {:?}", entry.resolution))?;
        let names = serde_json::Value::String(entry.names.clone());
        let mut files = Vec::with_capacity(entry.files.len());
        for f in &entry.files {
            let which = PartFile::ALL
                .into_iter()
                .find(|w| w.name().strip_suffix(".parquet").is_some_and(|stem| stem == f.file));
            files.push(StoredFile {
                which: which.ok_or_else(|| format!("a file {:?}", f.file))?,
                key: entry.key(&f.file).map_err(|e| e.to_string())?,
                size: f.size,
                tail_len: f.tail_len,
                tail_crc32: f.tail_crc32,
            });
        }
        let pairs = entry.external.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        Ok(Self {
            id: entry.part,
            directory: entry.directory.clone(),
            external: Labels::from_pairs(pairs),
            replica_labels: entry.replica_labels.clone(),
            day: entry.day,
            resolution_ms: resolution.ms(),
            sources: entry.sources.clone(),
            range: entry.range.map_or(TimeRange::new(0, -1), |(a, b)| TimeRange::new(a, b)),
            names: serde_json::from_value(names).map_err(|e| format!("its name filter: {e}"))?,
            files,
        })
    }

    /// One of its files.
    #[must_use]
    pub fn file(&self, which: PartFile) -> Option<&StoredFile> {
        self.files.iter().find(|f| f.which == which)
    }
}
