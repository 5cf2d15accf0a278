//! `features`: what this API and this engine do, under Prometheus's names.

use axum::body::Body;
use axum::http::Response;
use periplus_promql::parse::functions::FUNCTIONS;
use serde_json::{Map, Value, json};

use super::json::Writer;
use super::respond;

/// Operators and aggregations, all of which the engine has.
const OPERATORS: &[&str] = &[
    "!=",
    "!~",
    "%",
    "*",
    "+",
    "-",
    "/",
    "<",
    "</",
    "<=",
    "==",
    "=~",
    ">",
    ">/",
    ">=",
    "@",
    "^",
    "and",
    "atan2",
    "avg",
    "bottomk",
    "count",
    "count_values",
    "group",
    "limit_ratio",
    "limitk",
    "max",
    "min",
    "or",
    "quantile",
    "stddev",
    "stdvar",
    "sum",
    "topk",
    "unless",
];

/// Modifiers and forms of the language, all of which the engine has but for late removal of names, which
/// queries do not ask for.
const LANGUAGE: &[&str] = &[
    "anchored",
    "at_modifier",
    "bool",
    "by",
    "duration_expr",
    "fill",
    "fill_left",
    "fill_right",
    "group_left",
    "group_right",
    "ignoring",
    "negative_offset",
    "offset",
    "on",
    "per_query_lookback_delta",
    "per_step_stats",
    "smoothed",
    "subqueries",
    "without",
];

fn on(names: impl Iterator<Item = &'static str>) -> Map<String, Value> {
    names.map(|n| (n.to_owned(), Value::Bool(true))).collect()
}

pub(super) async fn features() -> Response<Body> {
    let mut w = Writer::new();
    w.raw(table().to_string().as_bytes());
    respond::data(w, &[], &[])
}

fn table() -> Value {
    let mut language = on(LANGUAGE.iter().copied());
    language.insert("delayed_name_removal".into(), false.into());
    language.insert("type_and_unit_labels".into(), false.into());
    json!({
        "api": {
            "admin": false,
            "exclude_alerts": true,
            "label_values_match": true,
            "lifecycle": false,
            "openapi_3.1": true,
            "otlp_write_receiver": false,
            "query_stats": true,
            "query_warnings": true,
            "remote_write_receiver": false,
            "search": false,
            "time_range_labels": true,
            "time_range_series": true,
        },
        "prometheus": { "agent_mode": false, "server_mode": true },
        "promql": language,
        "promql_functions": on(FUNCTIONS.iter().map(|f| f.name)),
        "promql_operators": on(OPERATORS.iter().copied()),
        "periplus": {
            "cancel": true,
            "cardinality": true,
            "query_analyze": true,
            "query_explain": true,
            "top_queries": true,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_and_functions_exist() {
        let t = table();
        assert_eq!(t["promql_functions"]["rate"], true);
        for op in OPERATORS.iter().filter(|o| o.chars().all(char::is_alphabetic)) {
            let aggregate = format!("{op}(up)");
            let with_number = format!("{op}(1, up)");
            let with_text = format!("{op}(\"a\", up)");
            let binary = format!("up {op} up");
            let all = [aggregate, with_number, with_text, binary];
            assert!(all.iter().any(|q| periplus_promql::parse::parse(q).is_ok()), "{op}");
        }
    }
}
