//! The bucket's series for the engine: batches of neighbours, fetched while those before are evaluated.

use std::collections::HashMap;
use std::sync::Arc;

use periplus_model::{Labels, TimeRange};
use periplus_promql::source::{SelectRequest, SeriesEntry, SeriesStream, Source, SourceError};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::Instrument;

use super::bundle::{Bundle, BundledSeries, OnLoss, PartBytes};
use super::fetch::fetch;
use super::resolution::{Column, Reads};
use super::select::{Found, Lost, Replicas, Selection, Wish, select};
use super::{Reading, fleet_streams};
use crate::endpoints::Missing;
use crate::fanout::Question;
use crate::plan::PartSet;
use crate::series::{Block, Blocks};

/// Series of one bundle.
const BUNDLE_SERIES: usize = 32;
/// Series of one block.
const BLOCK_SERIES: usize = 128;
/// Series whose pages are fetched together.
const BATCH_SERIES: usize = 2048;
/// Samples whose pages are fetched together.
const BATCH_SAMPLES: u64 = 40_000_000;
/// Samples of one bundle, decoded.
const BUNDLE_SAMPLES: u64 = 1 << 20;
/// Blocks that wait for the engine.
const BLOCKS_WAITING: usize = 4;

/// The bucket's series of some parts of the fleet.
pub struct BucketSource {
    q: Arc<Question>,
    reading: Arc<Reading>,
    parts: PartSet,
    runtime: Handle,
    span: tracing::Span,
}

impl BucketSource {
    /// To be called on the I/O runtime, which requests will run on.
    #[must_use]
    pub fn new(q: Arc<Question>, reading: Arc<Reading>, parts: PartSet) -> Self {
        Self { q, reading, parts, runtime: Handle::current(), span: tracing::Span::current() }
    }
}

impl Source for BucketSource {
    fn select(&self, request: &SelectRequest) -> Result<Box<dyn SeriesStream>, SourceError> {
        let among = fleet_streams(&self.q, &self.reading, self.parts.iter());
        let (to, from) = mpsc::channel(BLOCKS_WAITING);
        let (q, reading, request) =
            (Arc::clone(&self.q), Arc::clone(&self.reading), request.clone());
        let work = async move {
            let stop = q.stop.clone();
            tokio::select! {
                () = read(&q, &reading, &request, among, &to) => {}
                () = stop.cancelled() => { let _ = to.try_send(Err(SourceError::Cancelled)); }
            }
        };
        let task = self.runtime.spawn(work.instrument(self.span.clone())).abort_handle();
        Ok(Box::new(Blocks { from, tasks: vec![task] }))
    }
}

/// Sends the bucket's series of `among` that match, in order of labels. What can't be read is noted as
/// missing; a strict question ends with it.
pub async fn read(
    q: &Arc<Question>,
    reading: &Arc<Reading>,
    request: &SelectRequest,
    among: Vec<Replicas>,
    to: &mpsc::Sender<Block>,
) {
    let (reads, matchers) = Reads::take(&request.matchers);
    let wish = Wish {
        matchers,
        range: request.range,
        reads,
        among,
        replica_labels: q.fleet.replica_labels.clone(),
        series_max: q.limits.series,
    };
    let mut selection = match select(reading.parts(), reading.coverage(), &wish).await {
        Ok(selection) => selection,
        Err(error) => {
            let _ = to.send(Err(SourceError::Limit(error.to_string()))).await;
            return;
        }
    };
    let lost = std::mem::take(&mut selection.lost);
    q.notes.missing(lost.into_iter().map(|l| missing(reading, l)));
    if refuses(q, to).await {
        return;
    }
    let series = std::mem::take(&mut selection.series);
    let selection = Arc::new(selection);
    let job = Job { q, reading, selection: &selection, range: wish.range, reads };
    let func = request.hints.func;
    for batch in job.batches(&series) {
        let (parts, lost) =
            fetch(reading.parts(), &selection, batch, wish.range, reads.column).await;
        let lost = lost.into_iter().map(|(pick, error)| Lost {
            labels: reading.external_of(pick.stream),
            part: pick.part.directory.clone(),
            why: error.to_string(),
        });
        q.notes.missing(lost.map(|l| missing(reading, l)));
        if refuses(q, to).await {
            return;
        }
        for block in job.blocks(batch, Arc::new(parts), func) {
            if to.send(Ok(block)).await.is_err() {
                return;
            }
        }
    }
}

/// Whether a strict question ends here, because something is missing.
async fn refuses(q: &Question, to: &mpsc::Sender<Block>) -> bool {
    if !(q.strict && q.notes.is_partial()) {
        return false;
    }
    let text = crate::fanout::fragment::strict_error(q).message;
    let _ = to.send(Err(SourceError::Unavailable(text))).await;
    true
}

/// A part that can't be read, as an answer names it.
#[must_use]
pub fn missing(reading: &Reading, lost: Lost) -> Missing {
    Missing {
        labels: lost.labels,
        address: format!("{}/{}", reading.name(), lost.part),
        since_ms: 0,
        reason: lost.why,
    }
}

struct Job<'a> {
    q: &'a Arc<Question>,
    reading: &'a Arc<Reading>,
    selection: &'a Arc<Selection>,
    range: TimeRange,
    reads: Reads,
}

impl Job<'_> {
    /// How many samples a series has in the range, at most.
    fn samples(&self, series: &Found) -> u64 {
        let windows = series.places.iter().filter_map(|p| {
            Some(self.selection.tables.get(p.table as usize)?.series.windows(p.row))
        });
        let inside = windows.flatten().filter(|w| w.range.overlaps(&self.range));
        inside.map(|w| w.rows.end.saturating_sub(w.rows.start)).sum()
    }

    /// Cuts the series into batches whose pages are fetched together.
    fn batches<'s>(&self, series: &'s [Found]) -> Vec<&'s [Found]> {
        let (mut out, mut begin, mut samples) = (Vec::new(), 0, 0u64);
        for (i, s) in series.iter().enumerate() {
            samples = samples.saturating_add(self.samples(s));
            if samples >= BATCH_SAMPLES || i + 1 - begin >= BATCH_SERIES {
                out.extend(series.get(begin..=i));
                (begin, samples) = (i + 1, 0);
            }
        }
        out.extend(series.get(begin..).filter(|rest| !rest.is_empty()));
        out
    }

    fn blocks(
        &self,
        batch: &[Found],
        parts: Arc<HashMap<u32, PartBytes>>,
        func: Option<&'static str>,
    ) -> Vec<Vec<SeriesEntry>> {
        let tables = Arc::new(self.selection.tables.clone());
        let held: usize = parts.values().map(PartBytes::bytes).sum();
        let share = held / batch.len().max(1);
        let each = batch.first().map_or(1, |s| self.samples(s)).max(1);
        let size = usize::try_from(BUNDLE_SAMPLES / each).unwrap_or(1).clamp(4, BUNDLE_SERIES);
        let mut out = Vec::new();
        for block in batch.chunks(size * (BLOCK_SERIES / BUNDLE_SERIES)) {
            let mut entries = Vec::with_capacity(block.len());
            // The engine cuts a block into four pieces of work: each is a bundle.
            for neighbours in block.chunks(block.len().div_ceil(4).max(8)) {
                let on_loss = self.on_loss();
                let bundle = Arc::new(Bundle::new(
                    Arc::clone(&parts),
                    Arc::clone(&tables),
                    self.reads.column,
                    on_loss,
                ));
                entries.extend(neighbours.iter().map(|s| SeriesEntry {
                    labels: s.labels.clone(),
                    samples: Arc::new(BundledSeries {
                        bundle: Arc::clone(&bundle),
                        labels: s.labels.clone(),
                        func: if self.reads.column == Column::Count { None } else { func },
                        places: s.places.clone(),
                        bytes: share,
                    }),
                }));
            }
            out.push(entries);
        }
        out
    }

    /// What happens when pages turn out to be broken: the part is missing in the answer, which ends a
    /// strict question.
    fn on_loss(&self) -> OnLoss {
        let (q, reading) = (Arc::clone(self.q), Arc::clone(self.reading));
        Arc::new(move |pick, why| {
            let labels: Labels = reading.external_of(pick.stream);
            let lost = Lost { labels, part: pick.part.directory.clone(), why: why.to_owned() };
            q.notes.missing([missing(&reading, lost)]);
            q.strict
        })
    }
}
