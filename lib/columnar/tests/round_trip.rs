//! What is written is read back bit for bit, whatever it is.

#![expect(clippy::unwrap_used, reason = "tests fail loudly and skip aloud")]

use std::collections::BTreeMap;
use std::sync::Arc;

use periplus_block::chunk::{ChunkSamples, HistogramValue};
use periplus_columnar::{
    AggregateHistogram, AggregateSamples, Day, Footer, HistogramColumn, HistogramReader,
    MemorySinks, PartFile, PartMeta, PartReader, PartSource, PartSummary, PartWriter, Resolution,
    SampleReader, SeriesData, SeriesTable, WriteOptions,
};
use periplus_model::{
    CounterResetHint, FloatHistogram, Histogram, Labels, Matcher, SampleBuffer, Span, TimeRange,
};
use proptest::prelude::*;
use ulid::Ulid;

const DAY: Day = Day(20_000);

fn meta(resolution: Resolution) -> PartMeta {
    PartMeta {
        part: Ulid::from_parts(1, 77),
        external: BTreeMap::from([("cluster".to_owned(), "c1".to_owned())]),
        replica_labels: vec!["replica".to_owned()],
        day: DAY,
        resolution,
        sources: vec![Ulid::from_parts(2, 3)],
        inputs: vec!["a".to_owned()],
        promoted: vec!["pod".to_owned(), "instance".to_owned()],
    }
}

/// Small groups and pages, so that little data meets all of their edges.
fn options() -> WriteOptions {
    WriteOptions { page_rows: 7, group_rows: 40, ..WriteOptions::default() }
}

fn write(
    resolution: Resolution,
    series: &[(Labels, SeriesData)],
    options: WriteOptions,
) -> (MemorySinks, PartSummary) {
    let sinks = MemorySinks::default();
    let mut writer = PartWriter::new(meta(resolution), options, Box::new(sinks.clone())).unwrap();
    for (labels, data) in series {
        match data {
            SeriesData::Raw(samples) => writer.push(labels, samples).unwrap(),
            SeriesData::Aggregates(samples) => writer.push_aggregates(labels, samples).unwrap(),
        }
    }
    (sinks, writer.finish().unwrap())
}

fn check(resolution: Resolution, series: &[(Labels, SeriesData)]) -> (MemorySinks, PartSummary) {
    let (sinks, summary) = write(resolution, series, options());
    let mut reader = PartReader::open(&sinks).unwrap();
    assert_eq!(reader.meta(), &meta(resolution));
    let is_empty = |data: &SeriesData| match data {
        SeriesData::Raw(s) => s.is_empty(),
        SeriesData::Aggregates(s) => s.is_empty(),
    };
    let mut count = 0;
    for (labels, data) in series.iter().filter(|(_, data)| !is_empty(data)) {
        reader.expect(labels, data).unwrap();
        count += 1;
    }
    reader.expect_end().unwrap();
    assert_eq!(summary.series, count);
    (sinks, summary)
}

fn labels(name: &str, pod: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("pod", pod), ("zone", "z")])
}

/// Times of the day with gaps from milliseconds to hours.
fn times() -> impl Strategy<Value = Vec<i64>> {
    proptest::collection::vec(prop_oneof![Just(30_000i64), 1..100i64, 1..10_000_000i64], 0..60)
        .prop_map(|gaps| {
            let mut t = DAY.start_ms();
            let mut out = Vec::new();
            for gap in gaps {
                if DAY.range().contains(t) {
                    out.push(t);
                }
                t += gap;
            }
            out
        })
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        Just(periplus_model::stale_nan()),
        Just(-0.0),
        (0..1000u32).prop_map(f64::from),
    ]
}

fn hint() -> impl Strategy<Value = CounterResetHint> {
    prop_oneof![
        Just(CounterResetHint::Unknown),
        Just(CounterResetHint::Reset),
        Just(CounterResetHint::NotReset),
        Just(CounterResetHint::Gauge),
    ]
}

fn float_histogram() -> impl Strategy<Value = FloatHistogram> {
    let buckets = || proptest::collection::vec(value(), 0..5);
    let parts = (hint(), value(), value(), value(), buckets(), buckets(), any::<bool>());
    parts.prop_map(|(hint, count, sum, zero, positive, negative, custom)| {
        let spans = |n: usize| -> Vec<Span> {
            // Also spans without a bucket, which some exporters write.
            let spans = [Span { offset: -3, length: n as u32 }, Span { offset: 2, length: 0 }];
            spans.into_iter().take(n.min(2)).collect()
        };
        FloatHistogram {
            counter_reset_hint: hint,
            schema: if custom { -53 } else { 3 },
            zero_threshold: if custom { 0.0 } else { 1e-128 },
            zero_count: zero,
            count,
            sum,
            positive_spans: spans(positive.len()),
            negative_spans: spans(negative.len()),
            positive_buckets: positive,
            negative_buckets: negative,
            custom_values: if custom { vec![0.5, f64::NAN] } else { vec![] },
        }
    })
}

fn histogram() -> impl Strategy<Value = HistogramValue> {
    let integer =
        (hint(), any::<u32>(), value(), proptest::collection::vec(-9..99i64, 0..4), any::<bool>());
    let integer = integer.prop_map(|(hint, count, sum, buckets, huge)| {
        HistogramValue::Integer(Histogram {
            counter_reset_hint: hint,
            schema: 1,
            zero_threshold: 0.001,
            zero_count: 3,
            // No float holds this one: it is stored as the float Prometheus computes with.
            count: if huge { (1 << 53) + 1 } else { u64::from(count) },
            sum,
            positive_spans: vec![Span { offset: 0, length: buckets.len() as u32 }],
            positive_buckets: buckets,
            ..Histogram::default()
        })
    });
    prop_oneof![integer, float_histogram().prop_map(HistogramValue::Float)]
}

fn raw() -> impl Strategy<Value = ChunkSamples> {
    times().prop_flat_map(|ts| {
        let n = ts.len();
        let values = proptest::collection::vec(value(), n);
        let starts = prop_oneof![
            Just(vec![0; n]),
            proptest::collection::vec(prop_oneof![Just(0i64), any::<i64>()], n)
        ];
        let kinds = proptest::collection::vec(proptest::option::weighted(0.3, histogram()), n);
        let has_histograms = any::<bool>();
        (Just(ts), values, starts, kinds, has_histograms).prop_map(
            |(ts, values, starts, kinds, has)| {
                let mut out = ChunkSamples::new();
                for (((t, v), start), kind) in ts.into_iter().zip(values).zip(starts).zip(kinds) {
                    match kind.filter(|_| has) {
                        Some(h) => out.push_histogram(t, h, start),
                        None => out.push(t, v, start),
                    }
                }
                out
            },
        )
    })
}

fn aggregates() -> impl Strategy<Value = AggregateSamples> {
    (times(), times(), any::<[bool; 5]>(), any::<bool>(), value()).prop_flat_map(
        |(ts, hts, has, ends, v)| {
            let columns =
                has.map(|has| proptest::collection::vec(value(), if has { ts.len() } else { 0 }));
            let parts = (float_histogram(), float_histogram(), 0..3u8);
            let histograms = proptest::collection::vec(parts, hts.len());
            (Just((ts, hts, ends, v)), columns, histograms).prop_map(
                |((ts, hts, ends, v), [count, sum, min, max, counter], histograms)| {
                    let made = hts.into_iter().zip(histograms).map(|(ts, (a, b, which))| {
                        AggregateHistogram {
                            ts,
                            observations: v,
                            sum: (which != 1).then(|| Arc::new(a)),
                            counter: (which != 2).then(|| Arc::new(b)),
                        }
                    });
                    let histograms_made: Vec<AggregateHistogram> = made.collect();
                    let first: Option<&AggregateHistogram> = histograms_made.first();
                    let end = |h: Option<&AggregateHistogram>| {
                        h.filter(|_| ends).and_then(|h| Some((h.ts + 1, h.sum.clone()?)))
                    };
                    AggregateSamples {
                        histogram_first: end(first),
                        histogram_last: end(histograms_made.last()),
                        counter_first: (ends && !ts.is_empty()).then_some((DAY.start_ms(), v)),
                        counter_last: (ends && !ts.is_empty()).then_some(v),
                        histograms: histograms_made,
                        ts,
                        count,
                        sum,
                        min,
                        max,
                        counter,
                    }
                },
            )
        },
    )
}

fn named<T>(all: Vec<T>, of: impl Fn(T) -> SeriesData) -> Vec<(Labels, SeriesData)> {
    let name = |i: usize| labels(&format!("m{:02}", i / 3), &format!("p{:02}", i % 3));
    all.into_iter().enumerate().map(|(i, data)| (name(i), of(data))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn raw_series(all in proptest::collection::vec(raw(), 0..8)) {
        check(Resolution::Raw, &named(all, SeriesData::Raw));
    }

    #[test]
    fn aggregated_series(all in proptest::collection::vec(aggregates(), 0..6)) {
        check(Resolution::FiveMinutes, &named(all, SeriesData::Aggregates));
    }
}

/// A counter a series, every 30 s of the day.
fn counters(series: usize) -> Vec<(Labels, SeriesData)> {
    let data = |i: usize| {
        let mut samples = ChunkSamples::new();
        for n in 0..2880 {
            let noise = (n * 7919 + i as i64 * 104_729) % 13;
            samples.push(DAY.start_ms() + n * 30_000, (n * 10 + noise) as f64, 0);
        }
        SeriesData::Raw(samples)
    };
    named((0..series).collect(), data)
}

#[test]
fn a_query_finds_and_reads_what_it_wants() {
    let series = counters(30);
    let (sinks, summary) = check(Resolution::Raw, &series);
    assert_eq!((summary.series, summary.samples), (30, 30 * 2880));
    let open = |file: PartFile| {
        let bytes = sinks.bytes(file).unwrap();
        let known = summary.file(file).unwrap();
        assert_eq!(bytes.len() as u64, known.size);
        let tail = bytes.slice(bytes.len() - known.tail_len as usize..);
        assert_eq!(periplus_columnar::crc32(&tail), known.tail_crc32);
        let footer = Footer::parse(file.name(), known.size, &tail).unwrap();
        assert_eq!((footer.rows(), footer.tail_len()), (known.rows, known.tail_len));
        (footer, bytes)
    };
    let (series_footer, series_bytes) = open(PartFile::Series);
    let (samples_footer, samples_bytes) = open(PartFile::Samples);
    assert!(summary.names.may_contain("m03"));
    let hour = TimeRange::new(DAY.start_ms() + 9 * 3_600_000, DAY.start_ms() + 10 * 3_600_000);
    let matchers = [Matcher::equal("__name__", "m03"), Matcher::equal("pod", "p01")];
    assert!(series_footer.series_groups(&[Matcher::equal("__name__", "zzz")], hour).is_empty());
    assert!(series_footer.series_groups(&[Matcher::equal("pod", "p011")], hour).is_empty());
    let before = TimeRange::new(0, DAY.start_ms() - 1);
    assert!(series_footer.series_groups(&matchers, before).is_empty());
    let groups = series_footer.series_groups(&matchers, hour);
    assert_eq!(groups, [0]);
    let range = series_footer.group_range(0);
    let bytes = series_bytes.slice(range.start as usize..range.end as usize);
    let table = SeriesTable::decode(&series_footer, 0, &bytes).unwrap();
    assert_eq!(table.len(), 30);
    let found = table.select(&matchers, hour);
    assert_eq!(found, [10]);
    let external = BTreeMap::from([("cluster".to_owned(), "c1".to_owned())]);
    let want =
        Labels::from_pairs([("__name__", "m03"), ("cluster", "c1"), ("pod", "p01"), ("zone", "z")]);
    assert_eq!(table.labels(found[0], &external), want);
    let among: Vec<u32> = (0..6).collect();
    assert_eq!(
        table.label_values("pod", &among).into_iter().collect::<Vec<_>>(),
        ["p00", "p01", "p02"]
    );
    let windows: Vec<_> = table.windows(found[0]).filter(|w| w.range.overlaps(&hour)).collect();
    assert_eq!((windows.len(), windows[0].window), (1, 1));
    // Only the pages that are needed are given to it.
    let ranges = samples_footer
        .sample_ranges(windows.iter().map(|w| w.rows.clone()), periplus_columnar::Columns::Raw);
    let mut fetched = periplus_columnar::Fetched::new(samples_footer.file_len());
    for range in &ranges {
        let bytes = samples_bytes.slice(range.start as usize..range.end as usize);
        fetched.insert(range.start, bytes);
    }
    assert!(fetched.bytes() * 10 < samples_bytes.len(), "{} bytes", fetched.bytes());
    let mut reader = SampleReader::new(&samples_footer, Arc::new(fetched)).unwrap();
    let mut out = SampleBuffer::new();
    reader.append(&windows[0], hour, &mut out).unwrap();
    assert_eq!(out.len(), 121);
    assert_eq!((out.ts[0], out.ts[120]), (hour.min_t, hour.max_t));
    let SeriesData::Raw(all) = &series[10].1 else { unreachable!() };
    assert_eq!(out.values, all.values[1080..=1200]);
}

#[test]
fn histograms_lie_among_floats_by_time() {
    let mut samples = ChunkSamples::new();
    for n in 0..100i64 {
        let t = DAY.start_ms() + n * 1000;
        if n % 3 == 1 {
            let h = FloatHistogram { count: n as f64, sum: 1.0, ..FloatHistogram::default() };
            samples.push_histogram(t, HistogramValue::Float(h), n % 2);
        } else {
            samples.push(t, n as f64, 0);
        }
    }
    let series = [(labels("m", "p"), SeriesData::Raw(samples))];
    let (sinks, _) = check(Resolution::Raw, &series);
    let footer = |file| Footer::open(file_name(file), &sinks.bytes(file).unwrap()).unwrap();
    let series_footer = footer(PartFile::Series);
    let range = series_footer.group_range(0);
    let bytes = sinks.bytes(PartFile::Series).unwrap();
    let bytes = bytes.slice(range.start as usize..range.end as usize);
    let table = SeriesTable::decode(&series_footer, 0, &bytes).unwrap();
    let window = table.windows(0).next().unwrap();
    let range = TimeRange::new(DAY.start_ms() + 10_000, DAY.start_ms() + 20_000);
    let mut out = SampleBuffer::new();
    let samples = footer(PartFile::Samples);
    let mut reader =
        SampleReader::new(&samples, sinks.open(PartFile::Samples).unwrap().unwrap()).unwrap();
    reader.append(&window, range, &mut out).unwrap();
    let histograms = footer(PartFile::Histograms);
    let bytes = sinks.open(PartFile::Histograms).unwrap().unwrap();
    let mut reader = HistogramReader::new(&histograms, bytes).unwrap();
    reader.append(&window, range, HistogramColumn::Raw, &mut out).unwrap();
    assert_eq!(out.len(), 11);
    assert!(out.ts.is_sorted_by(|a, b| a < b));
    let at: Vec<u32> = out.histograms.iter().map(|(i, _)| *i).collect();
    assert_eq!(at, [0, 3, 6, 9]);
    assert_eq!(out.histograms[1].1.count, 13.0);
    assert_eq!(out.start_ts[3], 1);
}

fn file_name(file: PartFile) -> &'static str {
    file.name()
}

#[test]
fn nonsense_is_refused() {
    let mut writer =
        PartWriter::new(meta(Resolution::Raw), options(), Box::new(MemorySinks::default()))
            .unwrap();
    let mut one = ChunkSamples::new();
    one.push(DAY.start_ms(), 1.0, 0);
    writer.push(&labels("b", "p"), &one).unwrap();
    assert!(writer.push(&labels("b", "p"), &one).is_err(), "twice");
    assert!(writer.push(&labels("a", "p"), &one).is_err(), "out of order");
    let mut late = ChunkSamples::new();
    late.push(DAY.range().max_t + 1, 1.0, 0);
    assert!(writer.push(&labels("c", "p"), &late).is_err(), "another day");
    one.push(DAY.start_ms(), 1.0, 0);
    assert!(writer.push(&labels("c", "p"), &one).is_err(), "a time twice");
    assert!(writer.push_aggregates(&labels("c", "p"), &AggregateSamples::default()).is_err());
}
