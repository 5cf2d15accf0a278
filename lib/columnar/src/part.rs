//! What a part is and where it lies.

use std::collections::BTreeMap;
use std::fmt;

use periplus_model::TimeRange;
use serde::{Deserialize, Serialize};
use ulid::Ulid;
use xxhash_rust::xxh3::xxh3_64;

use crate::names::NameFilter;

/// Milliseconds in a day.
pub const DAY_MS: i64 = 86_400_000;
/// Milliseconds in a window: each series has up to three rows in `series.parquet`.
pub const WINDOW_MS: i64 = DAY_MS / 3;
/// Windows in a day.
pub const WINDOWS: usize = 3;
/// The format's version, in the path and in every footer.
pub const FORMAT_VERSION: u32 = 1;
/// Below this prefix everything of this format lies.
pub const PREFIX: &str = "history/v1";

/// What a sample stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Resolution {
    /// The samples as they were scraped.
    #[serde(rename = "raw")]
    Raw,
    /// Five minutes of them.
    #[serde(rename = "5m")]
    FiveMinutes,
    /// An hour of them.
    #[serde(rename = "1h")]
    OneHour,
}

impl Resolution {
    /// All, finest first.
    pub const ALL: [Self; 3] = [Self::Raw, Self::FiveMinutes, Self::OneHour];

    /// Milliseconds between samples; 0 for raw. These are Thanos's numbers.
    #[must_use]
    pub const fn ms(self) -> i64 {
        match self {
            Self::Raw => 0,
            Self::FiveMinutes => 300_000,
            Self::OneHour => 3_600_000,
        }
    }

    /// The resolution of that many milliseconds.
    #[must_use]
    pub const fn from_ms(ms: i64) -> Option<Self> {
        match ms {
            0 => Some(Self::Raw),
            300_000 => Some(Self::FiveMinutes),
            3_600_000 => Some(Self::OneHour),
            _ => None,
        }
    }

    /// `raw`, `5m`, `1h`
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::FiveMinutes => "5m",
            Self::OneHour => "1h",
        }
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A UTC day: days since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(pub i32);

impl Day {
    /// The day that holds a millisecond.
    #[must_use]
    pub fn of_ms(ms: i64) -> Self {
        Self(i32::try_from(ms.div_euclid(DAY_MS)).unwrap_or(if ms < 0 {
            i32::MIN
        } else {
            i32::MAX
        }))
    }

    /// Its first millisecond.
    #[must_use]
    pub fn start_ms(self) -> i64 {
        i64::from(self.0) * DAY_MS
    }

    /// Its milliseconds.
    #[must_use]
    pub fn range(self) -> TimeRange {
        TimeRange::new(self.start_ms(), self.start_ms() + DAY_MS - 1)
    }

    /// The milliseconds of one of its windows, 0 to 2.
    #[must_use]
    pub fn window_range(self, window: usize) -> TimeRange {
        let start = self.start_ms() + window as i64 * WINDOW_MS;
        TimeRange::new(start, start + WINDOW_MS - 1)
    }

    /// Year, month and day, as the calendar has them (Howard Hinnant's days-to-civil).
    #[must_use]
    pub fn civil(self) -> (i64, u32, u32) {
        let z = i64::from(self.0) + 719_468;
        let era = z.div_euclid(146_097);
        let of_era = z.rem_euclid(146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        (year + era * 400 + i64::from(month <= 2), month as u32, day as u32)
    }
}

/// `2026-11-21`
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// The files of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartFile {
    /// A row per series and window; always there.
    Series,
    /// A row per float sample, or per aggregated interval; absent where there is none.
    Samples,
    /// A row per run of native histograms; absent where there is none.
    Histograms,
}

impl PartFile {
    /// All.
    pub const ALL: [Self; 3] = [Self::Series, Self::Samples, Self::Histograms];

    /// Its name in the part's directory.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Series => "series.parquet",
            Self::Samples => "samples.parquet",
            Self::Histograms => "histograms.parquet",
        }
    }

    /// The file of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.name() == name)
    }
}

/// What is known of a part before anything is written; lies as JSON in every footer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartMeta {
    /// Its name.
    pub part: Ulid,
    /// The external labels of every series in it. For the merged data of replicas: less the replica
    /// labels.
    pub external: BTreeMap<String, String>,
    /// The names of the replica labels that were taken out of `external` by merging; empty where the
    /// part is of one replica.
    #[serde(default)]
    pub replica_labels: Vec<String>,
    /// The day all of its samples lie in.
    pub day: Day,
    /// What its samples stand for.
    pub resolution: Resolution,
    /// The level-1 blocks whose samples of that day are in it, ascending.
    pub sources: Vec<Ulid>,
    /// What it was made from: blocks or parts; for people and for resuming.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// Labels that have a column of their own.
    #[serde(default)]
    pub promoted: Vec<String>,
}

impl PartMeta {
    /// The directory of its files, below the bucket's prefix.
    #[must_use]
    pub fn directory(&self) -> String {
        let (stream, day, resolution) = (stream_id(&self.external), self.day, self.resolution);
        format!("{PREFIX}/{stream}/day={day}/resolution={resolution}/part={}", self.part)
    }

    /// The key of one of its files.
    #[must_use]
    pub fn path(&self, file: PartFile) -> String {
        format!("{}/{}", self.directory(), file.name())
    }
}

/// 16 hexadecimal digits that stand for a set of external labels: equal for equal sets.
#[must_use]
pub fn stream_id(external: &BTreeMap<String, String>) -> String {
    let mut bytes = Vec::new();
    for part in external.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    format!("{:016x}", xxh3_64(&bytes))
}

/// One written file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSummary {
    /// Which.
    pub file: PartFile,
    /// Its size in bytes.
    pub size: u64,
    /// How many of its last bytes hold footer, page index and bloom filters: what a reader asks for
    /// first.
    pub tail_len: u64,
    /// CRC-32 of those bytes: nothing in Parquet covers them.
    pub tail_crc32: u32,
    /// Its rows.
    pub rows: u64,
}

/// What is known of a part when it is written. All but `files` also lies in its footers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartSummary {
    /// What was known before.
    #[serde(flatten)]
    pub meta: PartMeta,
    /// First and last sample; `None` where there is none.
    pub range: Option<(i64, i64)>,
    /// Series, each counted once however many windows it has.
    pub series: u64,
    /// Float samples, or aggregated intervals of them.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Which metric names may be in it.
    #[serde(default)]
    pub names: NameFilter,
    /// Its files; in a footer this is empty.
    #[serde(default)]
    pub files: Vec<FileSummary>,
}

impl PartSummary {
    /// First and last sample as a range, empty where there is none.
    #[must_use]
    pub fn time_range(&self) -> TimeRange {
        self.range.map_or(TimeRange::new(0, -1), |(a, b)| TimeRange::new(a, b))
    }

    /// One of its files.
    #[must_use]
    pub fn file(&self, file: PartFile) -> Option<&FileSummary> {
        self.files.iter().find(|f| f.file == file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_the_calendars() {
        for (ms, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (951_782_400_000, "2000-02-29"),
            (1_795_305_599_999, "2026-11-21"),
            (4_107_542_400_000, "2100-03-01"),
        ] {
            assert_eq!(Day::of_ms(ms).to_string(), text);
            assert!(Day::of_ms(ms).range().contains(ms));
        }
        assert_eq!(Day(3).window_range(2).max_t, Day(3).range().max_t);
    }

    #[test]
    fn stream_ids_tell_sets_apart() {
        let id = |pairs: &[(&str, &str)]| {
            stream_id(&pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
        };
        assert_eq!(id(&[("a", "b"), ("c", "d")]), id(&[("c", "d"), ("a", "b")]));
        assert_ne!(id(&[("a", "bc")]), id(&[("ab", "c")]));
        assert_eq!(id(&[]).len(), 16);
    }
}
