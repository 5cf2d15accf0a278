//! The trim operators: what lies below (`</`) or above (`>/`) a value.

use super::{Bucket, FloatHistogram};

/// Which observations remain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// `</`: those at or below the value.
    Below,
    /// `>/`: those above the value.
    Above,
}

/// How much of a bucket remains, and where those observations lie on average.
struct Kept {
    count: f64,
    mean: f64,
}

impl FloatHistogram {
    /// Keeps only the observations on one side of `value`. The bucket that holds the value is
    /// divided by interpolation: linear in custom buckets and the zero bucket, else exponential.
    /// A bucket without an end on the cut side goes whole, as nothing is known about where its
    /// observations lie. Count and sum are estimated anew from what remains, unless nothing was cut.
    pub fn trim(&mut self, value: f64, keep: Trim) {
        let linear = self.has_custom_buckets();
        let mut state = Trimming { value, keep, linear, count: 0.0, sum: 0.0, changed: false };
        let positive: Vec<Bucket> = self.iter_positive().collect();
        let negative: Vec<Bucket> = self.iter_negative().collect();
        let has_positive = state.side(&positive, &mut self.positive_buckets, true);
        let has_negative = state.side(&negative, &mut self.negative_buckets, false);
        if self.zero_count > 0.0
            && let Some(mut zero) = self.zero_bucket()
        {
            if has_negative && !has_positive {
                zero.upper = 0.0;
            }
            if has_positive && !has_negative {
                zero.lower = 0.0;
            }
            let kept = state.zero(&zero);
            state.changed |= kept.count != self.zero_count;
            self.zero_count = kept.count;
            state.sum += kept.mean * kept.count;
            state.count += kept.count;
        }
        if state.changed {
            self.count = state.count;
            self.sum = state.sum;
            self.compact(0);
        }
    }
}

struct Trimming {
    value: f64,
    keep: Trim,
    linear: bool,
    count: f64,
    sum: f64,
    changed: bool,
}

impl Trimming {
    /// Cuts one side; true when it has a populated bucket.
    fn side(&mut self, buckets: &[Bucket], counts: &mut [f64], positive: bool) -> bool {
        let mut populated = false;
        for (bucket, count) in buckets.iter().zip(counts) {
            if bucket.count == 0.0 {
                continue;
            }
            populated = true;
            let (whole, cut) = match self.keep {
                Trim::Below => (bucket.upper <= self.value, bucket.lower < self.value),
                Trim::Above => (bucket.lower >= self.value, bucket.upper > self.value),
            };
            if whole {
                self.count += bucket.count;
                self.sum += self.midpoint(bucket.lower, bucket.upper, positive) * bucket.count;
            } else if cut {
                let kept = self.cut(bucket, positive);
                self.count += kept.count;
                self.sum += kept.mean * kept.count;
                self.changed |= *count != kept.count;
                *count = kept.count;
            } else {
                *count = 0.0;
                self.changed = true;
            }
        }
        populated
    }

    fn cut(&self, b: &Bucket, positive: bool) -> Kept {
        if b.lower == f64::NEG_INFINITY {
            return self.cut_open_below(b);
        }
        if b.upper == f64::INFINITY {
            return self.cut_open_above(b);
        }
        let below = if self.value <= b.lower {
            0.0
        } else if self.value >= b.upper {
            b.count
        } else {
            b.count * b.fraction_below(self.value, self.linear)
        };
        match self.keep {
            Trim::Below => {
                Kept { count: below, mean: self.midpoint(b.lower, self.value, positive) }
            }
            Trim::Above => {
                Kept { count: b.count - below, mean: self.midpoint(self.value, b.upper, positive) }
            }
        }
    }

    /// A bucket from −Inf. One that ends above zero is taken to begin at zero.
    fn cut_open_below(&self, b: &Bucket) -> Kept {
        let v = self.value;
        let from_zero = b.upper > 0.0 && b.upper.is_finite();
        let nothing = Kept { count: 0.0, mean: if b.upper.is_finite() { b.upper } else { 0.0 } };
        match self.keep {
            Trim::Below if v >= b.upper => Kept { count: b.count, mean: 0.0 },
            Trim::Below if v > 0.0 && from_zero => {
                Kept { count: b.count * v / b.upper, mean: v / 2.0 }
            }
            Trim::Below if b.upper <= 0.0 => Kept { count: b.count, mean: v },
            Trim::Above if v <= b.lower => Kept { count: b.count, mean: 0.0 },
            Trim::Above if v >= 0.0 && b.upper > v && b.upper.is_finite() => {
                Kept { count: b.count * (1.0 - v / b.upper), mean: (v + b.upper) / 2.0 }
            }
            _ => nothing,
        }
    }

    /// A bucket to +Inf.
    fn cut_open_above(&self, b: &Bucket) -> Kept {
        match self.keep {
            Trim::Above if self.value >= b.lower => Kept { count: b.count, mean: self.value },
            _ => Kept { count: 0.0, mean: if b.lower.is_finite() { b.lower } else { 0.0 } },
        }
    }

    fn zero(&self, b: &Bucket) -> Kept {
        let v = self.value;
        let whole = Kept { count: b.count, mean: (b.lower + b.upper) / 2.0 };
        let nothing = Kept { count: 0.0, mean: 0.0 };
        let width = b.upper - b.lower;
        match self.keep {
            Trim::Below if v <= b.lower => nothing,
            Trim::Below if v >= b.upper => whole,
            Trim::Below => {
                Kept { count: b.count * ((v - b.lower) / width), mean: (b.lower + v) / 2.0 }
            }
            Trim::Above if v <= b.lower => whole,
            Trim::Above if v >= b.upper => nothing,
            Trim::Above => {
                Kept { count: b.count * ((b.upper - v) / width), mean: (v + b.upper) / 2.0 }
            }
        }
    }

    /// Where observations between two bounds lie on average.
    fn midpoint(&self, lower: f64, upper: f64, positive: bool) -> f64 {
        match (lower.is_infinite(), upper.is_infinite()) {
            (true, true) => 0.0,
            (true, false) if upper > 0.0 => upper / 2.0,
            (true, false) => upper,
            (false, true) => lower,
            (false, false) if self.linear => (lower + upper) / 2.0,
            (false, false) => {
                let mean = (lower * upper).abs().sqrt();
                if positive { mean } else { -mean }
            }
        }
    }
}
