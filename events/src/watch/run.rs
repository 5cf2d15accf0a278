//! The machine: list, watch, resume, list again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::api::{Api, ApiError, Resource, Taken, Watch, is_expired};
use super::backoff::Backoff;
use super::cursor::{Cursor, CursorFile};
use super::metrics::{Reason, WatchMetrics};
use super::object::{Line, Object, Status};
use super::seen::{Known, Seen};
use super::{InitialList, Sink, WatchConfig, now_us};
use crate::filter::Filter;
use crate::wire::Gap;

/// From which minor version on a server's streaming lists are used unasked: stable since 1.34.
const STREAMING_MINOR: u32 = 34;

/// How long a streaming list may take to send the whole state before pages are asked for instead.
const STREAMED_LIST_TIMEOUT: Duration = Duration::from_secs(60);

/// How often it is kept on disk that the position is still good.
const GOOD_KEPT_EVERY: Duration = Duration::from_secs(30);

/// Refusals in a row after which a position is given up: whatever is wrong with it, a list sets it right. (A server
/// that is away refuses nothing: the position waits for it.)
const FAILURES_MAX: u32 = 5;

/// Why all events are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListReason {
    /// There is no position.
    Start,
    /// Another replica was watching.
    TakeOver,
    /// The position is too old.
    Expired,
    /// The position lies in the future: the storage was restored.
    Restored,
    /// The position is about to become too old.
    Aged,
    /// It's time.
    Periodic,
    /// The position does not work.
    Failing,
    /// Rows were lost on the way; those that still exist are to come again.
    Lost,
}

impl ListReason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::TakeOver => "take_over",
            Self::Expired => "expired",
            Self::Restored => "restored",
            Self::Aged => "aged",
            Self::Periodic => "periodic",
            Self::Failing => "failing",
            Self::Lost => "lost",
        }
    }

    /// Whether events may have come and gone since the position was last good.
    const fn leaves_gap(self) -> bool {
        matches!(self, Self::Expired | Self::Restored | Self::Failing)
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    List(ListReason),
    Watch,
}

/// Why a step ended before it was done.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("the watch reports {} {}: {}", .0.code, .0.reason, .0.message)]
    Reported(Status),
    #[error("{0}")]
    Silent(&'static str),
    #[error("the list changed its resourceVersion from {first} to {then} between pages")]
    Moved { first: u64, then: u64 },
    #[error("writing to the spool: {0}; free space or another --spool helps")]
    Sink(#[from] std::io::Error),
}

/// Where a watcher begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Where its own cursor stands, if it has one.
    #[default]
    Resume,
    /// Another replica was watching: list all, since what it had not yet delivered may be lost with it; then
    /// watch from its last known resourceVersion, if it told one.
    TakeOver {
        /// The other's position.
        resource_version: Option<u64>,
        /// When it was good, microseconds since 1970.
        good_us: i64,
    },
}

/// One cluster's watcher.
pub struct Watcher {
    api: Api,
    config: WatchConfig,
    filter: Filter,
    sink: Arc<dyn Sink>,
    file: CursorFile,
    metrics: WatchMetrics,
    seen: Seen,
    resource: Option<Resource>,
    stream_lists: Option<bool>,
    position: Cursor,
    /// When the position's resourceVersion was the newest.
    position_at: Instant,
    /// Positions of the other replica or before the list, which a watch is to begin from.
    rewind: Option<u64>,
    listed_at: Instant,
    /// Events that could not be read since the position was kept: since when, and how many.
    unreadable: Option<(i64, u64)>,
    /// Lists completed so far.
    lists: u64,
    contact_at: Instant,
    saved: Cursor,
    saved_at: Instant,
    shared: Arc<Shared>,
}

/// What others see of a watcher, and ask of it.
#[derive(Debug, Default)]
pub struct Shared {
    position: parking_lot::Mutex<(u64, i64)>,
    relist: tokio::sync::Notify,
}

impl Shared {
    /// All up to this resourceVersion is durable in the spool, and since when nothing newer was there,
    /// microseconds since 1970; (0, 0) before the first list.
    #[must_use]
    pub fn position(&self) -> (u64, i64) {
        *self.position.lock()
    }

    /// Asks for all events to be listed and passed on once more.
    pub fn relist(&self) {
        self.relist.notify_one();
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").field("position", &self.position).finish_non_exhaustive()
    }
}

impl Watcher {
    /// A watcher that has not begun. `file` keeps its position.
    #[must_use]
    pub fn new(
        api: Api,
        config: WatchConfig,
        filter: Filter,
        sink: Arc<dyn Sink>,
        file: CursorFile,
        metrics: WatchMetrics,
    ) -> Self {
        let now = Instant::now();
        let seen = Seen::new(config.seen_rows);
        Self {
            api,
            config,
            filter,
            sink,
            file,
            metrics,
            seen,
            resource: None,
            stream_lists: None,
            position: Cursor::default(),
            position_at: now,
            rewind: None,
            listed_at: now,
            lists: 0,
            unreadable: None,
            contact_at: now,
            saved: Cursor::default(),
            saved_at: now,
            shared: Arc::default(),
        }
    }

    /// Shows itself there, to those who have seen another watcher of the same cluster before.
    #[must_use]
    pub fn sharing(mut self, shared: Arc<Shared>) -> Self {
        self.shared = shared;
        self
    }

    /// What others see of it.
    #[must_use]
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Watches until it is asked to end, whatever fails on the way.
    pub async fn run(mut self, start: Start, cancel: CancellationToken) {
        let mut next = self.begin(start);
        let mut backoff = Backoff::new(self.config.backoff.0, self.config.backoff.1);
        while !cancel.is_cancelled() {
            let (before, lists) = (self.position.resource_version, self.lists);
            let step = cancel.run_until_cancelled(self.step(next)).await;
            self.metrics.watching.set(0);
            let Some(outcome) = step else { break };
            match outcome {
                Ok(then) => {
                    backoff.reset();
                    next = then;
                }
                Err(error) => {
                    if self.position.resource_version != before {
                        backoff.reset();
                    }
                    // A streamed list that became complete went on as a watch, and it is this that failed.
                    if self.lists != lists {
                        next = Next::Watch;
                    }
                    let asked = self.judge(&error, &mut next, backoff.failures());
                    let delay = backoff.next(asked);
                    tracing::warn!(%error, ?next, ?delay, "watching events");
                    let _ended = cancel.run_until_cancelled(tokio::time::sleep(delay)).await;
                }
            }
        }
        if let Err(error) = self.save().await {
            tracing::warn!(%error, "keeping the position of the event watch");
        }
    }

    fn begin(&mut self, start: Start) -> Next {
        let own = self.file.load(&self.config.scope);
        match (start, own) {
            (Start::Resume, Some(cursor)) => {
                tracing::info!(
                    resource_version = cursor.resource_version,
                    "resuming the event watch"
                );
                self.position = cursor;
                Next::Watch
            }
            (Start::Resume, None) => Next::List(ListReason::Start),
            (Start::TakeOver { resource_version, good_us }, _) => {
                self.rewind = resource_version;
                self.position.good_us = good_us;
                Next::List(ListReason::TakeOver)
            }
        }
    }

    async fn step(&mut self, next: Next) -> Result<Next, StepError> {
        let resource = self.resource().await?;
        match next {
            Next::Watch => {
                // Half a dozen watchers that began together are not to end together.
                let timeout = self.config.watch_timeout.mul_f64(rand::random_range(0.8..=1.0));
                let from = self.position.resource_version;
                let watch = self.api.watch(resource, Some(from), timeout).await?;
                self.follow(watch, timeout, None).await
            }
            Next::List(reason) => {
                tracing::info!(reason = reason.as_str(), "listing events");
                self.metrics.relists.get_or_create(&Reason { reason: reason.as_str() }).inc();
                // What was passed on may not have arrived, or belong to another history.
                if matches!(reason, ListReason::Restored | ListReason::Lost | ListReason::TakeOver)
                {
                    self.seen.clear();
                }
                if self.streams_lists().await {
                    let timeout = self.config.watch_timeout.mul_f64(rand::random_range(0.8..=1.0));
                    let watch = self.api.watch(resource, None, timeout).await?;
                    return self.follow(watch, timeout, Some(reason)).await;
                }
                let began_us = now_us();
                let version = self.list_pages(resource).await?;
                self.listed(reason, version, began_us).await?;
                Ok(Next::Watch)
            }
        }
    }

    async fn resource(&mut self) -> Result<Resource, StepError> {
        if let Some(resource) = self.resource {
            return Ok(resource);
        }
        let resource = self.api.newest().await?;
        tracing::info!(?resource, "the API server's newest events");
        self.resource = Some(resource);
        Ok(resource)
    }

    async fn streams_lists(&mut self) -> bool {
        if let Some(streams) = self.stream_lists {
            return streams;
        }
        let streams = match self.config.initial {
            InitialList::Pages => false,
            InitialList::Stream => true,
            InitialList::Auto => {
                self.api.minor_version().await.is_some_and(|minor| minor >= STREAMING_MINOR)
            }
        };
        self.stream_lists = Some(streams);
        streams
    }

    /// Says what to do after a failure, and what delay the server asks for.
    fn judge(&mut self, error: &StepError, next: &mut Next, failures: u32) -> Option<Duration> {
        let kind = if matches!(next, Next::Watch) { "watch" } else { "list" };
        self.metrics.failures.get_or_create(&Reason { reason: kind }).inc();
        let expired = match error {
            StepError::Api(e) => e.is_expired(),
            StepError::Reported(status) => is_expired(status),
            _ => false,
        };
        let invalid = matches!(error, StepError::Api(e) if e.is_invalid());
        let refused = match error {
            StepError::Reported(_) => true,
            StepError::Api(e) => e.status().is_some_and(|s| (400..429).contains(&s.code)),
            _ => false,
        };
        match (&*next, error) {
            (_, StepError::Sink(_)) => {
                // None of the rows may have been taken: all since the position come again.
                self.seen.clear();
            }
            (Next::Watch, _) if expired => *next = Next::List(ListReason::Expired),
            // Not granted or not there: the other spelling may be.
            (_, StepError::Api(e)) if e.is_denied() => {
                self.resource = other(self.resource, failures);
            }
            (Next::Watch, _) if invalid || (refused && failures >= FAILURES_MAX) => {
                *next = Next::List(ListReason::Failing);
            }
            // A server that has no streaming lists refuses them or never says that they are complete.
            (Next::List(_), _)
                if self.stream_lists == Some(true)
                    && (invalid || matches!(error, StepError::Silent(_)) || failures >= 1) =>
            {
                tracing::info!(%error, "listing in pages from now on");
                self.stream_lists = Some(false);
            }
            _ => {}
        }
        match error {
            StepError::Api(e) => e.retry_after(),
            _ => None,
        }
    }

    /// Reads all pages; gives their resourceVersion.
    async fn list_pages(&mut self, resource: Resource) -> Result<u64, StepError> {
        let (mut token, mut version) = (String::new(), None);
        let mut objects = Vec::new();
        loop {
            // An expired token comes with a fresh one, whose pages are newer than those before: changes between
            // the two would be missed. So the error goes up and the list begins anew.
            let mut page = self.api.list(resource, self.config.page_events, &token).await?;
            while page.next(&mut objects).await? {
                let rows = self.rows(objects.drain(..));
                self.pass_on(rows).await?;
            }
            let end = page.finish()?;
            self.contact();
            let first = *version.get_or_insert(end.resource_version());
            if first != end.resource_version() {
                return Err(StepError::Moved { first, then: end.resource_version() });
            }
            if end.continue_token().is_empty() {
                return Ok(first);
            }
            token = end.continue_token().to_owned();
        }
    }

    /// A list is complete up to `version`.
    async fn listed(
        &mut self,
        reason: ListReason,
        version: u64,
        began_us: i64,
    ) -> Result<(), StepError> {
        let good_us = self.position.good_us;
        let least = i64::try_from(self.config.gap_least.as_micros()).unwrap_or(i64::MAX);
        if reason.leaves_gap() && good_us > 0 && began_us - good_us >= least {
            self.record_gap(reason, good_us, began_us).await?;
        }
        let rewind = self.rewind.filter(|&rv| rv > 0 && rv < version);
        self.position.resource_version = rewind.unwrap_or(version);
        self.position.scope.clone_from(&self.config.scope);
        if rewind.is_none() {
            self.position.good_us = began_us;
        }
        self.position_at = Instant::now();
        self.save().await?;
        self.rewind = None;
        self.listed_at = Instant::now();
        self.lists += 1;
        Ok(())
    }

    async fn record_gap(
        &self,
        reason: ListReason,
        from_us: i64,
        to_us: i64,
    ) -> Result<(), StepError> {
        let gap = Gap {
            cluster: self.config.cluster.clone(),
            id: ulid::Ulid::generate().to_string(),
            reason: "watch_lost".to_owned(),
            from_us,
            to_us,
            events: 0,
            detail: match reason {
                ListReason::Restored => {
                    "the API server's storage was restored; events that came and went \
                                         in between were not seen"
                }
                _ => "the position was too old; events that came and went in between were not seen",
            }
            .to_owned(),
        };
        tracing::warn!(from_us, to_us, reason = reason.as_str(), "a gap in the events");
        self.blocking(move |sink| sink.gap(gap)).await
    }

    /// Follows a watch until it ends. With `listing` it begins with the whole state.
    async fn follow(
        &mut self,
        mut watch: Watch,
        timeout: Duration,
        mut listing: Option<ListReason>,
    ) -> Result<Next, StepError> {
        let began_us = now_us();
        let opened = Instant::now();
        let ends_by = opened + timeout + self.config.watch_grace;
        let (mut lines, mut heard, mut quiet) = (Vec::new(), opened, true);
        let mut tick = tokio::time::interval(Duration::from_secs(1).min(self.config.probe_after));
        let shared = Arc::clone(&self.shared);
        self.metrics.watching.set(1);
        loop {
            let more = tokio::select! {
                more = watch.next(&mut lines) => more?,
                () = shared.relist.notified() => return Ok(Next::List(ListReason::Lost)),
                _ = tick.tick() => {
                    self.show_age();
                    self.save_if_due().await?;
                    if listing.is_some() && opened.elapsed() > STREAMED_LIST_TIMEOUT {
                        return Err(StepError::Silent("the streaming list did not end"));
                    }
                    if Instant::now() > ends_by {
                        return Err(StepError::Silent("the watch did not end in its time: it is dead"));
                    }
                    if listing.is_none() && self.listed_at.elapsed() > self.config.relist_after {
                        return Ok(Next::List(ListReason::Periodic));
                    }
                    if listing.is_none() && heard.elapsed() > self.config.probe_after {
                        heard = Instant::now();
                        if self.probe_finds_older().await {
                            return Ok(Next::List(ListReason::Restored));
                        }
                    }
                    continue;
                }
            };
            if !more {
                self.contact();
                break;
            }
            if lines.is_empty() {
                continue;
            }
            heard = Instant::now();
            quiet = false;
            self.contact();
            let goes_on = self.take_lines(&mut lines, &mut listing, began_us).await?;
            self.save_if_due().await?;
            if !goes_on {
                return Ok(Next::Watch);
            }
        }
        if listing.is_some() {
            return Err(StepError::Silent("the streaming list was cut off"));
        }
        // It ended in order: nothing newer was there.
        self.position.good_us = now_us();
        if quiet && opened.elapsed() < Duration::from_secs(1) {
            // A server that ends watches at once would be asked in a circle.
            tokio::time::sleep(self.config.backoff.0).await;
        }
        if self.position_at.elapsed() > self.config.position_age_max {
            return Ok(Next::List(ListReason::Aged));
        }
        Ok(Next::Watch)
    }

    /// Passes on the events of some lines and moves the position behind them. `false`: the watch is to begin again, at
    /// the position.
    async fn take_lines(
        &mut self,
        lines: &mut Vec<Taken<Line>>,
        listing: &mut Option<ListReason>,
        began_us: i64,
    ) -> Result<bool, StepError> {
        let (mut objects, mut position, mut complete, mut error) = (Vec::new(), 0, None, None);
        for line in lines.drain(..) {
            match line {
                Some(Ok(Line::Event(object))) => {
                    position = position.max(object.resource_version());
                    objects.push(Some(Ok(*object)));
                }
                Some(Ok(Line::Bookmark { resource_version, initial_events_end })) => {
                    position = position.max(resource_version);
                    if initial_events_end {
                        complete = Some(resource_version);
                    }
                }
                Some(Ok(Line::Error(status))) => {
                    error = Some(status);
                    break;
                }
                Some(Err(e)) => objects.push(Some(Err(e))),
                None => objects.push(None),
            }
        }
        let rows = self.rows(objects.drain(..));
        self.pass_on(rows).await?;
        if let (Some(version), Some(reason)) = (complete, *listing) {
            self.listed(reason, version, began_us).await?;
            *listing = None;
            // The stream goes on from there, but the other replica's position lies before it.
            if self.position.resource_version < version {
                return Ok(false);
            }
        }
        // Within a streamed list the objects are in order of their names, and no position.
        if listing.is_none() && position > self.position.resource_version {
            self.position.resource_version = position;
            self.position.good_us = now_us();
            self.position_at = Instant::now();
        }
        error.map_or(Ok(true), |status| Err(StepError::Reported(status)))
    }

    /// The rows of some objects that are worth passing on.
    fn rows(&mut self, objects: impl Iterator<Item = Taken<Object>>) -> Vec<crate::Event> {
        let now = now_us();
        let mut rows = Vec::new();
        for object in objects {
            let event = match object {
                None => {
                    self.metrics.skip("too_large");
                    self.unreadable(now);
                    tracing::warn!("an event object was too large to be read");
                    continue;
                }
                Some(Err(error)) => {
                    self.metrics.skip("malformed");
                    self.unreadable(now);
                    tracing::warn!(%error, "an event could not be read");
                    continue;
                }
                Some(Ok(object)) => object,
            };
            let event = event.into_event(&self.config.cluster, now, self.config.message_bytes);
            match event {
                Err(error) => {
                    self.metrics.skip("malformed");
                    self.unreadable(now);
                    tracing::warn!(%error, "an event could not be taken");
                }
                Ok(event) => match self.seen.look(&event) {
                    Known::Same => self.metrics.skip("repeated"),
                    // What was passed on once is followed, or its row would stand still.
                    Known::No if !self.filter.passes(&event) => self.metrics.skip("filtered"),
                    Known::No | Known::Other => {
                        self.seen.insert(&event);
                        rows.push(event);
                    }
                },
            }
        }
        rows
    }

    fn unreadable(&mut self, now_us: i64) {
        let (from_us, events) = self.unreadable.unwrap_or((now_us, 0));
        self.unreadable = Some((from_us, events + 1));
    }

    async fn pass_on(&self, rows: Vec<crate::Event>) -> Result<(), StepError> {
        let Some(newest) = rows.iter().max_by_key(|e| e.last_us) else {
            return Ok(());
        };
        #[expect(clippy::cast_precision_loss, reason = "a difference of times, for people")]
        self.metrics.lag.set((newest.received_us - newest.last_us) as f64 / 1e6);
        let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        self.blocking(move |sink| sink.append(rows)).await?;
        self.metrics.rows.inc_by(count);
        Ok(())
    }

    async fn blocking(
        &self,
        call: impl FnOnce(&dyn Sink) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), StepError> {
        let sink = Arc::clone(&self.sink);
        match tokio::task::spawn_blocking(move || call(&*sink)).await {
            Ok(done) => Ok(done?),
            Err(gone) => Err(std::io::Error::other(gone).into()),
        }
    }

    /// Asks the server for its newest resourceVersion while the watch is silent. `true`: it lies before ours,
    /// so the watch waits for a future that is not coming.
    async fn probe_finds_older(&self) -> bool {
        let Some(resource) = self.resource else { return false };
        match self.api.probe(resource).await {
            Ok(newest) => newest < self.position.resource_version,
            Err(error) => {
                self.metrics.failures.get_or_create(&Reason { reason: "probe" }).inc();
                tracing::warn!(%error, "the event watch is silent, and so is the API server");
                false
            }
        }
    }

    fn contact(&mut self) {
        self.contact_at = Instant::now();
        self.metrics.age.set(0.0);
    }

    fn show_age(&self) {
        self.metrics.age.set(self.contact_at.elapsed().as_secs_f64());
    }

    async fn save_if_due(&mut self) -> Result<(), StepError> {
        let moved = self.saved.resource_version != self.position.resource_version;
        let every = if moved { self.config.cursor_every } else { GOOD_KEPT_EVERY };
        if self.saved_at.elapsed() < every {
            return Ok(());
        }
        Ok(self.save().await?)
    }

    /// Makes durable what was passed on, then the position behind it.
    async fn save(&mut self) -> std::io::Result<()> {
        if self.position.resource_version == 0 || self.saved == self.position {
            return Ok(());
        }
        let unreadable = self.unreadable.take().map(|(from_us, events)| Gap {
            cluster: self.config.cluster.clone(),
            id: ulid::Ulid::generate().to_string(),
            reason: "malformed".to_owned(),
            from_us,
            to_us: now_us(),
            events,
            detail: "events that could not be read; the watcher's log says why".to_owned(),
        });
        let (sink, file, cursor) =
            (Arc::clone(&self.sink), self.file.clone(), self.position.clone());
        let saved = tokio::task::spawn_blocking(move || {
            if let Some(gap) = unreadable {
                sink.gap(gap)?;
            }
            sink.sync()?;
            file.save(&cursor)
        });
        saved.await.map_err(std::io::Error::other)??;
        self.saved = self.position.clone();
        self.saved_at = Instant::now();
        *self.shared.position.lock() = (self.saved.resource_version, self.saved.good_us);
        Ok(())
    }
}

/// After one spelling was denied: the other, and when both were, whatever the server says next time.
const fn other(resource: Option<Resource>, failures: u32) -> Option<Resource> {
    match resource {
        Some(Resource::Events) if failures.is_multiple_of(2) => Some(Resource::Core),
        Some(Resource::Core) if failures.is_multiple_of(2) => Some(Resource::Events),
        _ => None,
    }
}
