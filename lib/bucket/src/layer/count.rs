//! Counts requests: how many, how they ended, how long they took, how many bytes.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::error::kind_of;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    operation: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

/// The counters of one bucket; all label values are from fixed lists.
#[derive(Debug)]
pub struct Counters {
    operations: Family<Ended, Counter>,
    seconds: Family<Operation, Histogram>,
    bytes: Family<Operation, Counter>,
    retries: Counter,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            operations: Family::default(),
            seconds: Family::new_with_constructor(|| {
                Histogram::new([0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0])
            }),
            bytes: Family::default(),
            retries: Counter::default(),
        }
    }
}

impl Counters {
    /// Shows them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "periplus_bucket_operations",
            "Operations on the bucket by how they ended",
            self.operations.clone(),
        );
        registry.register(
            "periplus_bucket_operation_seconds",
            "How long operations on the bucket took, retries included",
            self.seconds.clone(),
        );
        registry.register(
            "periplus_bucket_bytes",
            "Bytes sent to the bucket (put) and asked of it (get)",
            self.bytes.clone(),
        );
        registry.register(
            "periplus_bucket_retries",
            "Operations that were tried again",
            self.retries.clone(),
        );
    }

    /// How many operations of a name there were (`get`, `head`, `put`, `part`, `complete`, `list`,
    /// `delete`, `copy`), however they ended.
    #[must_use]
    pub fn operations(&self, operation: &'static str) -> u64 {
        const RESULTS: [&str; 9] = [
            "ok",
            "not_found",
            "conflict",
            "denied",
            "invalid",
            "unsupported",
            "timeout",
            "unavailable",
            "corrupt",
        ];
        RESULTS
            .iter()
            .filter_map(|result| self.operations.get(&Ended { operation, result }))
            .map(|c| c.get())
            .sum()
    }

    /// Bytes of `put` or `get`.
    #[must_use]
    pub fn bytes(&self, operation: &'static str) -> u64 {
        self.bytes.get_or_create(&Operation { operation }).get()
    }

    pub(crate) fn retried(&self) {
        self.retries.inc();
    }

    fn ended<T>(&self, operation: &'static str, started: Instant, result: &Result<T>) {
        let ended = result.as_ref().map_or_else(|e| kind_of(e).as_str(), |_| "ok");
        self.operations.get_or_create(&Ended { operation, result: ended }).inc();
        self.seconds
            .get_or_create(&Operation { operation })
            .observe(started.elapsed().as_secs_f64());
    }

    fn moved(&self, operation: &'static str, bytes: u64) {
        self.bytes.get_or_create(&Operation { operation }).inc_by(bytes);
    }
}

/// Counts what passes.
#[derive(Debug)]
pub struct Count {
    inner: Arc<dyn ObjectStore>,
    counters: Arc<Counters>,
}

impl Count {
    /// Wraps a store.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, counters: Arc<Counters>) -> Self {
        Self { inner, counters }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Count {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let (started, size) = (Instant::now(), payload.content_length() as u64);
        let result = self.inner.put_opts(at, payload, opts).await;
        self.counters.ended("put", started, &result);
        self.counters.moved("put", size);
        result
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let started = Instant::now();
        let result = self.inner.put_multipart_opts(at, opts).await;
        self.counters.ended("create", started, &result);
        let counters = Arc::clone(&self.counters);
        result.map(|inner| Box::new(CountedUpload { inner, counters }) as Box<dyn MultipartUpload>)
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let (started, is_head) = (Instant::now(), options.head);
        let result = self.inner.get_opts(at, options).await;
        self.counters.ended(if is_head { "head" } else { "get" }, started, &result);
        if let Ok(found) = &result
            && !is_head
        {
            self.counters.moved("get", found.range.end.saturating_sub(found.range.start));
        }
        result
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let started = Instant::now();
        let result = self.inner.get_ranges(at, ranges).await;
        self.counters.ended("get", started, &result);
        if let Ok(parts) = &result {
            self.counters.moved("get", parts.iter().map(|p| p.len() as u64).sum());
        }
        result
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (started, counters) = (Instant::now(), Arc::clone(&self.counters));
        self.inner
            .delete_stream(locations)
            .inspect(move |deleted| counters.ended("delete", started, deleted))
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (started, counters) = (Instant::now(), Arc::clone(&self.counters));
        let mut is_first = true;
        self.inner
            .list(prefix)
            .inspect(move |entry| {
                if is_first || entry.is_err() {
                    counters.ended("list", started, entry);
                }
                is_first = false;
            })
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let started = Instant::now();
        let result = self.inner.list_with_delimiter(prefix).await;
        self.counters.ended("list", started, &result);
        result
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let started = Instant::now();
        let result = self.inner.copy_opts(from, to, options).await;
        self.counters.ended("copy", started, &result);
        result
    }
}

#[derive(Debug)]
struct CountedUpload {
    inner: Box<dyn MultipartUpload>,
    counters: Arc<Counters>,
}

#[async_trait]
impl MultipartUpload for CountedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (started, size) = (Instant::now(), data.content_length() as u64);
        let counters = Arc::clone(&self.counters);
        let part = self.inner.put_part(data);
        Box::pin(async move {
            let result = part.await;
            counters.ended("part", started, &result);
            counters.moved("put", size);
            result
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let started = Instant::now();
        let result = self.inner.complete().await;
        self.counters.ended("complete", started, &result);
        result
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
