//! The series of a row group of `series.parquet`, small enough to be kept.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use periplus_model::{Labels, Matcher, TimeRange};

use crate::column::{Decoded, Limits, Texts};
use crate::error::{ColumnarError, Place, Result};
use crate::footer::Footer;
use crate::page::PageReader;
use crate::part::{PartFile, WINDOW_MS, WINDOWS};
use crate::schema::{SERIES_NUMBERS, Shape};
use crate::write::GROUP_LABELS;

/// Bytes of a page at most: a dictionary of this many bytes of text is the largest.
const BODY_MAX: usize = 48 << 20;

/// What a series has in one window, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// The series' number in its table.
    pub series: u32,
    /// The window of the day, 0 to 2.
    pub window: u8,
    /// First and last sample, of floats and histograms alike.
    pub range: TimeRange,
    /// Rows of `samples.parquet`.
    pub rows: Range<u64>,
    /// Rows of `histograms.parquet`.
    pub histogram_rows: Range<u64>,
    /// Histograms in these rows.
    pub histograms: u32,
    /// Of aggregates: time and value of the series' first raw sample in the part.
    pub counter_first: Option<(i64, f64)>,
    /// Of aggregates: the series' last raw value in the part.
    pub counter_last: Option<f64>,
    /// Of what the rows decode to: samples, histograms.
    pub checksums: (i64, i64),
}

/// As it is kept.
#[derive(Clone, Copy, Debug)]
struct Packed {
    t_min: u32,
    t_max: u32,
    row_start: u64,
    rows: u32,
    histogram_rows: u32,
    histogram_row_start: u64,
    histograms: u32,
    checksums: (i64, i64),
}

/// A counter's first sample and last value.
type CounterEnds = (Option<(i64, f64)>, Option<f64>);

/// The series of one row group: labels as numbers of distinct texts, windows as where their rows are.
#[derive(Clone, Debug)]
pub struct SeriesTable {
    day_start: i64,
    names: Texts,
    values: Texts,
    /// Name and value of each label, series by series.
    pairs: Vec<(u32, u32)>,
    /// Where each series' labels and windows end.
    ends: Vec<(u32, u32)>,
    windows: Vec<Packed>,
    /// As many as windows, or none where no row has any.
    counters: Vec<CounterEnds>,
}

impl SeriesTable {
    /// Decodes a row group from its bytes, those of [`Footer::group_range`].
    ///
    /// # Errors
    /// What is wrong with them, and where.
    pub fn decode(footer: &Footer, group: usize, bytes: &Bytes) -> Result<Self> {
        let place = Place { row_group: Some(group), ..Place::file(footer.name()) };
        let bad = |reason: &str| ColumnarError::corrupt(&place, reason);
        if footer.file() != PartFile::Series {
            return Err(bad("it holds no series"));
        }
        let described = footer.0.groups.get(group).ok_or_else(|| bad("there is no such"))?;
        let range = footer.group_range(group);
        if bytes.len() as u64 != range.end - range.start {
            return Err(bad("its bytes are not as many as it has"));
        }
        let mut pages = PageReader::new()?;
        let mut column = |wanted: &dyn Fn(&crate::schema::Column) -> bool| -> Result<Decoded> {
            let number = footer.0.columns.iter().position(wanted);
            let found = number.and_then(|i| Some((i, described.chunks.get(i)?)));
            let (number, chunk) = found.ok_or_else(|| bad("a column is missing"))?;
            let of = |n: u64| (n - range.start) as usize;
            let bytes = bytes.get(of(chunk.range.start)..of(chunk.range.end)).unwrap_or_default();
            let column = footer.0.columns.get(number).ok_or_else(|| bad("a column is missing"))?;
            let limits = Limits { values: 4 * GROUP_LABELS, body: BODY_MAX };
            let place = footer.place(group, number);
            Decoded::chunk(&mut pages, &place, column, bytes, chunk.values, limits)
        };
        let keys = column(&|c| c.shape == Shape::Keys)?;
        let values = column(&|c| c.shape == Shape::Values)?;
        let mut numbers = Vec::with_capacity(SERIES_NUMBERS.len());
        for name in SERIES_NUMBERS {
            numbers.push(column(&|c| c.name == name)?.ints);
        }
        let counters = [
            column(&|c| c.name == "counter_first_t")?,
            column(&|c| c.name == "counter_first_v")?,
            column(&|c| c.name == "counter_last_v")?,
        ];
        let rows = described.rows as usize;
        Self::build(footer, rows, keys, values, &numbers, &counters)
            .ok_or_else(|| bad("its columns don't fit each other"))
    }

    /// Puts the columns together; `None` where they contradict each other.
    fn build(
        footer: &Footer,
        rows: usize,
        keys: Decoded,
        values: Decoded,
        numbers: &[Vec<i64>],
        counters: &[Decoded; 3],
    ) -> Option<Self> {
        if keys.rep != values.rep
            || keys.def != values.def
            || numbers.iter().any(|n| n.len() != rows)
        {
            return None;
        }
        let mut table = Self {
            day_start: footer.summary().meta.day.start_ms(),
            names: keys.texts,
            values: values.texts,
            pairs: Vec::new(),
            ends: Vec::new(),
            windows: Vec::with_capacity(rows),
            counters: Vec::new(),
        };
        let mut pairs = keys.indexes.iter().copied().zip(values.indexes.iter().copied());
        let (mut level, mut before) = (0, 0..0);
        for row in 0..rows {
            let start = table.pairs.len();
            let mut first = true;
            while let Some(rep) = keys.rep.get(level).filter(|rep| first || **rep == 1) {
                if first && *rep != 0 {
                    return None;
                }
                first = false;
                if keys.def.get(level) == Some(&1) {
                    table.pairs.push(pairs.next()?);
                }
                level += 1;
            }
            if first {
                return None;
            }
            let these = start..table.pairs.len();
            // Rows of one series follow each other.
            if row > 0 && table.pairs.get(these.clone()) == table.pairs.get(before.clone()) {
                table.pairs.truncate(start);
                table.ends.pop();
            } else {
                before = these;
            }
            table.windows.push(table.packed(numbers, row)?);
            let ends = (u32::try_from(before.end).ok()?, u32::try_from(table.windows.len()).ok()?);
            table.ends.push(ends);
        }
        if level != keys.rep.len() || !table.sorted_labels() {
            return None;
        }
        table.counters(rows, counters)?;
        table.pairs.shrink_to_fit();
        table.ends.shrink_to_fit();
        Some(table)
    }

    fn packed(&self, numbers: &[Vec<i64>], row: usize) -> Option<Packed> {
        let number = |i: usize| numbers.get(i)?.get(row).copied();
        let in_day = |ms: i64| {
            let ms = u32::try_from(ms.checked_sub(self.day_start)?).ok()?;
            (i64::from(ms) < WINDOW_MS * WINDOWS as i64).then_some(ms)
        };
        let count = |i: usize| u32::try_from(number(i)?).ok();
        let packed = Packed {
            t_min: in_day(number(0)?)?,
            t_max: in_day(number(1)?)?,
            row_start: u64::try_from(number(2)?).ok()?,
            rows: count(3)?,
            histogram_row_start: u64::try_from(number(4)?).ok()?,
            histogram_rows: count(5)?,
            histograms: count(6)?,
            checksums: (number(7)?, number(8)?),
        };
        (packed.t_min <= packed.t_max).then_some(packed)
    }

    /// Whether every series' labels ascend by name, which everything else relies on.
    fn sorted_labels(&self) -> bool {
        (0..self.len()).all(|i| {
            let names = self.pairs(i as u32).iter().map(|(name, _)| self.names.get(*name));
            names.is_sorted_by(|a, b| a < b)
        })
    }

    fn counters(&mut self, rows: usize, [at, first, last]: &[Decoded; 3]) -> Option<()> {
        let lens = [at.def.len(), first.def.len(), last.def.len()];
        if lens != [rows; 3] || at.def != first.def {
            return None;
        }
        if at.ints.is_empty() && last.floats.is_empty() {
            return Some(());
        }
        let mut firsts = at.ints.iter().copied().zip(first.floats.iter().copied());
        let mut lasts = last.floats.iter().copied();
        for (has_first, has_last) in at.def.iter().zip(&last.def) {
            let first = if *has_first == 1 { Some(firsts.next()?) } else { None };
            let last = if *has_last == 1 { Some(lasts.next()?) } else { None };
            self.counters.push((first, last));
        }
        Some(())
    }

    /// Number of series.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Memory it takes, about.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>()
            + self.names.heap_bytes()
            + self.values.heap_bytes()
            + (self.pairs.capacity() + self.ends.capacity()) * 8
            + self.windows.capacity() * size_of::<Packed>()
            + self.counters.capacity() * 40
    }

    fn range(&self, i: u32) -> (Range<usize>, Range<usize>) {
        let at = |i: usize| self.ends.get(i).copied().unwrap_or_default();
        let start = (i as usize).checked_sub(1).map_or((0, 0), at);
        let end = at(i as usize);
        (start.0 as usize..end.0 as usize, start.1 as usize..end.1 as usize)
    }

    fn pairs(&self, i: u32) -> &[(u32, u32)] {
        self.pairs.get(self.range(i).0).unwrap_or_default()
    }

    /// The series, by their numbers, that pass all matchers (of their own labels) and have samples in
    /// the range. Each matcher is asked once for each distinct value.
    #[must_use]
    pub fn select(&self, matchers: &[Matcher], range: TimeRange) -> Vec<u32> {
        let mut found: Vec<u32> = (0..self.len() as u32).collect();
        for matcher in matchers {
            let name = self.names.iter().position(|n| *n == *matcher.name);
            let empty = matcher.matches_empty();
            let Some(name) = name.map(|n| n as u32) else {
                if empty {
                    continue;
                }
                return Vec::new();
            };
            let mut verdicts = vec![None; self.values.len()];
            found.retain(|i| {
                let pair = self.pairs(*i).iter().find(|(n, _)| *n == name);
                let Some((_, value)) = pair else { return empty };
                let Some(verdict) = verdicts.get_mut(*value as usize) else { return empty };
                *verdict.get_or_insert_with(|| matcher.matches(self.values.get(*value)))
            });
        }
        let (min, max) = (
            range.min_t.saturating_sub(self.day_start),
            range.max_t.saturating_sub(self.day_start),
        );
        let overlaps = |w: &Packed| i64::from(w.t_min) <= max && i64::from(w.t_max) >= min;
        found.retain(|i| {
            self.windows.get(self.range(*i).1).unwrap_or_default().iter().any(overlaps)
        });
        found
    }

    /// A series' own labels and the external ones; of two of one name the external one wins.
    #[must_use]
    pub fn labels(&self, i: u32, external: &BTreeMap<String, String>) -> Labels {
        let own = self.pairs(i).iter().map(|(n, v)| (self.names.get(*n), self.values.get(*v)));
        if external.is_empty() {
            return Labels::from_pairs(own);
        }
        let mut all = Vec::with_capacity(self.pairs(i).len() + external.len());
        let mut external = external.iter().map(|(n, v)| (n.as_str(), v.as_str())).peekable();
        for (name, value) in own {
            while let Some(pair) = external.next_if(|(n, _)| *n < name) {
                all.push(pair);
            }
            match external.next_if(|(n, _)| *n == name) {
                Some(pair) => all.push(pair),
                None => all.push((name, value)),
            }
        }
        all.extend(external);
        Labels::from_pairs(all)
    }

    /// The names of the labels that some series of the table has, in no particular order.
    pub fn label_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter()
    }

    /// The values a label has among these series, ascending.
    #[must_use]
    pub fn label_values(&self, name: &str, among: &[u32]) -> BTreeSet<&str> {
        let Some(name) = self.names.iter().position(|n| n == name) else { return BTreeSet::new() };
        let mut seen = vec![false; self.values.len()];
        for i in among {
            let pair = self.pairs(*i).iter().find(|(n, _)| *n as usize == name);
            if let Some(seen) = pair.and_then(|(_, v)| seen.get_mut(*v as usize)) {
                *seen = true;
            }
        }
        let values = seen.iter().enumerate().filter(|(_, s)| **s);
        values.map(|(v, _)| self.values.get(v as u32)).collect()
    }

    /// What a series has, window by window.
    pub fn windows(&self, i: u32) -> impl Iterator<Item = Window> {
        self.range(i).1.filter_map(move |at| {
            let w = self.windows.get(at)?;
            let ms = |t: u32| self.day_start + i64::from(t);
            let (first, last) = self.counters.get(at).copied().unwrap_or_default();
            Some(Window {
                series: i,
                window: (i64::from(w.t_min) / WINDOW_MS) as u8,
                range: TimeRange::new(ms(w.t_min), ms(w.t_max)),
                rows: w.row_start..w.row_start.saturating_add(u64::from(w.rows)),
                histogram_rows: w.histogram_row_start
                    ..w.histogram_row_start.saturating_add(u64::from(w.histogram_rows)),
                histograms: w.histograms,
                counter_first: first,
                counter_last: last,
                checksums: w.checksums,
            })
        })
    }
}
