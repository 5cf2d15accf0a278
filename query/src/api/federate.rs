//! `/federate`: the newest sample of every series that matches, in a form that Prometheus scrapes: `text`, or
//! `protobuf` where `accept` finds that the client would rather have it.
//!
//! Native histograms have a form in protobuf alone, and are left out of the text, as Prometheus leaves them out;
//! those with buckets of their own are classic histograms in both.

mod accept;
mod protobuf;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use periplus_model::{CounterResetHint, FloatHistogram, Labels, SampleBuffer, TimeRange, is_stale};
use periplus_promql::engine::{ErrorKind, QueryError};

use accept::{Form, negotiate};

use super::params::{Params, selector};
use super::samples::{ask, broken, each};
use super::{Api, respond};
use crate::endpoints::now_ms;

/// An error as plain text.
type Refusal = (StatusCode, String);

fn failed(e: &QueryError) -> Refusal {
    let status = match e.kind {
        ErrorKind::BadData => StatusCode::BAD_REQUEST,
        ErrorKind::Limit => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::Timeout | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, e.message.clone())
}

/// A series' newest value.
#[derive(Clone, Debug, PartialEq)]
enum Sample {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// What the samples of one family have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Untyped,
    Histogram,
    GaugeHistogram,
}

impl Sample {
    fn kind(&self) -> Kind {
        match self {
            Self::Float(_) => Kind::Untyped,
            Self::Histogram(h) if h.counter_reset_hint == CounterResetHint::Gauge => {
                Kind::GaugeHistogram
            }
            Self::Histogram(_) => Kind::Histogram,
        }
    }
}

/// By name and labels, with the time in Unix milliseconds.
type Newest = BTreeMap<(String, Labels), (i64, Sample)>;

/// The buckets of a histogram with bounds of its own, cumulative, without the one that has no bound.
fn classic(h: &FloatHistogram) -> impl Iterator<Item = (f64, f64)> {
    let filled: Vec<(f64, f64)> = h.iter_positive().map(|b| (b.upper, b.count)).collect();
    h.custom_values.iter().map(move |bound| {
        let below = filled.iter().filter(|(upper, _)| upper <= bound);
        // A sum of nothing would be -0.
        (*bound, below.fold(0.0, |sum, (_, count)| sum + count))
    })
}

pub(super) async fn federate(
    State(api): State<Api>,
    RawQuery(address): RawQuery,
    headers: HeaderMap,
    form: Bytes,
) -> Response<Body> {
    let run = async {
        let bad = |text: &str| (StatusCode::BAD_REQUEST, text.to_owned());
        let p =
            Params::new(&form, address.as_deref().unwrap_or_default()).map_err(|e| bad(&e.text))?;
        let mut sets = Vec::new();
        for text in p.all("match[]") {
            sets.push(selector(text).map_err(|e| bad(&e))?);
        }
        let now = now_ms();
        let range = TimeRange::new(now.saturating_sub(api.defaults.lookback_ms), now);
        let asked = ask(&api, &p, range).map_err(|e| bad(&e.text))?;
        let left = api.answerer.limits.memory_bytes;
        let mut state = (Newest::new(), SampleBuffer::new(), left);
        for set in sets {
            let work = each(&asked, set, range, state, move |(newest, buffer, left), series| {
                series.samples(range, buffer).map_err(broken)?;
                take(newest, &series.labels, buffer, left)?;
                Ok(true)
            });
            state = match tokio::time::timeout(api.defaults.timeout, work).await {
                Ok(done) => done.map_err(|e| failed(&e))?,
                Err(_) => {
                    let text = "it took too long".to_owned();
                    return Err((StatusCode::SERVICE_UNAVAILABLE, text));
                }
            };
        }
        let collected = asked.question.notes.collected();
        api.metrics.answered(collected.requests, collected.missing.len());
        let (form, escaping) = negotiate(&headers);
        let body = match form {
            Form::Text => Body::from(text::write(&state.0, escaping)),
            Form::Protobuf => Body::from(protobuf::write(&state.0, escaping)),
        };
        let mut response = Response::new(body);
        if let Ok(kind) = HeaderValue::from_str(&form.content_type(escaping)) {
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        respond::mark(&mut response, &collected.missing);
        Ok(response)
    };
    run.await.unwrap_or_else(|(status, text): Refusal| (status, text + "\n").into_response())
}

/// Keeps a series' newest sample, unless that says that the series has ended.
fn take(
    newest: &mut Newest,
    labels: &Labels,
    samples: &SampleBuffer,
    left: &mut u64,
) -> Result<(), QueryError> {
    let Some((i, (t, v))) = samples.ts.iter().zip(&samples.values).enumerate().next_back() else {
        return Ok(());
    };
    let Some(name) = labels.metric_name() else { return Ok(()) };
    let (sample, stale) = match samples.histogram_at(i) {
        Some(h) => (Sample::Histogram(Arc::clone(h)), is_stale(h.sum)),
        None => (Sample::Float(*v), is_stale(*v)),
    };
    if stale {
        return Ok(());
    }
    let own = match &sample {
        Sample::Histogram(h) => h.bytes() as u64,
        Sample::Float(_) => 0,
    };
    let bytes = labels.heap_bytes() as u64 + own + 128;
    let Some(rest) = left.checked_sub(bytes) else {
        let text = "more series than memory allows; ask for fewer";
        return Err(QueryError::new(ErrorKind::Limit, text));
    };
    *left = rest;
    newest.insert((name.to_owned(), labels.clone()), (*t, sample));
    Ok(())
}
