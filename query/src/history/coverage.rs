//! What the bucket holds, and which of it answers for a day.
//!
//! For one stream and day there may be the samples as scraped, the same downsampled, several parts of each
//! because blocks came late, and the replicas merged. Which blocks a part was made from is known, and that
//! decides: of the forms that let nobody's samples out, the coarsest that still serves is read, merged
//! replicas before the replicas themselves. What is still being converted is therefore read in the finer
//! form until the coarser one has caught up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use periplus_model::{Labels, TimeRange};
use ulid::Ulid;

use super::part::Part;
use super::resolution::{MaxResolution, RESOLUTIONS, Reads};
use crate::plan::{EndpointId, Held};

/// A day in milliseconds.
pub const DAY_MS: i64 = 86_400_000;

/// The parts of one stream.
#[derive(Clone, Debug)]
pub struct StreamParts {
    /// Its external labels.
    pub external: Labels,
    /// The labels that were taken off when replicas were merged into it; empty: it is one replica.
    pub merged_over: Vec<String>,
    /// Its parts by day since 1970.
    pub days: BTreeMap<i32, Vec<Arc<Part>>>,
}

/// The catalog at one moment; never changes.
#[derive(Debug, Default)]
pub struct Coverage {
    streams: Vec<StreamParts>,
    by_external: HashMap<(Labels, Vec<String>), usize>,
    /// Whether there is anything but samples as scraped.
    coarse: bool,
    parts: usize,
}

/// One part that is to be read.
#[derive(Clone, Debug)]
pub struct Pick {
    /// Index of its stream among those of the [`Coverage`].
    pub stream: usize,
    /// The part.
    pub part: Arc<Part>,
}

impl Coverage {
    /// Orders parts by stream and day.
    #[must_use]
    pub fn new(parts: impl IntoIterator<Item = Arc<Part>>) -> Self {
        let mut out = Self::default();
        for part in parts {
            let external = part.external.clone();
            let mut merged_over = part.replica_labels.clone();
            merged_over.sort_unstable();
            out.coarse |= part.resolution_ms > 0;
            out.parts += 1;
            let streams = &mut out.streams;
            let key = (external.clone(), merged_over.clone());
            let at = *out.by_external.entry(key).or_insert_with(|| {
                streams.push(StreamParts { external, merged_over, days: BTreeMap::new() });
                streams.len() - 1
            });
            if let Some(s) = out.streams.get_mut(at) {
                s.days.entry(part.day).or_default().push(part);
            }
        }
        out
    }

    /// All streams.
    #[must_use]
    pub fn streams(&self) -> &[StreamParts] {
        &self.streams
    }

    /// All parts by their names.
    #[must_use]
    pub fn by_id(&self) -> HashMap<Ulid, Arc<Part>> {
        let all = self.streams.iter().flat_map(|s| s.days.values().flatten());
        all.map(|p| (p.id, Arc::clone(p))).collect()
    }

    /// Number of parts.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.parts
    }

    /// Whether there is anything but samples as scraped.
    #[must_use]
    pub fn has_coarse(&self) -> bool {
        self.coarse
    }

    /// Whether a stream takes part in a question with these replica labels: merged replicas only where
    /// they are to be merged, and by the same labels.
    fn serves(&self, stream: &StreamParts, replica_labels: &[String]) -> bool {
        if stream.merged_over.is_empty() {
            return true;
        }
        let mut asked = replica_labels.to_vec();
        asked.sort_unstable();
        if stream.merged_over == asked {
            return true;
        }
        // The replicas themselves may be gone, and then this is all there is of them.
        !self.streams.iter().any(|s| {
            s.merged_over.is_empty() && without(&s.external, &stream.merged_over) == stream.external
        })
    }

    /// What the bucket holds as the planner wants to know it of an endpoint.
    #[must_use]
    pub fn held(
        &self,
        endpoint: EndpointId,
        replica_labels: &[String],
        max: MaxResolution,
    ) -> Vec<Held> {
        let serves = |s: &&StreamParts| self.serves(s, replica_labels);
        let held = self.streams.iter().filter(serves).filter_map(|s| {
            let serves = |p: &&Arc<Part>| max.or_what_is_left || p.resolution_ms <= max.coarsest_ms;
            let parts = || s.days.values().flatten().filter(serves);
            let all = parts().map(|p| p.range).filter(|r| !r.is_empty());
            let all = all.reduce(|a, b| a.union(&b))?;
            // A day that somebody looked at and found nothing in is covered; one without a part is not.
            let days: BTreeSet<i32> = parts().map(|p| p.day).collect();
            let days: Vec<i32> = days.into_iter().collect();
            let mut gaps: Vec<TimeRange> = (days.windows(2))
                .filter_map(|w| match w {
                    [a, b] if b - a > 1 => Some(TimeRange::new(
                        i64::from(*a + 1).saturating_mul(DAY_MS),
                        i64::from(*b).saturating_mul(DAY_MS) - 1,
                    )),
                    _ => None,
                })
                .collect();
            gaps.push(TimeRange::new(all.max_t.saturating_add(1), i64::MAX));
            Some(Held {
                endpoint,
                external: s.external.clone(),
                available: all,
                gaps,
                usable: true,
                healthy: true,
                executes: true,
            })
        });
        held.collect()
    }

    /// The streams under these external labels that serve a question with these replica labels.
    pub fn under<'a>(
        &'a self,
        external: &'a Labels,
        replica_labels: &'a [String],
    ) -> impl Iterator<Item = usize> + 'a {
        let own = (external.clone(), Vec::new());
        let mut asked = replica_labels.to_vec();
        asked.sort_unstable();
        let plain = self.by_external.get(&own).copied();
        let merged = (!asked.is_empty())
            .then(|| self.by_external.get(&(external.clone(), asked)).copied())
            .flatten();
        let other = (plain.is_none() && merged.is_none())
            .then(|| self.streams.iter().position(|s| s.external == *external))
            .flatten();
        plain.into_iter().chain(merged).chain(other)
    }

    /// Whether anything coarser than as scraped would be read.
    #[must_use]
    pub fn is_coarse(&self, range: TimeRange, reads: &Reads) -> bool {
        if !self.coarse || (reads.coarsest_ms == 0 && !reads.or_what_is_left) {
            return false;
        }
        (0..self.streams.len())
            .any(|s| self.pick(&[s], range, reads).iter().any(|p| p.part.resolution_ms > 0))
    }

    /// As [`Self::pick`], of one resolution only.
    #[must_use]
    pub fn pick_at(
        &self,
        streams: &[usize],
        range: TimeRange,
        reads: &Reads,
        resolution_ms: i64,
    ) -> Vec<Pick> {
        let only = |p: &Part| p.resolution_ms == resolution_ms;
        self.pick_of(streams, range, reads, only)
    }

    /// The parts to read for times in `range` of streams that are replicas of each other (and perhaps
    /// these replicas merged), in order of days.
    #[must_use]
    pub fn pick(&self, streams: &[usize], range: TimeRange, reads: &Reads) -> Vec<Pick> {
        self.pick_of(streams, range, reads, |_| true)
    }

    fn pick_of(
        &self,
        streams: &[usize],
        range: TimeRange,
        reads: &Reads,
        of: impl Fn(&Part) -> bool,
    ) -> Vec<Pick> {
        let days = day_of(range.min_t)..=day_of(range.max_t);
        let mut by_day: BTreeMap<i32, Vec<Pick>> = BTreeMap::new();
        for stream in streams {
            let Some(s) = self.streams.get(*stream) else { continue };
            for (day, parts) in s.days.range(days.clone()) {
                let picks = parts
                    .iter()
                    .filter(|p| of(p))
                    .map(|p| Pick { stream: *stream, part: Arc::clone(p) });
                by_day.entry(*day).or_default().extend(picks);
            }
        }
        let overlaps = |p: &Pick| !p.part.files.is_empty() && p.part.range.overlaps(&range);
        let chosen = by_day.into_values().flat_map(|all| self.choose(all, reads));
        chosen.filter(overlaps).collect()
    }

    /// Gives every part of the days that a range touches, in one order for one catalog.
    pub fn each_part(&self, range: TimeRange, mut each: impl FnMut(&Part)) {
        for s in &self.streams {
            let days = s.days.range(day_of(range.min_t)..=day_of(range.max_t));
            days.flat_map(|(_, parts)| parts).for_each(|p| each(p));
        }
    }

    /// Of all there is for one day, what is read.
    fn choose(&self, all: Vec<Pick>, reads: &Reads) -> Vec<Pick> {
        let merged =
            |p: &Pick| self.streams.get(p.stream).is_some_and(|s| !s.merged_over.is_empty());
        let serves = RESOLUTIONS.iter().filter(|r| **r <= reads.coarsest_ms);
        let left = RESOLUTIONS.iter().rev().filter(|r| **r > reads.coarsest_ms);
        let mut forms: Vec<Vec<Pick>> = Vec::new();
        for resolution in serves.chain(left.filter(|_| reads.or_what_is_left)) {
            for of_merged in [true, false] {
                let wanted =
                    |p: &&Pick| p.part.resolution_ms == *resolution && merged(p) == of_merged;
                forms.push(all.iter().filter(wanted).cloned().collect());
            }
        }
        forms.retain(|f| !f.is_empty());
        if forms.len() < 2 {
            return forms.pop().unwrap_or_default();
        }
        let sources = |f: &[Pick]| -> BTreeSet<Ulid> {
            f.iter().flat_map(|p| p.part.sources.iter().copied()).collect()
        };
        let needed: BTreeSet<Ulid> = forms.iter().flat_map(|f| sources(f)).collect();
        if let Some(whole) = forms.iter().find(|f| sources(f).is_superset(&needed)) {
            return whole.clone();
        }
        // No form has all: the best one, and what it lacks from the others.
        let mut have: BTreeSet<Ulid> = BTreeSet::new();
        let mut out = Vec::new();
        for form in forms {
            for pick in form {
                if pick.part.sources.iter().any(|s| !have.contains(s)) {
                    out.push(pick);
                }
            }
            have = sources(&out);
        }
        out
    }
}

/// The labels that remain of a stream's when those that tell replicas apart are taken off.
#[must_use]
pub fn without(labels: &Labels, replica_labels: &[String]) -> Labels {
    labels.filter(|n| !replica_labels.iter().any(|r| r == n))
}

/// The day that a time lies in.
#[must_use]
pub fn day_of(t: i64) -> i32 {
    i32::try_from(t.div_euclid(DAY_MS)).unwrap_or(if t < 0 { i32::MIN } else { i32::MAX })
}
