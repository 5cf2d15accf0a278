//! What must hold whatever the data: a range query equals its instant queries, the number of workers
//! does not matter, and an aggregation in parts equals the whole.

#![expect(clippy::unwrap_used, reason = "a test says what it finds")]

use std::sync::Arc;

use periplus_model::{Labels, SampleBuffer, stale_nan};
use periplus_promql::engine::{Engine, EngineConfig, LeafValue, Leaves, QuerySpec};
use periplus_promql::limits::Cancel;
use periplus_promql::parse::ast::{Expr, Leaf, ValueType};
use periplus_promql::parse::parse;
use periplus_promql::partial;
use periplus_promql::source::{SelectRequest, SeriesEntry, SeriesStream, Source, SourceError};
use periplus_promql::value::{StepGrid, StepMatrix, Value};
use proptest::prelude::*;

/// Series in memory, given out in blocks of a size.
#[derive(Clone)]
struct Memory {
    series: Vec<SeriesEntry>,
    block: usize,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for e in &self.series {
            let mut buf = SampleBuffer::new();
            e.samples.decode(periplus_model::TimeRange::ALL, &mut buf).unwrap();
            writeln!(f, "{:?} {:?} {:?}", e.labels, buf.ts, buf.values)?;
        }
        Ok(())
    }
}

struct Blocks(std::vec::IntoIter<SeriesEntry>, usize);

impl SeriesStream for Blocks {
    fn next_block(&mut self) -> Result<Option<Vec<SeriesEntry>>, SourceError> {
        let block: Vec<_> = self.0.by_ref().take(self.1).collect();
        Ok((!block.is_empty()).then_some(block))
    }
}

impl Source for Memory {
    fn select(&self, request: &SelectRequest) -> Result<Box<dyn SeriesStream>, SourceError> {
        let fits =
            |e: &&SeriesEntry| request.matchers.iter().all(|m| m.matches(e.labels.value(&m.name)));
        let found: Vec<_> = self.series.iter().filter(fits).cloned().collect();
        Ok(Box::new(Blocks(found.into_iter(), self.block)))
    }
}

/// What a sample is: a number (small, so that ties occur), the stale marker or nothing.
fn sample() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        8 => (0i32..6).prop_map(|v| Some(f64::from(v))),
        2 => (-1e6f64..1e6).prop_map(Some),
        1 => Just(Some(f64::NAN)),
        1 => Just(Some(stale_nan())),
        2 => Just(None),
    ]
}

fn memory() -> impl Strategy<Value = Memory> {
    let one = proptest::collection::vec(sample(), 1..20);
    proptest::collection::vec(one, 1..14).prop_map(|all| {
        let series = all.into_iter().enumerate().map(|(id, samples)| {
            let labels = Labels::from_pairs([
                ("__name__", "m_total".to_owned()),
                ("cluster", format!("c{}", id % 3)),
                ("pod", format!("p{id}")),
            ]);
            let mut buf = SampleBuffer::new();
            for (i, v) in samples.into_iter().enumerate() {
                if let Some(v) = v {
                    buf.push(i as i64 * 30_000 + id as i64 * 100, v);
                }
            }
            SeriesEntry { labels, samples: Arc::new(buf) }
        });
        Memory { series: series.collect(), block: 5 }
    })
}

const QUERIES: &[&str] = &[
    "m_total",
    "rate(m_total[2m])",
    "sum by (cluster) (rate(m_total[2m]))",
    "avg(m_total)",
    "stddev by (cluster) (m_total)",
    "topk by (cluster) (2, m_total)",
    "bottomk(3, m_total)",
    "limitk by (cluster) (1, m_total)",
    "quantile(0.4, m_total)",
    "count_values by (cluster) (\"v\", m_total)",
    "max without (pod) (max_over_time(m_total[90s]))",
    "m_total / on (pod) group_left m_total offset 30s",
    "m_total > 2 or m_total * -1",
    "m_total and on (cluster) (m_total > 3)",
    "m_total unless (m_total > 3)",
    "avg_over_time(sum(m_total)[2m:20s])",
    "sum_over_time(m_total[3m] offset 30s)",
    "changes(m_total[2m]) + resets(m_total[2m])",
    "absent(m_total > 4)",
    "scalar(sum(m_total)) + vector(time())",
    "label_replace(m_total, \"pod\", \"x$1\", \"pod\", \"p(.*)\")",
    "deriv(m_total[2m])",
    "predict_linear(m_total[2m], 60)",
    "irate(m_total[2m]) ^ 2",
    "quantile_over_time(0.5, m_total[2m])",
    "timestamp(m_total)",
    "m_total @ 120",
    "sum(m_total @ end()) + m_total",
];

fn spec(query: &str, grid: StepGrid) -> QuerySpec {
    QuerySpec::range(parse(query).unwrap(), query, grid)
}

fn run(engine: &Engine, spec: &QuerySpec, source: &Memory) -> StepMatrix {
    match engine.execute(spec, source, &Leaves::new(), &Cancel::new()).map(|r| r.value) {
        Ok(Value::Vector(m)) => m,
        Ok(Value::Scalar { grid, values }) => {
            let present = periplus_promql::value::Bitmap::new(values.len(), true);
            let labels = Labels::empty();
            let series = vec![periplus_promql::value::StepSeries {
                labels,
                values,
                present,
                histograms: Vec::new(),
            }];
            StepMatrix { grid, series }
        }
        other => panic!("{other:?}"),
    }
}

fn engine(workers: usize) -> Engine {
    Engine::new(&EngineConfig { workers, ..EngineConfig::default() }).unwrap()
}

/// Labels and value bits at a step, sorted; `loose` rounds away the last bits.
fn at(m: &StepMatrix, step: usize, loose: bool) -> Vec<(Labels, String)> {
    let shown = |v: f64| if loose { format!("{v:.7e}") } else { format!("{:x}", v.to_bits()) };
    let mut out: Vec<_> = m
        .series
        .iter()
        .filter(|s| s.present.get(step))
        .map(|s| {
            let v = s.values[step];
            (s.labels.clone(), if v.is_nan() { "NaN".into() } else { shown(v) })
        })
        .collect();
    out.sort();
    out
}

fn grid() -> StepGrid {
    StepGrid { start_ms: 30_000, end_ms: 600_000, step_ms: 45_000 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_range_is_its_instants(source in memory(), which in 0..QUERIES.len() - 1) {
        let engine = engine(2);
        let query = QUERIES[which];
        let whole = run(&engine, &spec(query, grid()), &source);
        for step in 0..grid().steps() {
            let t = grid().time(step);
            let single = StepGrid { start_ms: t, end_ms: t, step_ms: 45_000 };
            let one = run(&engine, &spec(query, single), &source);
            prop_assert_eq!(at(&whole, step, false), at(&one, 0, false), "{} at {}", query, t);
        }
    }

    #[test]
    fn workers_do_not_matter(source in memory(), which in 0..QUERIES.len()) {
        let query = spec(QUERIES[which], grid());
        let (one, three) = (run(&engine(1), &query, &source), run(&engine(3), &query, &source));
        for step in 0..grid().steps() {
            prop_assert_eq!(at(&one, step, false), at(&three, step, false));
        }
    }

    #[test]
    fn parts_make_the_whole(
        source in memory(),
        which in 0usize..14,
        cuts in proptest::collection::vec(0usize..14, 0..4),
    ) {
        let query = [
            "sum by (cluster) (m_total)",
            "sum(rate(m_total[2m]))",
            "avg by (cluster) (m_total)",
            "count(m_total)",
            "min by (cluster) (m_total)",
            "max(m_total)",
            "group by (cluster) (m_total)",
            "stddev(m_total)",
            "stdvar by (cluster) (m_total)",
            "topk by (cluster) (2, m_total)",
            "bottomk(3, m_total)",
            "limitk(2, m_total)",
            "count_values by (cluster) (\"v\", m_total)",
            "topk(1, m_total @ 150)",
        ][which];
        let engine = engine(1);
        let spec = spec(query, grid());
        let whole = run(&engine, &spec, &source);
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|c| *c < source.series.len()).collect();
        cuts.sort_unstable();
        let mut parts = Vec::new();
        let mut from = 0;
        for to in cuts.into_iter().chain([source.series.len()]) {
            let part = Memory { series: source.series[from..to].to_vec(), block: 3 };
            let cancel = Cancel::new();
            parts.push(engine.execute_partial(&spec, &part, &Leaves::new(), &cancel).unwrap().partial);
            from = to;
        }
        // Two tiers: all but the last, then that with the last.
        let last = parts.pop().unwrap();
        let merged = if parts.is_empty() {
            last
        } else {
            let below = partial::merge(parts).unwrap();
            partial::merge(vec![below, last]).unwrap()
        };
        let (merged, _) = merged.finish(spec.expr.span()).unwrap();
        let exact = !(query.starts_with("s") || query.starts_with("avg"));
        for step in 0..grid().steps() {
            prop_assert_eq!(at(&whole, step, !exact), at(&merged, step, !exact), "{}", query);
        }
    }
}

#[test]
fn a_leaf_stands_for_its_subtree() {
    let engine = engine(1);
    let mut buf = SampleBuffer::new();
    (0..40).for_each(|i| buf.push(i * 15_000, i as f64));
    let labels = Labels::from_pairs([("__name__", "m_total"), ("cluster", "c0"), ("pod", "p0")]);
    let source = Memory { series: vec![SeriesEntry { labels, samples: Arc::new(buf) }], block: 1 };
    let inner = "sum(rate(m_total[2m]))";
    for (outer, text) in [
        (
            "max_over_time(LEAF[3m:30s] offset 1m)",
            "max_over_time(sum(rate(m_total[2m]))[3m:30s] offset 1m)",
        ),
        ("LEAF * 2", "sum(rate(m_total[2m])) * 2"),
    ] {
        let whole = run(&engine, &spec(text, grid()), &source);
        let mut query = spec(&outer.replace("LEAF", "sum(m_total)"), grid());
        let leaf = |original: Expr| {
            Expr::Leaf(Box::new(Leaf { id: 7, value_type: ValueType::Vector, original }))
        };
        replace_aggregate(&mut query.expr, &leaf, &parse(inner).unwrap());
        let wanted = periplus_promql::plan::leaf_grids(&query).unwrap()[&7];
        let answer = run(&engine, &spec(inner, wanted.grid), &source);
        let mut leaves = Leaves::new();
        leaves.insert(7, LeafValue::Vector(answer));
        let got = engine.execute(&query, &source, &leaves, &Cancel::new()).unwrap();
        assert_eq!(got.value, Value::Vector(whole), "{outer}");
    }
}

fn replace_aggregate(e: &mut Expr, leaf: &impl Fn(Expr) -> Expr, original: &Expr) {
    match e {
        Expr::Aggregate(_) => *e = leaf(original.clone()),
        Expr::Binary(b) => replace_aggregate(&mut b.lhs, leaf, original),
        Expr::Call(c) => c.args.iter_mut().for_each(|a| replace_aggregate(a, leaf, original)),
        Expr::Subquery(s) => replace_aggregate(&mut s.expr, leaf, original),
        _ => {}
    }
}
