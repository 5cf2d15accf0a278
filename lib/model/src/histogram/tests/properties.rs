//! What must hold of any histograms.

use proptest::prelude::*;

use super::*;

/// Whole counts, so that sums are exact in any order.
fn side() -> impl Strategy<Value = Vec<(i64, f64)>> {
    prop::collection::btree_map(-20i64..40, 0u16..50, 0..12)
        .prop_map(|m| m.into_iter().map(|(i, c)| (i, f64::from(c))).collect())
}

prop_compose! {
    fn histogram()(
        schema in -2i32..4,
        zero in 0u8..9,
        width in 0usize..4,
        positive in side(),
        negative in side(),
    ) -> FloatHistogram {
        let mut h = exponential(schema, f64::from(zero), &positive);
        let n = exponential(schema, 0.0, &negative);
        // Bounds of every schema here: a zero bucket that ends within a bucket of a coarser
        // schema is one whose sums Prometheus can take for resets.
        h.zero_threshold = [0.0, 0.003_906_25, 0.0625, 1.0][width];
        h.negative_spans = n.positive_spans;
        h.negative_buckets = n.positive_buckets;
        h.count += n.count;
        h.drop_inside();
        h
    }
}

impl FloatHistogram {
    /// Moves what lies within the zero bucket into it, so that the histogram is a proper one.
    fn drop_inside(&mut self) {
        let mut zero = Self { zero_threshold: self.zero_threshold, ..Self::default() };
        zero.schema = self.schema;
        let narrow = Self { zero_threshold: 0.0, ..self.clone() };
        if zero.add(&narrow).is_ok() {
            *self = zero;
        }
    }
}

fn total(h: &FloatHistogram) -> f64 {
    h.iter_all().map(|b| b.count).sum()
}

fn sum_of(list: &[FloatHistogram]) -> FloatHistogram {
    let mut sum = HistogramSum::new(list[0].clone());
    for h in &list[1..] {
        sum.add(h).unwrap();
    }
    sum.finish().compacted(0)
}

proptest! {
    #[test]
    fn adding_keeps_every_observation(a in histogram(), b in histogram()) {
        let mut sum = a.clone();
        sum.add(&b).unwrap();
        prop_assert_eq!(total(&sum), total(&a) + total(&b));
        prop_assert_eq!(sum.count, a.count + b.count);
        prop_assert!(sum.validate().is_ok());
        let mut other = b.clone();
        other.add(&a).unwrap();
        prop_assert!(sum.clone().compacted(0).same_as(&other.compacted(0)));
        // Taking it away again leaves the counts of `a` at the resolution of the sum.
        sum.sub(&b).unwrap();
        prop_assert_eq!(total(&sum), total(&a));
    }

    #[test]
    fn sums_don_t_depend_on_the_partition(
        list in prop::collection::vec(histogram(), 2..8),
        cut in 1usize..7,
    ) {
        let cut = cut.min(list.len() - 1);
        let mut left = HistogramSum::new(list[0].clone());
        for h in &list[1..cut] {
            left.add(h).unwrap();
        }
        let mut right = HistogramSum::new(list[cut].clone());
        for h in &list[cut + 1..] {
            right.add(h).unwrap();
        }
        let (value, comp) = right.into_parts();
        left.merge(&HistogramSum::from_parts(value, comp)).unwrap();
        prop_assert!(left.finish().compacted(0).same_as(&sum_of(&list)));
    }

    #[test]
    fn means_don_t_depend_on_the_partition(
        list in prop::collection::vec(histogram(), 2..8),
        cut in 1usize..7,
        factor in prop::sample::select(vec![1.0, 7e304]),
    ) {
        let cut = cut.min(list.len() - 1);
        let mean = |part: &[FloatHistogram]| {
            let mut scaled = part.iter().map(|h| { let mut h = h.clone(); h.mul(factor); h });
            let mut mean = HistogramMean::new(scaled.next().unwrap());
            for h in scaled {
                mean.add(&h).unwrap();
            }
            mean
        };
        let mut left = mean(&list[..cut]);
        let (value, comp, count, incremental) = mean(&list[cut..]).into_parts();
        left.merge(&HistogramMean::from_parts(value, comp, count, incremental)).unwrap();
        let (merged, whole) = (left.finish().compacted(0), mean(&list).finish().compacted(0));
        prop_assert!(merged.almost_same_as(&whole, 1e-9), "{} {}", merged, whole);
    }

    #[test]
    fn compacting_changes_no_observation(h in histogram(), empty in 0u32..5) {
        let compact = h.clone().compacted(empty);
        let populated = |h: &FloatHistogram| -> Vec<Bucket> {
            h.iter_all().filter(|b| b.count != 0.0).collect()
        };
        prop_assert_eq!(populated(&compact), populated(&h));
        prop_assert!(compact.clone().compacted(0).same_as(&h.clone().compacted(0)));
        prop_assert_eq!(compact.clone().compacted(empty), compact);
    }

    #[test]
    fn growing_is_no_reset(a in histogram(), b in histogram()) {
        let mut next = a.clone();
        next.add(&b).unwrap();
        prop_assert!(!next.detect_reset(&a), "{} after {}", next, a);
        if next.count > a.count {
            prop_assert!(a.detect_reset(&next));
        }
    }

    #[test]
    fn backwards_is_forwards_reversed(h in histogram()) {
        let mut back: Vec<Bucket> = h.iter_all_reversed().collect();
        back.reverse();
        let forth: Vec<Bucket> = h.iter_all().collect();
        prop_assert_eq!(&back, &forth);
        for w in forth.windows(2) {
            prop_assert!(w[0].upper <= w[1].lower);
        }
    }

    #[test]
    fn fraction_undoes_quantile(h in histogram(), q in 0.01f64..0.99) {
        prop_assume!(h.count > 0.0);
        let (v, _) = h.quantile(q);
        let (f, _) = h.fraction(f64::NEG_INFINITY, v);
        // Where the quantile lies at the end of an empty stretch, the fraction may have jumped.
        prop_assert!(f > q - 1e-6 || h.fraction(f64::NEG_INFINITY, v + 1e-9).0 > q - 1e-6);
    }

    #[test]
    fn the_two_trims_share_the_observations(h in histogram(), v in -8.0f64..8.0) {
        let (mut below, mut above) = (h.clone(), h.clone());
        below.trim(v, Trim::Below);
        above.trim(v, Trim::Above);
        let all = total(&below) + total(&above);
        prop_assert!((all - total(&h)).abs() <= 1e-9 * total(&h).max(1.0), "{} {}", all, h);
    }
}
