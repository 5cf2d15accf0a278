//! What is to be gone: series deleted by hand, and series whose rule keeps them for a shorter time than
//! the rest.
//!
//! An [`Erasure`] is applied whenever a part is made, also from a block that still has the samples, and
//! noted in the part; a part that lacks the note of one that concerns it is made anew. Deletions by hand
//! are objects in the bucket and stay there, for a block may come that has the samples again.

use std::collections::BTreeSet;

use bytes::Bytes;
use periplus_block::chunk::ChunkSamples;
use periplus_bucket::{Bucket, BucketError, Key, PutOutcome};
use periplus_columnar::{AggregateSamples, Day, Resolution};
use periplus_model::{Labels, Matcher, TimeRange};
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::plan::Stream;

/// Where deletions lie.
const PREFIX: &str = "periplus/deletions";
/// A larger one is refused.
const BYTES_MAX: u64 = 1 << 20;

/// A selector that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("selector {selector}: {reason}; write it as in PromQL, for example {{namespace=\"dev\"}}")]
pub struct SelectorError {
    /// As it was given.
    pub selector: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads a PromQL selector.
///
/// # Errors
/// What the PromQL parser says.
pub fn matchers(selector: &str) -> Result<Vec<Matcher>, SelectorError> {
    let refuse = |reason: String| SelectorError { selector: selector.to_owned(), reason };
    let parsed = periplus_promql::parse::parse_metric_selector(selector)
        .map_err(|e| refuse(e.to_string()))?;
    parsed.iter().map(|m| m.compile().map_err(|e| refuse(e.to_string()))).collect()
}

/// Series and times that are to be gone.
#[derive(Clone, Debug)]
pub struct Erasure {
    /// Tells it from others: parts note it.
    pub id: String,
    /// Which series.
    pub matchers: Vec<Matcher>,
    /// Which of their samples.
    pub range: TimeRange,
}

impl Erasure {
    /// Whether series of this stream and samples of this day may be meant.
    #[must_use]
    pub fn concerns(&self, stream: &Stream, day: Day) -> bool {
        let passes = |m: &Matcher| stream.get(&*m.name).is_none_or(|value| m.matches(value));
        self.range.overlaps(&day.range()) && self.matchers.iter().all(passes)
    }

    /// Whether this series is meant. External labels win over its own.
    #[must_use]
    pub fn takes(&self, stream: &Stream, labels: &Labels) -> bool {
        self.matchers.iter().all(|m| {
            let value = stream.get(&*m.name).map(String::as_str);
            m.matches(value.unwrap_or_else(|| labels.value(&m.name)))
        })
    }

    /// What parts note of it.
    #[must_use]
    pub fn note(&self) -> String {
        format!("erased {}", self.id)
    }
}

/// The erasures that concern a stream's day.
#[must_use]
pub fn concerning<'a>(all: &'a [Erasure], stream: &Stream, day: Day) -> Vec<&'a Erasure> {
    all.iter().filter(|e| e.concerns(stream, day)).collect()
}

/// Takes away what is to be gone of raw samples.
pub fn from_raw(samples: &mut ChunkSamples, ranges: &[TimeRange]) {
    if !samples.ts.iter().any(|t| ranges.iter().any(|r| r.contains(*t))) {
        return;
    }
    let mut kept = ChunkSamples::new();
    for (i, t) in samples.ts.iter().enumerate() {
        if !ranges.iter().any(|r| r.contains(*t)) {
            kept.push_from(samples, i);
        }
    }
    *samples = kept;
}

/// The same of aggregates: every interval that has a millisecond to be gone goes.
pub fn from_aggregates(
    samples: &mut AggregateSamples,
    resolution: Resolution,
    ranges: &[TimeRange],
) {
    let step = resolution.ms().max(1);
    let is_gone = |t: i64| {
        let interval = TimeRange::new(t - t.rem_euclid(step), t);
        ranges.iter().any(|r| r.overlaps(&interval))
    };
    let keep: Vec<bool> = samples.ts.iter().map(|t| !is_gone(*t)).collect();
    for column in samples.columns_mut() {
        let mut at = keep.iter();
        column.retain(|_| at.next().copied().unwrap_or(true));
    }
    samples.ts.retain(|t| !is_gone(*t));
    samples.histograms.retain(|h| !is_gone(h.ts));
    if samples.ts.is_empty() {
        (samples.counter_first, samples.counter_last) = (None, None);
    }
    if samples.histograms.is_empty() {
        (samples.histogram_first, samples.histogram_last) = (None, None);
    }
}

/// A deletion as it lies in the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// Its name.
    pub id: Ulid,
    /// Which series, as in PromQL.
    pub selector: String,
    /// The first millisecond that is to be gone.
    pub min_time: i64,
    /// The last one.
    pub max_time: i64,
    /// When it was asked for.
    pub created: String,
    /// 1.
    pub version: u32,
}

impl Deletion {
    /// A new one, not stored yet.
    #[must_use]
    pub fn new(selector: &str, range: TimeRange) -> Self {
        Self {
            id: Ulid::generate(),
            selector: selector.to_owned(),
            min_time: range.min_t,
            max_time: range.max_t,
            created: jiff::Timestamp::now().to_string(),
            version: 1,
        }
    }

    /// As what is applied.
    ///
    /// # Errors
    /// Its selector is no selector.
    pub fn erasure(&self) -> Result<Erasure, SelectorError> {
        let range = TimeRange::new(self.min_time, self.max_time);
        Ok(Erasure { id: self.id.to_string(), matchers: matchers(&self.selector)?, range })
    }

    /// Stores it; from then on it is carried out.
    ///
    /// # Errors
    /// The store refuses or does not answer.
    pub async fn store(&self, bucket: &Bucket) -> Result<(), BucketError> {
        let key = Key::parse(&format!("{PREFIX}/{}.json", self.id))?;
        let text = serde_json::to_vec_pretty(self).map_err(|e| bucket.malformed(&key, e))?;
        match bucket.put_if_absent(&key, Bytes::from(text)).await? {
            PutOutcome::Done(_) => Ok(()),
            PutOutcome::Conflict => {
                Err(bucket.malformed(&key, "there is another one of that name"))
            }
        }
    }
}

/// All deletions of a bucket, by name. One that makes no sense stops nothing, but is told.
///
/// # Errors
/// The store refuses or does not answer.
pub async fn deletions(bucket: &Bucket) -> Result<Vec<Deletion>, BucketError> {
    let mut found = Vec::new();
    for entry in bucket.list_all(&Key::parse(PREFIX)?).await? {
        let Some((bytes, _)) = bucket.get(&entry.key, BYTES_MAX).await? else { continue };
        match serde_json::from_slice::<Deletion>(&bytes) {
            Ok(deletion) => found.push(deletion),
            Err(error) => {
                tracing::error!(key = %entry.key, %error, "a deletion that makes no sense is not carried out");
            }
        }
    }
    found.sort_by_key(|d| d.id);
    Ok(found)
}

/// Notes of erasures among a part's inputs.
#[must_use]
pub fn noted(inputs: &[String]) -> BTreeSet<&str> {
    inputs.iter().map(String::as_str).filter(|note| note.starts_with("erased ")).collect()
}
