//! From the API server's JSON to a row: Events of core/v1 and of events.k8s.io/v1, which are two spellings of
//! one stored object, and the few other objects that a list or a watch holds.
//!
//! Only the fields that matter are read; `managedFields`, a third of each object, is skipped while parsing.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};

use crate::event::{Event, EventError, believable};

/// What one line of a watch says.
#[derive(Debug)]
pub enum Line {
    /// An event was added, changed or deleted; a deletion carries the last state and its own, newer
    /// resourceVersion. Deletions retract nothing: events are deleted by their age.
    Event(Box<Object>),
    /// Nothing changed up to this resourceVersion.
    Bookmark {
        /// The resourceVersion.
        resource_version: u64,
        /// All of the initial state has been sent (`sendInitialEvents`).
        initial_events_end: bool,
    },
    /// The watch failed; the stream ends after it.
    Error(Status),
}

/// A `metav1.Status`: why something was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// As HTTP's status codes; 0 where there was none.
    pub code: u16,
    /// In one word: `Expired`, `Forbidden`, …
    pub reason: String,
    /// For people; bounded.
    pub message: String,
}

/// Something that is not the JSON expected.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// No JSON, or with other types than the API's.
    #[error("not an object as the API server writes it: {0}")]
    Json(#[from] serde_json::Error),
    /// A line of a type that no API server sends.
    #[error("a watch line of unknown type {0:?}")]
    Type(String),
    /// No key to keep it by.
    #[error(transparent)]
    Event(#[from] EventError),
}

#[derive(Deserialize)]
struct RawLine {
    #[serde(rename = "type", default)]
    type_: String,
    object: Object,
}

/// One object as it was read. Fields of Event and Status lie side by side: a line's type says which it is, and
/// nothing has to be read twice.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Object {
    #[serde(deserialize_with = "or_default")]
    metadata: Metadata,
    #[serde(alias = "regarding", deserialize_with = "or_default")]
    involved_object: Reference,
    #[serde(deserialize_with = "or_default")]
    reason: String,
    #[serde(alias = "note", deserialize_with = "or_default")]
    message: String,
    #[serde(alias = "deprecatedSource", deserialize_with = "or_default")]
    source: Source,
    #[serde(alias = "deprecatedFirstTimestamp")]
    first_timestamp: Option<String>,
    #[serde(alias = "deprecatedLastTimestamp")]
    last_timestamp: Option<String>,
    #[serde(alias = "deprecatedCount")]
    count: Option<i64>,
    #[serde(rename = "type", deserialize_with = "or_default")]
    type_: String,
    event_time: Option<String>,
    series: Option<Series>,
    #[serde(deserialize_with = "or_default")]
    action: String,
    #[serde(alias = "reportingController", deserialize_with = "or_default")]
    reporting_component: String,
    #[serde(deserialize_with = "or_default")]
    reporting_instance: String,
    code: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    #[serde(deserialize_with = "or_default")]
    name: String,
    #[serde(deserialize_with = "or_default")]
    namespace: String,
    #[serde(deserialize_with = "or_default")]
    uid: String,
    #[serde(deserialize_with = "or_default")]
    resource_version: String,
    creation_timestamp: Option<String>,
    annotations: Option<Annotations>,
    #[serde(rename = "continue", deserialize_with = "or_default")]
    continue_: String,
}

#[derive(Debug, Default, Deserialize)]
struct Annotations {
    #[serde(rename = "k8s.io/initial-events-end")]
    initial_events_end: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Reference {
    #[serde(deserialize_with = "or_default")]
    kind: String,
    #[serde(deserialize_with = "or_default")]
    name: String,
    #[serde(deserialize_with = "or_default")]
    uid: String,
    #[serde(deserialize_with = "or_default")]
    field_path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Source {
    #[serde(deserialize_with = "or_default")]
    component: String,
    #[serde(deserialize_with = "or_default")]
    host: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Series {
    count: Option<i64>,
    last_observed_time: Option<String>,
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    d: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// Reads a line of a watch.
///
/// # Errors
/// See [`ObjectError`]; the line is lost, the watch is not.
pub fn line(bytes: &[u8]) -> Result<Line, ObjectError> {
    let raw: RawLine = lenient(bytes)?;
    match raw.type_.as_str() {
        "ADDED" | "MODIFIED" | "DELETED" => Ok(Line::Event(Box::new(raw.object))),
        "BOOKMARK" => Ok(Line::Bookmark {
            resource_version: raw.object.resource_version(),
            initial_events_end: raw
                .object
                .metadata
                .annotations
                .as_ref()
                .is_some_and(|a| a.initial_events_end.as_deref() == Some("true")),
        }),
        "ERROR" => Ok(Line::Error(raw.object.into_status(0))),
        other => Err(ObjectError::Type(other.chars().take(40).collect())),
    }
}

/// Reads an object that stands alone: a list's item, a list without its items, a Status.
///
/// # Errors
/// No such JSON.
pub fn object(bytes: &[u8]) -> Result<Object, ObjectError> {
    lenient(bytes)
}

/// Reads JSON; where that fails, once more with bytes that are no UTF-8 and halves of surrogate pairs
/// replaced, which the server may pass on from a writer.
fn lenient<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, ObjectError> {
    match serde_json::from_slice(bytes) {
        Ok(value) => Ok(value),
        Err(first) => {
            let text = String::from_utf8_lossy(bytes);
            let repaired = without_lone_surrogates(&text);
            if matches!(text, Cow::Borrowed(_)) && matches!(repaired, Cow::Borrowed(_)) {
                return Err(first.into());
            }
            Ok(serde_json::from_str(&repaired)?)
        }
    }
}

/// Replaces `\uD800`–`\uDFFF` escapes that are not one of a pair by `\uFFFD`.
fn without_lone_surrogates(text: &str) -> Cow<'_, str> {
    let unit = |at: usize| -> Option<u32> {
        let escape = text.get(at..at + 6)?;
        u32::from_str_radix(escape.strip_prefix("\\u")?, 16).ok()
    };
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('\\')) {
        at += found;
        match unit(at) {
            Some(0xd800..=0xdbff) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => at += 12,
            Some(0xd800..=0xdfff) => {
                out.push_str(text.get(copied..at).unwrap_or_default());
                out.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            _ => at += 2,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// Microseconds since 1970.
fn micros(text: Option<&String>) -> Option<i64> {
    let time: jiff::Timestamp = text?.parse().ok()?;
    Some(time.as_microsecond())
}

impl Object {
    /// Its resourceVersion; 0 where there is none or it is no number.
    #[must_use]
    pub fn resource_version(&self) -> u64 {
        self.metadata.resource_version.parse().unwrap_or(0)
    }

    /// The token for a list's next page; empty after the last one.
    #[must_use]
    pub fn continue_token(&self) -> &str {
        &self.metadata.continue_
    }

    /// As a Status; `code` is HTTP's, where the object has none.
    #[must_use]
    pub fn into_status(mut self, code: u16) -> Status {
        crate::event::clean_name(&mut self.message, 512);
        crate::event::clean_name(&mut self.reason, 64);
        Status { code: self.code.unwrap_or(code), reason: self.reason, message: self.message }
    }

    /// The row, cleaned. `now_us` is the watcher's clock, microseconds.
    ///
    /// # Errors
    /// No uid that could be a key.
    pub fn into_event(
        self,
        cluster: &str,
        now_us: i64,
        message_bytes: usize,
    ) -> Result<Event, EventError> {
        let created = micros(self.metadata.creation_timestamp.as_ref());
        // The server's clock bounds what is believed as well as ours: one of the two may be wrong.
        let bound = created.map_or(now_us, |c| c.max(now_us));
        let believed = |time: Option<i64>| time.filter(|&t| believable(t, bound));
        let first = believed(micros(self.first_timestamp.as_ref()));
        let last = believed(micros(self.last_timestamp.as_ref()));
        let at = believed(micros(self.event_time.as_ref()));
        let series = self.series.unwrap_or_default();
        let observed = believed(micros(series.last_observed_time.as_ref()));
        let created = believed(created);
        let last_us = [first, last, at, observed].into_iter().flatten().max().or(created);
        let first_us = first.or(at).or(created).or(last_us);
        let count = self.count.unwrap_or(0).max(series.count.unwrap_or(0));
        let either = |a: String, b: String| if a.is_empty() { b } else { a };
        let mut event = Event {
            cluster: cluster.to_owned(),
            resource_version: self.metadata.resource_version.parse().unwrap_or(0),
            uid: self.metadata.uid,
            namespace: self.metadata.namespace,
            event_name: self.metadata.name,
            kind: self.involved_object.kind,
            name: self.involved_object.name,
            object_uid: self.involved_object.uid,
            field_path: self.involved_object.field_path,
            reason: self.reason,
            type_: self.type_,
            message: self.message,
            action: self.action,
            reporter: either(self.reporting_component, self.source.component),
            reporter_instance: either(self.source.host, self.reporting_instance),
            count: u32::try_from(count.max(1)).unwrap_or(u32::MAX),
            first_us: first_us.unwrap_or(0),
            last_us: last_us.unwrap_or(0),
            received_us: now_us,
            ..Event::default()
        };
        event.clean(now_us, message_bytes)?;
        Ok(event)
    }
}

#[cfg(test)]
mod tests;
