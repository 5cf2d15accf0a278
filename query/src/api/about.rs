//! What the endpoints about clusters have in common: a question over the whole fleet, sent with who is
//! missing.

use axum::body::Body;
use axum::http::Response;
use periplus_model::TimeRange;
use periplus_promql::annotations::{Annotation, Severity};
use periplus_promql::engine::QueryError;
use periplus_proto::Timestamp;
use periplus_proto::thanos::ZLabelSet;

use super::error::ApiError;
use super::json::Writer;
use super::params::Params;
use super::{Api, respond};
use crate::answer::{Asked, describe};
use crate::fanout::QueryTimes;

/// Begins a question that is not about samples.
pub(super) fn ask(api: &Api, p: &Params) -> Result<Asked, ApiError> {
    let options = p.options(&api.defaults)?;
    let all = TimeRange::ALL;
    let times = QueryTimes { start_ms: all.min_t, end_ms: all.max_t, step_ms: 0 };
    Ok(api.answerer.ask("".into(), times, &options))
}

/// Counts how a question ended and gives its value.
pub(super) fn counted<T>(
    api: &Api,
    asked: &Asked,
    result: Result<T, QueryError>,
) -> Result<T, ApiError> {
    let collected = asked.question.notes.collected();
    match result {
        Ok(value) => {
            api.metrics.answered(collected.requests, collected.missing.len());
            Ok(value)
        }
        Err(e) => {
            api.metrics.failed(e.kind.error_type());
            Err(e.into())
        }
    }
}

/// Sends `data`, naming who is missing.
pub(super) fn send(asked: &Asked, data: Writer) -> Response<Body> {
    let collected = asked.question.notes.collected();
    let mut annotations = collected.annotations;
    for m in &collected.missing {
        annotations.add(Annotation::external(Severity::Warning, describe(m)));
    }
    let (warnings, infos) = annotations.to_strings("", 10 + collected.missing.len());
    let mut response = respond::data(data, &warnings, &infos);
    respond::mark(&mut response, &collected.missing);
    response
}

/// `limit` of endpoints where it need only be a number: negative ones mean none.
pub(super) fn loose_limit(p: &Params, name: &str) -> Result<Option<usize>, ApiError> {
    match p.get(name) {
        "" => Ok(None),
        text => match text.parse::<i64>() {
            Ok(n) => Ok(usize::try_from(n).ok()),
            Err(_) => Err(ApiError::bad_data(format!("{name} must be a number"))),
        },
    }
}

impl Writer {
    /// Labels of a message.
    pub(super) fn label_set(&mut self, labels: Option<&ZLabelSet>) {
        self.raw(b"{");
        for (i, l) in labels.iter().flat_map(|l| &l.labels).enumerate() {
            if i > 0 {
                self.raw(b",");
            }
            self.string(&l.name);
            self.raw(b":");
            self.string(&l.value);
        }
        self.raw(b"}");
    }

    /// `"name":`, with a comma before it unless it is the first.
    pub(super) fn field(&mut self, name: &str) {
        if !self.ends_open() {
            self.raw(b",");
        }
        self.string(name);
        self.raw(b":");
    }

    /// A field with a text.
    pub(super) fn text_field(&mut self, name: &str, text: &str) {
        self.field(name);
        self.string(text);
    }

    /// A field with a number.
    pub(super) fn number_field(&mut self, name: &str, v: f64) {
        self.field(name);
        self.number(v);
    }

    /// A field with a time, RFC 3339 with as many decimals as it has; Go's zero time where there is none.
    pub(super) fn time_field(&mut self, name: &str, t: Option<Timestamp>) {
        self.field(name);
        let time = t.and_then(|t| jiff::Timestamp::new(t.seconds, t.nanos).ok());
        match time {
            Some(t) => self.string(&t.to_string()),
            None => self.string("0001-01-01T00:00:00Z"),
        }
    }

    /// A number as JSON; what is none (NaN, infinities) as 0.
    pub(super) fn number(&mut self, v: f64) {
        match v {
            _ if !v.is_finite() => self.raw(b"0"),
            _ if v.fract() == 0.0 && v.abs() < 1e15 => self.integer(v as i64),
            _ => self.raw(zmij::Buffer::new().format_finite(v).as_bytes()),
        }
    }

    /// Things between brackets, with commas.
    pub(super) fn list<T>(
        &mut self,
        all: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        self.raw(b"[");
        for (i, item) in all.into_iter().enumerate() {
            if i > 0 {
                self.raw(b",");
            }
            write(self, item);
        }
        self.raw(b"]");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_numbers_and_times() {
        let mut w = Writer::new();
        w.raw(b"{");
        w.number_field("a", 60.0);
        w.number_field("b", 0.000_276_262);
        w.time_field("c", Some(Timestamp { seconds: 1_795_290_762, nanos: 731_263_320 }));
        w.time_field("d", None);
        w.field("e");
        w.list([1.0, f64::NAN], Writer::number);
        w.raw(b"}");
        let text = String::from_utf8(w.finish().to_vec()).unwrap();
        let v: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(v["a"], 60);
        assert_eq!(v["b"], 0.000_276_262);
        assert_eq!(v["c"], "2026-11-21T19:52:42.73126332Z");
        assert_eq!(v["d"], "0001-01-01T00:00:00Z");
        assert_eq!(v["e"], serde_json::json!([1, 0]));
    }
}
