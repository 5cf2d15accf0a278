//! A batch's way into the log.

use std::collections::HashMap;
use std::sync::Arc;

use super::access::Identity;
use super::state::{find_filed_of, may_be_filed};
use super::{Active, Hub};
use crate::log::commit::now_us;
use crate::log::frame::Frame;
use crate::log::{Entry, LogError};
use crate::wire::{Ack, Batch, Encoding, Refused, VERSION, WireError};

/// A batch that is not taken; nothing of it is.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// It is not as it should be, or too large.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It is of clusters that are not the sender's.
    #[error("{0}; nothing of the batch was taken")]
    Forged(String),
    /// It can't be made durable now.
    #[error("{0}; send the batch again")]
    Unavailable(String),
    /// This hub does not answer.
    #[error("this hub does not take events now: {0}")]
    Waiting(String),
}

/// A batch's events of one cluster, ready for the log.
struct Part {
    entry: Entry,
}

struct Decoded {
    sequence: u64,
    parts: Vec<Part>,
    refused: Vec<Refused>,
}

/// Events of one entry of the log at most: it is applied under few locks.
const ENTRY_EVENTS: usize = 20_000;

fn decode(
    hub: &Hub,
    identity: &Identity,
    encoding: Encoding,
    body: &[u8],
) -> Result<Decoded, IngestError> {
    let limits = hub.shared.config.wire_limits();
    let batch = Batch::decode(body, encoding, &limits)?;
    let now = now_us();
    let mut refused = Vec::new();
    let mut parts: HashMap<String, Entry> = HashMap::new();
    for (index, mut event) in batch.events.into_iter().enumerate() {
        if let Err(error) = event.clean(now, limits.message_bytes) {
            refused.push(Refused { index, reason: error.to_string() });
            continue;
        }
        let cluster = identity.cluster(&event.cluster).map_err(IngestError::Forged)?;
        event.cluster.clear();
        parts.entry(cluster).or_default().events.push(event);
    }
    for mut gap in batch.gaps {
        if !gap.clean() {
            continue;
        }
        let cluster = identity.cluster(&gap.cluster).map_err(IngestError::Forged)?;
        gap.cluster.clear();
        parts.entry(cluster).or_default().gaps.push(gap);
    }
    let mut out = Vec::new();
    for (cluster, entry) in parts {
        let mut gaps = entry.gaps;
        let mut events = entry.events.into_iter().peekable();
        while events.peek().is_some() || !gaps.is_empty() {
            let entry = Entry {
                cluster: cluster.clone(),
                events: events.by_ref().take(ENTRY_EVENTS).collect(),
                gaps: std::mem::take(&mut gaps),
                filed: HashMap::new(),
            };
            out.push(Part { entry });
        }
    }
    Ok(Decoded { sequence: batch.sequence, parts: out, refused })
}

impl Hub {
    /// Takes in a batch; once it returns well, all of it is durable and visible.
    ///
    /// # Errors
    /// Nothing may be taken as acknowledged.
    pub async fn ingest(
        &self,
        identity: &Identity,
        encoding: Encoding,
        body: bytes::Bytes,
    ) -> Result<Ack, IngestError> {
        let active = self.active().map_err(IngestError::Waiting)?;
        let (hub, identity) = (self.clone(), identity.clone());
        let task =
            tokio::task::spawn_blocking(move || decode(&hub, &identity, encoding, &body)).await;
        let decoded =
            task.map_err(|_| IngestError::Unavailable("decoding was cut off".to_owned()))??;
        let mut ack = Ack {
            version: VERSION,
            sequence: decoded.sequence,
            refused: decoded.refused,
            ..Ack::default()
        };
        // Until all parts are in memory, no row leaves it: what is looked up in files stays true.
        let _settling = Arc::clone(&active.settling).read_owned().await;
        for Part { mut entry } in decoded.parts {
            look_up(&active, &mut entry).await?;
            let framed = tokio::task::spawn_blocking(move || {
                let frame = Frame::new(&entry);
                (entry, frame)
            });
            let unavailable = |e: &dyn std::fmt::Display| IngestError::Unavailable(e.to_string());
            let (entry, frame) = framed.await.map_err(|e| unavailable(&e))?;
            let frame = frame.map_err(|e| unavailable(&e))?;
            let applied = active.commit.append(entry, frame).await.map_err(|error| {
                if matches!(*error, LogError::Deposed { .. }) {
                    active.end.cancel();
                }
                unavailable(&error)
            })?;
            ack.changed += applied.changed;
            ack.unchanged += applied.unchanged;
        }
        if active.is_deposed() {
            return Err(IngestError::Unavailable("another hub has taken over".to_owned()));
        }
        Ok(ack)
    }
}

/// Finds the rows that lie in files only, of events that began before what memory holds.
async fn look_up(active: &Active, entry: &mut Entry) -> Result<(), IngestError> {
    let late: Vec<usize> = {
        let memory = active.memory.read();
        let below = memory.evicted_below();
        let is_late = |event: &crate::event::Event| {
            may_be_filed(event.first_us, below)
                && !memory.has(memory.key(&entry.cluster, &event.uid))
        };
        if memory.files().files.is_empty() {
            Vec::new()
        } else {
            let events = entry.events.iter().enumerate();
            events.filter(|(_, e)| is_late(e)).map(|(n, _)| n).collect()
        }
    };
    for n in late {
        let Some(event) = entry.events.get(n) else { continue };
        let found = find_filed_of(active, &entry.cluster, event).await;
        let found = found.map_err(|e| {
            IngestError::Unavailable(format!(
                "old files can't be asked whether they hold an event: {e}"
            ))
        })?;
        if let Some(row) = found {
            entry.filed.insert(n, row);
        }
    }
    Ok(())
}
