//! Prometheus's text format.

use std::fmt::Write as _;

use periplus_model::float::format_g;
use periplus_model::{FloatHistogram, Labels};

use super::accept::{Escaping, quoted};
use super::{Kind, Newest, Sample, classic};

/// All families. Native histograms have no form here, unless their buckets are their own: those are classic ones.
pub(super) fn write(newest: &Newest, escaping: Escaping) -> String {
    let mut out = String::new();
    let mut family = ("", Kind::Untyped);
    for ((name, labels), (t, sample)) in newest {
        let kind = sample.kind();
        if matches!(sample, Sample::Histogram(h) if !h.has_custom_buckets()) {
            continue;
        }
        if family != (name.as_str(), kind) {
            family = (name.as_str(), kind);
            let shown = escaping.name(name, true);
            let kind = if kind == Kind::Untyped { "untyped" } else { "histogram" };
            _ = writeln!(out, "# TYPE {shown} {kind}");
        }
        let pairs = pairs(labels, escaping);
        match sample {
            Sample::Float(v) => line(&mut out, (&escaping.name(name, true), &pairs), *v, *t),
            Sample::Histogram(h) => histogram(&mut out, name, &pairs, (h, *t), escaping),
        }
    }
    out
}

/// Labels as they stand in the text. Without an instance the scraper would put its own there.
fn pairs(labels: &Labels, escaping: Escaping) -> Vec<String> {
    let own = labels.iter().filter(|(n, _)| *n != "__name__");
    let mut pairs: Vec<String> =
        own.map(|(n, v)| format!("{}={}", escaping.name(n, false), quoted(v))).collect();
    if labels.get("instance").is_none() {
        pairs.push("instance=\"\"".to_owned());
    }
    pairs
}

fn histogram(
    out: &mut String,
    name: &str,
    pairs: &[String],
    (h, t): (&FloatHistogram, i64),
    escaping: Escaping,
) {
    let named = |suffix: &str| escaping.name(&format!("{name}{suffix}"), true);
    let bucket = named("_bucket");
    for (bound, count) in classic(h).chain([(f64::INFINITY, h.count)]) {
        let mut with = pairs.to_vec();
        with.push(format!("le=\"{}\"", format_g(bound)));
        line(out, (&bucket, &with), count, t);
    }
    line(out, (&named("_sum"), pairs), h.sum, t);
    line(out, (&named("_count"), pairs), h.count, t);
}

fn line(out: &mut String, (name, pairs): (&str, &[String]), v: f64, t: i64) {
    _ = match name.starts_with('"') {
        true => write!(out, "{{{name},{}}}", pairs.join(",")),
        false => write!(out, "{name}{{{}}}", pairs.join(",")),
    };
    _ = writeln!(out, " {} {t}", format_g(v));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use periplus_model::Span;

    use super::*;

    fn float(v: f64) -> (i64, Sample) {
        (5, Sample::Float(v))
    }

    #[test]
    fn families_in_order() {
        let mut all = Newest::new();
        for (name, pairs, v) in [
            ("up", vec![("__name__", "up"), ("job", "a\"b")], 1.0),
            ("up", vec![("__name__", "up"), ("instance", "i")], f64::INFINITY),
            ("http.status", vec![("__name__", "http.status"), ("a.b", "c")], 1e-7),
        ] {
            all.insert((name.to_owned(), Labels::from_pairs(pairs)), float(v));
        }
        let text = write(&all, Escaping::Underscores);
        let expect = "# TYPE http_status untyped\nhttp_status{a_b=\"c\",instance=\"\"} 1e-07 5\n\
                      # TYPE up untyped\nup{instance=\"i\"} +Inf 5\n\
                      up{job=\"a\\\"b\",instance=\"\"} 1 5\n";
        assert_eq!(text, expect);
        let text = write(&all, Escaping::Utf8);
        assert!(text.contains("{\"http.status\",\"a.b\"=\"c\",instance=\"\"} 1e-07 5\n"), "{text}");
    }

    #[test]
    fn histograms_with_buckets_of_their_own_are_classic() {
        let h = FloatHistogram {
            schema: -53,
            count: 7.0,
            sum: 2.5,
            positive_spans: vec![Span { offset: 1, length: 2 }],
            positive_buckets: vec![3.0, 4.0],
            custom_values: vec![0.5, 1.0],
            ..FloatHistogram::default()
        };
        let native = FloatHistogram { schema: 3, ..h.clone() };
        let mut all = Newest::new();
        let labels = |v| Labels::from_pairs([("__name__", "h"), ("instance", v)]);
        all.insert(("h".to_owned(), labels("a")), (5, Sample::Histogram(Arc::new(h))));
        all.insert(("h".to_owned(), labels("b")), (5, Sample::Histogram(Arc::new(native))));
        let text = write(&all, Escaping::Utf8);
        let expect = "# TYPE h histogram\nh_bucket{instance=\"a\",le=\"0.5\"} 0 5\n\
                      h_bucket{instance=\"a\",le=\"1\"} 3 5\nh_bucket{instance=\"a\",le=\"+Inf\"} 7 5\n\
                      h_sum{instance=\"a\"} 2.5 5\nh_count{instance=\"a\"} 7 5\n";
        assert_eq!(text, expect);
    }
}
