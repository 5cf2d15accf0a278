//! What a forwarder sends to the hub and what it gets back; `WIRE.md` beside this crate tells it to people.
//!
//! A batch is one JSON object, compressed or not. It is decoded within [`WireLimits`]: the decompressed size is
//! bounded while it is produced, not believed from a header, and the number of events is bounded while they are
//! read. Unknown fields are skipped, missing ones have their defaults, so that either side may be the newer one.

use std::fmt;
use std::io::{Read, Write};

use serde::de::{DeserializeSeed, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::event::{Event, NAME_BYTES_MAX, clean_name};

/// The version of the format that is written here.
pub const VERSION: u32 = 1;

/// Where batches are posted.
pub const PATH: &str = "/api/v1/events";

/// The media type of a batch and of an acknowledgement.
pub const CONTENT_TYPE: &str = "application/json";

/// The longest identity of a sender or of a gap, in bytes.
pub const ID_BYTES_MAX: usize = 128;

/// What is taken of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireLimits {
    /// Bytes of the body as it is sent.
    pub body_bytes_max: usize,
    /// Bytes of the body once decompressed.
    pub decoded_bytes_max: usize,
    /// Events in it.
    pub events_max: usize,
    /// Gaps in it.
    pub gaps_max: usize,
    /// Bytes of one message; a longer one is cut and marked.
    pub message_bytes: usize,
}

impl Default for WireLimits {
    fn default() -> Self {
        Self {
            body_bytes_max: 8 << 20,
            decoded_bytes_max: 32 << 20,
            events_max: 10_000,
            gaps_max: 1_000,
            message_bytes: crate::event::MESSAGE_BYTES,
        }
    }
}

/// How a body is compressed: HTTP's `Content-Encoding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// It is not.
    #[default]
    Identity,
    /// `gzip`.
    Gzip,
    /// `zstd`.
    Zstd,
}

impl Encoding {
    /// Reads the header's value.
    ///
    /// # Errors
    /// [`WireError::Encoding`] for any other.
    pub fn parse(header: &str) -> Result<Self, WireError> {
        match header.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err(WireError::Encoding(header.chars().take(40).collect())),
        }
    }

    /// The header's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// A time in which events may have been lost, or are known to have been.
///
/// Known by (`cluster`, `id`); sent again with the same id it may have grown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gap {
    /// The cluster. The sender's identity decides it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Tells it from the cluster's other gaps; the sender makes it up (a ULID).
    pub id: String,
    /// Why, in one word: `watch_lost`, `spool_bytes`, `spool_age`, `spool_damaged`, `log_damaged`, …
    pub reason: String,
    /// Its beginning, microseconds since 1970.
    pub from_us: i64,
    /// Its end.
    pub to_us: i64,
    /// How many states of events are known to be lost; 0 where that is not known.
    pub events: u64,
    /// More about it, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl Gap {
    /// Bounds and cleans every field. `false`: it has no id and can't be kept.
    pub fn clean(&mut self) -> bool {
        for field in [&mut self.cluster, &mut self.reason, &mut self.detail] {
            clean_name(field, NAME_BYTES_MAX);
        }
        clean_name(&mut self.id, ID_BYTES_MAX);
        if self.to_us < self.from_us {
            std::mem::swap(&mut self.to_us, &mut self.from_us);
        }
        !self.id.is_empty()
    }

    /// Takes in what another report of the same gap says. In any order, any number of times, the outcome
    /// is the same. Gives whether anything changed.
    pub fn merge(&mut self, other: &Self) -> bool {
        let before = self.clone();
        self.from_us = self.from_us.min(other.from_us);
        self.to_us = self.to_us.max(other.to_us);
        self.events = self.events.max(other.events);
        if other.reason > self.reason {
            self.reason.clone_from(&other.reason);
        }
        if other.detail > self.detail {
            self.detail.clone_from(&other.detail);
        }
        *self != before
    }
}

/// What one request carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Batch {
    /// [`VERSION`].
    pub version: u32,
    /// Who sends: stays the same when the sender is started again. For logs and metrics, never for rights.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sender: String,
    /// The sender's number of this batch; the acknowledgement repeats it.
    pub sequence: u64,
    /// States of events, in any order, any number of times.
    pub events: Vec<Event>,
    /// Gaps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
}

/// An event that was not taken; the others of its batch were. It will never be taken: don't send it again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refused {
    /// Its place in `events`, from 0.
    pub index: usize,
    /// Why.
    pub reason: String,
}

/// The answer to a batch: it is on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ack {
    /// [`VERSION`].
    pub version: u32,
    /// The batch's number.
    pub sequence: u64,
    /// Events whose state is new here.
    pub changed: usize,
    /// Events whose state, or a later one, was here already.
    pub unchanged: usize,
    /// Events that were not taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
}

/// The body of an answer that is not 200.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// Always `error`.
    pub status: String,
    /// In one word: `bad_data`, `too_large`, `unauthorized`, `forbidden`, `unavailable`, …
    #[serde(rename = "errorType")]
    pub error_type: String,
    /// For people.
    pub error: String,
}

/// A body that can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Compressed in another way.
    #[error("content encoding {0:?} is not known; send zstd, gzip or identity")]
    Encoding(String),
    /// More than is taken.
    #[error("the batch has more than {max} {what}; send smaller batches")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How much is taken.
        max: usize,
    },
    /// The compressed bytes are broken.
    #[error("decompressing the batch as {encoding}: {source}")]
    Compressed {
        /// As what it was read.
        encoding: &'static str,
        /// What is wrong.
        source: std::io::Error,
    },
    /// No JSON, or of another shape.
    #[error("the batch is not as WIRE.md says: {0}")]
    Json(#[from] serde_json::Error),
    /// Written by a newer sender with other meanings.
    #[error("the batch is of version {0}, this hub knows up to {VERSION}: update the hub first")]
    Version(u32),
}

impl WireError {
    /// Whether smaller batches would help.
    #[must_use]
    pub const fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge { .. })
    }
}

/// Decompresses at most `max` bytes.
///
/// # Errors
/// More than that, or broken bytes.
pub fn decompress(body: &[u8], encoding: Encoding, max: usize) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::new();
    let bound = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let read = match encoding {
        Encoding::Identity => {
            out.extend_from_slice(body.get(..=max).unwrap_or(body));
            Ok(0)
        }
        Encoding::Gzip => flate2::read::MultiGzDecoder::new(body).take(bound).read_to_end(&mut out),
        Encoding::Zstd => zstd::stream::read::Decoder::with_buffer(body).and_then(|mut d| {
            // The window is memory that a frame's header asks for.
            d.window_log_max(25)?;
            d.take(bound).read_to_end(&mut out)
        }),
    };
    read.map_err(|source| WireError::Compressed { encoding: encoding.as_str(), source })?;
    if out.len() > max {
        return Err(WireError::TooLarge { what: "bytes", max });
    }
    Ok(out)
}

/// Compresses a body.
///
/// # Errors
/// None in practice: it writes to memory.
pub fn compress(body: &[u8], encoding: Encoding) -> std::io::Result<Vec<u8>> {
    match encoding {
        Encoding::Identity => Ok(body.to_vec()),
        Encoding::Gzip => {
            let level = flate2::Compression::fast();
            let mut out = flate2::write::GzEncoder::new(Vec::new(), level);
            out.write_all(body)?;
            out.finish()
        }
        Encoding::Zstd => zstd::bulk::compress(body, 1),
    }
}

impl Batch {
    /// The body of a request.
    ///
    /// # Errors
    /// None in practice: it writes to memory.
    pub fn encode(&self, encoding: Encoding) -> std::io::Result<Vec<u8>> {
        compress(&serde_json::to_vec(self)?, encoding)
    }

    /// Reads a body.
    ///
    /// # Errors
    /// Whatever is not as `WIRE.md` says or beyond the limits.
    pub fn decode(body: &[u8], encoding: Encoding, limits: &WireLimits) -> Result<Self, WireError> {
        if body.len() > limits.body_bytes_max {
            return Err(WireError::TooLarge { what: "bytes", max: limits.body_bytes_max });
        }
        let json = decompress(body, encoding, limits.decoded_bytes_max)?;
        let mut reader = serde_json::Deserializer::from_slice(&json);
        let batch = BatchSeed(limits).deserialize(&mut reader);
        let batch = batch.and_then(|b| reader.end().map(|()| b)).map_err(|error| {
            let text = error.to_string();
            for (mark, what, max) in
                [(MANY_EVENTS, "events", limits.events_max), (MANY_GAPS, "gaps", limits.gaps_max)]
            {
                if text.starts_with(mark) {
                    return WireError::TooLarge { what, max };
                }
            }
            WireError::Json(error)
        })?;
        if batch.version > VERSION {
            return Err(WireError::Version(batch.version));
        }
        Ok(batch)
    }
}

const MANY_EVENTS: &str = "too many events";
const MANY_GAPS: &str = "too many gaps";

/// Reads a batch with no more elements than allowed: an empty object costs three bytes in JSON and hundreds in memory.
struct BatchSeed<'a>(&'a WireLimits);

impl<'de> DeserializeSeed<'de> for BatchSeed<'_> {
    type Value = Batch;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Batch, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for BatchSeed<'_> {
    type Value = Batch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with events")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Batch, A::Error> {
        let mut batch = Batch::default();
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match name.as_ref() {
                "version" => batch.version = map.next_value()?,
                "sender" => {
                    batch.sender = map.next_value()?;
                    clean_name(&mut batch.sender, ID_BYTES_MAX);
                }
                "sequence" => batch.sequence = map.next_value()?,
                "events" => {
                    let seed = Bounded::new(self.0.events_max, MANY_EVENTS);
                    batch.events = map.next_value_seed(seed)?;
                }
                "gaps" => {
                    batch.gaps = map.next_value_seed(Bounded::new(self.0.gaps_max, MANY_GAPS))?;
                }
                _ => {
                    map.next_value::<serde::de::IgnoredAny>()?;
                }
            }
        }
        Ok(batch)
    }
}

struct Bounded<T> {
    max: usize,
    mark: &'static str,
    of: std::marker::PhantomData<T>,
}

impl<T> Bounded<T> {
    const fn new(max: usize, mark: &'static str) -> Self {
        Self { max, mark, of: std::marker::PhantomData }
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Bounded<T> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Vec<T>, D::Error> {
        reader.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Bounded<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut out = Vec::new();
        while let Some(element) = seq.next_element()? {
            if out.len() >= self.max {
                return Err(A::Error::custom(self.mark));
            }
            out.push(element);
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests;
