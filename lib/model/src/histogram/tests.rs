//! Operations on whole histograms.

mod properties;

use super::*;

/// A histogram at `schema` with a zero bucket of width 0.001 and buckets by index.
fn exponential(schema: i32, zero: f64, positive: &[(i64, f64)]) -> FloatHistogram {
    let mut builder = cells::SideBuilder::default();
    for (index, count) in positive {
        builder.push(cells::Cell { index: *index, count: *count, comp: 0.0 }, false);
    }
    let (positive_spans, positive_buckets, _) = builder.finish();
    let count = zero + positive.iter().map(|(_, c)| c).sum::<f64>();
    FloatHistogram {
        schema,
        zero_threshold: 0.001,
        zero_count: zero,
        count,
        sum: count * 2.0,
        positive_spans,
        positive_buckets,
        ..FloatHistogram::default()
    }
}

fn custom(bounds: &[f64], counts: &[f64]) -> FloatHistogram {
    FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: counts.iter().sum(),
        sum: 1.0,
        positive_spans: vec![Span { offset: 0, length: counts.len() as u32 }],
        positive_buckets: counts.to_vec(),
        custom_values: bounds.to_vec(),
        ..FloatHistogram::default()
    }
}

#[test]
fn sums_meet_at_the_coarser_schema_and_the_wider_zero_bucket() {
    let mut a = exponential(1, 2.0, &[(-1, 1.0), (0, 3.0), (3, 4.0)]);
    let mut b = exponential(0, 5.0, &[(0, 7.0), (2, 1.0)]);
    b.zero_threshold = 0.4;
    a.add(&b).unwrap();
    a.compact(0);
    assert_eq!(
        a.to_test_expression(),
        // The bucket (0.5, 0.71] of `a` lies beyond 0.4 and falls, with (0.71, 1], into (0.5, 1].
        "{{count:23 sum:46 z_bucket:7 z_bucket_w:0.4 buckets:[11 0 5]}}"
    );
    let mut wide = exponential(0, 1.0, &[]);
    wide.zero_threshold = 0.6;
    let reconciled = wide.add(&exponential(0, 0.0, &[(0, 7.0), (1, 1.0)])).unwrap();
    assert_eq!(reconciled, Reconciled::default());
    // 0.6 cuts the populated bucket (0.5, 1], so the zero bucket grows to its end.
    assert_eq!(
        wide.compacted(0).to_test_expression(),
        "{{count:9 sum:18 z_bucket:8 z_bucket_w:1 offset:1 buckets:[1]}}"
    );
}

#[test]
fn custom_bounds_meet_at_the_common_ones() {
    let mut a = custom(&[1.0, 2.0, 5.0], &[1.0, 2.0, 3.0, 4.0]);
    let reconciled = a.add(&custom(&[2.0, 4.0], &[10.0, 20.0, 30.0])).unwrap();
    assert!(reconciled.bounds);
    assert_eq!(
        a.to_test_expression(),
        "{{schema:-53 count:70 sum:2 custom_values:[2] buckets:[13 57]}}"
    );
    assert!(a.add(&exponential(0, 1.0, &[])).is_err());
    assert!(!a.clone().add(&a.clone()).unwrap().bounds);
}

#[test]
fn hints_of_sums() {
    use CounterResetHint::{Gauge, NotReset, Reset, Unknown};
    let cases = [
        (Unknown, Unknown, Unknown, false),
        (Reset, Reset, Reset, false),
        (Reset, NotReset, Unknown, true),
        (NotReset, Reset, Unknown, true),
        (Reset, Unknown, Unknown, false),
        (Unknown, NotReset, Unknown, false),
        (Gauge, Reset, Gauge, false),
        (NotReset, Gauge, Gauge, false),
    ];
    for (a, b, want, collision) in cases {
        let mut x = FloatHistogram { counter_reset_hint: a, ..FloatHistogram::default() };
        let y = FloatHistogram { counter_reset_hint: b, ..FloatHistogram::default() };
        assert_eq!(x.add(&y).unwrap().counter_reset_collision, collision, "{a:?} {b:?}");
        assert_eq!(x.counter_reset_hint, want, "{a:?} {b:?}");
    }
}

#[test]
fn scaling() {
    let mut a = exponential(0, 1.0, &[(1, 2.0)]);
    a.mul(3.0);
    assert_eq!((a.zero_count, a.count, a.sum, a.positive_buckets[0]), (3.0, 9.0, 18.0, 6.0));
    assert_eq!(a.counter_reset_hint, CounterResetHint::Unknown);
    a.negate();
    assert_eq!((a.count, a.counter_reset_hint), (-9.0, CounterResetHint::Gauge));
    a.div(0.0);
    assert_eq!((a.count, a.positive_buckets.len()), (f64::NEG_INFINITY, 0));
}

#[test]
fn means_survive_sums_that_overflow() {
    let mut huge = exponential(0, 0.0, &[(1, 1.0)]);
    huge.sum = f64::MAX;
    let mut mean = HistogramMean::new(huge.clone());
    for _ in 0..3 {
        mean.add(&huge).unwrap();
    }
    let mean = mean.finish();
    assert!((mean.sum / f64::MAX - 1.0).abs() < 1e-12, "{}", mean.sum);
    assert_eq!(mean.count, 1.0);

    let mut sum = HistogramSum::new(exponential(0, 0.0, &[(1, 1e100)]));
    sum.add(&exponential(0, 0.0, &[(1, 1.0)])).unwrap();
    sum.add(&exponential(0, 0.0, &[(1, -1e100)])).unwrap();
    assert_eq!(sum.finish().positive_buckets, [1.0]);
}

#[test]
fn resets() {
    let base = exponential(1, 2.0, &[(1, 3.0), (2, 4.0), (5, 1.0)]);
    let check = |change: fn(&mut FloatHistogram), want: bool| {
        let mut next = base.clone();
        next.mul(2.0);
        change(&mut next);
        assert_eq!(next.detect_reset(&base), want, "{next}");
    };
    check(|_| {}, false);
    check(|h| h.counter_reset_hint = CounterResetHint::Reset, true);
    check(|h| h.positive_buckets[1] = 3.0, true);
    check(
        |h| {
            h.positive_buckets[1] = 3.0;
            h.counter_reset_hint = CounterResetHint::NotReset;
        },
        false,
    );
    check(|h| h.count = 1.0, true);
    check(|h| h.zero_count = 1.0, true);
    check(|h| h.schema = 2, true);
    check(|h| h.zero_threshold = 0.0001, true);
    check(|h| h.positive_spans[1].offset = 3, true);
    check(|h| *h = h.to_schema(0).unwrap(), false);
    check(|h| h.positive_buckets[2] = f64::NAN, false);
    assert!(custom(&[1.0], &[9.0, 9.0]).detect_reset(&base));
    let (before, after) = (custom(&[1.0, 2.0], &[1.0, 1.0, 1.0]), custom(&[2.0], &[2.0, 1.0]));
    assert!(!after.detect_reset(&before));
    assert!(custom(&[2.0], &[1.0, 9.0]).detect_reset(&before));
}

#[test]
fn trims() {
    let h = custom(&[0.0, 10.0, 20.0], &[1.0, 10.0, 10.0, 1.0]);
    let cut = |v: f64, keep: Trim| {
        let mut h = h.clone();
        h.trim(v, keep);
        h.to_test_expression()
    };
    assert_eq!(
        cut(15.0, Trim::Below),
        "{{schema:-53 count:16 sum:112.5 custom_values:[0 10 20] buckets:[1 10 5]}}"
    );
    assert_eq!(
        cut(15.0, Trim::Above),
        "{{schema:-53 count:6 sum:107.5 custom_values:[0 10 20] offset:2 buckets:[5 1]}}"
    );
    assert_eq!(cut(f64::INFINITY, Trim::Below), h.to_test_expression());
    let mut e = exponential(0, 2.0, &[(0, 4.0), (1, 4.0)]);
    e.trim(0.0, Trim::Below);
    assert_eq!(e.count, 0.0);
}

#[test]
fn estimates() {
    let h = exponential(0, 0.0, &[(1, 4.0), (2, 4.0)]);
    assert_eq!(h.quantile(0.5).0, 2.0);
    assert!((h.quantile(0.25).0 - 2f64.sqrt()).abs() < 1e-12);
    assert_eq!(h.quantile(-0.1).0, f64::NEG_INFINITY);
    assert_eq!(h.quantile(1.1).0, f64::INFINITY);
    assert!(h.quantile(f64::NAN).0.is_nan());
    assert_eq!(h.fraction(1.0, 2.0).0, 0.5);
    assert_eq!(h.fraction(f64::NEG_INFINITY, f64::INFINITY).0, 1.0);
    assert_eq!(h.fraction(3.0, 2.0).0, 0.0);
    assert_eq!(h.mean(), 2.0);
    let want = (4.0 * (2f64.sqrt() - 2.0).powi(2) + 4.0 * (8f64.sqrt() - 2.0).powi(2)) / 8.0;
    assert!((h.variance() - want).abs() < 1e-12);
    assert!((h.standard_deviation() - want.sqrt()).abs() < 1e-12);

    let mut nan = h.clone();
    (nan.sum, nan.count) = (f64::NAN, 10.0);
    assert_eq!(nan.quantile(0.1).1, Some(NanObservations::Skewed));
    let (v, note) = nan.quantile(0.9);
    assert!(v.is_nan() && note == Some(NanObservations::ResultNan));
    assert_eq!(nan.fraction(0.0, f64::INFINITY), (0.8, Some(NanObservations::Excluded)));
    assert!(FloatHistogram::default().quantile(0.5).0.is_nan());
}

#[test]
fn classic_estimates() {
    let buckets = |list: &[(f64, f64)]| -> Vec<ClassicBucket> {
        list.iter()
            .map(|(upper_bound, count)| ClassicBucket { upper_bound: *upper_bound, count: *count })
            .collect()
    };
    let inf = f64::INFINITY;
    let fine = [(inf, 10.0), (1.0, 4.0), (2.0, 8.0)];
    assert_eq!(classic_quantile(0.5, &mut buckets(&fine)).0, 1.25);
    assert_eq!(classic_quantile(0.2, &mut buckets(&fine)).0, 0.5);
    assert_eq!(classic_quantile(0.99, &mut buckets(&fine)).0, 2.0);
    assert_eq!(classic_fraction(0.0, 1.5, &mut buckets(&fine)), 0.6);
    assert_eq!(classic_fraction(-inf, inf, &mut buckets(&fine)), 1.0);
    assert!(classic_quantile(0.5, &mut buckets(&[(1.0, 4.0), (2.0, 8.0)])).0.is_nan());
    assert!(classic_quantile(0.5, &mut buckets(&[(inf, 4.0)])).0.is_nan());
    assert!(classic_quantile(0.5, &mut Vec::new()).0.is_nan());
    let (v, forced) = classic_quantile(0.5, &mut buckets(&[(1.0, 5.0), (2.0, 3.0), (inf, 10.0)]));
    assert_eq!(v, 1.0);
    assert_eq!(
        forced,
        Some(ForcedMonotonicity { bucket_min: 2.0, bucket_max: 2.0, diff_max: 2.0 })
    );
    let noise = [(1.0, 5.0), (2.0, 5.0 - 1e-13), (inf, 10.0)];
    assert_eq!(classic_quantile(0.5, &mut buckets(&noise)).1, None);
    assert_eq!(classic_quantile(0.5, &mut buckets(&[(-1.0, 5.0), (inf, 10.0)])).0, -1.0);
}

#[test]
fn classic_series_become_custom_buckets() {
    let b = |upper_bound, count| ClassicBucket { upper_bound, count };
    let h = from_classic(&[b(5.0, 3.0), b(1.0, 1.0)], Some(4.0), 12.0).unwrap();
    assert_eq!(
        h.to_test_expression(),
        "{{schema:-53 count:4 sum:12 custom_values:[1 5] buckets:[1 2 1]}}"
    );
    assert!(h.validate().is_ok());
    let bad = [
        from_classic(&[b(1.0, 3.0), b(2.0, 1.0)], None, 0.0),
        from_classic(&[b(f64::NAN, 3.0)], None, 0.0),
        from_classic(&[b(1.0, -3.0)], None, 0.0),
        from_classic(&[b(f64::INFINITY, 3.0)], Some(4.0), 0.0),
        from_classic(&[], Some(-1.0), 0.0),
    ];
    for b in bad {
        assert!(b.is_err());
    }
    assert_eq!(from_classic(&[], None, 0.0).unwrap().count, 0.0);
}

#[test]
fn texts() {
    let mut h = exponential(0, 1.0, &[(0, 2.0), (3, 1.5)]);
    h.negative_spans = vec![Span { offset: 1, length: 1 }];
    h.negative_buckets = vec![1e6];
    assert_eq!(
        h.to_string(),
        "{count:4.5, sum:9, [-2,-1):1e+06, [-0.001,0.001]:1, (0.5,1]:2, (4,8]:1.5}"
    );
    assert_eq!(
        h.to_test_expression(),
        "{{count:4.5 sum:9 z_bucket:1 z_bucket_w:0.001 buckets:[2 0 0 1.5] n_offset:1 n_buckets:[1e+06]}}"
    );
    let mut json = String::new();
    h.write_json(&mut json);
    assert_eq!(
        json,
        r#"{"count":"4.5","sum":"9","buckets":[[1,"-2","-1","1000000"],[3,"-0.001","0.001","1"],[0,"0.5","1","2"],[0,"4","8","1.5"]]}"#
    );
    let mut json = String::new();
    custom(&[1.0], &[1.0, f64::INFINITY]).write_json(&mut json);
    assert_eq!(
        json,
        r#"{"count":"+Inf","sum":"1","buckets":[[3,"-Inf","1","1"],[0,"1","+Inf","+Inf"]]}"#
    );
    let mut json = String::new();
    FloatHistogram::default().write_json(&mut json);
    assert_eq!(json, r#"{"count":"0","sum":"0"}"#);
}

#[test]
fn what_is_no_histogram() {
    let good = exponential(0, 1.0, &[(0, 2.0)]);
    assert_eq!(good.validate(), Ok(()));
    let check = |h: &FloatHistogram, change: fn(&mut FloatHistogram)| {
        let mut h = h.clone();
        change(&mut h);
        assert!(h.validate().is_err(), "{h:?}");
    };
    check(&good, |h| h.schema = 9);
    check(&good, |h| h.count = -1.0);
    check(&good, |h| h.zero_count = -1.0);
    check(&good, |h| h.positive_buckets[0] = -1.0);
    check(&good, |h| h.positive_spans[0].length = u32::MAX);
    check(&good, |h| h.positive_buckets.push(1.0));
    check(&good, |h| h.positive_spans.push(Span { offset: -1, length: 0 }));
    check(&good, |h| h.custom_values = vec![1.0]);
    let good = custom(&[1.0, 2.0], &[1.0, 1.0, 1.0]);
    assert_eq!(good.validate(), Ok(()));
    check(&good, |h| h.zero_count = 1.0);
    check(&good, |h| h.zero_threshold = 1.0);
    check(&good, |h| h.negative_buckets = vec![1.0]);
    check(&good, |h| h.custom_values[1] = 1.0);
    check(&good, |h| h.custom_values[1] = f64::NAN);
    check(&good, |h| h.custom_values[1] = f64::INFINITY);
    check(&good, |h| h.custom_values.truncate(1));
    check(&good, |h| h.positive_spans[0].offset = -1);
    let mut int = Histogram {
        count: 3,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![1, 1],
        ..Histogram::default()
    };
    assert_eq!(int.validate(), Ok(()));
    int.count = 4;
    assert!(int.validate().is_err());
    int.sum = f64::NAN;
    assert_eq!(int.validate(), Ok(()));
    int.positive_buckets = vec![1, -2];
    assert!(int.validate().is_err());
}

#[test]
fn hostile_spans_cost_nothing() {
    let far = Span { offset: i32::MAX, length: u32::MAX };
    let h = FloatHistogram {
        count: 3.0,
        zero_threshold: f64::NAN,
        positive_spans: vec![far; 4],
        positive_buckets: vec![1.0, 0.0, 2.0],
        negative_spans: vec![Span { offset: i32::MIN, length: 1 }; 4],
        negative_buckets: vec![1.0; 3],
        ..FloatHistogram::default()
    };
    let mut sum = h.clone();
    sum.add(&exponential(-4, 1.0, &[(0, 1.0)])).unwrap();
    sum.compact(u32::MAX);
    assert!(sum.positive_buckets.len() < 10_000);
    let mut sum = HistogramSum::new(h.clone());
    sum.add(&exponential(3, 1.0, &[(0, 1.0)])).unwrap();
    assert!(sum.finish().to_test_expression().len() < 10_000);
    let _ = h.detect_reset(&exponential(3, 1.0, &[(0, 1.0)]));
    let _ = (h.to_string(), h.quantile(0.5), h.fraction(0.0, 1.0), h.variance());
    assert!(h.clone().to_schema(-4).is_some());
    h.clone().trim(1.0, Trim::Below);
    assert!(h.validate().is_err());
}

/// Equal layouts are added bucket by bucket without a look at where buckets lie; the same contents
/// in other spans are not.
#[test]
fn equal_layouts_add_up_as_others_do() {
    let other = exponential(1, 3.0, &[(-20, 4.0), (-5, 0.0), (0, 2.5), (7, 1e17)]);
    let mut spread = other.clone();
    spread.positive_spans.insert(1, Span { offset: 0, length: 0 });
    for threshold in [0.001, 0.1, f64::NAN] {
        let (mut a, mut b) = (other.clone(), spread.clone());
        (a.zero_threshold, b.zero_threshold) = (threshold, threshold);
        let start = FloatHistogram { zero_threshold: threshold, ..other.clone() };
        let (mut x, mut y) = (start.clone(), start.clone());
        x.sub(&a).unwrap();
        y.sub(&b).unwrap();
        assert_eq!(x.positive_buckets, y.positive_buckets, "{threshold}");
        let (mut x, mut y) = (HistogramSum::new(start.clone()), HistogramSum::new(start));
        for _ in 0..3 {
            x.add(&a).unwrap();
            y.add(&b).unwrap();
        }
        assert_eq!(x.finish().positive_buckets, y.finish().positive_buckets, "{threshold}");
    }
}

#[test]
fn counts_from_deltas_in_place() {
    let h = Histogram {
        count: 9,
        positive_spans: vec![Span { offset: 1, length: 3 }],
        positive_buckets: vec![2, 1, -3],
        negative_spans: vec![Span { offset: 0, length: 2 }],
        negative_buckets: vec![i64::MAX, 1],
        ..Histogram::default()
    };
    assert_eq!(h.clone().into_float(), h.to_float());
}
