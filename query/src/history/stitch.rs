//! Counters of downsampled history, put together over days.
//!
//! Within a day the counter column has its resets added up already. From one day to the next it begins
//! anew, with the first sample of the day; whether the counter was reset in between shows in what it truly
//! stood at: the last sample of the one day, the first of the other.

use std::sync::Arc;

use periplus_columnar::{HistogramTotal, Window};
use periplus_model::{CounterResetHint, FloatHistogram, SampleBuffer, is_stale};

/// How far a counter has come.
#[derive(Clone, Debug, Default)]
pub struct Stitch {
    /// What it stands at with all resets added up, and what it truly stood at there.
    so_far: Option<(f64, f64)>,
    /// The same of histograms.
    histograms: HistogramTotal,
}

impl Stitch {
    /// What it stands at with resets added up where it truly stands at `first`.
    fn begin(&self, first: f64) -> f64 {
        match self.so_far {
            None => first,
            Some((total, last)) if first >= last => total + (first - last),
            Some((total, _)) => total + first,
        }
    }

    /// Adds up the samples as scraped that were appended to `out` from `begin` on.
    pub fn raw(&mut self, out: &mut SampleBuffer, begin: usize) {
        for v in out.values.iter_mut().skip(begin) {
            if is_stale(*v) || v.is_nan() {
                continue;
            }
            let total = self.begin(*v);
            self.so_far = Some((total, *v));
            *v = total;
        }
    }

    /// The same of the histograms.
    pub fn raw_histograms(&mut self, out: &mut SampleBuffer, begin: usize) {
        for (_, h) in out.histograms.iter_mut().filter(|(i, _)| *i as usize >= begin) {
            if h.counter_reset_hint == CounterResetHint::Gauge || h.sum.is_nan() {
                continue;
            }
            let scraped = FloatHistogram::clone(h);
            if let Some(offset) = self.histograms.offset(&scraped) {
                HistogramTotal::shift(Arc::make_mut(h), &offset);
            }
            self.histograms.ended(scraped, FloatHistogram::clone(h));
        }
    }

    /// Moves the day's counters of histograms, appended to `out` from `begin` on, to where the days before
    /// have come; `ends` are the day's first and last histogram as they were scraped.
    pub fn counted_histograms(
        &mut self,
        ends: [Option<FloatHistogram>; 2],
        out: &mut SampleBuffer,
        begin: usize,
    ) {
        let [first, last] = ends;
        // A question that begins within the day does not see its first one: nothing came before.
        let offset = first.and_then(|first| self.histograms.offset(&first));
        let mut total = None;
        for (_, h) in out.histograms.iter_mut().filter(|(i, _)| *i as usize >= begin) {
            if let Some(offset) = &offset {
                HistogramTotal::shift(Arc::make_mut(h), offset);
            }
            total = Some(FloatHistogram::clone(h));
        }
        if let (Some(last), Some(total)) = (last, total) {
            self.histograms.ended(last, total);
        }
    }

    /// Moves the day's counter, appended to `out` from `begin` on, to where the days before have come.
    /// The day's first sample, which is no point of the column, is put before it.
    pub fn counted(&mut self, windows: &[Window], out: &mut SampleBuffer, begin: usize) {
        let first = windows.iter().find_map(|w| w.counter_first);
        let last = windows.iter().rev().find_map(|w| w.counter_last);
        let Some(((first_t, first_v), last)) = first.zip(last) else { return };
        let offset = self.begin(first_v) - first_v;
        if offset != 0.0 {
            out.values.iter_mut().skip(begin).for_each(|v| *v += offset);
        }
        let before = begin.checked_sub(1).and_then(|i| out.ts.get(i));
        let fits =
            before.is_none_or(|t| *t < first_t) && out.ts.get(begin).is_some_and(|t| first_t < *t);
        if fits && out.histograms.is_empty() && out.start_ts.is_empty() {
            out.ts.insert(begin, first_t);
            out.values.insert(begin, first_v + offset);
        }
        let total = out.values.get(begin..).and_then(|v| v.last()).copied();
        self.so_far = Some((total.unwrap_or(first_v + offset), last));
    }
}
