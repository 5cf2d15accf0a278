//! Changing where buckets lie without changing what they count: compacting and lowering the
//! resolution.

use super::cells::{Cell, Cells, Side, SideBuilder};
use super::{FloatHistogram, Span, bounds};
use crate::kahan::kahan_add;

impl FloatHistogram {
    /// Takes out empty buckets and joins spans, so that equal contents have one layout. Runs of up
    /// to `empty_max` empty buckets between populated ones are kept (and put in where they are
    /// missing), since a span costs more than a few zeros. 0 is the form operations compare.
    ///
    /// `empty_max` is cut to 1024, so that spans far apart can't become memory.
    pub fn compact(&mut self, empty_max: u32) {
        let empty_max = empty_max.min(1024);
        if !is_compact(&self.positive_spans, &self.positive_buckets, empty_max) {
            let packed = compact(self.positive_cells(), empty_max, false);
            (self.positive_spans, self.positive_buckets, _) = packed;
        }
        if !is_compact(&self.negative_spans, &self.negative_buckets, empty_max) {
            let packed = compact(self.negative_cells(), empty_max, false);
            (self.negative_spans, self.negative_buckets, _) = packed;
        }
    }

    /// The same, compacted.
    #[must_use]
    pub fn compacted(mut self, empty_max: u32) -> Self {
        self.compact(empty_max);
        self
    }

    /// The same observations at a coarser exponential schema; `None` when `schema` is finer or
    /// when either has custom buckets. The hint is forgotten, as buckets that merge could hide a
    /// reset.
    #[must_use]
    pub fn to_schema(&self, schema: i32) -> Option<Self> {
        if schema == self.schema {
            return Some(self.clone());
        }
        if self.has_custom_buckets()
            || schema > self.schema
            || !(super::EXPONENTIAL_SCHEMA_RESERVED_MIN..=super::EXPONENTIAL_SCHEMA_RESERVED_MAX)
                .contains(&schema)
        {
            return None;
        }
        let mut out = Self {
            schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count: self.count,
            sum: self.sum,
            ..Self::default()
        };
        let positive = coarsen(self.positive_cells(), self.schema, schema, false);
        (out.positive_spans, out.positive_buckets, _) = positive;
        let negative = coarsen(self.negative_cells(), self.schema, schema, false);
        (out.negative_spans, out.negative_buckets, _) = negative;
        Some(out)
    }
}

/// Whether compacting would change nothing.
fn is_compact(spans: &[Span], buckets: &[f64], empty_max: u32) -> bool {
    buckets.iter().all(|b| *b != 0.0)
        && spans.iter().all(|s| s.length > 0)
        && spans.iter().skip(1).all(|s| s.offset > empty_max as i32)
        && spans.iter().map(|s| u64::from(s.length)).sum::<u64>() == buckets.len() as u64
}

/// The populated cells, packed.
pub(super) fn compact(cells: impl IntoIterator<Item = Cell>, empty_max: u32, kahan: bool) -> Side {
    let cells = cells.into_iter();
    let most = cells.size_hint().1.unwrap_or(0);
    let mut out = SideBuilder::with_capacity(most).fill_gaps(empty_max);
    for cell in cells {
        if cell.count != 0.0 || cell.comp != 0.0 {
            out.push(cell, kahan);
        }
    }
    out.finish()
}

/// The cells at a coarser schema, those that fall together added up.
pub(super) fn coarsen(cells: Cells<'_>, from: i32, to: i32, kahan: bool) -> Side {
    let mut out = SideBuilder::default();
    let mut current: Option<Cell> = None;
    for mut cell in cells {
        cell.index = bounds::coarser_index(cell.index, from, to);
        match &mut current {
            Some(c) if c.index == cell.index => {
                if kahan {
                    (c.count, c.comp) = kahan_add(cell.count, c.count, c.comp);
                    (c.count, c.comp) = kahan_add(cell.comp, c.count, c.comp);
                } else {
                    c.count += cell.count;
                }
            }
            _ => {
                if let Some(done) = current.replace(cell) {
                    out.push(done, kahan);
                }
            }
        }
    }
    if let Some(done) = current {
        out.push(done, kahan);
    }
    out.finish()
}
