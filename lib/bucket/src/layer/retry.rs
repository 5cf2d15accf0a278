//! Time limits, and bounded retries with jitter.
//!
//! Repeated are the operations that end the same however often they are carried out: gets, lists,
//! deletes, plain puts and copies. Not repeated here are conditional puts (the second one would find
//! the first one's object and say conflict) and parts of files (a part that is put again gets another
//! number); [`crate::Bucket`] resolves the former by reading back and sends a failed file again.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use rand::Rng as _;

use crate::error::{TimedOut, kind_of};
use crate::layer::count::Counters;
use crate::open::OpenOptions;

/// Bounds every operation in time and repeats those that may be.
#[derive(Debug)]
pub struct Retry {
    inner: Arc<dyn ObjectStore>,
    options: OpenOptions,
    counters: Arc<Counters>,
}

impl Retry {
    /// Wraps a store.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, options: OpenOptions, counters: Arc<Counters>) -> Self {
        Self { inner, options, counters }
    }

    async fn repeat<T, F>(&self, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let started = tokio::time::Instant::now();
        let mut tries = 0;
        loop {
            let error = match limited(self.options.request_timeout, attempt()).await {
                Err(error) if kind_of(&error).is_passing() => error,
                done => return done,
            };
            tries += 1;
            let pause = pause(&self.options, tries);
            let is_late = started.elapsed() + pause >= self.options.operation_timeout;
            if tries > self.options.retries_max || is_late {
                return Err(error);
            }
            self.counters.retried();
            tracing::debug!(%error, tries, ?pause, "object store: trying again");
            tokio::time::sleep(pause).await;
        }
    }
}

/// A pause before try `n + 1`: anything up to a bound that doubles ("full jitter"), so that a fleet
/// whose store went away does not come back in step.
fn pause(options: &OpenOptions, n: u32) -> Duration {
    let bound = (options.backoff_max / 100).saturating_mul(1 << n.min(16)).min(options.backoff_max);
    bound.mul_f64(rand::rng().random_range(0.1..1.0))
}

async fn limited<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => {
            Err(object_store::Error::Generic { store: "bucket", source: Box::new(TimedOut(limit)) })
        }
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Retry {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        if opts.mode == PutMode::Overwrite {
            return self.repeat(|| self.inner.put_opts(at, payload.clone(), opts.clone())).await;
        }
        limited(self.options.request_timeout, self.inner.put_opts(at, payload, opts)).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.repeat(|| self.inner.put_multipart_opts(at, opts.clone())).await?;
        // A part may be repeated below this, each time with a limit of its own.
        Ok(Box::new(LimitedUpload { inner, limit: self.options.operation_timeout }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.repeat(|| self.inner.get_opts(at, options.clone())).await
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.repeat(|| self.inner.get_ranges(at, ranges)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        // What was handed out can't be taken back, so a list that breaks half-way is the caller's.
        let limit = self.options.request_timeout;
        let inner = self.inner.list(prefix);
        futures::stream::unfold(Some(inner), move |inner| async move {
            let mut inner = inner?;
            match tokio::time::timeout(limit, inner.next()).await {
                Ok(item) => item.map(|item| (item, Some(inner))),
                Err(_) => {
                    let source = Box::new(TimedOut(limit));
                    Some((Err(object_store::Error::Generic { store: "bucket", source }), None))
                }
            }
        })
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.repeat(|| self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        limited(self.options.operation_timeout, self.inner.copy_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct LimitedUpload {
    inner: Box<dyn MultipartUpload>,
    limit: Duration,
}

#[async_trait]
impl MultipartUpload for LimitedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        Box::pin(limited(self.limit, self.inner.put_part(data)))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        limited(self.limit, self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        limited(self.limit, self.inner.abort()).await
    }
}
