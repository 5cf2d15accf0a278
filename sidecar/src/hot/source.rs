//! Answers the engine's selections from the window.

use std::sync::Arc;

use periplus_model::{Labels, Matcher, SampleBuffer, TimeRange};
use periplus_promql::source::{
    EncodedSeries, SelectRequest, SeriesEntry, SeriesStream, Source, SourceError,
};

use super::follow::Follower;
use super::series::Snapshot;

/// Series handed over at a time.
const BLOCK_SERIES: usize = 512;

/// The window as the engine sees it: series with external labels on.
pub struct HotSource {
    follower: Arc<Follower>,
    /// All external labels, replica labels included: what matchers see.
    external: Labels,
    /// The external labels that series are given.
    kept: Labels,
}

impl HotSource {
    /// A source over the follower's window. `external` are the external labels, of which those named
    /// in `drop` (replica labels) can be matched but are not put on.
    #[must_use]
    pub fn new(follower: Arc<Follower>, external: Labels, drop: &[String]) -> Self {
        let kept = external.filter(|name| !drop.iter().any(|d| d == name));
        Self { follower, external, kept }
    }
}

impl Source for HotSource {
    fn select(&self, request: &SelectRequest) -> Result<Box<dyn SeriesStream>, SourceError> {
        self.follower.catch_up()?;
        // Matchers on external labels are settled once; the rest is asked of each series.
        let (on_external, on_series): (Vec<&Matcher>, Vec<&Matcher>) =
            request.matchers.iter().partition(|m| self.external.get(&m.name).is_some());
        let possible = on_external.iter().all(|m| m.matches(self.external.value(&m.name)));
        let ids = self.follower.read(|window| {
            if request.range.min_t < window.covered_from() {
                return Err(SourceError::Unavailable(format!(
                    "the hot window begins at {}, the question reaches back to {}",
                    window.covered_from(),
                    request.range.min_t
                )));
            }
            if !possible {
                return Ok(Vec::new());
            }
            let mut ids = window.candidates(&request.matchers);
            ids.retain(|id| {
                window
                    .get(*id)
                    .is_some_and(|s| on_series.iter().all(|m| m.matches(s.labels.value(&m.name))))
            });
            Ok(ids)
        })??;
        if !self.follower.read(|window| window.is_dressed(&self.kept, &ids))? {
            self.follower.write(|window| window.dress(&self.kept, &ids))?;
        }
        Ok(Box::new(HotStream {
            follower: Arc::clone(&self.follower),
            kept: self.kept.clone(),
            ids,
            done: 0,
            range: request.range,
        }))
    }
}

struct HotStream {
    follower: Arc<Follower>,
    kept: Labels,
    ids: Vec<u32>,
    done: usize,
    range: TimeRange,
}

impl SeriesStream for HotStream {
    fn next_block(&mut self) -> Result<Option<Vec<SeriesEntry>>, SourceError> {
        while self.done < self.ids.len() {
            let upto = self.ids.len().min(self.done + BLOCK_SERIES);
            let ids = self.ids.get(self.done..upto).unwrap_or_default();
            self.done = upto;
            let (kept, range) = (&self.kept, self.range);
            let block = self.follower.read(|window| {
                let dressed = window.is_dressed(kept, &[]);
                let entry = |id: &u32| {
                    let series = window.get(*id)?;
                    let samples = series.snapshot(range)?;
                    let labels = match &series.dressed {
                        Some(labels) if dressed => labels.clone(),
                        _ => Labels::from_pairs(series.labels.iter().chain(kept.iter())),
                    };
                    Some(SeriesEntry { labels, samples: Arc::new(samples) })
                };
                ids.iter().filter_map(entry).collect::<Vec<SeriesEntry>>()
            })?;
            if !block.is_empty() {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }
}

impl EncodedSeries for Snapshot {
    fn decode(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), SourceError> {
        for sealed in &self.sealed {
            sealed.decode(range, out).map_err(SourceError::Corrupt)?;
        }
        out.extend_range(&self.open, range);
        Ok(())
    }

    fn encoded_bytes(&self) -> usize {
        self.bytes()
    }
}
