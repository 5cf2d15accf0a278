//! Tables: what of a query is pushed where, and in which form.

use periplus_model::{Labels, TimeRange};
use periplus_promql::parse::parse;
use periplus_promql::value::StepGrid;

use super::*;

const MINUTE: i64 = 60_000;

fn held(endpoint: EndpointId, labels: &[(&str, &str)]) -> Held {
    Held {
        endpoint,
        external: Labels::from_pairs(labels.iter().copied()),
        available: TimeRange::ALL,
        gaps: Vec::new(),
        usable: true,
        healthy: true,
        executes: true,
    }
}

/// Three clusters on two continents; one of them twice.
fn fleet() -> Fleet {
    let all = [
        held(0, &[("cluster", "a"), ("region", "eu")]),
        held(1, &[("cluster", "b"), ("region", "eu")]),
        held(2, &[("cluster", "c"), ("region", "us"), ("replica", "0")]),
        held(3, &[("cluster", "c"), ("region", "us"), ("replica", "1")]),
    ];
    Fleet::new(all, &["replica".to_owned()])
}

/// `query` is cut into `fragments`: text, partial kind, clusters.
#[track_caller]
fn check(query: &str, fragments: &[(&str, &str, &str)]) {
    let (expr, fleet) = (parse(query).expect("a query"), fleet());
    let plan = plan(&expr, query, &fleet);
    let shown: Vec<(String, String, String)> = plan
        .fragments
        .iter()
        .map(|f| {
            let kind = f.partial.as_ref().map_or("whole".to_owned(), |(k, _)| format!("{k:?}"));
            let clusters: String = f
                .parts
                .iter()
                .flat_map(|p| &fleet.parts[p].streams)
                .map(|s| fleet.streams[*s].labels.value("cluster"))
                .collect();
            assert_eq!(&query[f.position as usize..][..f.text.len()], &*f.text, "words of {query}");
            (f.text.to_string(), kind, clusters)
        })
        .collect();
    let shown: Vec<(&str, &str, &str)> =
        shown.iter().map(|(t, k, c)| (t.as_str(), k.as_str(), c.as_str())).collect();
    assert_eq!(shown, fragments, "{query}\nkept here: {:?}", plan.kept);
}

/// The whole query is one fragment.
#[track_caller]
fn whole(query: &str, clusters: &str) {
    check(query, &[(query, "whole", clusters)]);
}

#[test]
fn the_main_question() {
    let q = "topk(10, sum by (cluster, namespace, pod) (rate(cpu_seconds_total[5m])))";
    check(q, &[(q, "Topk { k: 10 }", "abc")]);
    let q = "topk(10, sum by (pod) (rate(cpu_seconds_total[5m])))";
    check(q, &[("sum by (pod) (rate(cpu_seconds_total[5m]))", "Sum", "abc")]);
}

#[test]
fn selectors_choose_their_clusters() {
    whole("up", "abc");
    whole("up{cluster=\"a\"}", "a");
    whole("up{region=\"eu\",job=\"x\"}", "ab");
    whole("up{cluster!=\"a\"}", "bc");
    whole("up{cluster=~\"a|c\"}", "ac");
    whole("up{cluster!~\"[ab]\",region=~\".+\"}", "c");
    whole("up{cluster=\"nowhere\"}", "");
    whole("up{cluster=\"\"}", "");
    whole("up{zone=\"x\"}", "abc");
    // A label that tells replicas apart is for choosing what is fetched.
    check("up{replica=\"0\"}", &[]);
}

#[test]
fn series_by_series_functions() {
    whole("rate(x[5m])", "abc");
    whole("abs(-x)", "abc");
    whole("clamp(x, 1, 2 + time())", "abc");
    whole("timestamp(x)", "abc");
    whole("quantile_over_time(0.5, x[1h:1m])", "abc");
    whole("max_over_time(rate(x[5m])[1h:1m] offset 5m)", "abc");
    whole("x @ 100 offset 1m", "abc");
    whole("sum_over_time(x[5m] @ start())", "abc");
    whole("histogram_quantile(0.9, rate(x_bucket[5m]))", "abc");
    whole("x * 2 > bool 3", "abc");
    check("x", &[("x", "whole", "abc")]);
    check("x[5m]", &[]);
}

#[test]
fn groups_within_and_across_clusters() {
    whole("sum by (cluster) (x)", "abc");
    whole("quantile by (cluster) (0.5, x)", "abc");
    whole("sum without (pod) (x)", "abc");
    whole("stddev without (region) (x)", "abc");
    for (op, kind) in [
        ("sum", "Sum"),
        ("avg", "Avg"),
        ("count", "Count"),
        ("min", "Min"),
        ("max", "Max"),
        ("group", "Group"),
        ("stddev", "Stddev"),
        ("stdvar", "Stdvar"),
    ] {
        let q = format!("{op} by (job, region) (x)");
        check(&q, &[(&q, kind, "abc")]);
        let q = format!("{op} without (cluster) (x)");
        check(&q, &[(&q, kind, "abc")]);
        whole(&format!("{op} by (job) (x{{cluster=\"b\"}})"), "b");
    }
    // Two clusters in one region: the region alone does not tell them apart, those of two do.
    check("sum by (region) (x)", &[("sum by (region) (x)", "Sum", "abc")]);
    whole("sum by (region) (x{cluster=~\"a|c\"})", "ac");
    check("limitk(3, x)", &[("limitk(3, x)", "Limitk { k: 3 }", "abc")]);
    check("bottomk(3, x)", &[("bottomk(3, x)", "Bottomk { k: 3 }", "abc")]);
    check("count_values(\"v\", x)", &[("count_values(\"v\", x)", "CountValues", "abc")]);
    whole("count_values by (cluster) (\"v\", x)", "abc");
    let q = "count_values by (cluster) (\"cluster\", x)";
    check(q, &[(q, "CountValues", "abc")]);
    check("quantile(0.9, rate(x[5m]))", &[("rate(x[5m])", "whole", "abc")]);
    whole("limit_ratio(0.5, x)", "abc");
    check("topk(scalar(y), x)", &[("x", "whole", "abc"), ("y", "whole", "abc")]);
    check("topk(0.5, x)", &[("x", "whole", "abc")]);
    check("sum(sum by (cluster) (x))", &[("sum(sum by (cluster) (x))", "Sum", "abc")]);
    check("max(sum by (job) (x))", &[("sum by (job) (x)", "Sum", "abc")]);
}

#[test]
fn what_needs_everything_stays() {
    check("absent(x)", &[("x", "whole", "abc")]);
    whole("absent(x{cluster=\"a\"})", "a");
    check("absent(x{cluster=\"nowhere\"})", &[("x{cluster=\"nowhere\"}", "whole", "")]);
    check("absent_over_time(x[5m])", &[]);
    check("scalar(x)", &[("x", "whole", "abc")]);
    check("vector(scalar(sum(x)))", &[("sum(x)", "Sum", "abc")]);
    check("sort_desc(x)", &[("x", "whole", "abc")]);
    check("sort(x{cluster=\"a\"})", &[("x{cluster=\"a\"}", "whole", "a")]);
    check("info(x)", &[("x", "whole", "abc")]);
    check("info(x{cluster=\"a\"})", &[("x{cluster=\"a\"}", "whole", "a")]);
    whole("info(x{cluster=\"a\"}, {cluster=\"a\"})", "a");
    check("1 + time()", &[]);
    check("vector(1)", &[]);
    check(
        "histogram_quantile(0.9, sum by (le) (rate(x[5m])))",
        &[("sum by (le) (rate(x[5m]))", "Sum", "abc")],
    );
    check("max_over_time(sum(x)[1h:1m])", &[("sum(x)", "Sum", "abc")]);
    check("-sum(x)", &[("sum(x)", "Sum", "abc")]);
}

#[test]
fn labels_that_are_written() {
    whole("label_replace(x, \"pod\", \"$1\", \"cluster\", \"(.*)\")", "abc");
    whole("label_replace(x, \"region\", \"\", \"\", \"\")", "abc");
    check("label_replace(x, \"cluster\", \"all\", \"\", \"\")", &[("x", "whole", "abc")]);
    check("label_join(x, \"cluster\", \"-\", \"pod\")", &[("x", "whole", "abc")]);
    whole("label_replace(x{cluster=\"a\"}, \"cluster\", \"all\", \"\", \"\")", "a");
    whole("label_replace(x{cluster=~\"a|c\"}, \"cluster\", \"all\", \"\", \"\")", "ac");
    check(
        "sum by (cluster) (label_replace(x, \"cluster\", \"all\", \"\", \"\"))",
        &[("x", "whole", "abc")],
    );
}

#[test]
fn matching_within_and_across_clusters() {
    whole("x / y", "abc");
    whole("x + ignoring (pod) group_left y", "abc");
    whole("x / on (cluster, pod) y", "abc");
    whole("x and on (cluster) y", "abc");
    whole("x or y", "abc");
    whole("x unless on (cluster) y", "abc");
    whole("x / on (cluster) group_left (version) y", "abc");
    check("x / on (pod) y", &[("x", "whole", "abc"), ("y", "whole", "abc")]);
    check("x / ignoring (cluster) y", &[("x", "whole", "abc"), ("y", "whole", "abc")]);
    check("x and on (region) y", &[("x", "whole", "abc"), ("y", "whole", "abc")]);
    check(
        "x / on (region) group_left sum by (region) (y)",
        &[("x", "whole", "abc"), ("sum by (region) (y)", "Sum", "abc")],
    );
    check("sum(x) / sum(y)", &[("sum(x)", "Sum", "abc"), ("sum(y)", "Sum", "abc")]);
    // Only clusters that both sides can have give anything, unless the operator says otherwise.
    whole("x{cluster=\"a\"} * on (cluster, pod) y", "a");
    whole("x{region=\"eu\"} or on (cluster, pod) y", "abc");
    whole("x{cluster=\"a\"} unless on (cluster, pod) y", "a");
    check(
        "x{cluster=\"a\"} / on (pod) y{cluster=\"b\"}",
        &[("x{cluster=\"a\"}", "whole", "a"), ("y{cluster=\"b\"}", "whole", "b")],
    );
    whole("x{cluster=\"a\"} / on (pod) y{cluster=\"a\"}", "a");
    // A label copied from the other side may be one that tells clusters apart.
    whole("x * on (cluster) group_left (region) y", "abc");
}

#[test]
fn constants_beside_series() {
    whole("x and on () vector(1)", "abc");
    whole("x unless on () vector(1)", "abc");
    whole("x * on () group_left vector(2)", "abc");
    check("x or vector(0)", &[("x", "whole", "abc")]);
    check("sum(x) or vector(0)", &[("sum(x)", "Sum", "abc")]);
    check("vector(0) or x", &[("x", "whole", "abc")]);
    check("x * on () vector(2)", &[("x", "whole", "abc")]);
    whole("sum(x{cluster=\"a\"}) or vector(0)", "a");
    check("x * scalar(y)", &[("x", "whole", "abc"), ("y", "whole", "abc")]);
    whole("x{cluster=\"a\"} * scalar(y{cluster=\"a\"})", "a");
}

#[test]
fn a_label_that_only_some_have_proves_nothing() {
    let all = [
        held(0, &[("cluster", "a")]),
        held(1, &[("cluster", "b"), ("region", "eu")]),
        held(2, &[("region", "us")]),
    ];
    let fleet = Fleet::new(all, &[]);
    let kind = |q: &str| {
        let plan = plan(&parse(q).unwrap(), q, &fleet);
        plan.fragments.first().map(|f| f.partial.is_some())
    };
    // The third may hold series that say cluster="a" themselves.
    assert_eq!(kind("sum by (cluster) (x)"), Some(true));
    assert_eq!(kind("sum by (cluster, region) (x)"), Some(true));
    // A matcher on a label the third lacks may still match its series.
    assert_eq!(kind("sum by (cluster) (x{cluster=\"a\"})"), Some(true));
}

#[test]
fn without_deduplication_replicas_are_streams() {
    let all = [
        held(0, &[("cluster", "a"), ("replica", "0")]),
        held(1, &[("cluster", "a"), ("replica", "1")]),
    ];
    let fleet = Fleet::new(all.clone(), &[]);
    assert_eq!((fleet.streams.len(), fleet.parts.len()), (2, 2));
    let plan = plan(&parse("sum by (cluster) (x)").unwrap(), "sum by (cluster) (x)", &fleet);
    assert!(plan.fragments[0].partial.is_some());
    let fleet = Fleet::new(all, &["replica".to_owned()]);
    assert_eq!((fleet.streams.len(), fleet.parts.len()), (1, 1));
    assert_eq!(fleet.parts[0].candidates.len(), 2);
}

#[test]
fn tiers_that_overlap() {
    let all = [
        held(0, &[("cluster", "a")]),
        held(0, &[("cluster", "b")]),
        held(1, &[("cluster", "b")]),
        held(1, &[("cluster", "c")]),
        held(2, &[("cluster", "d")]),
        held(2, &[("cluster", "e")]),
    ];
    let fleet = Fleet::new(all, &[]);
    let parts: Vec<(usize, usize)> =
        fleet.parts.iter().map(|p| (p.streams.len(), p.candidates.len())).collect();
    assert_eq!(parts, [(1, 1), (1, 2), (1, 1), (2, 1)]);
    assert_eq!(fleet.shared_endpoints, [true, true, false]);
}

/// Slices of one cluster with two replicas that have these gaps, in minutes, over steps of a minute.
#[track_caller]
fn sliced(gaps: [&[(i64, i64)]; 2], query: &str, steps: i64) -> Vec<(usize, usize, String)> {
    let all = gaps.iter().enumerate().map(|(i, gaps)| Held {
        gaps: gaps.iter().map(|(a, b)| TimeRange::new(a * MINUTE, b * MINUTE)).collect(),
        ..held(i, &[("cluster", "a"), ("replica", if i == 0 { "0" } else { "1" })])
    });
    let fleet = Fleet::new(all, &["replica".to_owned()]);
    let grid = StepGrid { start_ms: 0, end_ms: (steps - 1) * MINUTE, step_ms: MINUTE };
    let clock = Clock { query: grid, lookback_ms: 5 * MINUTE };
    let expr = parse(query).unwrap();
    let name = |t: &Target| match t {
        Target::Endpoint(e) => e.to_string(),
        Target::Series(all) => format!("{all:?}"),
        Target::Nobody => "nobody".to_owned(),
    };
    slices(&fleet.parts[0], &expr, grid, &clock, |_| true)
        .iter()
        .map(|s| (s.steps.start, s.steps.end, name(&s.target)))
        .collect()
}

#[test]
fn steps_go_to_a_replica_without_a_gap() {
    let owned = |all: &[(usize, usize, &str)]| {
        all.iter().map(|(a, b, t)| (*a, *b, (*t).to_owned())).collect::<Vec<_>>()
    };
    let (none, x): (&[(i64, i64)], _) = (&[], "sum(rate(x[3m]))");
    assert_eq!(sliced([none, none], x, 60), owned(&[(0, 60, "0")]));
    assert_eq!(sliced([&[(10, 12)], none], x, 60), owned(&[(0, 60, "1")]));
    // Neither has all: change where one must, back only when one must again.
    assert_eq!(
        sliced([&[(10, 12)], &[(40, 41)]], x, 60),
        owned(&[(0, 10, "0"), (10, 40, "1"), (40, 60, "0")])
    );
    assert_eq!(
        sliced([&[(10, 12)], &[(14, 16)]], x, 60),
        owned(&[(0, 10, "0"), (10, 14, "1"), (14, 16, "[0, 1]"), (16, 60, "0")])
    );
    // An instant selector looks back for the lookback, an offset moves what is looked at.
    assert_eq!(
        sliced([&[(10, 12)], &[(30, 30)]], "x offset 2m", 60),
        owned(&[(0, 12, "0"), (12, 32, "1"), (32, 60, "0")])
    );
    // What looks at one time only depends on that.
    assert_eq!(sliced([&[(10, 12)], &[(30, 30)]], "x @ 1200", 60), owned(&[(0, 60, "0")]));
    assert_eq!(sliced([&[(10, 12)], &[(30, 30)]], "x @ 720", 60), owned(&[(0, 60, "1")]));
}

#[test]
fn groups_are_derived_from_the_query() {
    let labels = Labels::from_pairs([("__name__", "x"), ("a", "1"), ("b", "2"), ("v", "3")]);
    let group = |q: &str| Grouping::of(&parse(q).unwrap()).group(&labels);
    let set = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
    assert_eq!(group("topk by (a) (1, x)"), set(&[("a", "1")]));
    assert_eq!(group("(topk without (a) (1, x))"), set(&[("b", "2"), ("v", "3")]));
    assert_eq!(group("topk(1, x)"), Labels::empty());
    assert_eq!(group("count_values without (a) (\"v\", x)"), set(&[("b", "2")]));
}
