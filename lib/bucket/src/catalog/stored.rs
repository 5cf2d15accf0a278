//! The two kinds of objects the catalog is made of, and how they are sealed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::part::{Month, PREFIX, Part};
use crate::bucket::{Bucket, Version};
use crate::error::BucketError;
use crate::key::Key;

/// A larger root or manifest is refused.
const BYTES_MAX: u64 = 64 << 20;
const MAGIC: &str = "periplus-catalog 1 sha256=";

/// The key of the root.
pub(super) fn root_key() -> Result<Key, BucketError> {
    Ok(Key::parse(&format!("{PREFIX}/catalog/root"))?)
}

/// Where manifests lie.
pub(super) fn manifests() -> Result<Key, BucketError> {
    Ok(Key::parse(&format!("{PREFIX}/catalog/manifests"))?)
}

/// The root: which manifests there are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Root {
    /// Grows by one with each commit.
    pub(super) generation: u64,
    /// Makes every write another one.
    pub(super) nonce: String,
    /// When it was written; for people.
    pub(super) written: String,
    /// External labels of each stream, by its digits.
    pub(super) streams: BTreeMap<String, BTreeMap<String, String>>,
    /// A manifest for each stream and month, ascending.
    pub(super) manifests: Vec<ManifestAt>,
    /// Manifests that were replaced, until no reader of an older root can want them.
    #[serde(default)]
    pub(super) replaced: Vec<Replaced>,
}

/// Where the manifest of a stream and month is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ManifestAt {
    pub(super) stream: String,
    pub(super) month: Month,
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) parts: u64,
}

/// A manifest that was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Replaced {
    pub(super) key: String,
    pub(super) since_ms: i64,
}

/// A part whose files stay for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Superseded {
    /// The part.
    pub part: Arc<Part>,
    /// Since when no root names it, Unix milliseconds by the clock of who removed it.
    pub since_ms: i64,
}

/// The parts of a stream and month.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) stream: String,
    pub(super) month: Month,
    pub(super) parts: Vec<Arc<Part>>,
    #[serde(default)]
    pub(super) superseded: Vec<Superseded>,
}

impl Manifest {
    pub(super) fn new(stream: &str, month: Month) -> Self {
        Self { stream: stream.to_owned(), month, parts: Vec::new(), superseded: Vec::new() }
    }

    /// The key of a new version of it.
    pub(super) fn new_key(&self) -> Result<Key, BucketError> {
        let (stream, month, version) = (&self.stream, self.month, Ulid::generate());
        Ok(manifests()?.join(&format!("{stream}/{month}-{version}"))?)
    }

    fn check(&self, at: &ManifestAt) -> Result<(), String> {
        if self.stream != at.stream || self.month != at.month {
            return Err(format!("it is of {} in {}", self.stream, self.month));
        }
        let mut seen = BTreeSet::new();
        for part in self.parts.iter().chain(self.superseded.iter().map(|s| &s.part)) {
            part.check().map_err(|e| e.to_string())?;
            if part.stream() != self.stream || Month::of_day(part.day) != self.month {
                return Err(format!("part {} is of another stream or month", part.part));
            }
            if !seen.insert(part.part) {
                return Err(format!("part {} is in it twice", part.part));
            }
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn hash(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

/// JSON behind a line with its hash.
pub(super) fn seal(
    bucket: &Bucket,
    key: &Key,
    value: &impl Serialize,
) -> Result<Bytes, BucketError> {
    let body = serde_json::to_vec(value).map_err(|e| bucket.malformed(key, e))?;
    let mut out = format!("{MAGIC}{}\n", hash(&body)).into_bytes();
    out.extend_from_slice(&body);
    Ok(Bytes::from(out))
}

fn unseal<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let end = bytes.iter().take(128).position(|b| *b == b'\n').ok_or("it has no first line")?;
    let (line, body) = bytes.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    let sealed = std::str::from_utf8(line).ok().and_then(|l| l.strip_prefix(MAGIC));
    let sealed = sealed.ok_or("its first line is not that of a catalog of version 1")?;
    if sealed != hash(body) {
        return Err("its hash does not match: it was altered or cut short".to_owned());
    }
    serde_json::from_slice(body).map_err(|e| format!("it can't be read: {e}"))
}

/// The root and its version; `None`: there is no catalog yet.
pub(super) async fn read_root(bucket: &Bucket) -> Result<Option<(Root, Version)>, BucketError> {
    let key = root_key()?;
    let Some((bytes, version)) = bucket.get(&key, BYTES_MAX).await? else { return Ok(None) };
    let bad = |reason: String| {
        bucket.malformed(&key, reason + " (periplus bucket rebuild-catalog makes it anew)")
    };
    let root: Root = unseal(&bytes).map_err(bad)?;
    let prefix = manifests()?;
    let mut before: Option<&ManifestAt> = None;
    for at in &root.manifests {
        let is_ours = Key::parse(&at.key).is_ok_and(|k| k.within(&prefix).is_some());
        let ascends = before.is_none_or(|b| (&b.stream, b.month) < (&at.stream, at.month));
        if !is_ours || !ascends || !root.streams.contains_key(&at.stream) {
            return Err(bad(format!("its entry for {} in {} makes no sense", at.stream, at.month)));
        }
        before = Some(at);
    }
    Ok(Some((root, version)))
}

/// A manifest; `None`: it is not there.
pub(super) async fn read_manifest(
    bucket: &Bucket,
    at: &ManifestAt,
) -> Result<Option<Manifest>, BucketError> {
    let key = Key::parse(&at.key)?;
    let Some((bytes, _)) = bucket.get(&key, BYTES_MAX).await? else { return Ok(None) };
    let bad = |reason: String| {
        bucket.malformed(&key, reason + " (periplus bucket rebuild-catalog makes it anew)")
    };
    let manifest: Manifest = unseal(&bytes).map_err(bad)?;
    manifest.check(at).map_err(bad)?;
    Ok(Some(manifest))
}
