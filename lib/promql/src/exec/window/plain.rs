//! `rate` and its like over plain floats, the most frequent of all: by steps in a row where samples
//! come regularly.
//!
//! Where the samples of a window and of those that follow are equally far apart, and the step of the
//! grid is a multiple of that, every window looks like the one before moved on: as many samples, as
//! far from its ends, so one factor for all of them. Then a step is a difference and a product.

use super::Job;
use crate::exec::row::Row;
use crate::exec::samples::Samples;
use crate::exec::stats::Counts;
use crate::functions::rate::{Ends, FactorCache, Kind};

/// A run of samples that are equally far apart.
#[derive(Clone, Copy, Default)]
struct Regular {
    /// Its first sample and the last that is known to be of it.
    from: usize,
    to: usize,
    /// Milliseconds between two of them; none known to begin with.
    delta: i64,
}

impl Regular {
    /// Up to which sample, at most `wanted`, the samples from `first` on are equally far apart.
    /// `None` where the run that is known begins behind `first`.
    ///
    /// Called with a `first` that never goes down, so that all calls together look at each sample a
    /// few times at most.
    fn reach(&mut self, ts: &[i64], first: usize, wanted: usize) -> Option<usize> {
        if first >= self.to {
            let gap = ts.get(first + 1)?.wrapping_sub(*ts.get(first)?);
            *self = Self { from: first, to: first + 1, delta: gap };
        }
        if first < self.from {
            return None;
        }
        while self.to < wanted {
            let more = ts.get(self.to..=wanted.min(self.to + 64))?;
            // Without branches, so that several are compared at a time.
            let off =
                more.windows(2).fold(0, |off, p| off | (p[1].wrapping_sub(p[0]) ^ self.delta));
            if off != 0 {
                let even = |p: &&[i64]| p[1].wrapping_sub(p[0]) == self.delta;
                self.to += more.windows(2).take_while(even).count();
                break;
            }
            self.to += more.len() - 1;
        }
        Some(self.to.min(wanted))
    }
}

/// Where the window of the last step lay, and what it was like.
struct Slide<'a> {
    ft: &'a [i64],
    fv: &'a [f64],
    /// Samples that are smaller than the one before.
    resets: Vec<usize>,
    next_reset: usize,
    lo: usize,
    hi: usize,
    end: i64,
    run: Regular,
    cache: FactorCache,
    kind: Kind,
    range_ms: i64,
    step_ms: i64,
    /// Samples in all windows, and those that were new in one.
    total: u64,
    read: u64,
}

impl Job<'_> {
    /// Where counters begin anew is found out once; samples inside of a window are looked at only
    /// when such a place lies within.
    pub(super) fn plain_rate(&self, s: &Samples, kind: Kind, row: &mut Row, counts: &mut Counts) {
        let n = s.ft.len().min(s.fv.len());
        let (ft, fv) = (&s.ft[..n], &s.fv[..n]);
        let mut at = Slide {
            ft,
            fv,
            resets: if kind.counter { places_of_resets(fv) } else { Vec::new() },
            next_reset: 0,
            lo: 0,
            hi: 0,
            end: self.window.end(self.grid.time(0)),
            run: Regular::default(),
            cache: FactorCache::default(),
            kind,
            range_ms: self.window.range_ms,
            step_ms: self.grid.step_ms,
            total: 0,
            read: 0,
        };
        let by_step = !counts.total_at.is_empty();
        let steps = self.grid.steps().min(row.values.len());
        let (mut i, mut bits) = (0, 0u64);
        while i < steps {
            let left = (64 - i % 64).min(steps - i);
            let (before, read) = (at.total, at.read);
            let done = match row.values.get_mut(i..i + left).and_then(|v| at.alike(v)) {
                Some((done, count, fresh)) => {
                    bits |= u64::MAX >> (64 - done) << (i % 64);
                    for k in i..i + if by_step { done } else { 0 } {
                        counts.by_step(k, count, fresh);
                    }
                    done
                }
                None => {
                    if let Some(v) = at.one(i > 0) {
                        row.values[i] = v;
                        bits |= 1 << (i % 64);
                    }
                    if by_step && at.total > before {
                        counts.by_step(i, at.total - before, at.read - read);
                    }
                    1 + at.skip(left - 1)
                }
            };
            i += done;
            if i.is_multiple_of(64) || i == steps {
                row.present.set_word((i - 1) / 64, std::mem::take(&mut bits));
            }
        }
        counts.total += at.total;
        counts.read += at.read;
    }
}

impl Slide<'_> {
    /// Evaluates the next step, or the first one.
    fn one(&mut self, next: bool) -> Option<f64> {
        let (ft, fv) = (self.ft, self.fv);
        if next {
            self.end = self.end.saturating_add(self.step_ms);
        }
        let end = self.end;
        let start = end.saturating_sub(self.range_ms);
        let was = self.hi;
        while ft.get(self.hi).is_some_and(|t| *t <= end) {
            self.hi += 1;
        }
        while self.lo < self.hi && ft[self.lo] <= start {
            self.lo += 1;
        }
        let (lo, hi) = (self.lo, self.hi);
        let count = hi - lo;
        self.total += count as u64;
        self.read += (hi - was.max(lo)) as u64;
        if count < 2 {
            return None;
        }
        let (first, last) = (fv[lo], fv[hi - 1]);
        let mut change = last - first;
        if self.reset_from(lo).is_some_and(|at| at < hi) {
            change = with_resets(change, &fv[lo..hi]);
        }
        let (first_t, last_t) = (ft[lo], ft[hi - 1]);
        let w = Ends { start, end, range_ms: self.range_ms, count, first_t, last_t };
        Some(self.cache.result(&w, self.kind, first, change))
    }

    /// Passes by windows (at most `most`) that are as empty as the last one.
    fn skip(&mut self, most: usize) -> usize {
        if self.lo < self.hi {
            return 0;
        }
        let coming = self.ft.get(self.hi).copied();
        let mut passed = 0;
        while passed < most {
            let end = self.end.saturating_add(self.step_ms);
            if coming.is_some_and(|t| t <= end) {
                break;
            }
            (self.end, passed) = (end, passed + 1);
        }
        passed
    }

    /// The first reset that a window from sample `lo` on can see.
    fn reset_from(&mut self, lo: usize) -> Option<usize> {
        while self.resets.get(self.next_reset).is_some_and(|at| *at <= lo) {
            self.next_reset += 1;
        }
        self.resets.get(self.next_reset).copied()
    }

    /// Evaluates as many of the next steps as have a window like that of the last one, without a
    /// reset in it. Says how many these are, how many samples are in each and how many of them new;
    /// `None` where there is none.
    fn alike(&mut self, values: &mut [f64]) -> Option<(usize, u64, u64)> {
        let (lo, hi, count) = (self.lo, self.hi, self.hi - self.lo);
        // The sample before the window must be of the run too, and the one behind: they tell that
        // nothing else comes into the windows that follow.
        let before = lo.checked_sub(1)?;
        if count < 2 || before < self.run.from {
            return None;
        }
        let gap = self.ft.get(hi)?.wrapping_sub(self.ft[hi - 1]);
        if gap <= 0 || self.step_ms % gap != 0 {
            return None;
        }
        let stride = usize::try_from(self.step_ms / gap).ok().filter(|s| *s > 0)?;
        let mut last = hi.saturating_add(stride.saturating_mul(values.len()));
        last = last.min(self.ft.len() - 1);
        if let Some(reset) = self.reset_from(lo) {
            last = last.min(reset);
        }
        let last = self.run.reach(self.ft, before, last)?;
        let steps = last.checked_sub(hi)? / stride;
        let values = values.get_mut(..steps).filter(|v| !v.is_empty() && self.run.delta == gap)?;
        // At the ends of time windows are cut off, each in another way.
        self.end.checked_sub(self.range_ms)?;
        let moved = i64::try_from(steps).ok()?.checked_mul(self.step_ms)?;
        self.end = self.end.checked_add(moved)?;
        self.lo += steps * stride;
        self.hi += steps * stride;
        let fresh = stride.min(count);
        self.total += (steps * count) as u64;
        self.read += (steps * fresh) as u64;
        let firsts = &self.fv[lo + stride..=self.lo];
        let lasts = &self.fv[hi - 1 + stride..self.hi];
        if !self.cache.products(values, (firsts, lasts), stride, self.kind) {
            self.one_by_one(values, (firsts, lasts), stride);
        }
        Some((steps, count as u64, fresh as u64))
    }

    /// As [`FactorCache::products`], where a counter may have been zero within reach of some window.
    #[cold]
    fn one_by_one(&mut self, values: &mut [f64], (a, b): (&[f64], &[f64]), stride: usize) {
        let (lo, hi) = (self.lo, self.hi);
        let (first_t, last_t) = (self.ft[lo], self.ft[hi - 1]);
        let start = self.end - self.range_ms;
        // Only differences count, so the last window stands for all of them.
        let (end, range_ms, count) = (self.end, self.range_ms, hi - lo);
        let w = Ends { start, end, range_ms, count, first_t, last_t };
        for (k, value) in values.iter_mut().enumerate() {
            let first = a[k * stride];
            *value = self.cache.result(&w, self.kind, first, b[k * stride] - first);
        }
    }
}

/// Indexes of the samples that are smaller than the one before.
fn places_of_resets(values: &[f64]) -> Vec<usize> {
    let falls = |i: &usize| values[*i] < values[*i - 1];
    // Mostly there are none, and a count without branches is the quickest way to know.
    let falling: usize = values.windows(2).map(|p| usize::from(p[1] < p[0])).sum();
    if falling == 0 { Vec::new() } else { (1..values.len()).filter(falls).collect() }
}

/// A change and what counter resets took away, added one by one as
/// [`extrapolated`](crate::functions::rate::extrapolated) does.
fn with_resets(mut change: f64, values: &[f64]) -> f64 {
    for pair in values.windows(2) {
        if pair[1] < pair[0] {
            change += pair[0];
        }
    }
    change
}
