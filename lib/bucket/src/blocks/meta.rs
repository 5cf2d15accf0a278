//! The fields of `meta.json` that tell blocks apart.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::key::Key;

/// A larger `meta.json` is refused.
pub const META_BYTES_MAX: u64 = 16 << 20;

/// A block as its `meta.json` describes it. Everything else in that file is left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockMeta {
    /// Its name.
    pub ulid: Ulid,
    /// The first millisecond it is for.
    pub min_time: i64,
    /// The millisecond after the last one.
    pub max_time: i64,
    /// Counts.
    #[serde(default)]
    pub stats: Stats,
    /// What it was made from.
    pub compaction: Compaction,
    /// 1.
    pub version: u64,
    /// Whose it is; absent in blocks that were not shipped.
    #[serde(default)]
    pub thanos: Thanos,
}

/// Counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    /// Samples.
    pub num_samples: u64,
    /// Series.
    pub num_series: u64,
    /// Chunks.
    pub num_chunks: u64,
}

/// What a block was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compaction {
    /// 1 comes from the head.
    pub level: u64,
    /// The level-1 blocks in it.
    #[serde(default)]
    pub sources: Vec<Ulid>,
}

/// Whose a block is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thanos {
    /// External labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How it was downsampled.
    #[serde(default)]
    pub downsample: Downsample,
    /// Who made it.
    #[serde(default)]
    pub source: String,
    /// Its files.
    #[serde(default)]
    pub files: Vec<File>,
    /// What others keep here.
    #[serde(default)]
    pub extensions: serde_json::Value,
}

/// How a block was downsampled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downsample {
    /// Milliseconds between samples; 0: raw.
    #[serde(default)]
    pub resolution: i64,
}

/// A file of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its path in the block.
    pub rel_path: String,
    /// Its size; absent for `meta.json` itself.
    #[serde(default)]
    pub size_bytes: u64,
    /// Its hash, where one was computed.
    #[serde(default)]
    pub hash: Option<Hash>,
}

/// A file's hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hash {
    /// `SHA256`
    #[serde(rename = "hashFunc")]
    pub func: String,
    /// In hexadecimal.
    pub value: String,
}

impl BlockMeta {
    /// Reads the `meta.json` of the block of that name.
    ///
    /// # Errors
    /// A sentence: no such JSON, another version, another block, times that run backwards, files
    /// that are not in the block.
    pub fn parse(id: Ulid, bytes: &[u8]) -> Result<Self, String> {
        let meta: Self =
            serde_json::from_slice(bytes).map_err(|e| format!("it is no meta.json: {e}"))?;
        if meta.version != 1 {
            return Err(format!("version {} is not supported; 1 is", meta.version));
        }
        if meta.ulid != id {
            return Err(format!("it describes another block, {}", meta.ulid));
        }
        if meta.min_time > meta.max_time {
            return Err(format!("its times run backwards: {} > {}", meta.min_time, meta.max_time));
        }
        for file in &meta.thanos.files {
            Key::block_file(id, &file.rel_path).map_err(|e| e.to_string())?;
        }
        Ok(meta)
    }

    /// The stream it belongs to, with its resolution: `{a="b", c="d"} raw`.
    #[must_use]
    pub fn stream(&self) -> String {
        stream_name(&self.thanos.labels)
    }

    /// Bytes of all its files that tell them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.thanos.files.iter().map(|f| f.size_bytes).fold(0, u64::saturating_add)
    }

    /// Whether it is a snapshot of a head that will be replaced; see
    /// [`HEAD_SNAPSHOT`].
    #[must_use]
    pub fn is_head_snapshot(&self) -> bool {
        self.thanos.extensions.get("periplus").is_some_and(|p| p.get(HEAD_SNAPSHOT).is_some())
    }
}

/// The field of `thanos.extensions.periplus` that marks a block as a snapshot of a head.
pub const HEAD_SNAPSHOT: &str = "head_snapshot";

/// External labels as people read them; the same labels always give the same text.
#[must_use]
pub fn stream_name(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}
