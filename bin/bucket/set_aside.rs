//! What the compactor keeps beside the blocks: what it set aside and why, and which series are to be gone.

use periplus_bucket::Bucket;
use periplus_compactor::erase::{self, Deletion};
use periplus_compactor::plan::Subject;
use periplus_compactor::quarantine::{self, Quarantined};
use serde_json::json;
use ulid::Ulid;

use super::output::{Table, time};

/// Both, as they lie in the bucket.
pub(super) struct SetAside {
    quarantined: Vec<(Subject, Quarantined)>,
    deletions: Vec<Deletion>,
}

impl SetAside {
    /// Reads them; where blocks are named only what is set aside of these.
    pub(super) async fn read(bucket: &Bucket, blocks: &[Ulid]) -> anyhow::Result<Self> {
        let is_meant = |subject: &Subject| match subject {
            Subject::Block(id) | Subject::BlockDay(id, _) => {
                blocks.is_empty() || blocks.contains(id)
            }
            Subject::Part(_) => blocks.is_empty(),
        };
        let mut quarantined: Vec<_> = quarantine::list(bucket).await?.into_iter().collect();
        quarantined.retain(|(subject, _)| is_meant(subject));
        let deletions =
            if blocks.is_empty() { erase::deletions(bucket).await? } else { Vec::new() };
        Ok(Self { quarantined, deletions })
    }

    /// For scripts.
    pub(super) fn documents(&self) -> (Vec<serde_json::Value>, Vec<serde_json::Value>) {
        let quarantined = self.quarantined.iter().map(|(subject, why)| {
            let (kind, id, day) = match subject {
                Subject::Block(id) => ("block", id, None),
                Subject::BlockDay(id, day) => ("block", id, Some(day.to_string())),
                Subject::Part(id) => ("part", id, None),
            };
            json!({
                "kind": kind, "id": id, "day": day, "stream": why.stream, "reason": why.reason,
                "since": why.since, "version": why.version, "object": subject.object(),
            })
        });
        let deletions = self.deletions.iter().map(|d| json!(d));
        (quarantined.collect(), deletions.collect())
    }

    /// For people; nothing where there is nothing.
    pub(super) fn print(&self) -> std::io::Result<()> {
        if !self.quarantined.is_empty() {
            let mut table = Table::new(&["QUARANTINED", "SINCE", "STREAM", "REASON", "OBJECT"]);
            for (subject, why) in &self.quarantined {
                table.row([
                    subject.to_string(),
                    why.since.clone(),
                    why.stream.clone(),
                    why.reason.clone(),
                    subject.object(),
                ]);
            }
            table.print()?;
        }
        if !self.deletions.is_empty() {
            let mut table = Table::new(&["DELETION", "FROM", "UNTIL", "CREATED", "SELECTOR"]);
            for d in &self.deletions {
                let until = if d.max_time == i64::MAX { "end".into() } else { time(d.max_time) };
                let from = if d.min_time == i64::MIN { "start".into() } else { time(d.min_time) };
                let (created, selector) = (d.created.clone(), d.selector.clone());
                table.row([d.id.to_string(), from, until, created, selector]);
            }
            table.print()?;
        }
        Ok(())
    }

    /// How many subjects are quarantined.
    pub(super) fn quarantined(&self) -> usize {
        self.quarantined.len()
    }
}
