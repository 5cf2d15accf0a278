//! Warnings and infos that go with a result, in Prometheus's words and with Prometheus's positions.
//!
//! An [`Annotation`] is data until it is shown: two that say the same of the same thing are one
//! (Prometheus tells them apart by their text without position), and two of them carry figures that
//! merge. [`Annotations::to_strings`] gives what the HTTP API shows, in order of text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::parse::ast::Span;

/// How serious an annotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The result may be wrong or incomplete.
    Warning,
    /// The result is right; the query may be mistaken.
    Info,
}

/// What histograms were being combined for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the operations'")]
pub enum HistogramOperation {
    Addition,
    Subtraction,
    Aggregation,
}

impl HistogramOperation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

/// A warning or info; `text` is without position.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotation {
    /// How serious.
    pub severity: Severity,
    /// What it says, `PromQL warning: ` or `PromQL info: ` included.
    pub text: String,
    /// What part of the query it is about.
    pub span: Option<Span>,
    /// Figures that accumulate over series and steps.
    pub detail: Detail,
}

/// Figures that annotations of some kinds carry.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Detail {
    /// None.
    #[default]
    None,
    /// Classic histogram buckets that had to be made monotonic.
    Monotonicity {
        /// First and last evaluation concerned, in Unix milliseconds.
        times: (i64, i64),
        /// Lowest and highest bucket concerned.
        buckets: (f64, f64),
        /// The largest decrease.
        max_diff: f64,
        /// Occurrences.
        count: u64,
    },
    /// How many series it concerns.
    Occurrences(u64),
}

impl Detail {
    fn merge(&mut self, other: &Self) {
        match (self, other) {
            (
                Self::Monotonicity { times, buckets, max_diff, count },
                Self::Monotonicity { times: t, buckets: b, max_diff: d, count: c },
            ) => {
                *times = (times.0.min(t.0), times.1.max(t.1));
                *buckets = (buckets.0.min(b.0), buckets.1.max(b.1));
                *max_diff = max_diff.max(*d);
                *count += c;
            }
            (Self::Occurrences(n), Self::Occurrences(m)) => *n += m,
            _ => {}
        }
    }
}

/// A set of annotations; the same text comes once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotations {
    by_text: BTreeMap<String, Annotation>,
}

impl Annotations {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_text.is_empty()
    }

    /// Number of annotations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_text.len()
    }

    /// Adds one. One of the same text becomes one with it: figures merge and the first position
    /// stays; without figures the position of the last one holds, which is the outermost's, as in
    /// Prometheus.
    pub fn add(&mut self, annotation: Annotation) {
        match self.by_text.get_mut(&annotation.text) {
            Some(known) if annotation.detail == Detail::None => known.span = annotation.span,
            Some(known) if known.detail == Detail::None => known.span = annotation.span,
            Some(known) => known.detail.merge(&annotation.detail),
            None => {
                self.by_text.insert(annotation.text.clone(), annotation);
            }
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: Self) {
        if self.by_text.is_empty() {
            *self = other;
            return;
        }
        for (_, a) in other.by_text {
            self.add(a);
        }
    }

    /// The annotations in order of text.
    pub fn iter(&self) -> impl Iterator<Item = &Annotation> {
        self.by_text.values()
    }

    /// `(warnings, infos)` as the HTTP API shows them: with positions in `query` (none when it is
    /// empty), at most `max` of each (0: no limit) and then how many were left out.
    #[must_use]
    pub fn to_strings(&self, query: &str, max: usize) -> (Vec<String>, Vec<String>) {
        let (mut warnings, mut infos) = (Vec::new(), Vec::new());
        let mut skipped = (0u64, 0u64);
        for a in self.iter() {
            let (list, left_out) = match a.severity {
                Severity::Warning => (&mut warnings, &mut skipped.0),
                Severity::Info => (&mut infos, &mut skipped.1),
            };
            if max == 0 || list.len() < max {
                list.push(a.shown(query));
            } else {
                *left_out += 1;
            }
        }
        if skipped.0 > 0 {
            warnings.push(format!("{} more warning annotations omitted", skipped.0));
        }
        if skipped.1 > 0 {
            infos.push(format!("{} more info annotations omitted", skipped.1));
        }
        (warnings, infos)
    }
}

/// `line:column` of a byte offset, both from 1, as Prometheus counts: columns are bytes.
#[must_use]
pub fn position(span: Span, query: &str) -> String {
    let pos = span.start as usize;
    let Some(before) = query.as_bytes().get(..pos) else {
        return "invalid position".to_owned();
    };
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = match before.iter().rposition(|b| *b == b'\n') {
        Some(last) => pos - last,
        None => pos + 1,
    };
    format!("{line}:{column}")
}

impl Annotation {
    fn new(severity: Severity, text: String, span: Span) -> Self {
        Self { severity, text, span: Some(span), detail: Detail::None }
    }

    fn warning(text: impl AsRef<str>, span: Span) -> Self {
        Self::new(Severity::Warning, format!("PromQL warning: {}", text.as_ref()), span)
    }

    fn info(text: impl AsRef<str>, span: Span) -> Self {
        Self::new(Severity::Info, format!("PromQL info: {}", text.as_ref()), span)
    }

    /// A warning of another origin (an endpoint that is missing): shown as it is.
    #[must_use]
    pub fn external(severity: Severity, text: String) -> Self {
        Self { severity, text, span: None, detail: Detail::None }
    }

    /// The text with its figures and its position in `query`.
    #[must_use]
    pub fn shown(&self, query: &str) -> String {
        let mut out = self.text.clone();
        let Some(span) = self.span else { return out };
        if query.is_empty() {
            return out;
        }
        match &self.detail {
            Detail::None => {}
            Detail::Monotonicity { times, buckets, max_diff, count } => {
                let _ = write!(
                    out,
                    ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
                    general(buckets.0, 17),
                    general(buckets.1, 17),
                    general(*max_diff, 2),
                    count,
                    rfc3339(times.0),
                    rfc3339(times.1)
                );
            }
            Detail::Occurrences(n) if *n > 1 => {
                let _ = write!(out, " ({n} occurrences)");
            }
            Detail::Occurrences(_) => {}
        }
        let _ = write!(out, " ({})", position(span, query));
        out
    }

    pub(crate) fn invalid_quantile(q: f64, span: Span) -> Self {
        Self::warning(
            format!("quantile value should be between 0 and 1, got {}", general(q, 17)),
            span,
        )
    }

    pub(crate) fn invalid_ratio(ratio: f64, to: f64, span: Span) -> Self {
        let (ratio, to) = (general(ratio, 17), general(to, 17));
        let text = format!("ratio value should be between -1 and 1, got {ratio}, capping to {to}");
        Self::warning(text, span)
    }

    pub(crate) fn bad_bucket_label(name: &str, label: &str, span: Span) -> Self {
        let text = format!(
            "bucket label \"le\" is missing or has a malformed value of {}{}",
            quote(label),
            for_metric(name)
        );
        Self::warning(text, span)
    }

    pub(crate) fn mixed_floats_histograms(name: &str, span: Span) -> Self {
        let name = quote(name);
        let text = format!("encountered a mix of histograms and floats for metric name {name}");
        Self::warning(text, span)
    }

    pub(crate) fn mixed_floats_histograms_aggregation(span: Span) -> Self {
        Self::warning("encountered a mix of histograms and floats for aggregation", span)
    }

    pub(crate) fn mixed_classic_native(name: &str, span: Span) -> Self {
        let text = "vector contains a mix of classic and native histograms";
        Self::warning(format!("{text}{}", for_metric(name)), span)
    }

    pub(crate) fn native_not_counter(name: &str, span: Span) -> Self {
        let text = "this native histogram metric is not a counter:";
        Self::warning(format!("{text} {}", quote(name)), span)
    }

    pub(crate) fn native_not_gauge(name: &str, span: Span) -> Self {
        let text = "this native histogram metric is not a gauge:";
        Self::warning(format!("{text} {}", quote(name)), span)
    }

    pub(crate) fn mixed_exponential_custom(name: &str, span: Span) -> Self {
        let text = "vector contains a mix of histograms with exponential and custom buckets \
                    schemas for metric name";
        Self::warning(format!("{text} {}", quote(name)), span)
    }

    pub(crate) fn incompatible_bucket_layout(operator: &str, span: Span) -> Self {
        let text = "incompatible bucket layout encountered for binary operator";
        Self::warning(format!("{text} {operator}"), span)
    }

    pub(crate) fn sort_in_range_query(span: Span) -> Self {
        let text = "sort is ineffective for range queries since results are always ordered by \
                    labels";
        Self::warning(text, span)
    }

    pub(crate) fn possible_non_counter(name: &str, span: Span) -> Self {
        let text = "metric might not be a counter, name does not end in \
                    _total/_sum/_count/_bucket:";
        Self::info(format!("{text} {}", quote(name)), span)
    }

    pub(crate) fn possible_non_counter_label(name: &str, kind: &str, span: Span) -> Self {
        let text = "metric might not be a counter, __type__ label is not set to \"counter\" or \
                    \"histogram\"";
        Self::info(format!("{text}, got {}: {}", quote(kind), quote(name)), span)
    }

    pub(crate) fn forced_monotonicity(name: &str, span: Span, detail: Detail) -> Self {
        let text = "input to histogram_quantile needed to be fixed for monotonicity (see \
                    https://prometheus.io/docs/prometheus/latest/querying/functions/\
                    #histogram_quantile)";
        let mut a = Self::info(format!("{text}{}", for_metric(name)), span);
        a.detail = detail;
        a
    }

    pub(crate) fn incompatible_types(left: &str, op: &str, right: &str, span: Span) -> Self {
        let text = "incompatible sample types encountered for binary operator";
        Self::info(format!("{text} \"{op}\": {left} {op} {right}"), span)
    }

    pub(crate) fn histogram_ignored_in_aggregation(aggregation: &str, span: Span) -> Self {
        Self::info(format!("ignored histogram in {aggregation} aggregation"), span)
    }

    pub(crate) fn histogram_ignored_in_mixed_range(name: &str, span: Span) -> Self {
        let text = "ignored histograms in a range containing both floats and histograms for \
                    metric name";
        Self::info(format!("{text} {}", quote(name)), span)
    }

    pub(crate) fn quantile_nan_result(name: &str, span: Span) -> Self {
        let text = "input to histogram_quantile has NaN observations, result is NaN";
        Self::info(format!("{text}{}", for_metric(name)), span)
    }

    pub(crate) fn quantile_nan_skew(name: &str, span: Span) -> Self {
        let text = "input to histogram_quantile has NaN observations, result is skewed higher";
        Self::info(format!("{text}{}", for_metric(name)), span)
    }

    pub(crate) fn fraction_nans(name: &str, span: Span) -> Self {
        let text = "input to histogram_fraction has NaN observations, which are excluded from \
                    all fractions";
        Self::info(format!("{text}{}", for_metric(name)), span)
    }

    pub(crate) fn reset_collision(operation: HistogramOperation, span: Span) -> Self {
        let operation = operation.as_str();
        Self::warning(format!("conflicting counter resets during histogram {operation}"), span)
    }

    pub(crate) fn mismatched_custom_buckets(operation: HistogramOperation, span: Span) -> Self {
        let operation = operation.as_str();
        Self::info(format!("mismatched custom buckets were reconciled during {operation}"), span)
    }

    pub(crate) fn start_time_overlap(name: &str, span: Span) -> Self {
        let text = "sample has start time that overlaps with previous sample timestamp for metric";
        let mut a = Self::warning(format!("{text} {}", quote(name)), span);
        a.detail = Detail::Occurrences(1);
        a
    }
}

fn for_metric(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" for metric name {}", quote(name)) }
}

/// A string quoted as Go's `%q` does it, for the characters that occur in label values.
pub(crate) fn quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A number as Go's `%g` prints it; `digits` of 17 means the shortest that reads back the same.
fn general(v: f64, digits: usize) -> String {
    if v.is_nan() {
        return "NaN".to_owned();
    }
    if v.is_infinite() {
        return if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if v == 0.0 {
        return if v.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let shortest = digits >= 17;
    let sci = if shortest { format!("{v:e}") } else { format!("{v:.*e}", digits.max(1) - 1) };
    let (mantissa, exponent) = sci.split_once('e').unwrap_or((&sci, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mantissa = match mantissa.contains('.') {
        true => mantissa.trim_end_matches('0').trim_end_matches('.'),
        false => mantissa,
    };
    let significant = mantissa.bytes().filter(u8::is_ascii_digit).count() as i32;
    let mut limit = if shortest { 6 } else { digits as i32 };
    if !shortest && limit > significant && significant > exponent {
        limit = significant;
    }
    if exponent < -4 || exponent >= limit {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    if shortest {
        return format!("{v}");
    }
    let decimals = (significant - 1 - exponent).max(0) as usize;
    format!("{v:.decimals$}")
}

/// A time in Unix milliseconds, to the second, as RFC 3339 in UTC.
fn rfc3339(t_ms: i64) -> String {
    let c = crate::functions::time::civil(t_ms.div_euclid(1000));
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        c.year, c.month, c.day, c.hour, c.minute, c.second
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_bytes() {
        let at = |start| position(Span { start, end: start }, "a\nbc");
        assert_eq!(
            (at(0), at(1), at(2), at(3)),
            ("1:1".into(), "1:2".into(), "2:1".into(), "2:2".into())
        );
    }

    #[test]
    fn numbers_as_percent_g() {
        let cases = [
            (0.1, "0.1"),
            (5.0, "5"),
            (1e21, "1e+21"),
            (123456.0, "123456"),
            (1234567.0, "1.234567e+06"),
            (1e-5, "1e-05"),
            (-1.5, "-1.5"),
            (f64::INFINITY, "+Inf"),
        ];
        for (v, text) in cases {
            assert_eq!(general(v, 17), text);
        }
        assert_eq!((general(0.123, 2), general(123.0, 2)), ("0.12".into(), "1.2e+02".into()));
        assert_eq!(general(10.0, 2), "10");
    }

    #[test]
    fn the_same_text_comes_once_and_figures_merge() {
        let span = Span { start: 3, end: 4 };
        let mut set = Annotations::new();
        set.add(Annotation::start_time_overlap("m", span));
        set.add(Annotation::start_time_overlap("m", span));
        let (warnings, _) = set.to_strings("xxxxxx", 0);
        assert_eq!(
            warnings,
            ["PromQL warning: sample has start time that overlaps with previous sample timestamp \
              for metric \"m\" (2 occurrences) (1:4)"]
        );
    }
}
