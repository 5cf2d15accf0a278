//! What is asked.

use serde_json::Value;

use crate::generate::{DAY_MS, FROM_MS, Shape};

/// A question, as both servers take it.
pub(crate) struct Question {
    pub(crate) name: String,
    /// Path and parameters.
    pub(crate) path: &'static str,
    pub(crate) params: Vec<(&'static str, String)>,
    /// Whether which series come depends on more than the samples (ties).
    pub(crate) exact: bool,
}

const TOP: &str =
    "topk(10, sum by (cluster, namespace, pod) (rate(container_cpu_usage_seconds_total[5m])))";
const BY_CLUSTER: &str = "sum by (cluster) (rate(container_cpu_usage_seconds_total[5m]))";

/// The questions of the table.
pub(crate) fn all(shape: &Shape) -> Vec<Question> {
    let (from, until, days) = (FROM_MS + DAY_MS / 24, shape.until_ms() - 60_000, shape.days);
    let pod = pod(shape);
    let memory = format!("container_memory_working_set_bytes{{pod=\"{pod}\"}}");
    let range = |name: String, query: &str, from: i64, step: &str, exact| Question {
        name,
        path: "/api/v1/query_range",
        params: vec![
            ("query", query.to_owned()),
            ("start", (from / 1000).to_string()),
            ("end", (until / 1000).to_string()),
            ("step", step.to_owned()),
        ],
        exact,
    };
    let day = until - DAY_MS + 60_000;
    vec![
        range(format!("top-10 pods by CPU, {days} d step 1 h"), TOP, from, "1h", false),
        range(format!("CPU by cluster, {days} d step 1 h"), BY_CLUSTER, from, "1h", false),
        range("top-10 pods by CPU, 24 h step 1 m".into(), TOP, day, "1m", false),
        range(format!("one pod's memory, {days} d"), &memory, from, "1h", true),
        Question {
            name: format!("pod label values, {days} d"),
            path: "/api/v1/label/pod/values",
            params: vec![("start", (from / 1000).to_string()), ("end", (until / 1000).to_string())],
            exact: true,
        },
    ]
}

/// A pod that lives on the first day.
fn pod(shape: &Shape) -> String {
    let fleet = shape.fleet();
    let series = shape.day(&fleet.clusters()[0], 0);
    let memory = "container_memory_working_set_bytes";
    let of = |l: &periplus_model::Labels| {
        (l.value("__name__") == memory && !l.value("pod").is_empty())
            .then(|| l.value("pod").to_owned())
    };
    series.iter().find_map(|s| of(&s.labels)).expect("a pod")
}

impl Question {
    /// Says so where the two answers are not of the same size. VictoriaMetrics extrapolates rates in its
    /// own way, so numbers differ; what was selected must not.
    pub(crate) fn compare(&self, ours: &Value, theirs: &Value) {
        let size = |v: &Value| {
            let data = &v["data"];
            data["result"].as_array().or(data.as_array()).map_or(0, Vec::len)
        };
        let (ours, theirs) = (size(ours), size(theirs));
        assert!(ours > 0 && theirs > 0, "{}: {ours} and {theirs} results", self.name);
        if self.exact {
            assert_eq!(ours, theirs, "{}: the numbers of results differ", self.name);
        }
    }
}
