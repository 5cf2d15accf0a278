//! Questions over all rows, in memory and in files.
//!
//! In the order a question takes: [`sources`] lists the runs of rows that may hold something, [`page`] looks through them
//! newest (or oldest) first and stops as soon as nothing better can come, [`count`] counts all of them by fields
//! and time, [`export`] gives all of them as they lie. They run on threads of their own, never on the runtime's, and give up at a deadline.
//!
//! The one decision worth knowing: a damaged or unreachable file does not fail a question and does not shrink
//! its answer silently; it is named in the answer's warnings.

pub mod count;
pub mod export;
pub mod page;
pub mod sources;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use parking_lot::RwLock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::store::files::Files;
use crate::store::{Memory, Snapshot};

pub use count::{CountQuery, Counted, Group};
use export::{ExportError, ExportQuery};
pub use page::{Page, PageQuery};

/// Does the same work on several threads at once; a few jobs are done sooner than a thread is started.
fn on_threads(jobs: usize, threads: usize, work: impl Fn() + Copy + Send) {
    const FEW: usize = 4;
    if jobs < FEW {
        return work();
    }
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
}

/// Batches of an export that are made before they are taken.
const EXPORTED_AHEAD: usize = 2;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// It took too long.
    #[error("the search took longer than {0:?}; ask for a shorter time or for fewer clusters")]
    Late(Duration),
    /// Too many searches at once.
    #[error("too many searches are under way; ask again")]
    Busy,
    /// More groups than an answer may have.
    #[error("the answer would have more than {0} series; group by fewer fields or select less")]
    TooManyGroups(usize),
    /// A thread ended early.
    #[error("the search was cut off")]
    Cut,
}

/// Answers questions. Clones are the same.
#[derive(Clone, Debug)]
pub struct Searcher {
    memory: Arc<RwLock<Memory>>,
    files: Arc<Files>,
    places: Arc<Semaphore>,
    timeout: Duration,
    threads: usize,
}

/// What a search has at hand.
pub(crate) struct Context {
    pub(crate) snapshot: Snapshot,
    pub(crate) files: Arc<Files>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) deadline: Instant,
    pub(crate) timeout: Duration,
    pub(crate) threads: usize,
}

impl Context {
    pub(crate) fn is_late(&self) -> bool {
        Instant::now() > self.deadline
    }
}

impl Searcher {
    /// Over a store, with so many searches at once.
    #[must_use]
    pub fn new(
        memory: Arc<RwLock<Memory>>,
        files: Arc<Files>,
        at_once: usize,
        timeout: Duration,
    ) -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8);
        let places = Arc::new(Semaphore::new(at_once.max(1)));
        Self { memory, files, places, timeout, threads }
    }

    /// The rows in memory.
    #[must_use]
    pub fn memory(&self) -> &Arc<RwLock<Memory>> {
        &self.memory
    }

    /// A page of rows.
    ///
    /// # Errors
    /// It takes too long, or too many ask.
    pub async fn page(&self, query: PageQuery) -> Result<Page, SearchError> {
        self.run(move |context| page::run(context, &query)).await
    }

    /// Counts.
    ///
    /// # Errors
    /// As [`Self::page`]; too many groups.
    pub async fn count(&self, query: CountQuery) -> Result<Counted, SearchError> {
        self.run(move |context| count::run(context, &query)).await
    }

    /// Begins to give all selected rows in batches; an error is the last that comes.
    ///
    /// # Errors
    /// Too many ask.
    pub async fn export(
        &self,
        query: ExportQuery,
    ) -> Result<mpsc::Receiver<Result<RecordBatch, ExportError>>, SearchError> {
        let (place, context) = self.begin().await?;
        let (give, take) = mpsc::channel(EXPORTED_AHEAD);
        tokio::task::spawn_blocking(move || {
            let _place = place;
            let done = export::run(&context, &query, |batch| give.blocking_send(Ok(batch)).is_ok());
            if let Err(error) = done {
                let _nobody_waits = give.blocking_send(Err(error));
            }
        });
        Ok(take)
    }

    /// Waits for a place and takes a look at what there is.
    async fn begin(&self) -> Result<(OwnedSemaphorePermit, Context), SearchError> {
        let place = Arc::clone(&self.places).acquire_owned();
        let Ok(Ok(place)) = tokio::time::timeout(self.timeout / 4, place).await else {
            return Err(SearchError::Busy);
        };
        let context = Context {
            snapshot: self.memory.read().snapshot(),
            files: Arc::clone(&self.files),
            runtime: tokio::runtime::Handle::current(),
            deadline: Instant::now() + self.timeout,
            timeout: self.timeout,
            threads: self.threads,
        };
        Ok((place, context))
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Context) -> Result<T, SearchError> + Send + 'static,
    ) -> Result<T, SearchError> {
        let (place, context) = self.begin().await?;
        let timeout = self.timeout;
        let task = tokio::task::spawn_blocking(move || {
            let _place = place;
            let answer = work(&context);
            if context.is_late() && answer.is_err() {
                Err(SearchError::Late(timeout))
            } else {
                answer
            }
        });
        task.await.unwrap_or(Err(SearchError::Cut))
    }
}

#[cfg(test)]
mod tests;
