//! `histograms.parquet`: runs of histograms of one layout, their buckets turned so that a bucket's
//! counts over time lie side by side.

use periplus_block::chunk::HistogramValue;
use periplus_model::{FloatHistogram, Span};

use super::chunk::{ChunkWriter, Codec, Levels};
use super::file::{Chunk, FileWriter};
use crate::checksum::hint_number;
use crate::error::Result;
use crate::schema::{Column, Shape, histograms as column};

/// Histograms of a run at most.
const RUN_MAX: usize = 2048;
/// Numbers in the buckets of a run, unless a single histogram has more.
const RUN_NUMBERS: usize = 1 << 16;
/// Numbers in a page's longest list.
const PAGE_NUMBERS: usize = 1 << 16;
/// Numbers in a row group's buckets.
const GROUP_NUMBERS: usize = 1 << 20;
/// Buckets of one histogram at most: a reader takes no page with more numbers than four times this.
pub(crate) const BUCKETS_MAX: usize = 1 << 20;
/// Above this not every integer has a float.
const EXACT_MAX: i64 = 1 << 53;

/// What a run holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Raw = 0,
    Sum = 1,
    Counter = 2,
    First = 3,
    Last = 4,
}

impl Holds {
    pub(crate) const NAMES: [&str; 5] = ["raw", "sum", "counter", "first", "last"];
}

/// How counts were stored.
pub(crate) const FORMS: [&str; 2] = ["float", "integer"];

/// The absolute counts of an integer histogram, where floats hold all of them exactly.
pub(crate) fn exact(h: &HistogramValue) -> bool {
    let HistogramValue::Integer(h) = h else { return false };
    let mut in_range =
        h.count <= EXACT_MAX.cast_unsigned() && h.zero_count <= EXACT_MAX.cast_unsigned();
    for deltas in [&h.positive_buckets, &h.negative_buckets] {
        let mut count = 0i64;
        for delta in deltas {
            count = count.wrapping_add(*delta);
            in_range &= (-EXACT_MAX..=EXACT_MAX).contains(&count);
        }
    }
    in_range
}

/// One histogram to be written.
pub(super) struct Item<'a> {
    pub(super) ts: i64,
    pub(super) start: i64,
    pub(super) observations: Option<f64>,
    pub(super) histogram: &'a FloatHistogram,
    pub(super) integer: bool,
}

/// A run that is being gathered.
#[derive(Default)]
struct Run {
    layout: FloatHistogram,
    integer: bool,
    ts: Vec<i64>,
    start: Vec<i64>,
    hint: Vec<i32>,
    /// count, sum, zero_count
    totals: [Vec<f64>; 3],
    /// Histogram by histogram.
    positive: Vec<f64>,
    negative: Vec<f64>,
    observations: Vec<f64>,
}

impl Run {
    fn takes(&self, item: &Item<'_>) -> bool {
        let (a, b) = (&self.layout, item.histogram);
        let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let more = self.positive.len()
            + self.negative.len()
            + b.positive_buckets.len()
            + b.negative_buckets.len();
        self.ts.len() < RUN_MAX
            && (more <= RUN_NUMBERS || self.ts.is_empty())
            && self.integer == item.integer
            && a.schema == b.schema
            && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
            && a.positive_spans == b.positive_spans
            && a.negative_spans == b.negative_spans
            && a.positive_buckets.len() == b.positive_buckets.len()
            && a.negative_buckets.len() == b.negative_buckets.len()
            && bits(&a.custom_values) == bits(&b.custom_values)
    }

    fn push(&mut self, item: &Item<'_>) {
        let h = item.histogram;
        if self.ts.is_empty() {
            self.layout = h.clone();
            self.integer = item.integer;
        }
        self.ts.push(item.ts);
        if item.start != 0 || !self.start.is_empty() {
            self.start.resize(self.ts.len() - 1, 0);
            self.start.push(item.start);
        }
        self.hint.push(hint_number(h.counter_reset_hint));
        for (to, value) in self.totals.iter_mut().zip([h.count, h.sum, h.zero_count]) {
            to.push(value);
        }
        self.positive.extend_from_slice(&h.positive_buckets);
        self.negative.extend_from_slice(&h.negative_buckets);
        self.observations.extend(item.observations);
    }
}

/// Lists of a column: their elements, and how many each row has.
#[derive(Default)]
struct Lists<T> {
    elements: Vec<T>,
    lens: Vec<usize>,
}

impl<T> Lists<T> {
    fn push(&mut self, list: impl IntoIterator<Item = T>) {
        let before = self.elements.len();
        self.elements.extend(list);
        self.lens.push(self.elements.len() - before);
    }
}

/// Rows that wait until there are enough for a row group.
#[derive(Default)]
struct Rows {
    sid: Vec<i64>,
    holds: Vec<u32>,
    form: Vec<u32>,
    schema: Vec<i32>,
    zero_threshold: Vec<f64>,
    t_min: Vec<i64>,
    t_max: Vec<i64>,
    shorts: [Lists<i32>; 5],
    times: [Lists<i64>; 2],
    floats: [Lists<f64>; 7],
    /// Numbers in the longest list of each row.
    weight: Vec<usize>,
}

#[derive(Default)]
pub(super) struct HistogramRows {
    run: Run,
    rows: Rows,
    numbers: usize,
    /// Rows in row groups that are written.
    written: u64,
}

impl HistogramRows {
    /// The number the next row will have.
    pub(super) fn next_row(&self) -> u64 {
        self.written + self.rows.sid.len() as u64
    }

    /// Takes a series' histograms of one window, all of one kind.
    pub(super) fn push<'a>(
        &mut self,
        sid: i64,
        holds: Holds,
        items: impl Iterator<Item = Item<'a>>,
    ) {
        for item in items {
            if !self.run.ts.is_empty() && !self.run.takes(&item) {
                self.close(sid, holds);
            }
            self.run.push(&item);
        }
        self.close(sid, holds);
    }

    /// Ends the run: it becomes a row.
    fn close(&mut self, sid: i64, holds: Holds) {
        let run = std::mem::take(&mut self.run);
        let (Some(first), Some(last)) = (run.ts.first(), run.ts.last()) else { return };
        let (rows, n) = (&mut self.rows, run.ts.len());
        rows.sid.push(sid);
        rows.holds.push(holds as u32);
        rows.form.push(u32::from(run.integer));
        rows.schema.push(run.layout.schema);
        rows.zero_threshold.push(run.layout.zero_threshold);
        rows.t_min.push(*first);
        rows.t_max.push(*last);
        let spans = |s: &[Span]| -> (Vec<i32>, Vec<i32>) {
            s.iter().map(|s| (s.offset, s.length.cast_signed())).unzip()
        };
        let (positive, negative) =
            (spans(&run.layout.positive_spans), spans(&run.layout.negative_spans));
        let shorts = [positive.0, positive.1, negative.0, negative.1, run.hint];
        for (to, list) in rows.shorts.iter_mut().zip(shorts) {
            to.push(list);
        }
        for (to, list) in rows.times.iter_mut().zip([run.ts, run.start]) {
            to.push(list);
        }
        let weight = n.max(run.positive.len()).max(run.negative.len());
        let weight = weight.max(run.layout.custom_values.len());
        self.numbers += run.positive.len() + run.negative.len() + 4 * n;
        rows.weight.push(weight);
        let [count, sum, zero] = run.totals;
        let (positive, negative) = (turned(&run.positive, n), turned(&run.negative, n));
        let floats =
            [run.layout.custom_values, count, sum, zero, positive, negative, run.observations];
        for (to, list) in rows.floats.iter_mut().zip(floats) {
            to.push(list);
        }
    }

    /// Whether a row group is full.
    pub(super) fn is_full(&self) -> bool {
        self.numbers >= GROUP_NUMBERS
    }

    /// Writes what waits as a row group.
    pub(super) fn flush(&mut self, file: &mut FileWriter, codec: &mut Codec) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        self.numbers = 0;
        if rows.sid.is_empty() {
            return Ok(());
        }
        self.written += rows.sid.len() as u64;
        let pages = pages(&rows.weight);
        file.group(|number, described| encode(codec, &rows, &pages, number, described))
    }
}

/// From histogram by histogram to bucket by bucket.
fn turned(values: &[f64], histograms: usize) -> Vec<f64> {
    let buckets = values.len() / histograms.max(1);
    let column = |b: usize| values.iter().skip(b).step_by(buckets.max(1));
    (0..buckets).flat_map(column).copied().collect()
}

/// Rows of each page: as many as have a page's worth of numbers.
fn pages(weight: &[usize]) -> Vec<std::ops::Range<usize>> {
    let (mut out, mut from, mut sum) = (Vec::new(), 0, 0);
    for (i, w) in weight.iter().enumerate() {
        if sum > 0 && sum + w > PAGE_NUMBERS {
            out.push(from..i);
            (from, sum) = (i, 0);
        }
        sum += w;
    }
    out.push(from..weight.len());
    out
}

fn encode(
    codec: &mut Codec,
    rows: &Rows,
    pages: &[std::ops::Range<usize>],
    number: usize,
    described: &Column,
) -> std::io::Result<Chunk> {
    let mut chunk = ChunkWriter::new(None);
    if described.shape == Shape::Many {
        let lists = |i: usize| i - column::SPANS;
        match number {
            column::TS => list(codec, &mut chunk, pages, &rows.times[0], ChunkWriter::delta_page)?,
            column::START => {
                list(codec, &mut chunk, pages, &rows.times[1], ChunkWriter::delta_page)?;
            }
            column::HINT => list(codec, &mut chunk, pages, &rows.shorts[4], ChunkWriter::i32_page)?,
            column::SPANS..=column::SPANS_LAST => {
                if let Some(of) = rows.shorts.get(lists(number)) {
                    list(codec, &mut chunk, pages, of, ChunkWriter::i32_page)?;
                }
            }
            _ => {
                let at = if number == column::CUSTOM { 0 } else { number - column::COUNT + 1 };
                if let Some(of) = rows.floats.get(at) {
                    list(codec, &mut chunk, pages, of, ChunkWriter::f64_page)?;
                }
            }
        }
        return Ok(chunk.into());
    }
    match number {
        column::AGGREGATE => chunk.dictionary(codec, Holds::NAMES.into_iter())?,
        column::FORM => chunk.dictionary(codec, FORMS.into_iter())?,
        _ => {}
    }
    for page in pages {
        let (n, none) = (page.len(), Levels::default());
        let ints = |of: &[i64]| of.get(page.clone()).unwrap_or_default().to_vec();
        let indexes = |of: &[u32]| of.get(page.clone()).unwrap_or_default().to_vec();
        match number {
            column::SID => chunk.delta_page(codec, n, none, &ints(&rows.sid))?,
            column::AGGREGATE => chunk.index_page(codec, n, none, &indexes(&rows.holds))?,
            column::FORM => chunk.index_page(codec, n, none, &indexes(&rows.form))?,
            column::SCHEMA => {
                let values = rows.schema.get(page.clone()).unwrap_or_default();
                chunk.i32_page(codec, n, none, values)?;
            }
            column::ZERO_THRESHOLD => {
                let values = rows.zero_threshold.get(page.clone()).unwrap_or_default();
                chunk.f64_page(codec, n, none, values)?;
            }
            column::T_MIN => chunk.delta_page(codec, n, none, &ints(&rows.t_min))?,
            _ => chunk.delta_page(codec, n, none, &ints(&rows.t_max))?,
        }
    }
    Ok(chunk.into())
}

fn list<T>(
    codec: &mut Codec,
    chunk: &mut ChunkWriter,
    pages: &[std::ops::Range<usize>],
    lists: &Lists<T>,
    write: impl Fn(&mut ChunkWriter, &mut Codec, usize, Levels<'_>, &[T]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let (mut at, mut rep, mut def) = (0, Vec::new(), Vec::new());
    for page in pages {
        rep.clear();
        def.clear();
        let from = at;
        for len in lists.lens.get(page.clone()).unwrap_or_default() {
            // A list without elements has one pair of levels and no value.
            rep.push(0);
            rep.resize(rep.len() + len.saturating_sub(1), 1);
            def.resize(def.len() + (*len).max(1), u32::from(*len > 0));
            at += len;
        }
        let elements = lists.elements.get(from..at).unwrap_or_default();
        let levels = Levels { rep: Some(&rep), def: Some(&def) };
        write(chunk, codec, page.len(), levels, elements)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_lie_side_by_side() {
        // Three histograms of two buckets.
        assert_eq!(turned(&[1., 10., 2., 20., 3., 30.], 3), [1., 2., 3., 10., 20., 30.]);
        assert!(turned(&[], 3).is_empty());
    }

    #[test]
    fn pages_hold_what_fits() {
        assert_eq!(pages(&[PAGE_NUMBERS, 1, 1]), [0..1, 1..3]);
        assert_eq!(pages(&[1, 1]), vec![0..2]);
        assert_eq!(pages(&[2 * PAGE_NUMBERS]), vec![0..1]);
    }
}
