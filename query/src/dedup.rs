//! Replicas of one series as one: the penalty algorithm.
//!
//! Two Prometheus servers scrape the same target at different moments. Taking every sample of both would
//! double the sampling rate and move it to and fro; so one replica is followed, and the other is only
//! taken when the first has nothing for about twice its interval. A counter must not appear to fall when
//! the replica changes: what the other replica says is skipped until it has caught up, unless it shows the
//! reset itself. Values are never changed.

use std::sync::Arc;

use periplus_model::{METRIC_NAME, SampleBuffer, is_stale};

/// Penalty while no interval is known yet, in milliseconds.
const FIRST_PENALTY_MS: i64 = 5_000;

/// Whether a series counts: by what is computed from it, or by its name.
#[must_use]
pub fn is_counter(name: Option<&str>, function: Option<&str>) -> bool {
    let by_name =
        |n: &str| ["_total", "_count", "_sum", "_bucket"].iter().any(|suffix| n.ends_with(suffix));
    matches!(function, Some("rate" | "increase" | "irate" | "resets")) || name.is_some_and(by_name)
}

/// As [`is_counter`], of a label set.
#[must_use]
pub fn counts(labels: &periplus_model::Labels, function: Option<&str>) -> bool {
    is_counter(labels.get(METRIC_NAME), function)
}

/// Appends the merged samples of `replicas` to `out`.
pub fn merge(replicas: &[SampleBuffer], counter: bool, out: &mut SampleBuffer) {
    match replicas {
        [] => {}
        [only] => copy_all(only, out),
        [a, b] => merge_two(a, b, counter, out),
        [a, b, more @ ..] => {
            let mut so_far = SampleBuffer::new();
            merge_two(a, b, counter, &mut so_far);
            for (i, next) in more.iter().enumerate() {
                if i + 1 == more.len() {
                    merge_two(&so_far, next, counter, out);
                } else {
                    let mut longer = SampleBuffer::new();
                    merge_two(&so_far, next, counter, &mut longer);
                    so_far = longer;
                }
            }
        }
    }
}

/// A place in one replica.
struct Cursor<'a> {
    samples: &'a SampleBuffer,
    at: usize,
    penalty_ms: i64,
}

impl<'a> Cursor<'a> {
    fn new(samples: &'a SampleBuffer) -> Self {
        Self { samples, at: 0, penalty_ms: 0 }
    }

    /// Moves on to the first sample that may follow one at `last`.
    fn seek(&mut self, last: Option<i64>) -> Option<i64> {
        if let Some(last) = last {
            let from = last.saturating_add(1).saturating_add(self.penalty_ms);
            while self.samples.ts.get(self.at).is_some_and(|t| *t < from) {
                self.at += 1;
            }
        }
        self.samples.ts.get(self.at).copied()
    }

    fn value(&self) -> Option<f64> {
        if self.samples.histogram_at(self.at).is_some() {
            return None;
        }
        self.samples.values.get(self.at).copied().filter(|v| !is_stale(*v))
    }

    /// Whether this replica only lags behind `value`, which the other one had at `last`: it is lower,
    /// and nothing it has seen since then fell.
    fn lags(&self, value: f64, last: i64) -> bool {
        let Some(own) = self.value() else { return false };
        if own >= value || self.at == 0 {
            return false;
        }
        let since = self.samples.ts.partition_point(|t| *t <= last).saturating_sub(1);
        let seen = self.samples.values.get(since..=self.at).unwrap_or_default();
        !seen.windows(2).any(|w| matches!(w, [a, b] if b < a))
    }
}

fn merge_two(a: &SampleBuffer, b: &SampleBuffer, counter: bool, out: &mut SampleBuffer) {
    let (mut a, mut b) = (Cursor::new(a), Cursor::new(b));
    let mut last: Option<i64> = None;
    let mut from_a = true;
    let mut value: Option<f64> = None;
    loop {
        let (ta, tb) = (a.seek(last), b.seek(last));
        let use_a = match (ta, tb) {
            (None, None) => return,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(ta), Some(tb)) => ta <= tb,
        };
        let (chosen, other) = if use_a { (&mut a, &mut b) } else { (&mut b, &mut a) };
        if let (true, Some(v), Some(l)) = (counter && use_a != from_a, value, last)
            && chosen.lags(v, l)
        {
            chosen.at += 1;
            continue;
        }
        let Some(t) = chosen.samples.ts.get(chosen.at).copied() else { return };
        if ta.is_some() && tb.is_some() {
            other.penalty_ms =
                last.map_or(FIRST_PENALTY_MS, |l| t.saturating_sub(l).saturating_mul(2));
        }
        chosen.penalty_ms = 0;
        copy(chosen.samples, chosen.at, out);
        value = chosen.value();
        (last, from_a) = (Some(t), use_a);
    }
}

fn copy(from: &SampleBuffer, i: usize, out: &mut SampleBuffer) {
    let (Some(t), Some(v)) = (from.ts.get(i), from.values.get(i)) else { return };
    match from.histogram_at(i) {
        Some(h) => out.push_histogram(*t, Arc::clone(h)),
        None => out.push(*t, *v),
    }
    if let Some(start) = from.start_ts.get(i).filter(|s| **s != 0) {
        out.set_last_start(*start);
    }
}

fn copy_all(from: &SampleBuffer, out: &mut SampleBuffer) {
    (0..from.len()).for_each(|i| copy(from, i, out));
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
            &[(10, 1.), (20, 2.), (42, 4.), (52, 5.), (62, 6.), (72, 7.), (82, 8.)],
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
        check(&[a, b], true, &[(10, 100.), (20, 200.), (42, 2.), (52, 3.)]);
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
            &[(10, 1.), (22, 2.), (54, 5.)],
        );
    }
}
