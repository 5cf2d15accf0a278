//! What the catalog says of a part: its own description, and where its files are.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::key::Key;

/// Below this everything of the history lies.
pub const PREFIX: &str = "history/v1";
/// Milliseconds in a day.
const DAY_MS: i64 = 86_400_000;

/// What makes a part unfit for the catalog.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("part {part}: {reason}")]
pub struct PartError {
    /// Its name, as far as it has one.
    pub part: String,
    /// What is wrong.
    pub reason: String,
}

/// One file of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// `series`, `samples` or `histograms`; the object's name has `.parquet` behind it.
    pub file: String,
    /// Its size in bytes.
    pub size: u64,
    /// How many of its last bytes a reader needs first.
    pub tail_len: u64,
    /// CRC-32 of those.
    pub tail_crc32: u32,
    /// Its rows.
    pub rows: u64,
}

/// A part: one stream's data of one day at one resolution, or a share of it.
///
/// The fields are those of the description in the part's own footers, so that the catalog can be
/// made again from the files. A part without files is allowed: its sources have nothing for that
/// day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its name.
    pub part: Ulid,
    /// Where its files are.
    pub directory: String,
    /// The external labels of all its series.
    pub external: BTreeMap<String, String>,
    /// The replica labels that merging took out; empty where it is of one replica.
    #[serde(default)]
    pub replica_labels: Vec<String>,
    /// Its day: days since 1970-01-01 UTC.
    pub day: i32,
    /// `raw`, `5m` or `1h`.
    pub resolution: String,
    /// The level-1 blocks whose samples of that day are in it.
    pub sources: Vec<Ulid>,
    /// What it was made from.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// Labels that have a column of their own.
    #[serde(default)]
    pub promoted: Vec<String>,
    /// First and last sample, Unix milliseconds; `None` where there is none.
    pub range: Option<(i64, i64)>,
    /// Its series.
    pub series: u64,
    /// Its float samples or intervals.
    pub samples: u64,
    /// Its native histograms.
    pub histograms: u64,
    /// Which metric names may be in it: the filter of the description, as text.
    #[serde(default)]
    pub names: String,
    /// Its files.
    pub files: Vec<File>,
}

/// Names a part and says where the catalog has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartRef {
    /// The stream's 16 hexadecimal digits.
    pub stream: String,
    /// Its month.
    pub month: Month,
    /// Its name.
    pub part: Ulid,
}

impl fmt::Display for PartRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} in {}", self.part, self.stream, self.month)
    }
}

/// A month of the calendar: years times twelve plus months from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Month(pub i32);

impl Month {
    /// The month of a day.
    #[must_use]
    pub fn of_day(day: i32) -> Self {
        let date = jiff::civil::date(1970, 1, 1)
            .saturating_add(jiff::Span::new().days(i64::from(day).clamp(-4_000_000, 2_900_000)));
        Self(i32::from(date.year()) * 12 + i32::from(date.month()) - 1)
    }
}

/// `2026-11`
impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }
}

impl Part {
    /// The entry of a part: `description` is what its footers hold (or what its writer says when it
    /// has finished) with its files, `directory` where these were put.
    ///
    /// # Errors
    /// It is no description, or it contradicts itself.
    pub fn describe(description: &impl Serialize, directory: &str) -> Result<Self, PartError> {
        let nameless = |reason: String| PartError { part: directory.to_owned(), reason };
        let mut value = serde_json::to_value(description).map_err(|e| nameless(e.to_string()))?;
        if let Some(fields) = value.as_object_mut() {
            fields.insert("directory".to_owned(), directory.into());
        }
        let part: Self = serde_json::from_value(value).map_err(|e| nameless(e.to_string()))?;
        part.check()?;
        Ok(part)
    }

    /// The stream's 16 hexadecimal digits.
    #[must_use]
    pub fn stream(&self) -> &str {
        let rest = self.directory.strip_prefix(PREFIX).and_then(|d| d.strip_prefix('/'));
        rest.and_then(|d| d.split('/').next()).unwrap_or("")
    }

    /// How a [`super::Change`] names it.
    #[must_use]
    pub fn reference(&self) -> PartRef {
        let (stream, month) = (self.stream().to_owned(), Month::of_day(self.day));
        PartRef { stream, month, part: self.part }
    }

    /// First and last millisecond of its day.
    #[must_use]
    pub fn day_range(&self) -> (i64, i64) {
        let start = i64::from(self.day) * DAY_MS;
        (start, start + DAY_MS - 1)
    }

    /// One of its files: `series`, `samples` or `histograms`.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&File> {
        self.files.iter().find(|f| f.file == name)
    }

    /// The key of a file.
    ///
    /// # Errors
    /// The directory or the file's name is no key; a part that was checked has none such.
    pub fn key(&self, file: &str) -> Result<Key, crate::KeyError> {
        Key::parse(&format!("{}/{file}.parquet", self.directory))
    }

    /// The keys of all its files.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        self.files.iter().filter_map(|f| self.key(&f.file).ok()).collect()
    }

    /// Bytes of all its files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.size).fold(0, u64::saturating_add)
    }

    /// Whether the two say the same of the same stream, day and resolution: share a source.
    #[must_use]
    pub fn doubles(&self, other: &Self) -> bool {
        self.day == other.day
            && self.resolution == other.resolution
            && self.stream() == other.stream()
            && self.sources.iter().any(|s| other.sources.contains(s))
    }

    /// Holds together.
    pub(super) fn check(&self) -> Result<(), PartError> {
        let bad = |reason: String| Err(PartError { part: self.part.to_string(), reason });
        let stream = self.stream();
        if stream.len() != 16 || !stream.bytes().all(|b| b.is_ascii_hexdigit()) {
            return bad(format!("{:?} is no directory of a part", self.directory));
        }
        if !["raw", "5m", "1h"].contains(&self.resolution.as_str()) {
            return bad(format!("{:?} is no resolution", self.resolution));
        }
        let (first, last) = self.day_range();
        if let Some((min, max)) = self.range
            && (min > max || min < first || max > last)
        {
            return bad(format!("its samples, {min} to {max}, lie outside of its day"));
        }
        for file in &self.files {
            if !["series", "samples", "histograms"].contains(&file.file.as_str()) {
                return bad(format!("{:?} is no file of a part", file.file));
            }
            if let Err(e) = self.key(&file.file) {
                return bad(e.to_string());
            }
            if file.tail_len > file.size {
                return bad(format!("the tail of {:?} is longer than it", file.file));
            }
        }
        if !self.files.is_empty() && self.file("series").is_none() {
            return bad("it has files and none with its series".to_owned());
        }
        Ok(())
    }
}
