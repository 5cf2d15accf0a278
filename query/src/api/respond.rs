//! Answers on their way out.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, Response, header};
use parking_lot::Mutex;
use periplus_promql::value::{StepGrid, Value};
use tokio::sync::mpsc;

use super::active::Running;
use super::json::{self, Writer};
use crate::answer::Answered;
use crate::endpoints::Missing;

/// Names the streams that are not in an answer: label sets, separated by `, `.
pub(super) const MISSING_HEADER: HeaderName = HeaderName::from_static("x-periplus-missing");

/// Bytes after which an answer is sent in pieces.
const PIECE_BYTES: usize = 256 << 10;
/// Points of an answer that is written in one go.
const POINTS_AT_ONCE: usize = 10_000;
/// How long a client may take to accept a piece.
const CLIENT_PATIENCE: Duration = Duration::from_secs(60);
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

fn json_response(body: Body) -> Response<Body> {
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
}

impl Long {
    fn write(&self, full: &mut dyn FnMut(&mut Writer)) -> Bytes {
        let (warnings, infos) = shown(&self.answered, &self.query);
        let mut w = Writer::new();
        w.raw(b"{\"status\":\"success\",\"data\":{");
        json::result(&mut w, &self.answered.value, self.instant, |w| full(w));
        if let Some(grid) = self.stats {
            statistics(&mut w, &self.answered, grid);
        }
        w.raw(b"}");
        notes(&mut w, &warnings, &infos);
        w.raw(b"}");
        w.finish()
    }
}

impl Prepared {
    /// The answer of `running`. What is short is written at once.
    pub(super) fn new(
        answered: Answered<Value>,
        instant: Option<i64>,
        query: &str,
        stats: Option<StepGrid>,
        running: Running,
    ) -> Self {
        let missing = answered.missing.clone();
        let long = is_long(&answered.value);
        let answer = Long { answered, instant, query: query.to_owned(), stats };
        let body = match long {
            false => Prepare::Short(answer.write(&mut |_| {})),
            true => Prepare::Long(Box::new(answer)),
        };
        Self { body, missing, running: Mutex::new(running) }
    }

    /// A response for one client.
    pub(super) fn respond(self: &Arc<Self>) -> Response<Body> {
        let mut response = match &self.body {
            Prepare::Short(bytes) => {
                self.running.lock().wrote(bytes.len());
                json_response(Body::from(bytes.clone()))
            }
            Prepare::Long(_) => {
                let this = Arc::clone(self);
                json_response(in_pieces(move |full| {
                    let Prepare::Long(answer) = &this.body else { return Bytes::new() };
                    let mut bytes = 0;
                    let last = answer.write(&mut |w| {
                        let before = w.len();
                        full(w);
                        bytes += before - w.len();
                    });
                    this.running.lock().wrote(bytes + last.len());
                    last
                }))
            }
        };
        mark(&mut response, &self.missing);
        response
    }
}

/// Whether an answer is better written elsewhere than on an I/O thread.
fn is_long(value: &Value) -> bool {
    let points = match value {
        Value::Vector(m) => m.series.len().saturating_mul(m.grid.steps()),
        Value::Range(all) => all.iter().map(|(_, samples)| samples.len()).sum(),
        Value::Scalar { values, .. } => values.len(),
        Value::String(_) => 0,
    };
    points > POINTS_AT_ONCE
}

/// A body that is written on a thread that may block, piece by piece, as fast as the client takes it.
fn in_pieces(write: impl FnOnce(&mut dyn FnMut(&mut Writer)) -> Bytes + Send + 'static) -> Body {
    let (to, from) = mpsc::channel::<Result<Bytes, std::io::Error>>(4);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut gone = false;
        let mut send = |piece: Bytes| {
            if !gone {
                let sent = tokio::time::timeout(CLIENT_PATIENCE, to.send(Ok(piece)));
                gone = !matches!(runtime.block_on(sent), Ok(Ok(())));
            }
        };
        let last = write(&mut |w| {
            if w.len() > PIECE_BYTES {
                send(w.take());
            }
        });
        send(last);
    });
    Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(from))
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
