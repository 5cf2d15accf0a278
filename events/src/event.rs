//! One row: what an event says, the same whichever API, recorder or forwarder it came from.
//!
//! A row is known by (`cluster`, `uid`). It is sent again whenever the event changes, and again after each
//! list; [`Event::supersedes`] says which of two states is the later one, so that states may arrive repeated
//! and in any order. Text is clean: [`Event::clean`] bounds every field and takes out what could move a
//! cursor, hide text or end a line where a reader expects one. HTML stays as it is; who shows it escapes it.

mod text;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use text::{clean_name, clean_text};

/// The longest message kept where nothing else is configured, in bytes. The kubelet writes at most 1 KiB; the
/// API server lets 1.5 MB pass.
pub const MESSAGE_BYTES: usize = 16 * 1024;

/// The longest message that can be configured, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The longest of all other fields, in bytes. (Names in Kubernetes have at most 253.)
pub const NAME_BYTES_MAX: usize = 512;

/// The longest uid, in bytes. Kubernetes' have 36. A longer one is refused, not cut: two could become one.
pub const UID_BYTES_MAX: usize = 128;

/// Most labels kept with a row.
pub const LABELS_MAX: usize = 32;

/// The earliest time believed: 2010-01-01, in microseconds. (Kubernetes is younger; the zero time is older.)
pub const EARLIEST_US: i64 = 1_262_304_000_000_000;

/// How far ahead of the receiver's clock a time may lie and be believed, in microseconds: a day.
pub const AHEAD_US_MAX: i64 = 86_400_000_000;

/// One event, in its latest known state. Times are microseconds since 1970, UTC.
///
/// As JSON: an object with these names, in which empty and zero fields may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// The cluster. Where events arrive over the network the sender's identity decides it, not this field.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// The event object's uid: with the cluster, the row's key. Never empty in a valid row.
    pub uid: String,
    /// The event object's resourceVersion; of two states of a uid the one with the higher one is later. 0: unknown.
    #[serde(skip_serializing_if = "is_zero")]
    pub resource_version: u64,
    /// The event object's namespace: that of the object, `default` for objects that have none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The event object's own name (`web-a.6b01a1c12a3a2107`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub event_name: String,
    /// Kind of the object the event is about (`Pod`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Name of the object the event is about (`web-a`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Uid of the object the event is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub object_uid: String,
    /// Part of the object (`spec.containers{app}`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field_path: String,
    /// Why, in one word (`BackOff`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// `Normal` or `Warning`; writers get others past the core/v1 API.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub type_: String,
    /// What happened, in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Whether the message was longer and was cut.
    #[serde(skip_serializing_if = "is_false")]
    pub truncated: bool,
    /// What was being done (`Scheduling`), in events of the newer API.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub action: String,
    /// Who reports it (`kubelet`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reporter: String,
    /// Which of them: the node or the process (`node-a`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reporter_instance: String,
    /// How often it happened: the larger of the event's `count` and its series' count, at least 1.
    pub count: u32,
    /// When it first happened. Never after `last_us`.
    pub first_us: i64,
    /// When it last happened: the latest of all the event's times that can be believed.
    pub last_us: i64,
    /// When the watcher received this state.
    #[serde(skip_serializing_if = "is_zero_i64")]
    pub received_us: i64,
    /// The controller behind the object (`Deployment/web`), where the watcher looks that up.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// Labels of the object, where the watcher looks them up and was told which to keep.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Why something is no row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// No uid: nothing would tell this event from another.
    #[error(
        "event {event_name:?} in namespace {namespace:?} has no uid; send the uid of the event object"
    )]
    NoUid {
        /// Its namespace.
        namespace: String,
        /// Its name.
        event_name: String,
    },
    /// A uid that is too long.
    #[error("event {event_name:?}: its uid has {bytes} bytes, at most {UID_BYTES_MAX} are taken")]
    LongUid {
        /// Its name.
        event_name: String,
        /// Bytes of the uid.
        bytes: usize,
    },
    /// A uid with characters that no uid has.
    #[error("event {event_name:?}: its uid {uid:?} may hold printable ASCII without spaces only")]
    BadUid {
        /// Its name.
        event_name: String,
        /// The uid.
        uid: String,
    },
}

impl Event {
    /// Bounds and cleans every field in place: a row that passed is safe to store, to compare and to print
    /// on a terminal. Passing twice changes nothing. Times that can't be believed give way to those that
    /// can, in the end to `now_us` (the receiver's clock, microseconds). The message is cut at
    /// `message_bytes`, itself at most [`MESSAGE_BYTES_MAX`].
    ///
    /// # Errors
    /// A uid that can't be a key; the row is then to be refused.
    pub fn clean(&mut self, now_us: i64, message_bytes: usize) -> Result<(), EventError> {
        self.check_uid()?;
        for field in [
            &mut self.cluster,
            &mut self.namespace,
            &mut self.event_name,
            &mut self.kind,
            &mut self.name,
            &mut self.object_uid,
            &mut self.field_path,
            &mut self.reason,
            &mut self.type_,
            &mut self.action,
            &mut self.reporter,
            &mut self.reporter_instance,
            &mut self.owner,
        ] {
            clean_name(field, NAME_BYTES_MAX);
        }
        self.truncated |= clean_text(&mut self.message, message_bytes.min(MESSAGE_BYTES_MAX));
        if !self.labels.is_empty() {
            self.labels = std::mem::take(&mut self.labels)
                .into_iter()
                .take(LABELS_MAX)
                .map(|(mut name, mut value)| {
                    clean_name(&mut name, NAME_BYTES_MAX);
                    clean_name(&mut value, NAME_BYTES_MAX);
                    (name, value)
                })
                .collect();
        }
        self.count = self.count.max(1);
        self.clean_times(now_us);
        Ok(())
    }

    fn check_uid(&self) -> Result<(), EventError> {
        let event_name = || {
            let mut name = self.event_name.clone();
            clean_name(&mut name, NAME_BYTES_MAX);
            name
        };
        if self.uid.is_empty() {
            let mut namespace = self.namespace.clone();
            clean_name(&mut namespace, NAME_BYTES_MAX);
            return Err(EventError::NoUid { namespace, event_name: event_name() });
        }
        if self.uid.len() > UID_BYTES_MAX {
            return Err(EventError::LongUid { event_name: event_name(), bytes: self.uid.len() });
        }
        if !self.uid.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(EventError::BadUid { event_name: event_name(), uid: self.uid.clone() });
        }
        Ok(())
    }

    fn clean_times(&mut self, now_us: i64) {
        if !believable(self.received_us, now_us) {
            self.received_us = now_us;
        }
        if !believable(self.last_us, now_us) {
            self.last_us =
                if believable(self.first_us, now_us) { self.first_us } else { self.received_us };
        }
        if !believable(self.first_us, now_us) || self.first_us > self.last_us {
            self.first_us = self.last_us;
        }
    }

    /// Whether `self` is a later state than `other` of the same row. A total order: whatever the order of
    /// arrival, the same state stays.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        self.state_order(other) == Ordering::Greater
    }

    /// Orders two states of one row, the earlier first: by resourceVersion, then last time, count,
    /// enrichment; all else decides only so that there is one order. `first_us` takes no part, as
    /// [`merge`](Self::merge) takes the earlier; of equal states the one received first counts.
    #[must_use]
    pub fn state_order(&self, other: &Self) -> Ordering {
        let key = |e: &Self| {
            (e.resource_version, e.last_us, e.count, !e.owner.is_empty(), e.labels.len())
        };
        let rest = |e: &Self| (e.truncated, e.labels.clone());
        key(self)
            .cmp(&key(other))
            .then_with(|| self.texts().cmp(&other.texts()))
            .then_with(|| rest(self).cmp(&rest(other)))
            .then_with(|| other.received_us.cmp(&self.received_us))
    }

    /// Joins another state of the same row into this one: the later state stays whole, with the earlier of
    /// both first times. Commutative, associative and idempotent. Gives whether anything changed.
    pub fn merge(&mut self, other: &Self) -> bool {
        let first_us = self.first_us.min(other.first_us);
        let mut changed = false;
        if other.supersedes(self) {
            self.clone_from(other);
            changed = true;
        }
        changed |= self.first_us != first_us;
        self.first_us = first_us;
        changed
    }

    /// A number that two states with the same content share, whatever their resourceVersion and time of
    /// arrival; others share it with next to no likelihood. Holds within one process only.
    #[must_use]
    pub fn fingerprint(&self, keys: &std::hash::RandomState) -> u64 {
        use std::hash::BuildHasher as _;
        keys.hash_one((self.texts(), self.count, self.first_us, self.last_us, &self.labels))
    }

    fn texts(&self) -> [&str; 15] {
        [
            &self.cluster,
            &self.uid,
            &self.namespace,
            &self.event_name,
            &self.kind,
            &self.name,
            &self.object_uid,
            &self.field_path,
            &self.reason,
            &self.type_,
            &self.message,
            &self.action,
            &self.reporter,
            &self.reporter_instance,
            &self.owner,
        ]
    }

    /// Roughly the memory the row takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let text: usize = self.texts().iter().map(|s| s.len()).sum();
        let labels: usize = self.labels.iter().map(|(n, v)| n.len() + v.len() + 48).sum();
        size_of::<Self>() + text + labels
    }
}

/// Whether a time, in microseconds, can be that of an event received at `now_us`.
#[must_use]
pub fn believable(time_us: i64, now_us: i64) -> bool {
    time_us >= EARLIEST_US && time_us <= now_us.saturating_add(AHEAD_US_MAX)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero_i64(n: &i64) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(b: &bool) -> bool {
    !*b
}

#[cfg(test)]
mod tests;
