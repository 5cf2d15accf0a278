//! What rules gave, as blocks: on disk, so that a restart loses nothing of it, and in the bucket, where
//! it becomes history like everything else.
//!
//! Every two hours (and when the process ends) the samples since the last block are written as one, in
//! Thanos's layout with `source: ruler`; at the start the newest blocks are read back into memory. A block
//! leaves the disk once it is in the bucket and older than what is kept in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use periplus_block::Block;
use periplus_block::chunk::{decode_samples, encode};
use periplus_block::meta::{Meta, Thanos, ThanosFile};
use periplus_block::write::{BlockInfo, BlockWriter};
use periplus_bucket::upload::{UploadOptions, Uploader};
use periplus_bucket::{Bucket, Key};
use periplus_model::{Labels, SampleBuffer, TimeRange};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::head::Head;
use super::serve::encodable;

/// The times a block is for.
const RANGE_MS: i64 = 2 * 3_600_000;
/// How long after its end a block is written: groups that look back in time are late.
const LATE_MS: i64 = 15 * 60_000;
/// How often there may be something to do.
const EVERY: Duration = Duration::from_secs(30);

/// Blocks can't be written, read or sent.
#[derive(Debug, thiserror::Error)]
#[error("blocks of rules in {dir}: {reason}", dir = dir.display())]
pub struct BlocksError {
    dir: PathBuf,
    reason: String,
}

/// The blocks of a ruler.
#[derive(Debug)]
pub struct Blocks {
    dir: PathBuf,
    head: Arc<Head>,
    external: Labels,
    bucket: Option<Bucket>,
    keep_ms: i64,
    /// Everything before this time is in a block.
    written: Option<i64>,
}

impl Blocks {
    /// Blocks below `data`; those of the last `keep_ms` are read into `head`.
    ///
    /// # Errors
    /// The directory can't be used. A block that can't be read is left alone, and named in the log.
    pub fn open(
        data: &Path,
        head: Arc<Head>,
        external: Labels,
        bucket: Option<Bucket>,
        keep_ms: i64,
    ) -> Result<Self, BlocksError> {
        let dir = data.join("rules-blocks");
        let mut this = Self { dir, head, external, bucket, keep_ms, written: None };
        std::fs::create_dir_all(&this.dir).map_err(|e| this.fail(&e))?;
        let from = super::now_ms() - keep_ms;
        let mut all = this.local()?;
        all.sort_by_key(|(meta, _)| meta.min_time);
        for (meta, dir) in all {
            this.written = this.written.max(Some(meta.max_time));
            if meta.max_time < from {
                continue;
            }
            if let Err(error) = this.read(&dir) {
                tracing::error!(block = %meta.ulid, error, "a block of rules can't be read");
            }
        }
        Ok(this)
    }

    fn fail(&self, e: &dyn std::fmt::Display) -> BlocksError {
        BlocksError { dir: self.dir.clone(), reason: e.to_string() }
    }

    /// The blocks on disk.
    fn local(&self) -> Result<Vec<(Meta, PathBuf)>, BlocksError> {
        let mut out = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(|e| self.fail(&e))?.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if name.to_str().and_then(|n| n.parse::<Ulid>().ok()).is_none() {
                continue;
            }
            let bytes = std::fs::read(path.join("meta.json"));
            match bytes
                .map_err(|e| e.to_string())
                .and_then(|b| Meta::parse(&b).map_err(|e| e.to_string()))
            {
                Ok(meta) => out.push((meta, path)),
                Err(error) => tracing::error!(block = ?name, error, "a block of rules is bad"),
            }
        }
        Ok(out)
    }

    fn read(&self, dir: &Path) -> Result<(), String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let block = Block::open(dir).map_err(|e| text(&e))?;
        for reference in block.select(&[]).map_err(|e| text(&e))? {
            let series = block.series(reference).map_err(|e| text(&e))?;
            let mut samples = SampleBuffer::default();
            for chunk in &series.chunks {
                let stored = block.chunk(&series, chunk).map_err(|e| text(&e))?;
                let encoding = stored.encoding().map_err(|e| text(&e))?;
                decode_samples(encoding, &stored.payload, TimeRange::ALL, &mut samples)
                    .map_err(|e| text(&e))?;
            }
            self.head.load(series.labels, &samples);
        }
        Ok(())
    }

    /// Writes everything before `until_ms` that is in no block yet; `None` where there is nothing.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn cut(&mut self, until_ms: i64) -> Result<Option<Ulid>, BlocksError> {
        let Some(from) = self.written.or_else(|| self.head.oldest()) else { return Ok(None) };
        if until_ms <= from {
            return Ok(None);
        }
        let range = TimeRange::new(from, until_ms - 1);
        let mut series = self.head.select(&[], range);
        if series.is_empty() {
            self.written = Some(until_ms);
            return Ok(None);
        }
        series.sort_by(|a, b| a.0.cmp(&b.0));
        let ulid = Ulid::generate();
        let mut writer = BlockWriter::create(&self.dir, ulid).map_err(|e| self.fail(&e))?;
        for (labels, samples) in &series {
            let chunks = encode(&encodable(samples)).map_err(|e| self.fail(&e))?;
            writer.add(labels, &chunks).map_err(|e| self.fail(&e))?;
        }
        let labels = self.external.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let thanos = Thanos { version: 1, labels, source: "ruler".to_owned(), ..Thanos::default() };
        let info = BlockInfo { range: Some(range), thanos: Some(thanos), ..BlockInfo::default() };
        writer.finish(info).map_err(|e| self.fail(&e))?;
        self.written = Some(until_ms);
        tracing::info!(block = %ulid, series = series.len(), "what rules gave is in a block");
        Ok(Some(ulid))
    }

    /// Writes blocks as their time comes, sends them, clears away; until `end`, and once more then.
    pub async fn run(mut self, end: CancellationToken) {
        let mut every = tokio::time::interval(EVERY);
        loop {
            let last = tokio::select! {
                _ = every.tick() => false,
                () = end.cancelled() => true,
            };
            let now = super::now_ms();
            let due = (now - LATE_MS).div_euclid(RANGE_MS) * RANGE_MS;
            let until = if last { now } else { due };
            let work = tokio::task::spawn_blocking(move || {
                let done = self.cut(until);
                (self, done)
            });
            let Ok((this, done)) = work.await else { return };
            self = this;
            if let Err(error) = done {
                tracing::error!(%error, "samples of rules stay in memory only");
            }
            if last {
                return;
            }
            if let Err(error) = self.send().await {
                tracing::error!(%error, "blocks of rules wait");
            }
            self.clear(now);
        }
    }

    fn mark(&self, id: Ulid) -> PathBuf {
        self.dir.join(format!("{id}.sent"))
    }

    /// Sends blocks that are not in the bucket, oldest first; `meta.json` last.
    ///
    /// # Errors
    /// The bucket refuses or does not answer.
    pub async fn send(&self) -> Result<usize, BlocksError> {
        let Some(bucket) = &self.bucket else { return Ok(0) };
        let uploader = Uploader::new(UploadOptions::default());
        let mut all = self.local()?;
        all.sort_by_key(|(meta, _)| meta.min_time);
        let mut sent = 0;
        for (mut meta, dir) in all {
            if self.mark(meta.ulid).exists() {
                continue;
            }
            let mut files = Vec::new();
            for path in block_files(&dir).map_err(|e| self.fail(&e))? {
                let key = Key::block_file(meta.ulid, &path).map_err(|e| self.fail(&e))?;
                let done = uploader.put_file(bucket, &key, &dir.join(&path)).await;
                let size_bytes = done.map_err(|e| self.fail(&e))?.digest.size;
                files.push(ThanosFile { rel_path: path, size_bytes, hash: None });
            }
            files.push(ThanosFile { rel_path: "meta.json".to_owned(), size_bytes: 0, hash: None });
            if let Some(thanos) = &mut meta.thanos {
                let segments = files.iter().filter_map(|f| f.rel_path.strip_prefix("chunks/"));
                thanos.segment_files = segments.map(str::to_owned).collect();
                thanos.files = files;
            }
            let bytes = Bytes::from(meta.to_bytes());
            bucket.put(&Key::block_meta(meta.ulid), bytes).await.map_err(|e| self.fail(&e))?;
            std::fs::write(self.mark(meta.ulid), b"").map_err(|e| self.fail(&e))?;
            sent += 1;
        }
        Ok(sent)
    }

    /// Removes blocks that are older than what is kept in memory, and in the bucket if there is one.
    fn clear(&self, now: i64) {
        for (meta, dir) in self.local().unwrap_or_default() {
            let safe = self.bucket.is_none() || self.mark(meta.ulid).exists();
            if safe && meta.max_time < now - self.keep_ms - RANGE_MS {
                // What is left over is looked at again.
                let _ = std::fs::remove_dir_all(dir);
                let _ = std::fs::remove_file(self.mark(meta.ulid));
            }
        }
    }
}

/// Chunk segments and index, as paths inside the block.
fn block_files(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir.join("chunks"))? {
        if let Some(name) = entry?.file_name().to_str() {
            out.push(format!("chunks/{name}"));
        }
    }
    out.sort();
    out.push("index".to_owned());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;
    use crate::ruler::evaluate::{Point, SampleValue, Sink as _};

    fn point(name: &str, t: i64, v: f64) -> Point {
        (Labels::from_pairs([("__name__", name), ("a", "b")]), t, SampleValue::Float(v))
    }

    #[tokio::test]
    async fn what_is_written_is_read_back_and_sent() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = tempfile::tempdir().expect("a directory");
        let url = format!("file://{}", store.path().display());
        let at = periplus_bucket::Location::parse(&url).expect("a location");
        let bucket = Bucket::open(&at, &periplus_bucket::OpenOptions::default()).expect("a bucket");
        let external = Labels::from_pairs([("ruler", "x")]);
        let head = Arc::new(Head::new(10, Gauge::default()));
        let now = crate::ruler::now_ms();
        let points: Vec<Point> =
            (0..300).map(|i| point("rec", now - 300_000 + i * 1000, i as f64)).collect();
        assert!(head.append(&points).iter().all(Result::is_ok));
        let open = |head: &Arc<Head>| {
            Blocks::open(
                dir.path(),
                Arc::clone(head),
                external.clone(),
                Some(bucket.clone()),
                3_600_000,
            )
            .expect("opened")
        };
        let mut blocks = open(&head);
        let id = blocks.cut(now + 1).expect("written").expect("a block");
        assert_eq!(blocks.cut(now + 1).expect("nothing"), None);
        assert!(periplus_block::check::check(blocks.dir.join(id.to_string())).is_ok());
        assert_eq!(blocks.send().await.expect("sent"), 1);
        assert_eq!(blocks.send().await.expect("nothing"), 0);
        let meta =
            std::fs::read(store.path().join(id.to_string()).join("meta.json")).expect("there");
        let meta = Meta::parse(&meta).expect("a description");
        let thanos = meta.thanos.expect("a section");
        assert_eq!((thanos.source.as_str(), thanos.files.len()), ("ruler", 3));
        // A restart finds it again.
        let again = Arc::new(Head::new(10, Gauge::default()));
        let blocks = open(&again);
        assert_eq!(again.select(&[], TimeRange::ALL), head.select(&[], TimeRange::ALL));
        assert_eq!(blocks.written, Some(now + 1));
    }
}
