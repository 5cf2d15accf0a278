//! Snapshots of the head: what is no block yet.
//!
//! Prometheus's admin API writes its head as a block into a snapshot beside hard links of the others.
//! That block is shipped with the mark that it is a snapshot (`thanos.extensions.periplus.head_snapshot`),
//! and marked as not to be compacted or downsampled, so that tools which merge blocks leave it alone. It
//! is replaced by the next one, and by blocks that reach as far. Replacing takes two rounds: first
//! it is marked for deletion, in the next round deleted, so that readers can let go of it.
//!
//! Which snapshots are in the bucket is written down *before* one is sent, so a death in between
//! leaves nothing that nobody knows of. When the cluster burns down, the last one stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use periplus_bucket::blocks::marks::MarkKind;
use serde::{Deserialize, Serialize};
use serde_json::json;
use ulid::Ulid;

use super::ShipError;
use super::local::{self, LocalBlock};
use super::shipper::{Shipper, age};
use super::state::replace;
use super::upload::{self, Attributes};

/// A larger file is not believed.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    block: Ulid,
    max_time: i64,
    is_whole: bool,
    is_marked: bool,
}

/// Snapshots in the bucket, as far as this data directory knows.
#[derive(Debug, Default)]
pub struct Heads {
    path: PathBuf,
    records: Vec<Record>,
}

impl Heads {
    pub(super) fn load(directory: &Path) -> Self {
        let path = directory.join("heads.json");
        let is_small = fs::metadata(&path).is_ok_and(|m| m.len() <= FILE_BYTES_MAX);
        let bytes = if is_small { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let records = serde_json::from_slice(&bytes).unwrap_or_default();
        Self { path, records }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    fn save(&self) -> Result<(), ShipError> {
        replace(&self.path, &serde_json::to_vec_pretty(&self.records).unwrap_or_default())
    }
}

impl Shipper {
    /// Ships a snapshot of the head, and lets go of earlier ones. Gives the snapshot's block; `None`:
    /// the head has nothing in it.
    ///
    /// # Errors
    /// Prometheus makes no snapshot; the destination refuses or does not answer; another sidecar has
    /// the stream.
    pub async fn ship_head(&mut self) -> Result<Option<Ulid>, ShipError> {
        let labels = self.stream()?;
        self.hold(&labels).await?;
        let Some(upstream) = self.upstream.clone() else {
            return Err(ShipError::Config(
                "snapshots of the head need Prometheus's URL".to_owned(),
            ));
        };
        // A block that is compacted away while the snapshot is made is no head.
        let before = self.names().await?;
        let name = upstream.snapshot().await?;
        let directory = self.config.tsdb.join("snapshots").join(&name);
        let sent = self.send_head(&directory, before).await;
        // It was made for this, and takes space with its links.
        local::remove(&directory)?;
        let sent = sent?;
        self.retire_heads().await?;
        if let Some(newest) =
            self.heads.records.iter().filter(|r| r.is_whole).map(|r| r.max_time).max()
        {
            self.metrics.head_lag_seconds.set(age(newest));
        }
        Ok(sent)
    }

    async fn names(&self) -> Result<BTreeSet<Ulid>, ShipError> {
        let found = self.scan(self.config.tsdb.clone()).await?;
        Ok(found.blocks.iter().map(|b| b.meta.ulid).collect())
    }

    async fn send_head(
        &mut self,
        directory: &Path,
        before: BTreeSet<Ulid>,
    ) -> Result<Option<Ulid>, ShipError> {
        let after = self.names().await?;
        let snapshot = self.scan(directory.to_owned()).await?;
        let mut newest = None;
        for block in snapshot.blocks {
            let id = block.meta.ulid;
            let is_head = !before.contains(&id) && !after.contains(&id) && !self.shipped.has(id);
            if is_head && block.meta.stats.num_samples > 0 {
                self.send_snapshot(&block).await?;
                newest = Some(id);
            }
        }
        Ok(newest)
    }

    async fn send_snapshot(&mut self, block: &LocalBlock) -> Result<(), ShipError> {
        let labels = self.stream()?;
        let (id, max_time) = (block.meta.ulid, block.meta.max_time);
        self.heads.records.push(Record { block: id, max_time, is_whole: false, is_marked: false });
        self.heads.save()?;
        let Some(linked) = block.link(&self.place.upload())? else { return Ok(()) };
        let now = jiff::Timestamp::now().to_string();
        let extensions = json!({ "periplus": { "head_snapshot": { "taken": now } } });
        let with = Attributes { labels: &labels, extensions: Some(extensions) };
        let sent = async {
            for kind in [MarkKind::NoCompact, MarkKind::NoDownsample] {
                self.to.mark(id, kind, "a snapshot of the head, replaced by its block").await?;
            }
            upload::send(self.to.as_ref(), block, &linked, &with, self.config.files).await
        };
        let sent = sent.await;
        linked.unlink()?;
        let bytes = sent?;
        if let Some(record) = self.heads.records.last_mut() {
            record.is_whole = true;
        }
        self.heads.save()?;
        self.metrics.heads.inc();
        self.metrics.bytes.inc_by(bytes);
        tracing::info!(block = %id, bytes, to = self.to.name(), "head shipped");
        Ok(())
    }

    /// Marks snapshots that are replaced, and deletes those that were marked before.
    ///
    /// # Errors
    /// The destination refuses or does not answer.
    pub async fn retire_heads(&mut self) -> Result<(), ShipError> {
        let newest = self.heads.records.iter().filter(|r| r.is_whole).map(|r| r.block).max();
        let local = self.names().await?;
        let labels = self.stream()?;
        let (mut kept, mut failed) = (Vec::new(), None);
        for record in self.heads.records.clone() {
            let is_replaced = newest.is_some_and(|n| record.block < n)
                || self.newest_shipped.is_some_and(|end| end >= record.max_time);
            if !is_replaced {
                kept.push(record);
                continue;
            }
            if local.contains(&record.block) {
                tracing::warn!(block = %record.block, "written down as a snapshot of the head, but it is a local block; it stays");
                continue;
            }
            match self.retire(&record, &labels).await {
                Ok(Some(record)) => kept.push(record),
                Ok(None) => {}
                Err(error) => {
                    kept.push(record);
                    failed = Some(error);
                }
            }
        }
        self.heads.records = kept;
        self.heads.save()?;
        failed.map_or(Ok(()), Err)
    }

    /// One step of letting go of a snapshot; `None`: it is gone.
    async fn retire(
        &self,
        record: &Record,
        labels: &BTreeMap<String, String>,
    ) -> Result<Option<Record>, ShipError> {
        match self.to.meta(record.block).await? {
            Some(meta) if !meta.is_head_snapshot() || meta.thanos.labels != *labels => {
                tracing::warn!(block = %record.block, "written down as a snapshot of the head, but it is none; it stays");
                return Ok(None);
            }
            Some(_) if !record.is_marked => {
                let text = "replaced by a newer snapshot or its block";
                self.to.mark(record.block, MarkKind::Deletion, text).await?;
                return Ok(Some(Record { is_marked: true, ..record.clone() }));
            }
            // An upload or a deletion that was broken off has no description.
            Some(_) | None => {}
        }
        self.to.delete(record.block).await?;
        Ok(None)
    }
}
