//! Breaks things, for tests.
//!
//! A script sees every call that would reach the store, numbered from 0, and says what happens to it.
//! Between them the faults are those of real stores: an error before or after the request was carried
//! out, a request that never ends, a wrong size, a full or read-only bucket, and the death of the
//! process itself.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// A plain or conditional put.
    Put,
    /// The beginning of a put in parts.
    Create,
    /// One part.
    Part,
    /// The end of a put in parts.
    Complete,
    /// A get.
    Get,
    /// A get of the description alone.
    Head,
    /// A list.
    List,
    /// A delete.
    Delete,
    /// A copy.
    Copy,
}

impl Op {
    /// Whether it changes the bucket.
    #[must_use]
    pub const fn is_write(self) -> bool {
        !matches!(self, Self::Get | Self::Head | Self::List)
    }
}

/// A call that is about to be made.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its number.
    pub n: u64,
    /// What.
    pub op: Op,
    /// About which key or prefix.
    pub key: String,
}

/// What happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error as of a server that is down (503); not carried out.
    Unavailable,
    /// The same, but carried out.
    UnavailableButApplied,
    /// The connection breaks; not carried out.
    Reset,
    /// No answer, ever.
    Stall,
    /// The store refuses the credentials.
    Denied,
    /// There is no room (507).
    Full,
    /// The answer tells a size that is off by this much.
    WrongSize(i64),
    /// One byte of what is put or got is another.
    FlipByte,
    /// The process dies before the request is sent.
    AbortBefore,
    /// The process dies when the request was carried out.
    AbortAfter,
}

/// Says what happens to a call; `None`: nothing.
pub type Script = dyn Fn(&Call) -> Option<Fault> + Send + Sync;

struct Shared {
    inner: Arc<dyn ObjectStore>,
    script: Box<Script>,
    calls: AtomicU64,
}

/// A store that breaks by script.
#[derive(Clone)]
pub struct FaultStore(Arc<Shared>);

impl FaultStore {
    /// Wraps a store.
    pub fn new(
        inner: Arc<dyn ObjectStore>,
        script: impl Fn(&Call) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared { inner, script: Box::new(script), calls: AtomicU64::new(0) }))
    }

    /// How many calls there were.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }

    fn next(&self, op: Op, key: &str) -> Option<Fault> {
        let n = self.0.calls.fetch_add(1, Ordering::Relaxed);
        (self.0.script)(&Call { n, op, key: key.to_owned() })
    }

    async fn run<T>(
        &self,
        fault: Option<Fault>,
        key: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match fault {
            None | Some(Fault::WrongSize(_) | Fault::FlipByte) => work.await,
            Some(Fault::UnavailableButApplied) => {
                work.await?;
                Err(error(&Fault::Unavailable, key))
            }
            Some(Fault::AbortAfter) => {
                let _applied = work.await;
                std::process::abort()
            }
            Some(Fault::AbortBefore) => std::process::abort(),
            Some(Fault::Stall) => std::future::pending().await,
            Some(fault) => Err(error(&fault, key)),
        }
    }
}

fn error(fault: &Fault, key: &str) -> object_store::Error {
    let generic = |text: &str| object_store::Error::Generic { store: "fault", source: text.into() };
    match fault {
        Fault::Denied => object_store::Error::PermissionDenied {
            path: key.to_owned(),
            source: "Server returned non-2xx status code: 403 Forbidden".into(),
        },
        Fault::Full => generic("Server returned non-2xx status code: 507 Insufficient Storage"),
        Fault::Reset => object_store::Error::Generic {
            store: "fault",
            source: Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
        },
        _ => generic("Server returned non-2xx status code: 503 Service Unavailable"),
    }
}

fn flipped(payload: PutPayload, fault: Option<&Fault>) -> PutPayload {
    if fault != Some(&Fault::FlipByte) {
        return payload;
    }
    let mut bytes: Vec<u8> = payload.iter().flat_map(|b| b.iter().copied()).collect();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    PutPayload::from(bytes)
}

async fn flipped_on_the_way(found: GetResult) -> Result<GetResult> {
    let (meta, range, attributes) =
        (found.meta.clone(), found.range.clone(), found.attributes.clone());
    let mut bytes = found.bytes().await?.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    let payload = GetResultPayload::Stream(stream::iter([Ok(bytes.into())]).boxed());
    Ok(GetResult { payload, meta, range, attributes })
}

fn lie(meta: &mut ObjectMeta, fault: Option<&Fault>) {
    if let Some(Fault::WrongSize(by)) = fault {
        meta.size = meta.size.saturating_add_signed(*by);
    }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultStore").field("inner", &self.0.inner).finish_non_exhaustive()
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let fault = self.next(Op::Put, at.as_ref());
        let payload = flipped(payload, fault.as_ref());
        self.run(fault, at.as_ref(), self.0.inner.put_opts(at, payload, opts)).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let fault = self.next(Op::Create, at.as_ref());
        let inner = self.run(fault, at.as_ref(), self.0.inner.put_multipart_opts(at, opts)).await?;
        Ok(Box::new(FaultUpload { inner, store: self.clone(), key: at.to_string() }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.next(if options.head { Op::Head } else { Op::Get }, at.as_ref());
        let work = self.0.inner.get_opts(at, options);
        let mut found = self.run(fault.clone(), at.as_ref(), work).await?;
        lie(&mut found.meta, fault.as_ref());
        if fault == Some(Fault::FlipByte) && !found.range.is_empty() {
            return flipped_on_the_way(found).await;
        }
        Ok(found)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .then(move |at| {
                let store = store.clone();
                async move {
                    let at = at?;
                    let fault = store.next(Op::Delete, at.as_ref());
                    let one = stream::iter([Ok(at.clone())]).boxed();
                    let mut deletes = store.0.inner.delete_stream(one);
                    let work = async { deletes.next().await.unwrap_or_else(|| Ok(at.clone())) };
                    store.run(fault, at.as_ref(), work).await
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let key = prefix.map(Path::to_string).unwrap_or_default();
        let fault = self.next(Op::List, &key);
        let inner = self.0.inner.list(prefix);
        let (store, told) = (self.clone(), fault.clone());
        stream::once(async move { store.run(fault, &key, async { Ok(inner) }).await })
            .flat_map(|opened| match opened {
                Ok(entries) => entries,
                Err(error) => stream::iter([Err(error)]).boxed(),
            })
            .map_ok(move |mut entry| {
                lie(&mut entry, told.as_ref());
                entry
            })
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let key = prefix.map(Path::to_string).unwrap_or_default();
        let fault = self.next(Op::List, &key);
        self.run(fault, &key, self.0.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let fault = self.next(Op::Copy, to.as_ref());
        self.run(fault, to.as_ref(), self.0.inner.copy_opts(from, to, options)).await
    }
}

struct FaultUpload {
    inner: Box<dyn MultipartUpload>,
    store: FaultStore,
    key: String,
}

impl fmt::Debug for FaultUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultUpload({:?})", self.key)
    }
}

#[async_trait]
impl MultipartUpload for FaultUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let fault = self.store.next(Op::Part, &self.key);
        let part = self.inner.put_part(flipped(data, fault.as_ref()));
        let (store, key) = (self.store.clone(), self.key.clone());
        Box::pin(async move { store.run(fault, &key, part).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let fault = self.store.next(Op::Complete, &self.key);
        self.store.run(fault, &self.key, self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
