//! Compensated summation.

/// Adds `inc` to a running sum whose lost low bits are kept in `c` (Kahan, in Neumaier's form), and
/// gives the new sum and compensation; the total is `sum + c`.
///
/// A sum that overflows to infinity drops its compensation, which would otherwise turn the total
/// into NaN. The order of operations is part of the result: sums agree bit for bit with
/// Prometheus's when the terms come in the same order.
#[inline]
#[must_use]
pub fn kahan_add(inc: f64, sum: f64, c: f64) -> (f64, f64) {
    let t = sum + inc;
    let c = if t.is_infinite() {
        0.0
    } else if sum.abs() >= inc.abs() {
        c + ((sum - t) + inc)
    } else {
        c + ((inc - t) + sum)
    };
    (t, c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(terms: &[f64]) -> f64 {
        let (mut sum, mut c) = (0.0, 0.0);
        for x in terms {
            (sum, c) = kahan_add(*x, sum, c);
        }
        sum + c
    }

    #[test]
    fn small_terms_survive_large_ones() {
        assert_eq!(total(&[1.0, 1e100, 1.0, -1e100]), 2.0);
        assert_eq!(total(&[1e100, 1.0, -1e100]), 1.0);
        assert_eq!(total(&[f64::MAX, f64::MAX, 1.0]), f64::INFINITY);
        assert!(total(&[f64::NAN, 1.0]).is_nan());
    }
}
