//! `meta.json`: what a block is, and in Thanos's buckets whose.
//!
//! Prometheus writes everything but the `thanos` section; fields that are not known here are kept
//! and written back as they were. Nothing in this file is ever used as a path before it has passed
//! [`Meta::parse`], which refuses names that leave the block's directory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use ulid::Ulid;

use periplus_model::TimeRange;

use crate::error::{BlockFile, FileError};

/// A larger file is refused. Real ones have kilobytes; one per segment file and source block.
const FILE_BYTES_MAX: usize = 16 << 20;

/// The content of `meta.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// The block's name, unique; changes with every compaction.
    pub ulid: Ulid,
    /// The first millisecond the block is for.
    pub min_time: i64,
    /// The millisecond after the last one it is for.
    pub max_time: i64,
    /// Counts.
    #[serde(default)]
    pub stats: Stats,
    /// Where it comes from.
    pub compaction: Compaction,
    /// The file's format: 1.
    pub version: u64,
    /// What Thanos adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thanos: Option<Thanos>,
    /// Fields not known here.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn is_false(b: &bool) -> bool {
    !*b
}

/// Counts of a block's contents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    /// Samples of both kinds.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_samples: u64,
    /// Float samples.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_float_samples: u64,
    /// Histogram samples.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_histogram_samples: u64,
    /// Series.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_series: u64,
    /// Chunks.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_chunks: u64,
    /// Deletions.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_tombstones: u64,
    /// Fields not known here.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a block was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compaction {
    /// How often its oldest parts were compacted; 1 comes from the head.
    pub level: u64,
    /// The level-1 blocks it consists of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Ulid>,
    /// The blocks it was directly made from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<Parent>,
    /// Whether it came out empty and may go.
    #[serde(default, skip_serializing_if = "is_false")]
    pub deletable: bool,
    /// Whether compacting it failed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub failed: bool,
    /// Marks such as `from-out-of-order`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// Fields not known here.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A block that another one was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parent {
    /// Its name.
    pub ulid: Ulid,
    /// The first millisecond it is for.
    pub min_time: i64,
    /// The millisecond after the last one it is for.
    pub max_time: i64,
}

/// What Thanos adds to `meta.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Thanos {
    /// The section's format; 1, or absent for the same.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub version: u64,
    /// The external labels of the Prometheus that wrote the block.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How it was downsampled.
    #[serde(default)]
    pub downsample: Downsample,
    /// Who uploaded it: `sidecar`, `compactor`, ….
    #[serde(default)]
    pub source: String,
    /// The names of the chunk segments (older form of `files`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segment_files: Vec<String>,
    /// Its files with their sizes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ThanosFile>,
    /// Fields not known here: rewrites, index statistics, extensions, upload time.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A downsampled block's resolution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downsample {
    /// Milliseconds between samples; 0 for raw ones.
    #[serde(default)]
    pub resolution: i64,
}

/// A file of a block in a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThanosFile {
    /// Its path inside the block's directory.
    pub rel_path: String,
    /// Its size; absent for `meta.json` itself.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size_bytes: u64,
    /// Its hash, where one was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<ThanosHash>,
}

/// A file's hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThanosHash {
    /// `SHA256`.
    #[serde(rename = "hashFunc")]
    pub func: String,
    /// The hash in hexadecimal.
    pub value: String,
}

const WHAT: &str = "the description";

fn bad(reason: impl Into<String>) -> FileError {
    FileError::corrupt(BlockFile::Meta, WHAT, 0, reason)
}

impl Meta {
    /// Reads a `meta.json`.
    ///
    /// # Errors
    /// No such JSON, another version, times that run backwards, file names that lead elsewhere.
    pub fn parse(bytes: &[u8]) -> Result<Self, FileError> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(bad(format!("it is larger than {FILE_BYTES_MAX} bytes")));
        }
        let meta: Self = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        if meta.version != 1 {
            return Err(FileError::Version {
                file: BlockFile::Meta,
                version: meta.version,
                supported: "1",
            });
        }
        if meta.min_time > meta.max_time {
            return Err(bad(format!(
                "minTime {} is after maxTime {}",
                meta.min_time, meta.max_time
            )));
        }
        if let Some(thanos) = &meta.thanos {
            if thanos.version > 1 {
                let (file, version) = (BlockFile::Meta, thanos.version);
                return Err(FileError::Version { file, version, supported: "1 (thanos section)" });
            }
            let paths = thanos.files.iter().map(|f| f.rel_path.as_str());
            let segments = thanos.segment_files.iter().map(String::as_str);
            if let Some(path) = paths.chain(segments).find(|p| !is_inside(p)) {
                return Err(bad(format!(
                    "it names the file {path:?}, which is not inside a block"
                )));
            }
        }
        Ok(meta)
    }

    /// The file's bytes, indented as Prometheus writes them.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let indent = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut to = serde_json::Serializer::with_formatter(&mut out, indent);
        // Writing plain data with string keys into memory has nothing to fail on.
        let done = self.serialize(&mut to);
        debug_assert!(done.is_ok(), "{done:?}");
        out
    }

    /// The times the block is for; both ends lie inside.
    #[must_use]
    pub fn range(&self) -> TimeRange {
        TimeRange::new(self.min_time, self.max_time.saturating_sub(1).max(self.min_time))
    }
}

/// Whether a path stays inside the directory it is relative to: plain components, none of them
/// empty, `.` or `..`.
fn is_inside(path: &str) -> bool {
    path.len() <= 255
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !path.contains(|c: char| c == '\\' || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(more: &str) -> String {
        format!(
            r#"{{"ulid":"01M7Z84CYJN2ZEKJRGP0QWZAGA","minTime":0,"maxTime":7200000,
            "compaction":{{"level":1}},"version":1,"future":{{"x":[1]}}{more}}}"#
        )
    }

    #[test]
    fn unknown_fields_survive() {
        let text =
            meta(r#","thanos":{"labels":{"cluster":"a"},"rewrites":[1],"source":"sidecar"}"#);
        let m = Meta::parse(text.as_bytes()).unwrap();
        let again: Value = serde_json::from_slice(&m.to_bytes()).unwrap();
        assert_eq!(again["future"]["x"][0], 1);
        assert_eq!(again["thanos"]["rewrites"][0], 1);
        assert_eq!(Meta::parse(&m.to_bytes()).unwrap(), m);
        assert_eq!(m.range(), TimeRange::new(0, 7_199_999));
    }

    #[test]
    fn hostile_ones_are_refused() {
        for path in ["../index", "chunks/../../x", "/etc/passwd", "a//b", "chunks\\..\\x", ".", ""]
        {
            let files = format!(r#","thanos":{{"files":[{{"rel_path":{path:?}}}]}}"#);
            assert!(Meta::parse(meta(&files).as_bytes()).is_err(), "{path}");
            let files = format!(r#","thanos":{{"segment_files":[{path:?}]}}"#);
            assert!(Meta::parse(meta(&files).as_bytes()).is_err(), "{path}");
        }
        for text in [
            meta("").replace("01M7Z84CYJN2ZEKJRGP0QWZAGA", "../../../etc/passwd00000000"),
            meta("").replace(r#""version":1"#, r#""version":2"#),
            meta("").replace(r#""minTime":0"#, r#""minTime":7200001"#),
            "[".repeat(100_000),
            String::new(),
        ] {
            assert!(Meta::parse(text.as_bytes()).is_err());
        }
    }
}
