//! `GET /api/v1/events/tail`: what is new, as server-sent events.
//!
//! Each carries its row's number as `id`; a client that comes back with `Last-Event-ID` gets all that has changed since,
//! each row in its latest state. Where some of that is no longer in memory, an event `gap` says so first. A
//! slow client is not buffered for: it is given from the rows as it takes them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures::stream::Stream;
use tokio::sync::OwnedSemaphorePermit;

use super::events::Shown;
use super::params::{self, Params, SELECTING};
use super::{Failure, Reader};
use crate::hub::{Active, Hub};
use crate::store::{Filter, Regions, Row};

/// Rows taken from memory at once.
const BATCH: usize = 512;
/// News that come within this time come together.
const PAUSE: Duration = Duration::from_millis(20);

/// What a stream remembers.
pub(crate) struct Follow {
    pub(crate) active: Arc<Active>,
    pub(crate) filter: Filter,
    pub(crate) seen: i64,
    ready: std::collections::VecDeque<Row>,
    _place: OwnedSemaphorePermit,
}

impl Follow {
    /// Begins after the row numbered `seen`; `None`: with what comes from now on.
    pub(crate) fn begin(hub: &Hub, filter: Filter, seen: Option<i64>) -> Result<Self, Failure> {
        let active = hub.active().map_err(Failure::unavailable)?;
        let Ok(place) = Arc::clone(&hub.shared.tails).try_acquire_owned() else {
            return Err(Failure::unavailable("too many live streams; close one, or ask again"));
        };
        let seen = seen.unwrap_or_else(|| *active.newest.borrow());
        Ok(Self { active, filter, seen, ready: Default::default(), _place: place })
    }

    /// Whether rows after `seen` have left memory.
    pub(crate) fn lacks(&self) -> bool {
        let memory = self.active.memory.read();
        self.seen.saturating_add(1) < memory.evicted_below() && memory.files().flushed_below > 0
    }

    /// The next row; `None`: this hub answers no more.
    pub(crate) async fn next(&mut self) -> Option<Row> {
        let mut newest = self.active.newest.clone();
        loop {
            if let Some(row) = self.ready.pop_front() {
                return Some(row);
            }
            if self.active.end.is_cancelled() {
                return None;
            }
            newest.borrow_and_update();
            let (rows, through) = self.active.memory.read().after(self.seen, BATCH);
            if through > self.seen {
                self.seen = through;
                let filter = &self.filter;
                self.ready.extend(rows.into_iter().filter(|r| filter.selects(r.id, &r.event)));
                continue;
            }
            tokio::select! {
                changed = newest.changed() => {
                    changed.ok()?;
                    tokio::time::sleep(PAUSE).await;
                }
                () = self.active.end.cancelled() => return None,
            }
        }
    }
}

fn sent(row: Row, regions: &Regions) -> Sent {
    let id = row.id.to_string();
    let json = serde_json::to_string(&Shown::new(row, regions)).unwrap_or_default();
    Sent::default().id(id).event("event").data(json)
}

/// The stream.
pub(crate) async fn tail(
    State(hub): State<Hub>,
    reader: Reader,
    headers: HeaderMap,
    Query(mut params): Query<Params>,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Failure> {
    let filter = params::select(&mut params, reader.filter(&hub)?)?;
    let given = params::take(&mut params, "after");
    params::nothing_left(&params, &format!("{SELECTING}, after"))?;
    // The header wins: it is what a browser sends when it comes back.
    let header = headers.get("last-event-id").and_then(|h| h.to_str().ok()).map(str::to_owned);
    let seen = match header.or(given) {
        None => None,
        Some(text) => Some(text.trim().parse::<i64>().map_err(|_| {
            Failure::bad("Last-Event-ID (or after) is the id of an event of this stream")
        })?),
    };
    let follow = Follow::begin(&hub, filter, seen)?;
    let regions = Arc::clone(&hub.shared.access.regions);
    let gap = follow.lacks().then(|| {
        let below = follow.active.memory.read().evicted_below();
        let data = serde_json::json!({"after": follow.seen.to_string(), "before": below.to_string(),
            "detail": "changes in between are no longer in memory; ask /api/v1/events for them"});
        Sent::default().event("gap").data(data.to_string())
    });
    let first = futures::stream::iter(gap.map(Ok));
    let rest = futures::stream::unfold((follow, regions), async |(mut follow, regions)| {
        let row = follow.next().await?;
        Some((Ok(sent(row, &regions)), (follow, regions)))
    });
    let stream = futures::StreamExt::chain(first, rest);
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}
