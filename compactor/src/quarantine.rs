//! What nothing is made from, and why.
//!
//! A small object under `periplus/quarantine/` for each: a block, a day of a block, a part. The rest of the
//! bucket goes on. Deleting the object lets the next round try again.

use std::collections::BTreeMap;

use bytes::Bytes;
use periplus_bucket::key::parse_ulid;
use periplus_bucket::{Bucket, BucketError, Key};
use periplus_columnar::Day;
use serde::{Deserialize, Serialize};

use crate::plan::Subject;

/// Where it lies.
pub const PREFIX: &str = "periplus/quarantine";
/// A larger one is refused.
const BYTES_MAX: u64 = 256 << 10;
/// Longer reasons are cut.
const REASON_CHARS_MAX: usize = 4000;

/// Why something is quarantined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quarantined {
    /// Whose it is, for people.
    #[serde(default)]
    pub stream: String,
    /// What is wrong.
    pub reason: String,
    /// Since when.
    pub since: String,
    /// Which version found it.
    pub version: String,
}

impl Quarantined {
    /// As of now.
    #[must_use]
    pub fn now(stream: &str, reason: &str) -> Self {
        Self {
            stream: stream.to_owned(),
            reason: reason.chars().take(REASON_CHARS_MAX).collect(),
            since: jiff::Timestamp::now().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

impl Subject {
    /// `block-01…`, `block-01….20410`, `part-01…`: days are counted from 1970.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Block(id) => format!("block-{id}"),
            Self::BlockDay(id, day) => format!("block-{id}.{}", day.0),
            Self::Part(id) => format!("part-{id}"),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        if let Some(id) = name.strip_prefix("part-") {
            return Some(Self::Part(parse_ulid(id)?));
        }
        let rest = name.strip_prefix("block-")?;
        match rest.split_once('.') {
            Some((id, day)) => Some(Self::BlockDay(parse_ulid(id)?, Day(day.parse().ok()?))),
            None => Some(Self::Block(parse_ulid(rest)?)),
        }
    }

    /// Where its reason lies. Who deletes that object lets the compactor try again.
    #[must_use]
    pub fn object(&self) -> String {
        format!("{PREFIX}/{}.json", self.name())
    }

    fn key(&self) -> Result<Key, BucketError> {
        Ok(Key::parse(&self.object())?)
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Block(id) => write!(f, "block {id}"),
            Self::BlockDay(id, day) => write!(f, "block {id}, {day}"),
            Self::Part(id) => write!(f, "part {id}"),
        }
    }
}

/// Quarantines something; what is there stays, with its reason.
///
/// # Errors
/// The store refuses or does not answer.
pub async fn put(bucket: &Bucket, subject: &Subject, why: &Quarantined) -> Result<(), BucketError> {
    let key = subject.key()?;
    let text = serde_json::to_vec_pretty(why).map_err(|e| bucket.malformed(&key, e))?;
    bucket.put_if_absent(&key, Bytes::from(text)).await.map(|_| ())
}

/// Lifts it.
///
/// # Errors
/// The store refuses or does not answer.
pub async fn lift(bucket: &Bucket, subject: &Subject) -> Result<(), BucketError> {
    bucket.delete(&subject.key()?).await
}

/// All that is quarantined. One whose text makes no sense counts all the same.
///
/// # Errors
/// The store refuses or does not answer.
pub async fn list(bucket: &Bucket) -> Result<BTreeMap<Subject, Quarantined>, BucketError> {
    let mut all = BTreeMap::new();
    for entry in bucket.list_all(&Key::parse(PREFIX)?).await? {
        let name = entry.key.name().strip_suffix(".json").and_then(Subject::parse);
        let Some(subject) = name else { continue };
        let Some((bytes, _)) = bucket.get(&entry.key, BYTES_MAX).await? else { continue };
        let why = serde_json::from_slice(&bytes).unwrap_or_else(|e| Quarantined {
            stream: String::new(),
            reason: format!("its reason can't be read: {e}"),
            since: String::new(),
            version: String::new(),
        });
        all.insert(subject, why);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ulid::Ulid;

    #[tokio::test]
    async fn there_and_back() {
        let at = periplus_bucket::Location::parse("memory://quarantine").unwrap();
        let bucket = Bucket::open(&at, &periplus_bucket::OpenOptions::default()).unwrap();
        let id = Ulid::from(7u128);
        let subjects = [Subject::Block(id), Subject::BlockDay(id, Day(-3)), Subject::Part(id)];
        for subject in &subjects {
            let why = Quarantined::now("{}", &"x".repeat(10_000));
            put(&bucket, subject, &why).await.unwrap();
            put(&bucket, subject, &Quarantined::now("{}", "another")).await.unwrap();
        }
        let all = list(&bucket).await.unwrap();
        assert_eq!(all.keys().cloned().collect::<Vec<_>>(), subjects);
        assert!(all.values().all(|q| q.reason.len() == REASON_CHARS_MAX));
        lift(&bucket, &subjects[1]).await.unwrap();
        assert_eq!(list(&bucket).await.unwrap().len(), 2);
    }
}
