//! Whether a block in the bucket is what its `meta.json` says.

use std::collections::BTreeMap;

use serde::Serialize;
use ulid::Ulid;

use crate::blocks::meta::BlockMeta;
use crate::blocks::scan::{Found, MetaProblem};
use crate::bucket::Bucket;
use crate::error::BucketError;
use crate::key::Key;
use crate::upload::{UploadOptions, Uploader};

/// What is wrong with a block, or between blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Which block.
    pub block: Ulid,
    /// A word for programs: `partial`, `malformed-meta`, `missing`, `size`, `hash`, `no-index`,
    /// `no-chunks`, `unlisted`, `overlap`, `duplicate`; of others `contents`, `quarantined`.
    pub kind: &'static str,
    /// A sentence for people.
    pub details: String,
}

impl Problem {
    fn new(block: Ulid, kind: &'static str, details: impl Into<String>) -> Self {
        Self { block, kind, details: details.into() }
    }
}

/// Holds a block's objects against its description: presence and sizes; with `hashes` also reads
/// every file that has a hash.
///
/// # Errors
/// The store refuses or does not answer.
pub async fn block(
    bucket: &Bucket,
    found: &Found,
    hashes: bool,
) -> Result<Vec<Problem>, BucketError> {
    let id = found.id;
    let meta = match &found.meta {
        Ok(meta) => meta,
        Err(MetaProblem::Partial) => {
            let text = format!(
                "no meta.json, {} objects: an upload under way or given up",
                found.objects.len()
            );
            return Ok(vec![Problem::new(id, "partial", text)]);
        }
        Err(MetaProblem::Malformed(reason)) => {
            return Ok(vec![Problem::new(id, "malformed-meta", reason)]);
        }
    };
    let mut problems = Vec::new();
    if found.object("index").is_none() {
        problems.push(Problem::new(id, "no-index", "the index is missing"));
    }
    if meta.stats.num_chunks > 0 && found.object("chunks/000001").is_none() {
        problems.push(Problem::new(id, "no-chunks", "the first chunk segment is missing"));
    }
    let uploader = Uploader::new(UploadOptions::default());
    for file in meta.thanos.files.iter().filter(|f| f.rel_path != "meta.json") {
        let Some(object) = found.object(&file.rel_path) else {
            problems.push(Problem::new(id, "missing", format!("{} is missing", file.rel_path)));
            continue;
        };
        if object.size != file.size_bytes {
            let text = format!(
                "{} has {} bytes, meta.json says {}",
                file.rel_path, object.size, file.size_bytes
            );
            problems.push(Problem::new(id, "size", text));
        } else if hashes && let Some(hash) = file.hash.as_ref().filter(|h| h.func == "SHA256") {
            let there = uploader.hash_object(bucket, &object.key, object.size).await?;
            if !there.eq_ignore_ascii_case(&hash.value) {
                let text = format!("{} has another SHA-256 than meta.json says", file.rel_path);
                problems.push(Problem::new(id, "hash", text));
            }
        }
    }
    if !meta.thanos.files.is_empty() {
        let directory = Key::block(id);
        for object in &found.objects {
            let path = object.key.within(&directory).unwrap_or("");
            let is_known = meta.thanos.files.iter().any(|f| f.rel_path == path)
                || path == "meta.json"
                || path.ends_with("-mark.json");
            if !is_known {
                let text = format!("{path} is not in meta.json");
                problems.push(Problem::new(id, "unlisted", text));
            }
        }
    }
    Ok(problems)
}

/// Blocks of one stream and resolution that say the same twice: overlapping times, or the same
/// source block in two. Blocks marked for deletion and snapshots of heads are left out; so are
/// replicas, which are streams of their own.
#[must_use]
pub fn between(all: &[Found]) -> Vec<Problem> {
    let mut groups: BTreeMap<_, Vec<&BlockMeta>> = BTreeMap::new();
    for found in all {
        let is_going = found.marks.contains_key(&crate::blocks::marks::MarkKind::Deletion);
        if let Ok(meta) = &found.meta
            && !is_going
            && !meta.is_head_snapshot()
        {
            let group = (meta.stream(), meta.thanos.downsample.resolution);
            groups.entry(group).or_default().push(meta);
        }
    }
    let mut problems = Vec::new();
    for ((stream, _), mut blocks) in groups {
        blocks.sort_by_key(|m| (m.min_time, m.max_time));
        let mut last: Option<&BlockMeta> = None;
        let mut holders: BTreeMap<Ulid, Ulid> = BTreeMap::new();
        for meta in blocks {
            if let Some(before) = last.filter(|b| b.max_time > meta.min_time) {
                let text = format!("overlaps {} of {stream}", before.ulid);
                problems.push(Problem::new(meta.ulid, "overlap", text));
            }
            for source in &meta.compaction.sources {
                if let Some(other) = holders.insert(*source, meta.ulid) {
                    let text = format!("holds {source} of {stream}, as {other} does");
                    problems.push(Problem::new(meta.ulid, "duplicate", text));
                }
            }
            if last.is_none_or(|b| b.max_time < meta.max_time) {
                last = Some(meta);
            }
        }
    }
    problems
}
