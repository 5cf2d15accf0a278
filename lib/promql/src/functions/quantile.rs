//! Quantiles of floats.

/// The order of quantiles: NaN before everything.
fn order(a: &f64, b: &f64) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        _ => a.total_cmp(b),
    }
}

/// The `q` quantile, between two values the weighted mean of both; reorders `values`. NaN of
/// nothing, infinite outside of 0..=1.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let last = values.len() - 1;
    let rank = q * last as f64;
    let low = (rank.floor() as usize).min(last);
    let weight = rank - rank.floor();
    let (_, at, above) = values.select_nth_unstable_by(low, order);
    let at = *at;
    let next = above.iter().copied().min_by(order).unwrap_or(at);
    at * (1.0 - weight) + next * weight
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn between_two_values() {
        assert_eq!(quantile(0.5, &mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(quantile(0.25, &mut [4.0, 1.0, 3.0, 2.0]), 1.75);
        assert_eq!(quantile(1.0, &mut [4.0, 1.0]), 4.0);
        assert_eq!(quantile(-1.0, &mut [4.0]), f64::NEG_INFINITY);
        assert!(quantile(0.5, &mut []).is_nan());
    }
}
