//! A watch as a body that goes on: lines as they come, an end at its time, or a break.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::stream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::faults::Faults;
use super::store::{Change, Resume, Store};
use crate::watch::api::Resource;

/// Changes put into one piece of the body.
const CHANGES_MAX: usize = 64;

/// How long after its last bytes a watch breaks. A server throws away what it has not sent yet when a body fails, and
/// lines before a cut are to arrive.
const BREAK_AFTER: Duration = Duration::from_millis(2);

const TOO_OLD: &str = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"The resourceVersion for the provided watch is too old.","reason":"Expired","code":410}}"#;

struct Stream {
    store: Arc<Store>,
    faults: Arc<Faults>,
    namespace: Option<String>,
    changed: watch::Receiver<u64>,
    /// Number of the next change; `None`: the stream ends.
    at: Option<u64>,
    /// Goes out before anything else.
    first: Option<String>,
    lines: usize,
    broken: bool,
    ends_at: Instant,
    /// The faults' epoch when it began.
    epoch: u64,
}

/// The body of a watch after `from`; with `None` it begins with the whole state.
pub(super) fn body(
    store: Arc<Store>,
    faults: Arc<Faults>,
    resource: Resource,
    namespace: Option<String>,
    from: Option<u64>,
    timeout: Duration,
) -> Body {
    faults.begin_watch();
    let changed = store.subscribe();
    let (at, first) = match from {
        Some(version) => match store.resume(version) {
            Resume::At(at) => (Some(at), None),
            Resume::TooOld => (None, Some(format!("{TOO_OLD}\n"))),
        },
        None => {
            let (version, at, items) = store.state(namespace.as_deref());
            let mut text = String::new();
            for item in &items {
                line(&mut text, "ADDED", item);
            }
            let bookmark = match resource {
                Resource::Core => format!(
                    r#"{{"kind":"Event","apiVersion":"v1","metadata":{{"resourceVersion":"{version}","annotations":{{"k8s.io/initial-events-end":"true"}}}},"involvedObject":{{}},"source":{{}},"firstTimestamp":null,"lastTimestamp":null,"eventTime":null,"reportingComponent":"","reportingInstance":""}}"#
                ),
                Resource::Events => format!(
                    r#"{{"kind":"Event","apiVersion":"events.k8s.io/v1","metadata":{{"resourceVersion":"{version}","annotations":{{"k8s.io/initial-events-end":"true"}}}},"eventTime":null,"regarding":{{}},"deprecatedSource":{{}},"deprecatedFirstTimestamp":null,"deprecatedLastTimestamp":null}}"#
                ),
            };
            line(&mut text, "BOOKMARK", &bookmark);
            (Some(at), Some(text))
        }
    };
    let ends_at = Instant::now() + timeout;
    let epoch = faults.epoch();
    let state = Stream {
        store,
        faults,
        namespace,
        changed,
        at,
        first,
        lines: 0,
        broken: false,
        ends_at,
        epoch,
    };
    Body::from_stream(stream::unfold(state, |mut state| async move {
        let piece = state.next().await?;
        Some((piece, state))
    }))
}

fn line(text: &mut String, kind: &str, json: &str) {
    text.push_str("{\"type\":\"");
    text.push_str(kind);
    text.push_str("\",\"object\":");
    text.push_str(json);
    text.push_str("}\n");
}

impl Stream {
    async fn next(&mut self) -> Option<std::io::Result<Bytes>> {
        if self.broken {
            return Some(self.break_off().await);
        }
        if let Some(first) = self.first.take() {
            return Some(Ok(first.into()));
        }
        loop {
            let at = self.at?;
            if Instant::now() >= self.ends_at || self.faults.epoch() != self.epoch {
                return None;
            }
            if !self.faults.is_silent() {
                self.changed.mark_unchanged();
                let changes = self.store.changes(at, CHANGES_MAX);
                if !changes.is_empty() {
                    self.at = Some(at + changes.len() as u64);
                    let piece = self.piece(&changes);
                    if !piece.is_empty() {
                        return Some(Ok(piece));
                    }
                    if self.broken {
                        return Some(self.break_off().await);
                    }
                    continue;
                }
            }
            // A server that goes away, and faults set meanwhile, are noticed by looking.
            let look = Instant::now() + Duration::from_millis(50);
            tokio::select! {
                _ = self.changed.changed() => {}
                () = tokio::time::sleep_until(look.min(self.ends_at)) => {}
            }
        }
    }

    async fn break_off(&self) -> std::io::Result<Bytes> {
        tokio::time::sleep(BREAK_AFTER).await;
        Err(std::io::Error::other("the watch is cut"))
    }

    /// The lines of some changes, up to where the stream is to break.
    fn piece(&mut self, changes: &[Change]) -> Bytes {
        let of = |c: &&Change| self.namespace.as_ref().is_none_or(|n| *n == c.namespace);
        let cut = self.faults.cut();
        let mut text = String::new();
        for change in changes.iter().filter(of) {
            let before = text.len();
            line(&mut text, change.kind.as_str(), &change.json);
            if let Some((_, inside)) = cut.filter(|&(after, _)| self.lines >= after) {
                let mut bytes = text.into_bytes();
                bytes.truncate(before + inside.min(bytes.len() - before - 1));
                self.broken = true;
                return bytes.into();
            }
            self.lines += 1;
        }
        text.into()
    }
}
