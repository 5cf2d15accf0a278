//! Gaps that the hub does not know yet: a small file beside the segments, so that they outlive what was lost.

use std::io;
use std::path::Path;

use crate::wire::Gap;

const FILE: &str = "gaps.json";

/// Most gaps kept; beyond that the newest one grows.
const GAPS_MAX: usize = 200;

/// The largest file read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Gaps, oldest first.
#[derive(Debug, Default)]
pub struct Gaps(Vec<Gap>);

impl Gaps {
    /// Reads them; a broken file is as none.
    #[must_use]
    pub fn load(directory: &Path) -> Self {
        let path = directory.join(FILE);
        let fits = std::fs::metadata(&path).is_ok_and(|m| m.len() <= FILE_BYTES_MAX);
        let bytes = if fits { std::fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let mut gaps: Vec<Gap> = serde_json::from_slice(&bytes).unwrap_or_default();
        gaps.truncate(GAPS_MAX);
        Self(gaps)
    }

    /// Writes them.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&self, directory: &Path) -> io::Result<()> {
        super::replace_file(&directory.join(FILE), &serde_json::to_vec(&self.0)?)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Gap> {
        self.0.clone()
    }

    /// Adds a gap, or lets the newest one grow.
    pub fn push(&mut self, gap: Gap) {
        if self.0.len() < GAPS_MAX {
            self.0.push(gap);
        } else if let Some(last) = self.0.last_mut() {
            last.from_us = last.from_us.min(gap.from_us);
            last.to_us = last.to_us.max(gap.to_us);
            last.events = last.events.saturating_add(gap.events);
        }
    }

    /// Adds a loss, to the newest gap of the same reason if there is one: an overflow is one gap, not hundreds.
    pub fn add(
        &mut self,
        cluster: &str,
        reason: &'static str,
        from_us: i64,
        to_us: i64,
        events: u64,
    ) {
        if let Some(open) = self.0.iter_mut().rev().find(|g| g.reason == reason) {
            open.from_us = open.from_us.min(from_us);
            open.to_us = open.to_us.max(to_us);
            open.events = open.events.saturating_add(events);
            return;
        }
        self.push(Gap {
            cluster: cluster.to_owned(),
            id: ulid::Ulid::generate().to_string(),
            reason: reason.to_owned(),
            from_us,
            to_us,
            events,
            detail: String::new(),
        });
    }

    /// Takes away gaps that the hub has; those that grew since stay. Gives whether any went.
    pub fn remove(&mut self, known: &[Gap]) -> bool {
        let before = self.0.len();
        self.0.retain(|gap| !known.contains(gap));
        self.0.len() != before
    }
}
