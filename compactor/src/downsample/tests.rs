use periplus_block::chunk::HistogramValue;
use periplus_model::{CounterResetHint, FloatHistogram, Span, stale_nan};

use super::*;

const FIVE: Resolution = Resolution::FiveMinutes;

fn floats(samples: &[(i64, f64)]) -> ChunkSamples {
    let mut s = ChunkSamples::new();
    samples.iter().for_each(|(t, v)| s.push(*t * 1000, *v, 0));
    s
}

#[test]
fn intervals_of_floats() {
    let got = raw(
        &floats(&[
            (0, 5.),
            (100, 7.),
            (299, 2.),
            (300, -1.),
            (400, stale_nan()),
            (450, f64::NAN),
            (601, 4.),
        ]),
        FIVE,
    );
    assert_eq!(got.ts, [299_999, 599_999, 601_000]);
    assert_eq!(got.count, [3., 1., 1.]);
    assert_eq!(got.sum, [14., -1., 4.]);
    assert_eq!(got.min, [2., -1., 4.]);
    assert_eq!(got.max, [7., -1., 4.]);
    // 5 → 7, reset to 2, reset to -1, up to 4.
    assert_eq!(got.counter, [9., 8., 13.]);
    assert_eq!((got.counter_first, got.counter_last), (Some((0, 5.)), Some(4.)));
}

#[test]
fn infinities_are_minima_and_maxima() {
    let got = raw(&floats(&[(0, f64::INFINITY), (1, f64::INFINITY)]), FIVE);
    assert_eq!((&*got.min, &*got.max), (&[f64::INFINITY][..], &[f64::INFINITY][..]));
    assert!(raw(&floats(&[(0, stale_nan())]), FIVE).is_empty());
    assert!(raw(&ChunkSamples::new(), FIVE).is_empty());
}

#[test]
fn hours_from_five_minutes() {
    let minutes: Vec<(i64, f64)> = (0..180).map(|i| (i * 60, (i % 50) as f64)).collect();
    let samples = floats(&minutes);
    let direct = raw(&samples, Resolution::OneHour);
    let from_five = coarser(&raw(&samples, FIVE), Resolution::OneHour);
    assert_eq!(from_five, direct);
    assert_eq!(direct.ts, [3_599_999, 7_199_999, 179 * 60_000]);
    assert_eq!(direct.count, [60.; 3]);
    assert_eq!(direct.counter.last(), Some(&(49. * 3. + 29.)));
}

fn histogram(count: f64, hint: CounterResetHint) -> FloatHistogram {
    FloatHistogram {
        counter_reset_hint: hint,
        schema: 1,
        count,
        sum: count * 2.0,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![count / 2.0, count / 2.0],
        ..FloatHistogram::default()
    }
}

#[test]
fn histograms_count_through_a_reset() {
    let mut s = ChunkSamples::new();
    for (t, count) in [(0, 4.), (60, 6.), (120, 2.), (400, 8.)] {
        let h = histogram(count, CounterResetHint::Unknown);
        s.push_histogram(t * 1000, HistogramValue::Float(h), 0);
    }
    s.push(500_000, 1.0, 0);
    let got = raw(&s, FIVE);
    assert_eq!(got.histograms.iter().map(|h| h.ts).collect::<Vec<_>>(), [299_999, 400_000]);
    assert_eq!(got.histograms.iter().map(|h| h.observations).collect::<Vec<_>>(), [3., 1.]);
    let sums: Vec<f64> = got.histograms.iter().map(|h| h.sum.as_ref().unwrap().count).collect();
    assert_eq!(sums, [12., 8.]);
    let counters: Vec<f64> =
        got.histograms.iter().map(|h| h.counter.as_ref().unwrap().count).collect();
    // 4 → 6, reset to 2, up to 8.
    assert_eq!(counters, [8., 14.]);
    assert_eq!((&*got.ts, &*got.count), (&[500_000][..], &[1.][..]));
    let hour = coarser(&got, Resolution::OneHour);
    let [only] = &hour.histograms[..] else { panic!("{hour:?}") };
    assert_eq!((only.ts, only.observations), (400_000, 4.));
    assert_eq!(only.counter.as_ref().unwrap().count, 14.);
    assert_eq!(only.sum.as_ref().unwrap().count, 20.);
}

#[test]
fn gauge_histograms_stay_gauges() {
    let mut s = ChunkSamples::new();
    for (t, count) in [(0, 4.), (60, 2.)] {
        let h = histogram(count, CounterResetHint::Gauge);
        s.push_histogram(t * 1000, HistogramValue::Float(h), 0);
    }
    let got = raw(&s, FIVE);
    let counter = got.histograms[0].counter.as_ref().unwrap();
    assert_eq!(counter.counter_reset_hint, CounterResetHint::Gauge);
    assert_eq!(got.histograms[0].sum.as_ref().unwrap().count, 6.);
}

/// Days of a counter of histograms with resets within and between them: put together, what it grew by is
/// what the raw ones grew by.
#[test]
fn histograms_count_on_from_day_to_day() {
    const DAY: i64 = 86_400;
    let days: [&[f64]; 4] = [&[10., 50., 5., 20.], &[25., 40., 3., 8.], &[2., 9.], &[11., 12.]];
    let (mut grown, mut before) = (0.0, None::<f64>);
    for v in days.concat() {
        grown += before.map_or(0.0, |b| if v < b { v } else { v - b });
        before = Some(v);
    }
    let of_day = |(n, values): (usize, &&[f64])| {
        let mut s = ChunkSamples::new();
        for (i, count) in values.iter().enumerate() {
            let h = histogram(*count, CounterResetHint::Unknown);
            let t = (n as i64 * DAY + i as i64 * 600) * 1000;
            s.push_histogram(t, HistogramValue::Float(h), 0);
        }
        raw(&s, FIVE)
    };
    let days: Vec<AggregateSamples> = days.iter().enumerate().map(of_day).collect();
    let count = |h: &AggregateHistogram| h.counter.as_ref().unwrap().count;
    // As parts of a day are joined here, and with what a reader of days has.
    let mut joined = adopt::Adopted::default();
    let mut total = periplus_columnar::HistogramTotal::default();
    let mut read = Vec::new();
    for day in &days {
        joined.append(day);
        let (_, first) = day.histogram_first.clone().unwrap();
        let (_, last) = day.histogram_last.clone().unwrap();
        let offset = total.offset(&first);
        let mut end = FloatHistogram::default();
        for h in &day.histograms {
            end = FloatHistogram::clone(h.counter.as_ref().unwrap());
            if let Some(offset) = &offset {
                periplus_columnar::HistogramTotal::shift(&mut end, offset);
            }
            read.push(end.count);
        }
        total.ended(FloatHistogram::clone(&last), end);
    }
    let joined = joined.finish();
    let counts: Vec<f64> = joined.histograms.iter().map(count).collect();
    assert_eq!(counts, read);
    assert!(counts.is_sorted(), "{counts:?}");
    assert_eq!(counts.last().unwrap() - 10.0, grown);
    let hints = joined.histograms.iter().skip(1);
    let hints = hints.map(|h| h.counter.as_ref().unwrap().counter_reset_hint);
    assert!(hints.into_iter().all(|h| h == CounterResetHint::NotReset));
    assert_eq!(joined.histogram_first, days[0].histogram_first);
    assert_eq!(joined.histogram_last, days[3].histogram_last);
    let hour = coarser(&joined, Resolution::OneHour);
    assert_eq!(count(hour.histograms.last().unwrap()), *counts.last().unwrap());
    assert_eq!(hour.histogram_last, joined.histogram_last);
}
