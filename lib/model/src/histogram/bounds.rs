//! Where buckets begin and end.

mod table;

use super::{CUSTOM_BUCKETS_SCHEMA, EXPONENTIAL_SCHEMA_MAX, EXPONENTIAL_SCHEMA_MIN};

/// The upper bound of bucket `index` at exponential schema `schema`, bit for bit Prometheus's.
///
/// The last bucket of finite values ends at `f64::MAX`, so that the one after it holds exactly the
/// infinities. Any index and any schema have an answer; schemas beyond −4..=8 are computed rather
/// than looked up.
#[must_use]
pub(crate) fn exponential(index: i64, schema: i32) -> f64 {
    if schema < 0 {
        let shift = schema.unsigned_abs().min(16);
        let exp = index.clamp(-(1 << 40), 1 << 40) << shift;
        return if exp == 1024 { f64::MAX } else { ldexp(0.5, exp.saturating_add(1)) };
    }
    if schema > EXPONENTIAL_SCHEMA_MAX {
        return (index as f64 / f64::from(schema.min(1000)).exp2()).exp2();
    }
    let in_octave = index & ((1 << schema) - 1);
    let entry = in_octave << (EXPONENTIAL_SCHEMA_MAX - schema);
    let frac = table::SCHEMA_8.get(entry as usize).copied().unwrap_or(0.5);
    let exp = (index >> schema) + 1;
    if frac == 0.5 && exp == 1025 {
        return f64::MAX;
    }
    ldexp(frac, exp)
}

/// The upper bound of bucket `index`, of custom bounds where the schema says so. The bucket after
/// the last bound ends at +Inf, the one "before" index 0 at −Inf.
#[must_use]
pub(crate) fn upper(index: i64, schema: i32, custom_values: &[f64]) -> f64 {
    if schema != CUSTOM_BUCKETS_SCHEMA {
        return exponential(index, schema);
    }
    match usize::try_from(index) {
        Err(_) => f64::NEG_INFINITY,
        Ok(i) => custom_values.get(i).copied().unwrap_or(f64::INFINITY),
    }
}

/// The index that bucket `index` of schema `from` falls into at the coarser schema `to`.
#[must_use]
pub(crate) fn coarser_index(index: i64, from: i32, to: i32) -> i64 {
    ((index - 1) >> from.saturating_sub(to).clamp(0, 62)) + 1
}

/// Whether the schema is one of those with exponential buckets that Prometheus works with.
#[must_use]
pub(crate) fn is_exponential(schema: i32) -> bool {
    (EXPONENTIAL_SCHEMA_MIN..=EXPONENTIAL_SCHEMA_MAX).contains(&schema)
}

/// The binary logarithm by way of the natural one, as Go computes it: the interpolated estimates
/// then agree to the last bits with Prometheus's.
pub(crate) fn log2(v: f64) -> f64 {
    if !v.is_normal() || v < 0.0 {
        return v.log2();
    }
    let bits = v.to_bits();
    let exp = ((bits >> 52) & 0x7ff) as i32 - 1022;
    let frac = f64::from_bits((bits & !(0x7ff << 52)) | (1022 << 52));
    if frac == 0.5 {
        return f64::from(exp - 1);
    }
    frac.ln() * (1.0 / std::f64::consts::LN_2) + f64::from(exp)
}

/// `frac · 2^exp` for a `frac` in `[0.5, 1)`, rounded once.
fn ldexp(frac: f64, exp: i64) -> f64 {
    if exp > 1024 {
        return f64::INFINITY;
    }
    if exp < -1080 {
        return 0.0;
    }
    if exp >= -1021 {
        return (frac * 2.0) * power_of_two(exp - 1);
    }
    (frac * power_of_two(-1021)) * power_of_two(exp + 1021)
}

/// `2^exp` for the exponents of normal floats.
fn power_of_two(exp: i64) -> f64 {
    f64::from_bits(((exp + 1023).clamp(0, 2047) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_are_exact_at_every_schema() {
        for schema in EXPONENTIAL_SCHEMA_MIN..=EXPONENTIAL_SCHEMA_MAX {
            assert_eq!(exponential(0, schema), 1.0, "schema {schema}");
        }
        assert_eq!(exponential(3, 0), 8.0);
        assert_eq!(exponential(-3, 0), 0.125);
        assert_eq!(exponential(1, -4), 65536.0);
        assert_eq!(exponential(-1, -4), 1.0 / 65536.0);
        assert_eq!(exponential(4, 2), 2.0);
        assert_eq!(exponential(2, 2), f64::from_bits(std::f64::consts::SQRT_2.to_bits() - 1));
    }

    #[test]
    fn the_ends_of_the_floats() {
        assert_eq!(exponential(1024, 0), f64::MAX);
        assert_eq!(exponential(1025, 0), f64::INFINITY);
        assert_eq!(exponential(64, -4), f64::MAX);
        assert_eq!(exponential(65, -4), f64::INFINITY);
        assert_eq!(exponential(1024 << 8, 8), f64::MAX);
        assert_eq!(exponential(-1074, 0), f64::from_bits(1));
        assert_eq!(exponential(-1076, 0), 0.0);
        for schema in [-1_000_000, -60, -5, 9, 60, i32::MAX] {
            for index in [i64::MIN / 4, -1, 0, 1, i64::MAX / 4] {
                assert!(exponential(index, schema) >= 0.0, "{index} {schema}");
            }
        }
    }

    #[test]
    fn bounds_ascend() {
        for schema in EXPONENTIAL_SCHEMA_MIN..=EXPONENTIAL_SCHEMA_MAX {
            for index in -600..600 {
                let (a, b) = (exponential(index, schema), exponential(index + 1, schema));
                assert!(a < b || (a == 0.0 && b == 0.0) || b.is_infinite(), "{schema} {index}");
            }
        }
    }

    #[test]
    fn logarithms() {
        for v in [1e-300, 0.3, 0.5, 1.0, 2.0, 3.0, 1e300, f64::MAX, 5e-324] {
            assert!((log2(v) - v.log2()).abs() <= 1e-12 * v.log2().abs(), "{v}");
        }
        assert_eq!(log2(0.0), f64::NEG_INFINITY);
        assert!(log2(f64::NAN).is_nan());
    }

    #[test]
    fn custom_bounds() {
        let values = [1.0, 5.0];
        assert_eq!(upper(-1, CUSTOM_BUCKETS_SCHEMA, &values), f64::NEG_INFINITY);
        assert_eq!(upper(1, CUSTOM_BUCKETS_SCHEMA, &values), 5.0);
        assert_eq!(upper(2, CUSTOM_BUCKETS_SCHEMA, &values), f64::INFINITY);
    }

    #[test]
    fn coarser_indices() {
        for (index, want) in [(-4, -1), (-3, 0), (0, 0), (1, 1), (4, 1), (5, 2)] {
            assert_eq!(coarser_index(index, 2, 0), want, "{index}");
        }
    }
}
