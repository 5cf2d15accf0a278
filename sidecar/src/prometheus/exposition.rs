//! What Prometheus says about itself in its own metrics.

/// Figures of Prometheus's `/metrics` that matter to a fleet; `None` where the metric is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct HeadFigures {
    /// Unix milliseconds of the oldest sample anywhere.
    pub(crate) lowest_ms: Option<i64>,
    /// Unix milliseconds of the oldest sample in memory.
    pub(crate) head_min_ms: Option<i64>,
    /// Unix milliseconds of the newest sample.
    pub(crate) head_max_ms: Option<i64>,
    /// Series in memory.
    pub(crate) head_series: Option<u64>,
    /// Unix milliseconds of the last reload: finer than the seconds the API tells.
    pub(crate) reloaded_ms: Option<i64>,
}

const LOWEST: &str = "prometheus_tsdb_lowest_timestamp_seconds";
const HEAD_MIN: &str = "prometheus_tsdb_head_min_time";
const HEAD_MAX: &str = "prometheus_tsdb_head_max_time";
const HEAD_SERIES: &str = "prometheus_tsdb_head_series";
const RELOADED: &str = "prometheus_config_last_reload_success_timestamp_seconds";
const WANTED: [&str; 5] = [LOWEST, HEAD_MIN, HEAD_MAX, HEAD_SERIES, RELOADED];

/// An empty head reports the ends of the number range; no real sample lies before 1980 or after 2200.
fn plausible(ms: f64) -> Option<i64> {
    (ms > 315_532_800_000.0 && ms < 7_258_118_400_000.0).then_some(ms as i64)
}

/// Reads the figures. A Prometheus exposes thousands of lines; only the few wanted are parsed.
pub(crate) fn read(text: &str) -> HeadFigures {
    let wanted = |line: &&str| {
        WANTED
            .iter()
            .any(|name| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))
    };
    let lines = text.lines().filter(wanted).map(|line| Ok(line.to_owned()));
    let mut out = HeadFigures::default();
    let Ok(scrape) = prometheus_parse::Scrape::parse(lines) else {
        return out;
    };
    for sample in scrape.samples {
        let (prometheus_parse::Value::Gauge(v)
        | prometheus_parse::Value::Untyped(v)
        | prometheus_parse::Value::Counter(v)) = sample.value
        else {
            continue;
        };
        match sample.metric.as_str() {
            LOWEST => out.lowest_ms = plausible(v * 1000.0),
            RELOADED => out.reloaded_ms = plausible(v * 1000.0),
            HEAD_MIN => out.head_min_ms = plausible(v),
            HEAD_MAX => out.head_max_ms = plausible(v),
            HEAD_SERIES => out.head_series = (v >= 0.0).then_some(v as u64),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_prometheus_prints() {
        let text = "# HELP prometheus_tsdb_head_series Total number of series in the head block.\n\
            # TYPE prometheus_tsdb_head_series gauge\nprometheus_tsdb_head_series 1234\n\
            prometheus_tsdb_head_series_created_total 99999\n\
            prometheus_tsdb_head_max_time 1.763743500123e+12\n\
            prometheus_tsdb_head_min_time 9.223372036854776e+18\n\
            prometheus_tsdb_lowest_timestamp_seconds 1.7637e+09\n";
        let figures = read(text);
        assert_eq!(figures.head_series, Some(1234));
        assert_eq!(figures.head_max_ms, Some(1_763_743_500_123));
        assert_eq!(figures.head_min_ms, None);
        assert_eq!(figures.lowest_ms, Some(1_763_700_000_000));
        assert_eq!(read("garbage {{{ \n\0"), HeadFigures::default());
    }
}
