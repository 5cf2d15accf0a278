//! Replicas of one series as one.
//!
//! Two Prometheus servers scrape the same target at different moments. Taking every sample of both would
//! double the sampling rate and move it to and fro; so one replica is followed until it has a gap, then
//! the other one, until that has a gap. What lies within half an interval of a sample already taken is
//! left out, so that a change of replica neither doubles a sample nor loses one: replicas that scrape at
//! the same moments merge into exactly what a server without gaps would have. (Thanos's penalty algorithm
//! decides from what has passed alone and loses up to two samples at a change; here the whole range is at
//! hand.) A counter must not appear to fall when the replica changes: what the other replica says is
//! skipped until it has caught up, unless it shows the reset itself. Values are never changed.
//!
//! Queries merge what they fetch live by it, and the compactor what it stores: one answer either way.

use crate::{Labels, METRIC_NAME, SampleBuffer, is_stale};

/// The interval between samples while none is known, in milliseconds.
const INTERVAL_UNKNOWN_MS: i64 = 15_000;
/// Differences between samples that an interval is the median of.
const INTERVAL_OVER: usize = 5;

/// Samples of one replica in columns, in whatever form they are held.
///
/// Times ascend strictly; the other methods are asked for indices below their number only.
pub trait Run: Default {
    /// Unix milliseconds.
    fn times(&self) -> &[i64];
    /// A float sample's value; `None` where the sample is a histogram.
    fn float(&self, index: usize) -> Option<f64>;
    /// Whether the sample says that the series ends.
    fn is_stale(&self, index: usize) -> bool;
    /// Appends a sample of another run as it is.
    fn append(&mut self, from: &Self, index: usize);
}

impl Run for SampleBuffer {
    fn times(&self) -> &[i64] {
        &self.ts
    }

    fn float(&self, index: usize) -> Option<f64> {
        if self.histogram_at(index).is_some() {
            return None;
        }
        self.values.get(index).copied()
    }

    fn is_stale(&self, index: usize) -> bool {
        match self.histogram_at(index) {
            Some(h) => is_stale(h.sum),
            None => self.values.get(index).copied().is_some_and(is_stale),
        }
    }

    fn append(&mut self, from: &Self, index: usize) {
        self.push_from(from, index);
    }
}

/// Whether a series counts: by what is computed from it, or by its name.
#[must_use]
pub fn is_counter(name: Option<&str>, function: Option<&str>) -> bool {
    let by_name =
        |n: &str| ["_total", "_count", "_sum", "_bucket"].iter().any(|suffix| n.ends_with(suffix));
    matches!(function, Some("rate" | "increase" | "irate" | "resets")) || name.is_some_and(by_name)
}

/// As [`is_counter`], of a label set.
#[must_use]
pub fn counts(labels: &Labels, function: Option<&str>) -> bool {
    is_counter(labels.get(METRIC_NAME), function)
}

/// Appends the merged samples of `replicas` to `out`.
pub fn merge<R: Run>(replicas: &[R], counter: bool, out: &mut R) {
    match replicas {
        [] => {}
        [only] => copy_all(only, out),
        [a, b] => merge_two(a, b, counter, out),
        [a, b, more @ ..] => {
            let mut so_far = R::default();
            merge_two(a, b, counter, &mut so_far);
            for (i, next) in more.iter().enumerate() {
                if i + 1 == more.len() {
                    merge_two(&so_far, next, counter, out);
                } else {
                    let mut longer = R::default();
                    merge_two(&so_far, next, counter, &mut longer);
                    so_far = longer;
                }
            }
        }
    }
}

/// A place in one replica.
struct Cursor<'a, R> {
    samples: &'a R,
    at: usize,
}

impl<'a, R: Run> Cursor<'a, R> {
    fn new(samples: &'a R) -> Self {
        Self { samples, at: 0 }
    }

    /// The time of the next sample.
    fn time(&self) -> Option<i64> {
        self.samples.times().get(self.at).copied()
    }

    /// Moves on to the first sample at or after `from` and gives its time.
    fn seek(&mut self, from: i64) -> Option<i64> {
        while self.time().is_some_and(|t| t < from) {
            self.at += 1;
        }
        self.time()
    }

    /// The interval between samples here: the median of the last few differences, of the first few
    /// where not enough have passed; `None` where there is none.
    fn interval_ms(&self) -> Option<i64> {
        let ts = self.samples.times();
        let end = if self.at > 3 { self.at } else { ts.len().min(INTERVAL_OVER + 1) };
        let few = ts.get(end.saturating_sub(INTERVAL_OVER + 1)..end)?;
        let mut apart = [0; INTERVAL_OVER];
        let mut n = 0;
        for (to, pair) in apart.iter_mut().zip(few.windows(2)) {
            *to = pair[1].saturating_sub(pair[0]);
            n += 1;
        }
        let apart = apart.get_mut(..n)?;
        apart.sort_unstable();
        apart.get(n.saturating_sub(1) / 2).copied()
    }

    fn is_stale(&self) -> bool {
        self.time().is_some() && self.samples.is_stale(self.at)
    }

    fn value(&self) -> Option<f64> {
        self.time()?;
        self.samples.float(self.at).filter(|v| !is_stale(*v))
    }

    /// Whether this replica only lags behind `value`, which the other one had at `last`: it is lower,
    /// and nothing it has seen since then fell.
    fn lags(&self, value: f64, last: i64) -> bool {
        let Some(own) = self.value() else { return false };
        if own >= value || self.at == 0 {
            return false;
        }
        let since = self.samples.times().partition_point(|t| *t <= last).saturating_sub(1);
        let mut seen = (since..=self.at).map(|i| self.samples.float(i));
        let mut before = seen.next().flatten();
        !seen.any(|v| {
            let falls = matches!((before, v), (Some(a), Some(b)) if b < a);
            before = v;
            falls
        })
    }
}

fn merge_two<R: Run>(a: &R, b: &R, counter: bool, out: &mut R) {
    let (mut own, mut other) = (Cursor::new(a), Cursor::new(b));
    if b.times().first().is_some_and(|tb| a.times().first().is_none_or(|ta| tb < ta)) {
        std::mem::swap(&mut own, &mut other);
    }
    let mut last: Option<i64> = None;
    let mut value: Option<f64> = None;
    loop {
        let t = own.seek(last.map_or(i64::MIN, |l| l.saturating_add(1)));
        let interval = own.interval_ms().or_else(|| other.interval_ms());
        let interval = interval.unwrap_or(INTERVAL_UNKNOWN_MS);
        let beyond = last.map_or(i64::MIN, |l| l.saturating_add(interval / 2).saturating_add(1));
        let instead = other.seek(beyond);
        if changes(&own, t, &other, instead, last, interval) {
            if let (true, Some(v), Some(l)) = (counter, value, last)
                && other.lags(v, l)
            {
                other.at += 1;
                // What the followed replica has next may come first now.
                if other.time().is_some() || t.is_none() {
                    continue;
                }
            } else {
                std::mem::swap(&mut own, &mut other);
            }
        }
        let Some(t) = own.time() else { return };
        out.append(own.samples, own.at);
        value = own.value();
        last = Some(t);
        own.at += 1;
    }
}

/// Whether the other replica is to be followed from here on: the followed one ends (as a series, or for
/// longer than one and a half intervals) and the other has something for that time.
fn changes<R: Run>(
    own: &Cursor<'_, R>,
    t: Option<i64>,
    other: &Cursor<'_, R>,
    instead: Option<i64>,
    last: Option<i64>,
    interval: i64,
) -> bool {
    let Some(instead) = instead else { return false };
    let (Some(t), Some(last)) = (t, last) else { return t.is_none() };
    let due = last.saturating_add(interval).saturating_add(interval / 2);
    if own.is_stale() && t <= due {
        return instead <= due && !other.is_stale();
    }
    t > due && instead.saturating_add(interval / 2) < t
}

fn copy_all<R: Run>(from: &R, out: &mut R) {
    (0..from.times().len()).for_each(|i| out.append(from, i));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(samples: &[(i64, f64)]) -> SampleBuffer {
        let mut b = SampleBuffer::new();
        samples.iter().for_each(|(t, v)| b.push(t * 1000, *v));
        b
    }

    #[track_caller]
    fn check(replicas: &[&[(i64, f64)]], counter: bool, expect: &[(i64, f64)]) {
        let replicas: Vec<SampleBuffer> = replicas.iter().map(|r| buffer(r)).collect();
        let mut out = SampleBuffer::new();
        merge(&replicas, counter, &mut out);
        let got: Vec<(i64, f64)> =
            out.ts.iter().zip(&out.values).map(|(t, v)| (t / 1000, *v)).collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn one_replica_is_followed() {
        check(
            &[&[(10, 1.), (20, 2.), (30, 3.)], &[(12, 1.), (22, 2.), (32, 3.)]],
            false,
            &[(10, 1.), (20, 2.), (30, 3.)],
        );
    }

    #[test]
    fn a_gap_is_filled_and_the_other_followed_on() {
        check(
            &[
                &[(10, 1.), (20, 2.), (80, 8.), (90, 9.)],
                &[(12, 1.), (22, 2.), (32, 3.), (42, 4.), (52, 5.), (62, 6.), (72, 7.), (82, 8.)],
            ],
            false,
            &[
                (10, 1.),
                (20, 2.),
                (32, 3.),
                (42, 4.),
                (52, 5.),
                (62, 6.),
                (72, 7.),
                (82, 8.),
                (90, 9.),
            ],
        );
    }

    #[test]
    fn a_counter_never_falls_by_a_change_of_replica() {
        // The clock of the second is ahead: what it says at 42 is older than what the first said at 20.
        let a: &[(i64, f64)] = &[(10, 100.), (20, 200.)];
        let b: &[(i64, f64)] = &[(12, 70.), (22, 150.), (42, 180.), (52, 250.), (62, 300.)];
        check(&[a, b], true, &[(10, 100.), (20, 200.), (52, 250.), (62, 300.)]);
        check(&[a, b], false, &[(10, 100.), (20, 200.), (42, 180.), (52, 250.), (62, 300.)]);
    }

    #[test]
    fn a_reset_is_kept() {
        let a: &[(i64, f64)] = &[(10, 100.), (20, 200.)];
        let b: &[(i64, f64)] = &[(12, 110.), (22, 210.), (32, 1.), (42, 2.), (52, 3.)];
        check(&[a, b], true, &[(10, 100.), (20, 200.), (32, 1.), (42, 2.), (52, 3.)]);
    }

    /// Replicas of the same truth, scraped at the same moments, each with gaps of its own: nothing is
    /// lost and nothing is doubled, whichever comes first.
    #[test]
    fn the_same_moments_merge_into_the_truth() {
        let truth: Vec<(i64, f64)> = (0..200).map(|i| (i * 15, i as f64)).collect();
        let without = |gaps: &[std::ops::Range<usize>]| -> Vec<(i64, f64)> {
            let kept =
                |(i, s): (usize, &(i64, f64))| (!gaps.iter().any(|g| g.contains(&i))).then_some(*s);
            truth.iter().enumerate().filter_map(kept).collect()
        };
        let a = without(&[10..11, 40..60, 61..62, 150..151, 152..153, 190..200]);
        let b = without(&[0..5, 12..13, 60..61, 70..120, 151..152]);
        for counter in [false, true] {
            check(&[&a, &b], counter, &truth);
            check(&[&b, &a], counter, &truth);
        }
    }

    #[test]
    fn a_stale_marker_gives_way_to_the_other_replica() {
        let stale = crate::stale_nan();
        let mut out = SampleBuffer::new();
        let a = buffer(&[(10, 1.), (20, 2.), (30, 3.), (40, stale)]);
        let b = buffer(&[(10, 1.), (20, 2.), (30, 3.), (40, 4.), (50, 5.)]);
        merge(&[a, b], false, &mut out);
        assert_eq!(out.values, [1., 2., 3., 4., 5.]);
    }

    #[test]
    fn three_replicas() {
        check(
            &[
                &[(10, 1.)],
                &[(12, 1.), (22, 2.)],
                &[(14, 1.), (24, 2.), (34, 3.), (44, 4.), (54, 5.)],
            ],
            false,
            &[(10, 1.), (22, 2.), (34, 3.), (44, 4.), (54, 5.)],
        );
    }
}
