//! What a sidecar answers is what a Prometheus 3.x answers that holds the series with their external labels.

use std::collections::BTreeMap;

use periplus_model::{FloatHistogram, Labels, Span};
use periplus_proto::convert::{labels_to_prometheus, prometheus_histogram_to_wire};
use periplus_proto::fleet::{ExecuteRequest, PartialKind};
use periplus_proto::prometheus::TimeSeries;
use periplus_sidecar::EvaluateIn;

use crate::prometheus::{Loaded, Prometheus, binaries, now_ms, three};
use crate::running::{Running, config, labels};

fn external() -> Labels {
    labels(&[("cluster", "a"), ("region", "eu"), ("replica", "0")])
}

/// The external labels less the replica label.
fn shown() -> Labels {
    labels(&[("cluster", "a"), ("region", "eu")])
}

fn attach(own: &Labels) -> Labels {
    own.iter().chain(shown().iter()).collect()
}

/// Counters with resets, gauges with holes, buckets of a histogram, info series; ten minutes of them.
fn data(end: i64) -> Vec<Loaded> {
    let start = end - 600_000;
    let mut out: Vec<Loaded> = Vec::new();
    let mut random = 12_345u64;
    let mut next = move || {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as f64 / f64::from(1u32 << 31)
    };
    for pod in 0..24 {
        let (name, node) = (format!("pod-{pod:02}"), format!("node-{}", pod % 4));
        let base = [("namespace", "shop"), ("node", node.as_str()), ("pod", name.as_str())];
        let with = |metric: &str| -> Labels {
            base.iter().copied().chain([("__name__", metric)]).collect()
        };
        let (mut total, mut cpu, mut memory) = (0.0, Vec::new(), Vec::new());
        for i in 0..41 {
            let t = start + i * 15_000 + pod;
            total += next();
            if i == 20 && pod % 5 == 0 {
                total = 0.0;
            }
            cpu.push((t, total));
            if !(10..16).contains(&i) || pod % 3 != 0 {
                memory.push((t, if pod < 12 { 100.0 } else { (next() * 1e6).floor() }));
            }
        }
        out.push((with("cpu_seconds_total"), cpu));
        out.push((with("memory_bytes"), memory));
        for (i, le) in ["0.1", "1", "+Inf"].into_iter().enumerate() {
            let own = with("latency_bucket").to_builder().set("le", le).build();
            let samples =
                (0..41).map(|k| (start + k * 15_000, (k * (i as i64 + 1) * (pod + 1)) as f64));
            out.push((own, samples.collect()));
        }
    }
    for node in 0..4 {
        let name = format!("node-{node}");
        let own = labels(&[("__name__", "node_info"), ("node", &name), ("kernel", "6.1")]);
        out.push((own, (0..41).map(|k| (start + k * 15_000, 1.0)).collect()));
    }
    out
}

const QUERIES: &[&str] = &[
    "cpu_seconds_total",
    r#"memory_bytes{cluster="a", pod=~"pod-1.*"}"#,
    r#"memory_bytes{cluster="b"}"#,
    r#"memory_bytes{cluster=~"a|b", region!="us"}"#,
    r#"{cluster="a", __name__="node_info"}"#,
    "sum by (cluster, node) (rate(cpu_seconds_total[5m]))",
    "sum without (pod, node) (increase(cpu_seconds_total[2m]))",
    "avg(memory_bytes)",
    "avg by (node) (memory_bytes) > 1000",
    "count by (cluster) (memory_bytes)",
    "topk(3, memory_bytes)",
    "topk(5, rate(cpu_seconds_total[5m]))",
    "bottomk by (node) (2, memory_bytes)",
    "topk by (cluster) (40, memory_bytes)",
    "topk(1, memory_bytes + 0 * cpu_seconds_total)",
    "max by (region) (memory_bytes) - min by (region) (memory_bytes)",
    "stddev by (node) (memory_bytes)",
    "quantile by (cluster) (0.9, memory_bytes)",
    r#"count_values by (cluster) ("bytes", memory_bytes)"#,
    r#"count_values("cluster", memory_bytes)"#,
    "histogram_quantile(0.9, sum by (le, cluster) (rate(latency_bucket[5m])))",
    "memory_bytes * on (node, cluster) group_left (kernel, region) node_info",
    "memory_bytes / ignoring (cluster) memory_bytes",
    "memory_bytes / on (cluster) group_left () sum by (cluster) (memory_bytes)",
    "memory_bytes / sum by (cluster) (memory_bytes)",
    "memory_bytes and on (pod) (rate(cpu_seconds_total[5m]) > 0.03)",
    "memory_bytes unless on (cluster) node_info",
    "sum(memory_bytes) or node_info",
    "absent(memory_bytes)",
    r#"absent(memory_bytes{cluster="b"})"#,
    r#"label_replace(memory_bytes, "pod", "$1-$2", "pod", "(.*)-(.*)")"#,
    r#"label_replace(memory_bytes, "cluster", "x-$1", "cluster", "(.*)")"#,
    r#"label_join(node_info, "where", "/", "cluster", "node")"#,
    "max_over_time(sum by (cluster) (memory_bytes)[5m:1m])",
    "rate(cpu_seconds_total[3m] offset 1m)",
    "time()",
    "scalar(sum(memory_bytes)) * 2",
    "vector(1)",
    "-memory_bytes",
    "irate(cpu_seconds_total[1m]) > bool 0.02",
    "group by (region, replica) (memory_bytes)",
    "changes(memory_bytes[5m]) + resets(cpu_seconds_total[5m])",
    "quantile_over_time(0.5, memory_bytes[4m])",
    "sort_desc(memory_bytes)",
];

type Points = BTreeMap<Labels, BTreeMap<i64, f64>>;

fn points_of_api(answer: &serde_json::Value) -> Points {
    assert_eq!(answer["status"], "success", "{answer}");
    let result = &answer["data"]["result"];
    let point = |p: &serde_json::Value| {
        let t = (p[0].as_f64().unwrap() * 1000.0).round() as i64;
        (t, p[1].as_str().unwrap().parse().unwrap())
    };
    if answer["data"]["resultType"] == "scalar" {
        return [(Labels::empty(), [point(result)].into())].into();
    }
    let mut out = Points::new();
    for series in result.as_array().unwrap() {
        let metric = series["metric"].as_object().unwrap();
        let labels = Labels::from_pairs(metric.iter().map(|(n, v)| (n, v.as_str().unwrap())));
        let values: Vec<serde_json::Value> = match series.get("values") {
            Some(values) => values.as_array().unwrap().clone(),
            None => vec![series["value"].clone()],
        };
        out.insert(labels, values.iter().map(point).collect());
    }
    out
}

fn close(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits()
        || (a.is_nan() && b.is_nan())
        || (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
}

#[track_caller]
fn compare(query: &str, how: &str, got: &Points, expected: &Points) {
    let names = |p: &Points| p.keys().map(|k| format!("{k:?}")).collect::<Vec<_>>();
    assert_eq!(names(got), names(expected), "series of {query} by {how}");
    for (labels, points) in expected {
        let ours = &got[labels];
        let times = |p: &BTreeMap<i64, f64>| p.keys().copied().collect::<Vec<_>>();
        assert_eq!(times(ours), times(points), "{query} by {how}: {labels:?}");
        for (t, v) in points {
            assert!(close(ours[t], *v), "{query} by {how}: {labels:?} at {t}: {} for {v}", ours[t]);
        }
    }
}

/// `topk` among equals: ours is documented, Prometheus's is its own affair; only values are compared.
fn ties(query: &str) -> bool {
    query.starts_with("topk") || query.starts_with("bottomk")
}

fn values(p: &Points) -> Vec<(i64, u64)> {
    let mut all: Vec<(i64, u64)> =
        p.values().flat_map(|s| s.iter().map(|(t, v)| (*t, v.to_bits()))).collect();
    all.sort_unstable();
    all
}

async fn ask(running: &Running, query: &str, start: i64, end: i64, step: i64) -> (Points, String) {
    let request = ExecuteRequest {
        query: query.to_owned(),
        start_ms: start,
        end_ms: end,
        step_ms: step,
        drop_labels: vec!["replica".to_owned()],
        ..ExecuteRequest::default()
    };
    let (rows, trailer) =
        running.execute(request, 1).await.unwrap_or_else(|e| panic!("{query}: {e}"));
    let mut out = Points::new();
    for row in rows {
        let points = (0..row.columns[0].len())
            .filter(|i| row.present[i / 64] >> (i % 64) & 1 == 1)
            .map(|i| (start + i as i64 * step, row.columns[0][i]))
            .collect();
        out.insert(row.labels, points);
    }
    (out, trailer.stats.unwrap().path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_is_that_of_one_prometheus() {
    let Some(three) = three() else { return };
    let end = now_ms() / 15_000 * 15_000;
    let own = data(end);
    let reference = Prometheus::start(&three, &Labels::empty(), &[]);
    let merged: Vec<Loaded> = own.iter().map(|(l, s)| (attach(l), s.clone())).collect();
    reference.load(&merged);
    let mut paths: BTreeMap<String, usize> = BTreeMap::new();
    for binary in binaries() {
        let prometheus = Prometheus::start(&binary, &external(), &[]);
        prometheus.load(&own);
        for mode in [EvaluateIn::Auto, EvaluateIn::Engine] {
            let running = Running::start(config(&prometheus.url(), mode)).await;
            for query in QUERIES {
                let (instant, path) = ask(&running, query, end - 7, end - 7, 0).await;
                *paths.entry(path.clone()).or_default() += 1;
                let form = [
                    ("query", (*query).to_owned()),
                    ("time", format!("{:.3}", (end - 7) as f64 / 1e3)),
                ];
                let expected = points_of_api(&reference.api("query", &form));
                let how = format!("{path} of {} at once", binary.display());
                if ties(query) {
                    assert_eq!(values(&instant), values(&expected), "{query} by {how}");
                } else {
                    compare(query, &how, &instant, &expected);
                }
                let (start, step) = (end - 480_000, 20_000);
                let (range, path) = ask(&running, query, start, end, step).await;
                let form = [
                    ("query", (*query).to_owned()),
                    ("start", format!("{:.3}", start as f64 / 1e3)),
                    ("end", format!("{:.3}", end as f64 / 1e3)),
                    ("step", "20".to_owned()),
                ];
                let expected = points_of_api(&reference.api("query_range", &form));
                let how = format!("{path} of {} over a range", binary.display());
                if ties(query) {
                    assert_eq!(values(&range), values(&expected), "{query} by {how}");
                } else {
                    compare(query, &how, &range, &expected);
                }
            }
        }
    }
    eprintln!("answered by {paths:?}");
    assert!(paths["prometheus"] > 20 && paths["engine"] > 20);
}

/// Native histograms are carried by neither JSON nor lists of floats: the engine answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn native_histograms() {
    let Some(three) = three() else { return };
    let end = now_ms() / 15_000 * 15_000;
    let series = |attached: bool| -> Vec<TimeSeries> {
        (0..6u32)
            .map(|pod| {
                let name = format!("pod-{pod}");
                let own = labels(&[("__name__", "h"), ("pod", &name)]);
                let own = if attached { attach(&own) } else { own };
                let histograms = (0..41u32).map(|i| {
                    let n = f64::from(i * (pod + 1));
                    let h = FloatHistogram {
                        schema: 2,
                        zero_threshold: 0.001,
                        zero_count: n,
                        count: 4.0 * n,
                        sum: 5.5 * n,
                        positive_spans: vec![
                            Span { offset: 1, length: 2 },
                            Span { offset: 2, length: 1 },
                        ],
                        positive_buckets: vec![n, n, n],
                        ..FloatHistogram::default()
                    };
                    prometheus_histogram_to_wire(&h, end - 600_000 + i64::from(i) * 15_000)
                });
                TimeSeries {
                    labels: labels_to_prometheus(&own),
                    histograms: histograms.collect(),
                    ..TimeSeries::default()
                }
            })
            .collect()
    };
    let reference =
        Prometheus::start(&three, &Labels::empty(), &["--enable-feature=native-histograms"]);
    reference.write(series(true));
    let prometheus =
        Prometheus::start(&three, &external(), &["--enable-feature=native-histograms"]);
    prometheus.write(series(false));
    for mode in [EvaluateIn::Auto, EvaluateIn::Engine] {
        let running = Running::start(config(&prometheus.url(), mode)).await;
        for query in [
            "histogram_count(rate(h[5m]))",
            "histogram_quantile(0.7, sum by (cluster) (rate(h[5m])))",
            "histogram_avg(h) + histogram_sum(h)",
            "count by (region) (h)",
        ] {
            let (got, path) = ask(&running, query, end - 7, end - 7, 0).await;
            let time = format!("{:.3}", (end - 7) as f64 / 1e3);
            let form = [("query", query.to_owned()), ("time", time)];
            compare(query, &path, &got, &points_of_api(&reference.api("query", &form)));
        }
        let request = ExecuteRequest {
            query: "sum by (cluster) (rate(h[5m]))".into(),
            start_ms: end,
            end_ms: end,
            ..ExecuteRequest::default()
        };
        let (rows, trailer) = running.execute(request.clone(), 1).await.unwrap();
        assert_eq!((rows.len(), trailer.stats.unwrap().path.as_str()), (1, "engine"));
        assert!(rows[0].histograms[0].histogram.count > 0.0);
        let partial =
            ExecuteRequest { partial: PartialKind::Avg as i32, query: "avg(h)".into(), ..request };
        let (rows, _) = running.execute(partial, 4).await.unwrap();
        assert_eq!(rows[0].histograms.len(), 1);
    }
}

/// Ties and partials are the same by either way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ways_give_the_same_parts() {
    let Some(three) = three() else { return };
    let end = now_ms() / 15_000 * 15_000;
    let prometheus = Prometheus::start(&three, &external(), &[]);
    prometheus.load(&data(end));
    let auto = Running::start(config(&prometheus.url(), EvaluateIn::Auto)).await;
    let engine = Running::start(config(&prometheus.url(), EvaluateIn::Engine)).await;
    let parts = [
        ("sum by (node) (rate(cpu_seconds_total[5m]))", PartialKind::Sum, 3),
        ("count by (cluster) (memory_bytes)", PartialKind::Count, 1),
        ("min(memory_bytes)", PartialKind::Min, 1),
        ("max without (pod) (memory_bytes)", PartialKind::Max, 1),
        ("group by (region) (memory_bytes)", PartialKind::Group, 0),
        ("avg by (cluster, node) (memory_bytes)", PartialKind::Avg, 4),
        ("topk(3, memory_bytes)", PartialKind::Topk, 1),
        ("bottomk by (node) (2, memory_bytes)", PartialKind::Bottomk, 1),
        (r#"count_values("v", memory_bytes)"#, PartialKind::CountValues, 1),
        ("topk(3, memory_bytes)", PartialKind::Whole, 1),
        ("bottomk(7, memory_bytes)", PartialKind::Whole, 1),
    ];
    for (query, kind, columns) in parts {
        for step in [0, 30_000] {
            let request = ExecuteRequest {
                query: query.to_owned(),
                start_ms: end - if step == 0 { 0 } else { 300_000 },
                end_ms: end,
                step_ms: step,
                partial: kind as i32,
                drop_labels: vec!["replica".to_owned()],
                ..ExecuteRequest::default()
            };
            let (a, at) = auto.execute(request.clone(), columns).await.unwrap();
            let (b, bt) = engine.execute(request, columns).await.unwrap();
            assert_eq!(bt.stats.unwrap().path, "engine");
            let path = at.stats.unwrap().path;
            assert_eq!(a.len(), b.len(), "{query} {kind:?} by {path}");
            for (a, b) in a.iter().zip(&b) {
                assert_eq!((&a.labels, &a.present), (&b.labels, &b.present), "{query} by {path}");
                for (c, (x, y)) in a.columns.iter().zip(&b.columns).enumerate() {
                    // The compensation stays in Prometheus when it answers.
                    if c == 1 && matches!(kind, PartialKind::Sum | PartialKind::Avg) {
                        continue;
                    }
                    for i in (0..x.len()).filter(|i| a.present[i / 64] >> (i % 64) & 1 == 1) {
                        assert!(close(x[i], y[i]), "{query} {kind:?} {:?} column {c}", a.labels);
                    }
                }
            }
        }
    }
}
