//! For every function, how it behaves when its argument's series are spread over parts.

/// What a function does with the series of its vector or matrix argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Each series gives one series with the same external labels.
    EachSeries,
    /// Each series (or group of series that differ in `le`) gives one without `le`.
    Buckets,
    /// As `Buckets`, and the label its argument number `.0` names is written.
    BucketsAndLabel(usize),
    /// Each series gives one; the label its argument number `.0` names is written.
    WritesLabel(usize),
    /// The answer depends on all series at once, with the reason.
    All(&'static str),
    /// No series argument at all: the same answer everywhere.
    NoSeries,
}

/// The rule for the function `name`; `None` for one nobody has thought about, which is not pushed.
#[rustfmt::skip]
pub(super) fn rule(name: &str) -> Option<Rule> {
    Some(match name {
        "abs" | "acos" | "acosh" | "asin" | "asinh" | "atan" | "atanh" | "ceil" | "clamp"
        | "clamp_max" | "clamp_min" | "cos" | "cosh" | "deg" | "exp" | "floor" | "ln" | "log10"
        | "log2" | "rad" | "round" | "sgn" | "sin" | "sinh" | "sqrt" | "tan" | "tanh"
        | "day_of_month" | "day_of_week" | "day_of_year" | "days_in_month" | "hour" | "minute"
        | "month" | "year" | "timestamp" | "start_timestamp"
        | "histogram_avg" | "histogram_count" | "histogram_stddev" | "histogram_stdvar"
        | "histogram_sum"
        | "avg_over_time" | "changes" | "count_over_time" | "delta" | "deriv"
        | "double_exponential_smoothing" | "first_over_time" | "idelta" | "increase" | "irate"
        | "last_over_time" | "mad_over_time" | "max_over_time" | "min_over_time"
        | "predict_linear" | "present_over_time" | "quantile_over_time" | "rate" | "resets"
        | "stddev_over_time" | "stdvar_over_time" | "sum_over_time" | "ts_of_first_over_time"
        | "ts_of_last_over_time" | "ts_of_max_over_time" | "ts_of_min_over_time"
            => Rule::EachSeries,
        "histogram_quantile" | "histogram_fraction" => Rule::Buckets,
        "histogram_quantiles" => Rule::BucketsAndLabel(1),
        "label_replace" | "label_join" => Rule::WritesLabel(1),
        "absent" | "absent_over_time" => Rule::All("it is absent only where every cluster lacks it"),
        "scalar" => Rule::All("scalar needs to know that there is exactly one series"),
        "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" =>
            Rule::All("the order is over all clusters"),
        "info" => Rule::All("info joins by instance and job, which need not name one cluster"),
        "end" | "max_of" | "min_of" | "pi" | "range" | "start" | "step" | "time" | "vector" =>
            Rule::NoSeries,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use periplus_promql::parse::functions::FUNCTIONS;

    use super::*;

    #[test]
    fn every_function_has_a_rule() {
        for f in FUNCTIONS {
            assert!(rule(f.name).is_some(), "{} has no rule", f.name);
        }
        assert_eq!(rule("no_such_function"), None);
    }
}
