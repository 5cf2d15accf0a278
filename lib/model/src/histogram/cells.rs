//! Buckets one by one: the form in which the operations walk one side of a histogram, and the
//! builder that packs the result into spans again.
//!
//! Spans come from the network. Everything here is bounded by the number of bucket *values*, never
//! by what the spans claim: a span that promises more buckets than there are ends early, and gaps
//! are numbers, not memory.

use super::Span;

/// One bucket of one side: its index at the histogram's schema, its count, and the compensation of
/// that count where one is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cell {
    pub(crate) index: i64,
    pub(crate) count: f64,
    pub(crate) comp: f64,
}

/// Where the buckets of one side lie, in ascending order: position among the values, and index.
#[derive(Clone, Debug)]
pub(crate) struct Places<'a> {
    spans: std::slice::Iter<'a, Span>,
    position: usize,
    buckets: usize,
    /// Buckets left in the current span.
    left: u32,
    /// Index of the next bucket in the current span.
    index: i64,
}

impl<'a> Places<'a> {
    /// The places of `buckets` values laid out by `spans`.
    pub(crate) fn new(spans: &'a [Span], buckets: usize) -> Self {
        Self { spans: spans.iter(), position: 0, buckets, left: 0, index: 0 }
    }
}

impl Iterator for Places<'_> {
    type Item = (usize, i64);

    #[inline]
    fn next(&mut self) -> Option<(usize, i64)> {
        if self.position >= self.buckets {
            return None;
        }
        while self.left == 0 {
            let span = self.spans.next()?;
            self.index += i64::from(span.offset);
            self.left = span.length;
        }
        let place = (self.position, self.index);
        self.position += 1;
        self.left -= 1;
        self.index += 1;
        Some(place)
    }
}

/// The buckets of one side in ascending order of index.
#[derive(Clone, Debug)]
pub(crate) struct Cells<'a> {
    places: Places<'a>,
    buckets: &'a [f64],
    comp: &'a [f64],
}

impl<'a> Cells<'a> {
    /// Walks `buckets` laid out by `spans`; `comp` is empty or as long as `buckets`.
    pub(crate) fn new(spans: &'a [Span], buckets: &'a [f64], comp: &'a [f64]) -> Self {
        Self { places: Places::new(spans, buckets.len()), buckets, comp }
    }
}

impl Iterator for Cells<'_> {
    type Item = Cell;

    #[inline]
    fn next(&mut self) -> Option<Cell> {
        let (position, index) = self.places.next()?;
        let count = *self.buckets.get(position)?;
        let comp = self.comp.get(position).copied().unwrap_or(0.0);
        Some(Cell { index, count, comp })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.places.buckets - self.places.position))
    }
}

/// The buckets of one side in descending order of index, as `(index, count)`.
#[derive(Clone, Debug)]
pub(crate) struct CellsReversed<'a> {
    spans: &'a [Span],
    buckets: std::slice::Iter<'a, f64>,
    /// Buckets left in the current span, which is the last one of `spans`.
    left: u32,
    /// One past the index of the next bucket.
    end: i64,
}

impl<'a> CellsReversed<'a> {
    /// Walks `buckets` laid out by `spans` from the last.
    pub(crate) fn new(spans: &'a [Span], buckets: &'a [f64]) -> Self {
        let end = spans.iter().map(|s| i64::from(s.offset) + i64::from(s.length)).sum();
        let left = spans.last().map_or(0, |s| s.length);
        Self { spans, buckets: buckets.iter(), left, end }
    }
}

impl Iterator for CellsReversed<'_> {
    type Item = (i64, f64);

    fn next(&mut self) -> Option<(i64, f64)> {
        let count = *self.buckets.next_back()?;
        while self.left == 0 {
            let (last, before) = self.spans.split_last()?;
            self.end -= i64::from(last.offset);
            self.spans = before;
            self.left = before.last()?.length;
        }
        self.left -= 1;
        self.end -= 1;
        Some((self.end, count))
    }
}

/// Packs cells, given in ascending order of index, into spans and bucket values.
#[derive(Debug, Default)]
pub(crate) struct SideBuilder {
    spans: Vec<Span>,
    buckets: Vec<f64>,
    comp: Vec<f64>,
    /// One past the index of the last bucket.
    end: i64,
    gap_max: i64,
}

/// One side of a histogram: spans, counts, compensations (empty where none are kept).
pub(crate) type Side = (Vec<Span>, Vec<f64>, Vec<f64>);

impl SideBuilder {
    /// A builder with room for `buckets`.
    pub(crate) fn with_capacity(buckets: usize) -> Self {
        Self { buckets: Vec::with_capacity(buckets), ..Self::default() }
    }

    /// Fills gaps of up to `buckets` empty buckets instead of beginning a new span.
    pub(crate) fn fill_gaps(mut self, buckets: u32) -> Self {
        self.gap_max = i64::from(buckets);
        self
    }

    /// Appends a cell; keeps its compensation if `kahan`.
    pub(crate) fn push(&mut self, cell: Cell, kahan: bool) {
        let gap = cell.index - self.end;
        match self.spans.last_mut() {
            Some(span)
                if (0..=self.gap_max).contains(&gap) && span.length < u32::MAX - gap as u32 =>
            {
                for _ in 0..gap {
                    self.buckets.push(0.0);
                    if kahan {
                        self.comp.push(0.0);
                    }
                }
                span.length += 1 + gap as u32;
            }
            _ => {
                let offset = gap.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
                self.spans.push(Span { offset, length: 1 });
            }
        }
        self.buckets.push(cell.count);
        if kahan {
            self.comp.push(cell.comp);
        }
        self.end = cell.index + 1;
    }

    /// What was built.
    pub(crate) fn finish(self) -> Side {
        (self.spans, self.buckets, self.comp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(list: &[(i32, u32)]) -> Vec<Span> {
        list.iter().map(|(offset, length)| Span { offset: *offset, length: *length }).collect()
    }

    #[test]
    fn forward_and_backward_agree() {
        let s = spans(&[(0, 0), (-3, 2), (0, 1), (4, 0), (1, 2)]);
        let b = [1.0, 2.0, 3.0, 4.0, 5.0];
        let forward: Vec<(i64, f64)> =
            Cells::new(&s, &b, &[]).map(|c| (c.index, c.count)).collect();
        assert_eq!(forward, [(-3, 1.0), (-2, 2.0), (-1, 3.0), (5, 4.0), (6, 5.0)]);
        let mut backward: Vec<(i64, f64)> = CellsReversed::new(&s, &b).collect();
        backward.reverse();
        assert_eq!(forward, backward);
    }

    #[test]
    fn hostile_spans_end_with_the_values() {
        let s = spans(&[(i32::MAX, u32::MAX), (i32::MAX, u32::MAX)]);
        assert_eq!(Cells::new(&s, &[1.0, 2.0], &[]).count(), 2);
        assert_eq!(CellsReversed::new(&s, &[1.0, 2.0]).count(), 2);
        assert_eq!(Cells::new(&[], &[1.0], &[]).count(), 0);
        assert_eq!(CellsReversed::new(&[], &[1.0]).count(), 0);
        let s = spans(&[(0, 1)]);
        assert_eq!(CellsReversed::new(&s, &[1.0, 2.0, 3.0]).count(), 1);
    }
}
