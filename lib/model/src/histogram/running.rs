//! Sums and means over many histograms.

use super::cells::Places;
use super::sum::{Compensation, IncompatibleBuckets, Reconciled};
use super::{FloatHistogram, Span, bounds};

/// A compensated sum of histograms: what `sum` and `sum_over_time` compute.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSum {
    total: FloatHistogram,
    comp: Option<Box<Compensation>>,
}

impl HistogramSum {
    /// The sum of one histogram.
    #[must_use]
    pub fn new(first: FloatHistogram) -> Self {
        Self { total: first, comp: None }
    }

    /// Adds one more; see [`FloatHistogram::add`].
    ///
    /// # Errors
    /// [`IncompatibleBuckets`]; the sum is then unchanged.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Reconciled, IncompatibleBuckets> {
        let comp = self.comp.get_or_insert_with(|| Box::new(Compensation::new(&self.total)));
        self.total.add_compensated(other, comp)
    }

    /// Adds another running sum, compensation included.
    ///
    /// # Errors
    /// [`IncompatibleBuckets`]; the sum is then unchanged.
    pub fn merge(&mut self, other: &Self) -> Result<Reconciled, IncompatibleBuckets> {
        let mut reconciled = self.add(&other.total)?;
        if let Some(low_bits) = other.comp.as_ref().map(|c| c.as_histogram(&other.total)) {
            reconciled = reconciled.or(self.add(&low_bits)?);
        }
        Ok(reconciled)
    }

    /// The sum and what rounding has lost of it, as histograms of one layout: the form in which
    /// partial sums travel. `None` while nothing has been added.
    #[must_use]
    pub fn into_parts(self) -> (FloatHistogram, Option<FloatHistogram>) {
        let comp = self.comp.map(|c| c.into_histogram(&self.total));
        (self.total, comp)
    }

    /// The sum of which these are the parts. A compensation of another layout than its sum's (which
    /// [`into_parts`](Self::into_parts) never gives) is added as a histogram where it can be.
    #[must_use]
    pub fn from_parts(total: FloatHistogram, comp: Option<FloatHistogram>) -> Self {
        let Some(comp) = comp else { return Self::new(total) };
        let fits = total.positive_buckets.len() == comp.positive_buckets.len()
            && total.negative_buckets.len() == comp.negative_buckets.len();
        if !fits {
            let mut sum = Self::new(total);
            let _ = sum.add(&comp);
            return sum;
        }
        let comp = Compensation {
            count: comp.count,
            sum: comp.sum,
            zero_count: comp.zero_count,
            positive_buckets: comp.positive_buckets,
            negative_buckets: comp.negative_buckets,
        };
        Self { total, comp: Some(Box::new(comp)) }
    }

    /// The sum, compensation added in. Not compacted.
    #[must_use]
    pub fn finish(mut self) -> FloatHistogram {
        if let Some(comp) = self.comp {
            comp.add_to(&mut self.total);
        }
        self.total
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.total.bytes() * if self.comp.is_some() { 2 } else { 1 }
    }

    fn scale(&mut self, f: impl Fn(&mut f64)) {
        self.total.for_each_number(&f);
        if let Some(comp) = &mut self.comp {
            comp.for_each(f);
        }
    }

    /// Whether adding `other` can't overflow: all magnitudes together are finite.
    fn has_room_for(&self, other: &FloatHistogram) -> bool {
        (magnitude(&self.total) + magnitude(other)).is_finite()
    }
}

/// The mean of many histograms: what `avg` and `avg_over_time` compute. Sums as [`HistogramSum`]
/// does and divides at the end; where the sum would overflow, goes over to a mean that is corrected
/// with every histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramMean {
    /// The sum or, when `incremental`, the mean so far.
    sum: HistogramSum,
    count: f64,
    incremental: bool,
}

impl HistogramMean {
    /// The mean of one histogram.
    #[must_use]
    pub fn new(first: FloatHistogram) -> Self {
        Self { sum: HistogramSum::new(first), count: 1.0, incremental: false }
    }

    /// Takes in one more.
    ///
    /// # Errors
    /// [`IncompatibleBuckets`]; the mean is then of no use any more.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Reconciled, IncompatibleBuckets> {
        self.count += 1.0;
        let before = self.count - 1.0;
        if !self.incremental {
            if self.sum.has_room_for(other) {
                return self.sum.add(other);
            }
            let mut next = self.sum.clone();
            let reconciled = next.add(other)?;
            if !next.total.has_infinity() {
                self.sum = next;
                return Ok(reconciled);
            }
            self.incremental = true;
            self.sum.scale(|x| *x /= before);
        }
        let weight = before / self.count;
        self.sum.scale(|x| *x *= weight);
        let mut share = other.clone();
        share.div(self.count);
        self.sum.add(&share)
    }

    /// Takes in what another mean has taken in.
    ///
    /// # Errors
    /// [`IncompatibleBuckets`]; the mean is then of no use any more.
    pub fn merge(&mut self, other: &Self) -> Result<Reconciled, IncompatibleBuckets> {
        let count = self.count + other.count;
        if !self.incremental && !other.incremental {
            let mut next = self.sum.clone();
            let reconciled = next.merge(&other.sum)?;
            if !next.total.has_infinity() {
                (self.sum, self.count) = (next, count);
                return Ok(reconciled);
            }
        }
        let mut theirs = other.sum.clone();
        let (own_count, their_count) = (self.count, other.count);
        let own_share = if self.incremental { own_count / count } else { 1.0 / count };
        let their_share = if other.incremental { their_count / count } else { 1.0 / count };
        self.sum.scale(|x| *x *= own_share);
        theirs.scale(|x| *x *= their_share);
        (self.incremental, self.count) = (true, count);
        self.sum.merge(&theirs)
    }

    /// Sum or (where the last is true) mean, what rounding has lost of it, the number of
    /// histograms: the form in which partial means travel.
    #[must_use]
    pub fn into_parts(self) -> (FloatHistogram, Option<FloatHistogram>, f64, bool) {
        let (value, comp) = self.sum.into_parts();
        (value, comp, self.count, self.incremental)
    }

    /// The mean of which these are the parts, see [`into_parts`](Self::into_parts).
    #[must_use]
    pub fn from_parts(
        value: FloatHistogram,
        comp: Option<FloatHistogram>,
        count: f64,
        incremental: bool,
    ) -> Self {
        Self { sum: HistogramSum::from_parts(value, comp), count, incremental }
    }

    /// The mean. Not compacted.
    #[must_use]
    pub fn finish(mut self) -> FloatHistogram {
        if !self.incremental {
            let count = self.count;
            self.sum.scale(|x| *x /= count);
        }
        self.sum.finish()
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.sum.bytes()
    }
}

impl Compensation {
    /// Adds the low bits to the sum they belong to. Those of buckets within the zero bucket, which
    /// only a malformed histogram has, are left out as any addition does.
    fn add_to(&self, h: &mut FloatHistogram) {
        h.count += self.count;
        h.sum += self.sum;
        h.zero_count += self.zero_count;
        let (schema, threshold) = (h.schema, h.zero_threshold);
        let sides = [
            (&h.positive_spans, &mut h.positive_buckets, &self.positive_buckets),
            (&h.negative_spans, &mut h.negative_buckets, &self.negative_buckets),
        ];
        for (spans, buckets, comp) in sides {
            let inside = within_zero(spans, comp.len(), schema, threshold);
            for (x, c) in buckets.iter_mut().zip(comp).skip(inside) {
                *x += c;
            }
        }
    }

    /// The low bits as a histogram of the same layout as `h`.
    fn as_histogram(&self, h: &FloatHistogram) -> FloatHistogram {
        self.clone().into_histogram(h)
    }

    /// As [`as_histogram`](Self::as_histogram), in the memory there is.
    fn into_histogram(self, h: &FloatHistogram) -> FloatHistogram {
        FloatHistogram {
            count: self.count,
            sum: self.sum,
            zero_count: self.zero_count,
            positive_buckets: self.positive_buckets,
            negative_buckets: self.negative_buckets,
            counter_reset_hint: h.counter_reset_hint,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            positive_spans: h.positive_spans.clone(),
            negative_spans: h.negative_spans.clone(),
            custom_values: h.custom_values.clone(),
        }
    }
}

fn magnitude(h: &FloatHistogram) -> f64 {
    let sides = h.positive_buckets.iter().chain(&h.negative_buckets);
    sides.chain([&h.zero_count, &h.count, &h.sum]).map(|x| x.abs()).sum()
}

/// How many of the first buckets end within the zero bucket.
fn within_zero(spans: &[Span], buckets: usize, schema: i32, threshold: f64) -> usize {
    Places::new(spans, buckets)
        .take_while(|(_, index)| {
            bounds::is_exponential(schema) && bounds::exponential(*index, schema) <= threshold
        })
        .count()
}
