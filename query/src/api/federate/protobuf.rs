//! Prometheus's protobuf format: one message a family, each after its length.

use periplus_model::{FloatHistogram, Labels, Span};
use periplus_proto::exposition::{
    Bucket, BucketSpan, Histogram, LabelPair, Metric, MetricFamily, MetricType, Untyped,
};
use prost::Message as _;

use super::accept::Escaping;
use super::{Kind, Newest, Sample, classic};

/// All families. One name has several where its samples are of several kinds: that is no exposition by the
/// letter, but what Prometheus writes here, and reads.
pub(super) fn write(newest: &Newest, escaping: Escaping) -> Vec<u8> {
    let mut out = Vec::new();
    let mut family: Option<(&str, Kind, MetricFamily)> = None;
    for ((name, labels), (t, sample)) in newest {
        let kind = sample.kind();
        if !matches!(&family, Some((n, k, _)) if *n == name && *k == kind) {
            finish(&mut out, family.take());
        }
        let (_, _, family) = family.get_or_insert_with(|| {
            let kind_of = match kind {
                Kind::Untyped => MetricType::Untyped,
                Kind::Histogram => MetricType::Histogram,
                Kind::GaugeHistogram => MetricType::GaugeHistogram,
            };
            let name_of = Some(escaping.plain(name, true));
            let r#type = Some(kind_of.into());
            (name.as_str(), kind, MetricFamily { name: name_of, r#type, ..MetricFamily::default() })
        });
        family.metric.push(metric(labels, *t, sample, escaping));
    }
    finish(&mut out, family);
    out
}

fn finish(out: &mut Vec<u8>, family: Option<(&str, Kind, MetricFamily)>) {
    if let Some((_, _, family)) = family {
        // A vector grows, so there is always room.
        _ = family.encode_length_delimited(out);
    }
}

fn metric(labels: &Labels, t: i64, sample: &Sample, escaping: Escaping) -> Metric {
    let pair = |n: String, v: &str| LabelPair { name: Some(n), value: Some(v.to_owned()) };
    let own = labels.iter().filter(|(n, _)| *n != "__name__");
    let mut label: Vec<LabelPair> = own.map(|(n, v)| pair(escaping.plain(n, false), v)).collect();
    // Without one the scraper would put its own there.
    if labels.get("instance").is_none() {
        label.push(pair("instance".to_owned(), ""));
    }
    let mut out = Metric { label, timestamp_ms: Some(t), ..Metric::default() };
    match sample {
        Sample::Float(v) => out.untyped = Some(Untyped { value: Some(*v) }),
        Sample::Histogram(h) => out.histogram = Some(histogram(h)),
    }
    out
}

fn histogram(h: &FloatHistogram) -> Histogram {
    let whole = Histogram {
        sample_count_float: Some(h.count),
        sample_sum: Some(h.sum),
        ..Histogram::default()
    };
    if h.has_custom_buckets() {
        let bucket = |(bound, count)| Bucket {
            upper_bound: Some(bound),
            cumulative_count_float: Some(count),
            ..Bucket::default()
        };
        return Histogram { bucket: classic(h).map(bucket).collect(), ..whole };
    }
    let spans = |all: &[Span]| -> Vec<BucketSpan> {
        let span = |s: &Span| BucketSpan { offset: Some(s.offset), length: Some(s.length) };
        all.iter().map(span).collect()
    };
    Histogram {
        schema: Some(h.schema),
        zero_threshold: Some(h.zero_threshold),
        zero_count_float: Some(h.zero_count),
        negative_span: spans(&h.negative_spans),
        negative_count: h.negative_buckets.clone(),
        positive_span: spans(&h.positive_spans),
        positive_count: h.positive_buckets.clone(),
        ..whole
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn families_are_read_back() {
        let h = FloatHistogram {
            schema: 3,
            zero_threshold: 0.001,
            count: 7.5,
            sum: -2.0,
            positive_spans: vec![Span { offset: -2, length: 1 }],
            positive_buckets: vec![7.5],
            ..FloatHistogram::default()
        };
        let mut all = Newest::new();
        let labels = |v| Labels::from_pairs([("__name__", "h.x"), ("job", v)]);
        let name = || "h.x".to_owned();
        all.insert((name(), labels("a")), (5, Sample::Float(1.5)));
        all.insert((name(), labels("b")), (6, Sample::Histogram(Arc::new(h))));
        let bytes = write(&all, Escaping::Utf8);
        let mut left = bytes.as_slice();
        let mut families = Vec::new();
        while !left.is_empty() {
            families.push(MetricFamily::decode_length_delimited(&mut left).unwrap());
        }
        assert_eq!(families.len(), 2);
        assert!(families.iter().all(|f| f.name() == "h.x"));
        assert_eq!(families[0].r#type(), MetricType::Untyped);
        assert_eq!(families[0].metric[0].untyped, Some(Untyped { value: Some(1.5) }));
        assert_eq!(families[1].r#type(), MetricType::Histogram);
        let m = &families[1].metric[0];
        let shown = m.histogram.as_ref().unwrap();
        assert_eq!((shown.schema(), shown.sample_count_float()), (3, 7.5));
        assert_eq!(shown.positive_span, [BucketSpan { offset: Some(-2), length: Some(1) }]);
        assert_eq!((m.timestamp_ms(), m.label.len()), (6, 2));
    }
}
