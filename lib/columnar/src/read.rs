//! A part read back whole, series by series: to verify it, to merge it, to downsample it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use periplus_block::chunk::{ChunkSamples, HistogramValue};
use periplus_block::source::RangedBytes;
use periplus_model::{FloatHistogram, Labels, SampleBuffer, TimeRange};

use crate::aggregate::{AggregateHistogram, AggregateSamples};
use crate::checksum::Checksum;
use crate::error::{ColumnarError, Place, Result};
use crate::fetch::{self, PartSource};
use crate::footer::Footer;
use crate::histograms::{HistogramColumn, HistogramReader};
use crate::part::{PartFile, PartMeta, PartSummary, Resolution};
use crate::samples::SampleReader;
use crate::series::{SeriesTable, Window};
use crate::write::{HistogramHolds, aggregate_checksum};

/// What a series has.
#[derive(Clone, Debug, PartialEq)]
pub enum SeriesData {
    /// Of a raw part.
    Raw(ChunkSamples),
    /// Of a part of aggregates.
    Aggregates(AggregateSamples),
}

/// A series of a part.
#[derive(Clone, Debug, PartialEq)]
pub struct PartSeries {
    /// Its own labels.
    pub labels: Labels,
    /// All it has.
    pub data: SeriesData,
}

/// Goes through a part.
pub struct PartReader {
    name: String,
    series_bytes: Arc<dyn RangedBytes>,
    series: Footer,
    samples: Option<SampleReader>,
    histograms: Option<HistogramReader>,
    next_group: usize,
    table: Option<(SeriesTable, u32)>,
    floats: SampleBuffer,
    last: Option<Labels>,
}

impl PartReader {
    /// Opens a part.
    ///
    /// # Errors
    /// A file is missing or is no file of a part.
    pub fn open(part: &dyn PartSource) -> Result<Self> {
        let name = part.name();
        let open = |file: PartFile| -> Result<Option<(Arc<dyn RangedBytes>, Footer)>> {
            let path = format!("{name}/{}", file.name());
            let bytes = part.open(file).map_err(|source| ColumnarError::Io {
                place: Place::file(&path),
                start: 0,
                end: 0,
                source,
            })?;
            let Some(bytes) = bytes else { return Ok(None) };
            let footer = Footer::open(&path, &*bytes)?;
            if footer.file() != file {
                let reason = format!("it says that it is {}", footer.file().name());
                return Err(ColumnarError::file(&path, reason));
            }
            Ok(Some((bytes, footer)))
        };
        let missing = |file: PartFile| {
            ColumnarError::file(&format!("{name}/{}", file.name()), "the file is missing")
        };
        let (series_bytes, series) =
            open(PartFile::Series)?.ok_or_else(|| missing(PartFile::Series))?;
        let samples = match open(PartFile::Samples)? {
            Some((bytes, footer)) => Some(SampleReader::new(&footer, bytes)?),
            None if series.summary().samples > 0 => return Err(missing(PartFile::Samples)),
            None => None,
        };
        let histograms = match open(PartFile::Histograms)? {
            Some((bytes, footer)) => Some(HistogramReader::new(&footer, bytes)?),
            None if series.summary().histograms > 0 => return Err(missing(PartFile::Histograms)),
            None => None,
        };
        Ok(Self {
            name,
            series_bytes,
            series,
            samples,
            histograms,
            next_group: 0,
            table: None,
            floats: SampleBuffer::new(),
            last: None,
        })
    }

    /// What the part is.
    #[must_use]
    pub fn meta(&self) -> &PartMeta {
        &self.series.summary().meta
    }

    /// What is known of it; its files are not listed.
    #[must_use]
    pub fn summary(&self) -> &PartSummary {
        self.series.summary()
    }

    /// The next series, ascending by labels; `None` at the end.
    ///
    /// # Errors
    /// What is wrong with the part, and where: also a checksum that is not what the window decodes
    /// to.
    pub fn next_series(&mut self) -> Result<Option<PartSeries>> {
        loop {
            if let Some((table, at)) = &mut self.table
                && (*at as usize) < table.len()
            {
                let i = *at;
                *at += 1;
                let labels = table.labels(i, &BTreeMap::new());
                let windows: Vec<Window> = table.windows(i).collect();
                if self.last.as_ref().is_some_and(|last| *last >= labels) {
                    return Err(self.differs(&labels, "it does not sort after the one before"));
                }
                self.last = Some(labels.clone());
                let data = match self.meta().resolution {
                    Resolution::Raw => SeriesData::Raw(self.raw(&labels, &windows)?),
                    _ => SeriesData::Aggregates(self.aggregates(&labels, &windows)?),
                };
                return Ok(Some(PartSeries { labels, data }));
            }
            if self.next_group >= self.series.groups() {
                return Ok(None);
            }
            let group = self.next_group;
            let place = Place { row_group: Some(group), ..Place::file(self.series.name()) };
            let range = self.series.group_range(group);
            let bytes = fetch::read(&*self.series_bytes, &place, range)?;
            self.table = Some((SeriesTable::decode(&self.series, group, &bytes)?, 0));
            self.next_group += 1;
        }
    }

    fn differs(&self, labels: &Labels, reason: impl Into<String>) -> ColumnarError {
        let (file, series) = (self.name.clone(), format!("{labels:?}"));
        ColumnarError::Differs { file, series, reason: reason.into() }
    }

    fn raw(&mut self, labels: &Labels, windows: &[Window]) -> Result<ChunkSamples> {
        let mut out = ChunkSamples::new();
        for window in windows {
            let mut floats = std::mem::take(&mut self.floats);
            floats.clear();
            self.floats_of(labels, window, &mut floats)?;
            if window.histogram_rows.is_empty() {
                if !floats.start_ts.is_empty() || !out.start_ts.is_empty() {
                    out.start_ts.resize(out.ts.len(), 0);
                    floats.start_ts.resize(floats.ts.len(), 0);
                    out.start_ts.extend_from_slice(&floats.start_ts);
                }
                out.ts.extend_from_slice(&floats.ts);
                out.values.extend_from_slice(&floats.values);
            } else {
                self.merge(labels, window, &floats, &mut out)?;
            }
            self.floats = floats;
        }
        if !out.ts.is_sorted_by(|a, b| a < b) {
            return Err(self.differs(labels, "its times do not ascend"));
        }
        Ok(out)
    }

    fn floats_of(&mut self, labels: &Labels, window: &Window, to: &mut SampleBuffer) -> Result<()> {
        if window.rows.is_empty() {
            return Ok(());
        }
        let Some(samples) = &mut self.samples else {
            return Err(self.differs(labels, "its samples have no file"));
        };
        samples.append(window, TimeRange::ALL, to)?;
        let mut sum = Checksum::new();
        sum.ints(&to.ts);
        sum.floats(&to.values);
        sum.ints(&to.start_ts);
        if sum.finish() != window.checksums.0 {
            return Err(self.differs(labels, "its samples do not have their checksum"));
        }
        Ok(())
    }

    fn merge(
        &mut self,
        labels: &Labels,
        window: &Window,
        floats: &SampleBuffer,
        out: &mut ChunkSamples,
    ) -> Result<()> {
        let Some(reader) = &mut self.histograms else {
            return Err(self.differs(labels, "its histograms have no file"));
        };
        let stored = reader.stored(window, HistogramColumn::Raw)?;
        let mut sum = Checksum::new();
        let mut at = 0;
        let mut push_until = |t: i64, out: &mut ChunkSamples| {
            while let Some((ts, v)) = floats.ts.get(at).zip(floats.values.get(at)) {
                if *ts >= t {
                    break;
                }
                out.push(*ts, *v, floats.start_ts.get(at).copied().unwrap_or(0));
                at += 1;
            }
        };
        let many = stored.len();
        for stored in stored {
            let (ts, start, integer) = (stored.ts, stored.start, stored.integer);
            let value = stored.value();
            sum.histogram(ts, start, integer, &value);
            push_until(ts, out);
            out.push_histogram(ts, value, start);
        }
        push_until(i64::MAX, out);
        if sum.finish() != window.checksums.1 || many != window.histograms as usize {
            return Err(self.differs(labels, "its histograms do not have their checksum"));
        }
        Ok(())
    }

    fn aggregates(&mut self, labels: &Labels, windows: &[Window]) -> Result<AggregateSamples> {
        let mut out = AggregateSamples::default();
        for window in windows {
            (out.counter_first, out.counter_last) = (window.counter_first, window.counter_last);
            if !window.rows.is_empty() {
                let mut these = AggregateSamples::default();
                let Some(samples) = &mut self.samples else {
                    return Err(self.differs(labels, "its samples have no file"));
                };
                samples.append_aggregates(window, &mut these)?;
                let columns = these.columns().map(|c| (!c.is_empty()).then_some(&c[..]));
                if aggregate_checksum(&these.ts, &columns) != window.checksums.0 {
                    return Err(self.differs(labels, "its aggregates do not have their checksum"));
                }
                let before = out.ts.len();
                for (to, from) in out.columns_mut().into_iter().zip(these.columns()) {
                    if !from.is_empty() && to.len() != before {
                        let reason = "it has an aggregate in some of its windows only";
                        return Err(self.differs(labels, reason));
                    }
                    to.extend_from_slice(from);
                }
                out.ts.extend_from_slice(&these.ts);
            }
            if !window.histogram_rows.is_empty() {
                self.aggregate_histograms(labels, window, &mut out)?;
            }
        }
        if !out.ts.is_sorted_by(|a, b| a < b) {
            return Err(self.differs(labels, "its times do not ascend"));
        }
        Ok(out)
    }

    fn aggregate_histograms(
        &mut self,
        labels: &Labels,
        window: &Window,
        out: &mut AggregateSamples,
    ) -> Result<()> {
        let Some(reader) = &mut self.histograms else {
            return Err(self.differs(labels, "its histograms have no file"));
        };
        let mut sum = Checksum::new();
        let mut by_time: BTreeMap<i64, AggregateHistogram> = BTreeMap::new();
        for holds in [HistogramColumn::Sum, HistogramColumn::Counter] {
            let stored: VecDeque<_> = reader.stored(window, holds)?.into();
            sum.word(stored.len() as u64);
            for stored in stored {
                sum.ints(&[stored.ts]);
                sum.floats(&[stored.observations]);
                sum.float_histogram(&stored.histogram);
                let entry = by_time.entry(stored.ts).or_insert(AggregateHistogram {
                    ts: stored.ts,
                    observations: stored.observations,
                    sum: None,
                    counter: None,
                });
                let histogram = Some(Arc::new(stored.histogram));
                match holds {
                    HistogramColumn::Sum => entry.sum = histogram,
                    _ => entry.counter = histogram,
                }
            }
        }
        for (holds, to) in [
            (HistogramColumn::First, &mut out.histogram_first),
            (HistogramColumn::Last, &mut out.histogram_last),
        ] {
            if let Some(stored) = reader.stored(window, holds)?.into_iter().next() {
                let number = if holds == HistogramColumn::First {
                    HistogramHolds::First
                } else {
                    HistogramHolds::Last
                };
                sum.word(number as u64);
                sum.ints(&[stored.ts]);
                sum.float_histogram(&stored.histogram);
                *to = Some((stored.ts, Arc::new(stored.histogram)));
            }
        }
        if sum.finish() != window.checksums.1 || by_time.len() != window.histograms as usize {
            return Err(self.differs(labels, "its histograms do not have their checksum"));
        }
        out.histograms.extend(by_time.into_values());
        Ok(())
    }

    /// Holds the next series of the part against what it was written from, bit for bit.
    ///
    /// # Errors
    /// They differ: other labels, other times, another bit of a value, another hint; or the part
    /// can't be read.
    pub fn expect(&mut self, labels: &Labels, data: &SeriesData) -> Result<()> {
        let Some(there) = self.next_series()? else {
            return Err(self.differs(labels, "it is missing at the end of the part"));
        };
        if there.labels != *labels {
            let reason = format!("instead of it the part has {:?}", there.labels);
            return Err(self.differs(labels, reason));
        }
        difference(&there.data, data).map_or(Ok(()), |what| Err(self.differs(labels, what)))
    }

    /// [`expect`](Self::expect) of raw samples, without a copy of them.
    ///
    /// # Errors
    /// As [`expect`](Self::expect).
    pub fn expect_raw(&mut self, labels: &Labels, samples: &ChunkSamples) -> Result<()> {
        let Some(there) = self.next_series()? else {
            return Err(self.differs(labels, "it is missing at the end of the part"));
        };
        let SeriesData::Raw(data) = &there.data else {
            return Err(self.differs(labels, "the part holds aggregates"));
        };
        if there.labels != *labels {
            let reason = format!("instead of it the part has {:?}", there.labels);
            return Err(self.differs(labels, reason));
        }
        raw_difference(data, samples).map_or(Ok(()), |what| Err(self.differs(labels, what)))
    }

    /// After the last series was expected: nothing more may follow.
    ///
    /// # Errors
    /// A series more; the part can't be read.
    pub fn expect_end(&mut self) -> Result<()> {
        match self.next_series()? {
            None => Ok(()),
            Some(more) => Err(self.differs(&more.labels, "it is in the part and was not written")),
        }
    }
}

/// What differs between two series' data; `None`: not one bit.
#[must_use]
pub fn difference(a: &SeriesData, b: &SeriesData) -> Option<&'static str> {
    match (a, b) {
        (SeriesData::Raw(a), SeriesData::Raw(b)) => raw_difference(a, b),
        (SeriesData::Aggregates(a), SeriesData::Aggregates(b)) => aggregate_difference(a, b),
        _ => Some("one has samples, the other aggregates"),
    }
}

fn same_floats(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn raw_difference(a: &ChunkSamples, b: &ChunkSamples) -> Option<&'static str> {
    if a.ts != b.ts {
        return Some("its times differ");
    }
    if !same_floats(&a.values, &b.values) {
        return Some("its values differ");
    }
    let starts = |s: &ChunkSamples| s.start_ts.iter().any(|s| *s != 0).then(|| s.start_ts.clone());
    if starts(a) != starts(b) {
        return Some("its start timestamps differ");
    }
    if a.histograms.len() != b.histograms.len() {
        return Some("it has another number of histograms");
    }
    let same = |((i, a), (j, b)): (&(u32, HistogramValue), &(u32, HistogramValue))| {
        i == j && same_value(a, b)
    };
    (!a.histograms.iter().zip(&b.histograms).all(same)).then_some("its histograms differ")
}

fn same_value(a: &HistogramValue, b: &HistogramValue) -> bool {
    match (a, b) {
        (HistogramValue::Integer(x), HistogramValue::Integer(y)) => {
            x.count == y.count
                && x.zero_count == y.zero_count
                && x.positive_buckets == y.positive_buckets
                && x.negative_buckets == y.negative_buckets
                && same_histogram(&a.to_float(), &b.to_float())
        }
        // Counts that no float holds exactly are stored as Prometheus computes with them.
        _ => same_histogram(&a.to_float(), &b.to_float()),
    }
}

fn same_histogram(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    a.counter_reset_hint == b.counter_reset_hint
        && a.schema == b.schema
        && same_floats(
            &[a.zero_threshold, a.zero_count, a.count, a.sum],
            &[b.zero_threshold, b.zero_count, b.count, b.sum],
        )
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && same_floats(&a.positive_buckets, &b.positive_buckets)
        && same_floats(&a.negative_buckets, &b.negative_buckets)
        && same_floats(&a.custom_values, &b.custom_values)
}

fn aggregate_difference(a: &AggregateSamples, b: &AggregateSamples) -> Option<&'static str> {
    if a.ts != b.ts {
        return Some("its times differ");
    }
    if !a.columns().iter().zip(b.columns()).all(|(a, b)| same_floats(a, b)) {
        return Some("its aggregates differ");
    }
    let bits = |s: &AggregateSamples| {
        let first = s.counter_first.map(|(t, v)| (t, v.to_bits()));
        (first, s.counter_last.map(f64::to_bits))
    };
    if bits(a) != bits(b) {
        return Some("the ends of its counter differ");
    }
    type End = Option<(i64, Arc<FloatHistogram>)>;
    let same_end = |a: &End, b: &End| match (a, b) {
        (Some((t, a)), Some((u, b))) => t == u && same_histogram(a, b),
        (a, b) => a.is_none() && b.is_none(),
    };
    if !same_end(&a.histogram_first, &b.histogram_first)
        || !same_end(&a.histogram_last, &b.histogram_last)
    {
        return Some("the ends of its histograms differ");
    }
    let same = |a: &Option<Arc<FloatHistogram>>, b: &Option<Arc<FloatHistogram>>| match (a, b) {
        (Some(a), Some(b)) => same_histogram(a, b),
        (a, b) => a.is_none() && b.is_none(),
    };
    let same = |a: &AggregateHistogram, b: &AggregateHistogram| {
        a.ts == b.ts
            && a.observations.to_bits() == b.observations.to_bits()
            && same(&a.sum, &b.sum)
            && same(&a.counter, &b.counter)
    };
    let all = a.histograms.len() == b.histograms.len()
        && a.histograms.iter().zip(&b.histograms).all(|(a, b)| same(a, b));
    (!all).then_some("its histograms differ")
}
