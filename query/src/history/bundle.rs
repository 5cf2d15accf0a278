//! Series whose samples lie beside each other, decoded when the engine wants them.
//!
//! A page holds the samples of a score of series. So neighbours are put into a bundle, and the pages last
//! decoded stay with it: whoever decodes the next series finds its page at hand. A worker takes a whole
//! bundle at a time, so the lock is for form's sake.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use periplus_columnar::{ColumnarError, HistogramReader, SampleReader, Window};
use periplus_model::{FloatHistogram, Labels, SampleBuffer, TimeRange, replicas};
use periplus_promql::source::{EncodedSeries, SourceError};

use super::coverage::Pick;
use super::open::Table;
use super::resolution::Column;
use super::select::Place;
use super::stitch::Stitch;

/// The bytes of one part that a bundle's series need, ready to be read.
#[derive(Debug)]
pub struct PartBytes {
    /// The part.
    pub pick: Pick,
    /// Makes readers of its floats; `None` where no series here has any.
    pub samples: Option<super::fetch::Source>,
    /// Makes readers of its histograms.
    pub histograms: Option<super::fetch::Source>,
}

impl PartBytes {
    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let held = |s: &Option<super::fetch::Source>| s.as_ref().map_or(0, |s| s.bytes());
        held(&self.samples) + held(&self.histograms)
    }
}

/// Neighbouring series.
pub struct Bundle {
    /// By index among the picks of the selection.
    parts: Arc<HashMap<u32, PartBytes>>,
    tables: Arc<Vec<Arc<Table>>>,
    column: Column,
    /// By pick.
    open: Mutex<HashMap<u32, Readers>>,
    /// Told of what can't be read; gives whether that ends the query.
    on_loss: OnLoss,
}

/// Told of a part that can't be read, and why; gives whether that ends the query.
pub type OnLoss = Arc<dyn Fn(&Pick, &str) -> bool + Send + Sync>;

#[derive(Default)]
struct Readers {
    samples: Option<SampleReader>,
    histograms: Option<HistogramReader>,
}

impl Bundle {
    /// A bundle over these parts.
    #[must_use]
    pub fn new(
        parts: Arc<HashMap<u32, PartBytes>>,
        tables: Arc<Vec<Arc<Table>>>,
        column: Column,
        on_loss: OnLoss,
    ) -> Self {
        Self { parts, tables, column, open: Mutex::default(), on_loss }
    }

    /// Appends what one stream has of a series.
    fn decode(
        &self,
        places: &[Place],
        range: TimeRange,
        out: &mut SampleBuffer,
    ) -> Result<(), SourceError> {
        let resolution = |p: &Place| self.parts.get(&p.pick).map(|p| p.pick.part.resolution_ms);
        let coarse = places.iter().any(|p| resolution(p) > Some(0));
        let mut stitch = (coarse && self.column == Column::Counter).then(Stitch::default);
        for place in places {
            let Some(part) = self.parts.get(&place.pick) else { continue };
            let Some(table) = self.tables.get(place.table as usize) else { continue };
            let windows: Vec<Window> = table.series.windows(place.row).collect();
            let done = self.decode_day(place.pick, part, &windows, range, stitch.as_mut(), out);
            if let Err(error) = done {
                let why = error.to_string();
                if (self.on_loss)(&part.pick, &why) {
                    return Err(SourceError::Corrupt(why));
                }
            }
        }
        Ok(())
    }

    fn decode_day(
        &self,
        pick: u32,
        part: &PartBytes,
        windows: &[Window],
        range: TimeRange,
        mut stitch: Option<&mut Stitch>,
        out: &mut SampleBuffer,
    ) -> Result<(), ColumnarError> {
        let begin = out.len();
        let raw = part.pick.part.resolution_ms == 0;
        let wanted: Vec<&Window> = windows.iter().filter(|w| w.range.overlaps(&range)).collect();
        for w in &wanted {
            let mut open = self.open.lock();
            let readers = open.entry(pick).or_default();
            // What came late may lie between what is there already.
            let late = out.ts.last().is_some_and(|last| *last >= w.range.min_t);
            let mut apart = SampleBuffer::new();
            let to = if late { &mut apart } else { &mut *out };
            readers.append(part, w, range, self.column, raw, to)?;
            drop(open);
            if late {
                merge_into(out, &apart);
            }
        }
        if let Some(stitch) = &mut stitch {
            match raw {
                true => {
                    stitch.raw_histograms(out, begin);
                    stitch.raw(out, begin);
                }
                false => {
                    let ends = self.histogram_ends(pick, &wanted)?;
                    stitch.counted_histograms(ends, out, begin);
                    stitch.counted(windows, out, begin);
                }
            }
        }
        if raw && self.column == Column::Count {
            ones(out, begin);
        }
        Ok(())
    }
}

impl Bundle {
    /// The first and the last histogram of a downsampled day as they were scraped, where the windows that
    /// are read have them.
    fn histogram_ends(
        &self,
        pick: u32,
        windows: &[&Window],
    ) -> Result<[Option<FloatHistogram>; 2], ColumnarError> {
        let mut open = self.open.lock();
        let reader = open.get_mut(&pick).and_then(|readers| readers.histograms.as_mut());
        let Some(reader) = reader else { return Ok([None, None]) };
        let [mut first, mut last] = [None, None];
        for w in windows.iter().filter(|w| !w.histogram_rows.is_empty()) {
            let [begins, ends] = reader.ends(w)?;
            first = first.or(begins);
            last = ends.or(last);
        }
        Ok([first, last])
    }
}

impl Readers {
    fn append(
        &mut self,
        part: &PartBytes,
        w: &Window,
        range: TimeRange,
        column: Column,
        raw: bool,
        out: &mut SampleBuffer,
    ) -> Result<(), ColumnarError> {
        if let (Some(source), false) = (&part.samples, w.rows.is_empty()) {
            let reader = match &mut self.samples {
                Some(reader) => reader,
                none => none.insert(source.samples()?),
            };
            match raw {
                true => reader.append(w, range, out)?,
                false => super::aggregate::append(reader, w, range, column, out)?,
            }
        }
        if let (Some(source), false) = (&part.histograms, w.histogram_rows.is_empty()) {
            let reader = match &mut self.histograms {
                Some(reader) => reader,
                none => none.insert(source.histograms()?),
            };
            match raw {
                true => super::aggregate::raw_histograms(reader, w, range, out)?,
                false => super::aggregate::append_histograms(reader, w, range, column, out)?,
            }
        }
        Ok(())
    }
}

/// Puts samples where they belong among those already there; of two of one time the first stays.
fn merge_into(out: &mut SampleBuffer, more: &SampleBuffer) {
    let had = std::mem::take(out);
    let (mut a, mut b) = (0, 0);
    while a < had.len() || b < more.len() {
        let (ta, tb) = (had.ts.get(a), more.ts.get(b));
        let first = match (ta, tb) {
            (Some(ta), Some(tb)) => ta <= tb,
            (first, _) => first.is_some(),
        };
        if first {
            b += usize::from(ta == tb);
            replicas::Run::append(out, &had, a);
            a += 1;
        } else {
            replicas::Run::append(out, more, b);
            b += 1;
        }
    }
}

/// Each sample as scraped counts one.
fn ones(out: &mut SampleBuffer, begin: usize) {
    out.histograms.retain(|(i, _)| (*i as usize) < begin);
    out.values.iter_mut().skip(begin).filter(|v| !periplus_model::is_stale(**v)).for_each(|v| {
        *v = 1.0;
    });
}

/// One series of a bundle.
pub struct BundledSeries {
    /// The bundle.
    pub bundle: Arc<Bundle>,
    /// Its labels, for the counters among them.
    pub labels: Labels,
    /// The function it is read for.
    pub func: Option<&'static str>,
    /// Where its samples lie, by stream.
    pub places: Vec<Place>,
    /// Bytes that are its share.
    pub bytes: usize,
}

impl EncodedSeries for BundledSeries {
    fn decode(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), SourceError> {
        let stream = |p: &Place| self.bundle.parts.get(&p.pick).map(|p| p.pick.stream);
        let by_stream: Vec<&[Place]> =
            self.places.chunk_by(|a, b| stream(a) == stream(b)).collect();
        match by_stream.as_slice() {
            [] => Ok(()),
            [only] => self.bundle.decode(only, range, out),
            several => {
                let mut each = Vec::with_capacity(several.len());
                for places in several {
                    let mut samples = SampleBuffer::new();
                    self.bundle.decode(places, range, &mut samples)?;
                    each.push(samples);
                }
                let counter = replicas::counts(&self.labels, self.func);
                replicas::merge(&each, counter, out);
                Ok(())
            }
        }
    }

    fn encoded_bytes(&self) -> usize {
        self.bytes + self.labels.heap_bytes() + self.places.len() * std::mem::size_of::<Place>()
    }
}
