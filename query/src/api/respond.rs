//! Answers on their way out.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, Response, header};
use parking_lot::Mutex;
use periplus_promql::value::{StepGrid, Value};
use tokio::sync::mpsc;

use super::active::Running;
use super::json::{Cursor, Writer};
use super::room::Share;
use crate::answer::Answered;
use crate::endpoints::Missing;

/// Names the streams that are not in an answer: label sets, separated by `, `.
pub(super) const MISSING_HEADER: HeaderName = HeaderName::from_static("x-periplus-missing");

/// Bytes of a piece of an answer that is sent in pieces.
const PIECE_BYTES: usize = 256 << 10;
/// How long a client may take to accept a piece.
const CLIENT_PATIENCE: Duration = Duration::from_secs(60);
/// How long a client may take for all of them.
const CLIENT_PATIENCE_WHOLE: Duration = Duration::from_secs(600);
/// Warnings and infos in an answer; more are counted.
const ANNOTATIONS_MAX: usize = 10;

/// `{"status":"success","data":…}` with warnings and infos.
pub(super) fn data(w: Writer, warnings: &[String], infos: &[String]) -> Response<Body> {
    let mut out = Writer::new();
    out.raw(b"{\"status\":\"success\",\"data\":");
    out.raw(&w.finish());
    notes(&mut out, warnings, infos);
    out.raw(b"}");
    json_response(Body::from(out.finish()))
}

fn notes(w: &mut Writer, warnings: &[String], infos: &[String]) {
    for (field, all) in [(&b",\"warnings\":"[..], warnings), (&b",\"infos\":"[..], infos)] {
        if !all.is_empty() {
            w.raw(field);
            w.strings(all);
        }
    }
}

pub(super) fn json_response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Marks an answer that lacks somebody: named in a header, and not to be cached by anyone.
pub(super) fn mark(response: &mut Response<Body>, missing: &[Missing]) {
    if missing.is_empty() {
        return;
    }
    let mut text = String::new();
    for m in missing {
        let who = match m.labels.is_empty() {
            true => m.address.clone(),
            false => format!("{:?}", m.labels),
        };
        if text.len() + who.len() > 3_000 {
            text.push_str(", …");
            break;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&who);
    }
    let ascii: String =
        text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
    if let Ok(value) = HeaderValue::from_str(&ascii) {
        response.headers_mut().insert(MISSING_HEADER, value);
    }
    let never = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, never);
}

/// The warnings and infos of an answer, as they are shown for `query`.
pub(super) fn shown<V>(answered: &Answered<V>, query: &str) -> (Vec<String>, Vec<String>) {
    // Who is missing is never among what is left out.
    let room = ANNOTATIONS_MAX.max(answered.missing.len() + ANNOTATIONS_MAX);
    answered.annotations.to_strings(query, room)
}

/// An answer to a query, ready to be sent to all who asked.
#[derive(Debug)]
pub(crate) struct Prepared {
    body: Prepare,
    missing: Vec<Missing>,
    /// Told of the bytes that are sent; it ends with the last client.
    running: Mutex<Running>,
}

#[derive(Debug)]
enum Prepare {
    /// Written already.
    Short(Bytes),
    /// Written while it is sent.
    Long(Box<Long>),
}

#[derive(Debug)]
struct Long {
    answered: Answered<Value>,
    instant: Option<i64>,
    query: String,
    stats: Option<StepGrid>,
    /// Of the memory for answers.
    _share: Option<Share>,
}

impl Long {
    /// Writes on from where `cursor` stands, about a piece; whether that was the last.
    fn write(&self, cursor: &mut Cursor, w: &mut Writer, enough: usize) -> bool {
        if cursor.is_new() {
            w.raw(b"{\"status\":\"success\",\"data\":{");
        }
        if !cursor.write(w, &self.answered.value, self.instant, enough) {
            return false;
        }
        let (warnings, infos) = shown(&self.answered, &self.query);
        if let Some(grid) = self.stats {
            statistics(w, &self.answered, grid);
        }
        w.raw(b"}");
        notes(w, &warnings, &infos);
        w.raw(b"}");
        true
    }
}

impl Prepared {
    /// The answer of `running`. What is short is written at once; a long one needs a share of the room.
    pub(super) fn new(
        answered: Answered<Value>,
        instant: Option<i64>,
        query: &str,
        stats: Option<StepGrid>,
        (running, share): (Running, Option<Share>),
    ) -> Self {
        let missing = answered.missing.clone();
        let long = share.is_some();
        let answer = Long { answered, instant, query: query.to_owned(), stats, _share: share };
        let body = match long {
            false => {
                let mut w = Writer::new();
                answer.write(&mut Cursor::default(), &mut w, usize::MAX);
                Prepare::Short(w.finish())
            }
            true => Prepare::Long(Box::new(answer)),
        };
        Self { body, missing, running: Mutex::new(running) }
    }

    /// What may be given to who asks the same soon after: a short answer that lacks nobody.
    pub(super) fn keepable(&self) -> Option<Bytes> {
        match &self.body {
            Prepare::Short(bytes) if self.missing.is_empty() => Some(bytes.clone()),
            _ => None,
        }
    }

    /// A response for one client.
    pub(super) fn respond(self: &Arc<Self>) -> Response<Body> {
        let mut response = match &self.body {
            Prepare::Short(bytes) => {
                self.running.lock().wrote(bytes.len());
                json_response(Body::from(bytes.clone()))
            }
            Prepare::Long(_) => json_response(in_pieces(Arc::clone(self))),
        };
        mark(&mut response, &self.missing);
        response
    }

    /// The next piece of a long answer; whether it is the last.
    fn piece(&self, cursor: &mut Cursor) -> (Bytes, bool) {
        let mut w = Writer::with_room(PIECE_BYTES);
        let last = match &self.body {
            Prepare::Long(answer) => answer.write(cursor, &mut w, PIECE_BYTES),
            Prepare::Short(_) => true,
        };
        self.running.lock().wrote(w.len());
        (w.finish(), last)
    }
}

/// About how much memory an answer takes, in bytes.
pub(super) fn weight(value: &Value) -> usize {
    const POINT: usize = 16;
    let series = |labels: &periplus_model::Labels, points: usize| {
        labels.heap_bytes().saturating_add(points.saturating_mul(POINT)).saturating_add(64)
    };
    match value {
        Value::Vector(m) => m.series.iter().map(|s| series(&s.labels, s.values.len())).sum(),
        Value::Range(all) => all.iter().map(|(labels, s)| series(labels, s.len())).sum(),
        Value::Scalar { values, .. } => values.len() * POINT,
        Value::String(text) => text.len(),
    }
}

/// A body that is written as fast as the client takes it, each piece on a thread that may block. A client that takes
/// too long gets no end that looks like one.
fn in_pieces(answer: Arc<Prepared>) -> Body {
    let (to, from) = mpsc::channel::<Bytes>(2);
    let ended = Arc::new(AtomicBool::new(false));
    let last_one = Arc::clone(&ended);
    tokio::spawn(async move {
        let until = tokio::time::Instant::now() + CLIENT_PATIENCE_WHOLE;
        let mut cursor = Cursor::default();
        loop {
            let own = Arc::clone(&answer);
            let made = tokio::task::spawn_blocking(move || {
                let (piece, last) = own.piece(&mut cursor);
                (cursor, piece, last)
            });
            let Ok((at, piece, last)) = made.await else { return };
            cursor = at;
            let patience = until.min(tokio::time::Instant::now() + CLIENT_PATIENCE);
            if last {
                last_one.store(true, Ordering::Release);
            }
            let sent = tokio::time::timeout_at(patience, to.send(piece)).await;
            if !matches!(sent, Ok(Ok(()))) {
                last_one.store(false, Ordering::Release);
                return;
            }
            if last {
                return;
            }
        }
    });
    Body::from_stream(Sent { from, ended })
}

/// Pieces on their way, with an error in place of an end that is none.
struct Sent {
    from: mpsc::Receiver<Bytes>,
    ended: Arc<AtomicBool>,
}

impl futures::Stream for Sent {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.from.poll_recv(cx).map(|piece| match piece {
            Some(piece) => Some(Ok(piece)),
            None if self.ended.load(Ordering::Acquire) => None,
            None => Some(Err(std::io::Error::other("the answer was not taken in time"))),
        })
    }
}

/// `,"stats":{…}` in Prometheus's form.
fn statistics(w: &mut Writer, answered: &Answered<Value>, grid: StepGrid) {
    let s = &answered.stats;
    let seconds = |d: Duration| d.as_secs_f64();
    let per_step: Vec<(f64, u64)> = s
        .total_samples_per_step
        .iter()
        .enumerate()
        .map(|(i, n)| (grid.time(i) as f64 / 1000.0, *n))
        .collect();
    let mut samples = serde_json::Map::new();
    if !per_step.is_empty() {
        samples.insert("totalQueryableSamplesPerStep".to_owned(), serde_json::json!(per_step));
    }
    samples.insert("totalQueryableSamples".to_owned(), s.total_samples.into());
    samples.insert("samplesRead".to_owned(), s.samples_read.into());
    samples.insert("peakSamples".to_owned(), s.peak_samples.into());
    let timings = serde_json::json!({
        "evalTotalTime": seconds(s.prepare + s.eval + s.sort),
        "resultSortTime": seconds(s.sort),
        "queryPreparationTime": seconds(s.prepare),
        "innerEvalTime": seconds(s.eval),
        "execQueueTime": 0.0,
        "execTotalTime": seconds(s.prepare + s.eval + s.sort),
    });
    let all = serde_json::json!({ "timings": timings, "samples": samples });
    w.raw(b",\"stats\":");
    w.raw(all.to_string().as_bytes());
}
