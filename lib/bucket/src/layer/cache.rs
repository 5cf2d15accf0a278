//! Keeps what never changes.
//!
//! A predicate says which objects those are; the files of a block are by their nature, because a
//! block that changes gets another ULID. Whole objects and bounded ranges are kept up to a number of
//! bytes; concurrent requests for the same one are one request. What this process puts or deletes is
//! forgotten here; what another process deletes is still answered until it is evicted or its time is
//! over, which is why the time is bounded.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use moka::future::Cache as Entries;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::key::parse_ulid;

/// One answer: the object's description and the bytes of a range of it.
#[derive(Clone, Debug)]
struct Kept {
    meta: ObjectMeta,
    start: u64,
    bytes: Bytes,
}

type Name = (Path, Option<(u64, u64)>);

/// Answers for immutable objects from memory.
pub struct Cache {
    inner: Arc<dyn ObjectStore>,
    is_immutable: fn(&str) -> bool,
    entry_bytes_max: u64,
    entries: Entries<Name, Kept>,
}

impl Cache {
    /// Keeps up to `bytes_max` bytes for at most `ttl`, no answer larger than an eighth of that.
    #[must_use]
    pub fn new(
        inner: Arc<dyn ObjectStore>,
        bytes_max: u64,
        ttl: Duration,
        is_immutable: fn(&str) -> bool,
    ) -> Self {
        let weigh = |name: &Name, kept: &Kept| {
            u32::try_from(name.0.as_ref().len() + kept.bytes.len() + 256).unwrap_or(u32::MAX)
        };
        let entries = Entries::builder()
            .max_capacity(bytes_max)
            .weigher(weigh)
            .time_to_live(ttl)
            .support_invalidation_closures()
            .build();
        Self { inner, is_immutable, entry_bytes_max: bytes_max / 8, entries }
    }

    async fn forget(&self, at: &Path) {
        let at = at.clone();
        // Fails only where closures are not supported, and they are.
        let _ = self.entries.invalidate_entries_if(move |name, _| name.0 == at);
        self.entries.run_pending_tasks().await;
    }
}

/// Whether a key is a block's index, a chunk segment or its `meta.json`.
#[must_use]
pub fn is_block_file(key: &str) -> bool {
    let mut segments = key.rsplit('/');
    let block = match (segments.next(), segments.next()) {
        (Some("index" | "meta.json"), block) => block,
        (Some(n), Some("chunks")) if n.bytes().all(|b| b.is_ascii_digit()) => segments.next(),
        _ => return false,
    };
    block.and_then(parse_ulid).is_some()
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl fmt::Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inner)
    }
}

fn answer(kept: Kept) -> GetResult {
    let range = kept.start..kept.start + kept.bytes.len() as u64;
    GetResult {
        payload: GetResultPayload::Stream(stream::iter([Ok(kept.bytes)]).boxed()),
        meta: kept.meta,
        range,
        attributes: object_store::Attributes::new(),
    }
}

#[async_trait]
impl ObjectStore for Cache {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let result = self.inner.put_opts(at, payload, opts).await;
        self.forget(at).await;
        result
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.forget(at).await;
        self.inner.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let range = match &options.range {
            None => None,
            Some(GetRange::Bounded(r)) => Some((r.start, r.end)),
            Some(_) => return self.inner.get_opts(at, options).await,
        };
        let is_plain = options.if_match.is_none()
            && options.if_none_match.is_none()
            && options.if_modified_since.is_none()
            && options.if_unmodified_since.is_none()
            && options.version.is_none()
            && !options.head;
        let is_large = range.is_some_and(|(a, b)| b.saturating_sub(a) > self.entry_bytes_max);
        if !is_plain || is_large || !(self.is_immutable)(at.as_ref()) {
            return self.inner.get_opts(at, options).await;
        }
        let name = (at.clone(), range);
        if let Some(kept) = self.entries.get(&name).await {
            return Ok(answer(kept));
        }
        let found = self.inner.get_opts(at, options).await?;
        if found.range.end.saturating_sub(found.range.start) > self.entry_bytes_max {
            return Ok(found);
        }
        let (meta, start) = (found.meta.clone(), found.range.start);
        let kept = Kept { meta, start, bytes: found.bytes().await? };
        self.entries.insert(name, kept.clone()).await;
        Ok(answer(kept))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let entries = self.entries.clone();
        self.inner
            .delete_stream(locations)
            .inspect(move |deleted| {
                if let Ok(at) = deleted {
                    let at = at.clone();
                    let _ = entries.invalidate_entries_if(move |name, _| name.0 == at);
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let result = self.inner.copy_opts(from, to, options).await;
        self.forget(to).await;
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_files() {
        let id = "01M7Z93MDS9J4WQZYN95AFEATR";
        for name in ["index", "meta.json", "chunks/000001"] {
            assert!(is_block_file(&format!("{id}/{name}")));
            assert!(is_block_file(&format!("tenant/{id}/{name}")));
        }
        for name in ["deletion-mark.json", "chunks/x", "chunks/index", "x/meta.json"] {
            assert!(!is_block_file(&format!("{id}/{name}")), "{name}");
        }
        assert!(!is_block_file("index") && !is_block_file("x/index"));
    }
}
