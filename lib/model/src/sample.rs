//! Bits that mean something: the NaN payloads Prometheus gives a meaning.

/// The NaN that arithmetic and exporters produce, as Prometheus stores it
/// (`model/value.NormalNaN`).
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// The NaN that marks a series as ended at this time (`model/value.StaleNaN`). It is told from
/// every other NaN by its bits alone.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Whether `v` is the stale marker: exactly [`STALE_NAN_BITS`], no other NaN.
#[inline]
#[must_use]
pub fn is_stale(v: f64) -> bool {
    v.to_bits() == STALE_NAN_BITS
}

/// The stale marker as a float.
#[inline]
#[must_use]
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_marker_is_stale() {
        assert!(is_stale(stale_nan()));
        assert!(!is_stale(f64::NAN));
        assert!(!is_stale(f64::from_bits(NORMAL_NAN_BITS)));
        assert!(!is_stale(0.0));
    }
}
