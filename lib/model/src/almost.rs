//! Comparison of floats that came by different ways to the same value.

use crate::is_stale;

/// Whether two samples are the same up to a relative error of `epsilon`, measured against the sum
/// of their magnitudes.
///
/// Any NaN equals any other, but the stale marker only itself. Where one is zero or both are
/// subnormal the error is measured against the smallest normal float instead, since a relative
/// error means nothing there.
#[must_use]
pub fn almost_equal(a: f64, b: f64, epsilon: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let sum = a.abs() + b.abs();
    let diff = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < epsilon * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < epsilon
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stale_nan;

    #[test]
    fn nan_stale_zero_and_relative() {
        let cases = [
            (1.0, 1.0, true),
            (1.0, 1.000_001, true),
            (1.0, 1.000_01, false),
            (f64::NAN, -f64::NAN, true),
            (f64::NAN, stale_nan(), false),
            (stale_nan(), stale_nan(), true),
            (0.0, 1e-300, false),
            (0.0, -0.0, true),
            (f64::INFINITY, f64::INFINITY, true),
            (f64::INFINITY, f64::MAX, false),
            (f64::MAX, -f64::MAX, false),
            (1.0, f64::NAN, false),
        ];
        for (a, b, want) in cases {
            assert_eq!(almost_equal(a, b, 1e-6), want, "{a} {b}");
            assert_eq!(almost_equal(b, a, 1e-6), want, "{b} {a}");
        }
    }
}
