//! `parse_query`: the syntax tree as JSON.

use axum::body::{Body, Bytes};
use axum::extract::RawQuery;
use axum::http::Response;
use periplus_model::float::format_float;
use periplus_promql::parse::ast::{
    AtModifier, BinaryExpr, Call, Cardinality, DurationExpr, Expr, NumberLiteral, SubqueryExpr,
    VectorMatching, VectorSelector,
};
use periplus_promql::parse::parse;
use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::json::Writer;
use super::params::Params;
use super::respond;

pub(super) async fn parse_query(RawQuery(address): RawQuery, form: Bytes) -> Response<Body> {
    let run = || {
        let p = Params::new(&form, address.as_deref().unwrap_or_default())?;
        let expr = parse(p.get("query")).map_err(|e| ApiError::parameter("query", e))?;
        let mut w = Writer::new();
        w.raw(tree(&expr).to_string().as_bytes());
        Ok(respond::data(w, &[], &[]))
    };
    run().unwrap_or_else(|e: ApiError| e.respond())
}

/// A tree as Prometheus's own pages read it.
fn tree(e: &Expr) -> Value {
    match e {
        Expr::Number(n) => json!({ "type": "numberLiteral", "val": format_float(n.value) }),
        Expr::String(s) => {
            json!({ "type": "stringLiteral", "val": String::from_utf8_lossy(&s.value) })
        }
        Expr::Paren(p) => json!({ "type": "parenExpr", "expr": tree(&p.expr) }),
        Expr::Unary(u) => {
            json!({ "type": "unaryExpr", "op": u.op.as_str(), "expr": tree(&u.expr) })
        }
        Expr::Binary(b) => binary(b),
        Expr::Aggregate(a) => json!({
            "type": "aggregation",
            "op": a.op.as_str(),
            "expr": tree(&a.expr),
            "param": a.param.as_ref().map(tree),
            "grouping": a.grouping,
            "without": a.without,
        }),
        Expr::Call(c) => call(c),
        Expr::VectorSelector(s) => selector(s, "vectorSelector").into(),
        Expr::MatrixSelector(m) => {
            let mut all = selector(&m.selector, "matrixSelector");
            all.insert("range".into(), m.range_ms.into());
            all.insert("rangeExpr".into(), duration(m.range_expr.as_deref()));
            all.into()
        }
        Expr::Subquery(s) => subquery(s),
        Expr::Leaf(l) => tree(&l.original),
    }
}

fn binary(b: &BinaryExpr) -> Value {
    json!({
        "type": "binaryExpr",
        "op": b.op.as_str(),
        "lhs": tree(&b.lhs),
        "rhs": tree(&b.rhs),
        "matching": b.matching.as_ref().map(matching),
        "bool": b.return_bool,
    })
}

fn matching(m: &VectorMatching) -> Value {
    let card = match m.card {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    json!({
        "card": card,
        "labels": m.labels,
        "on": m.on,
        "include": m.include,
        "fillValues": { "lhs": m.fill_lhs, "rhs": m.fill_rhs },
    })
}

fn call(c: &Call) -> Value {
    let types: Vec<&str> = c.func.args.iter().map(|t| t.as_str()).collect();
    json!({
        "type": "call",
        "func": {
            "name": c.func.name,
            "argTypes": types,
            "variadic": c.func.variadic,
            "returnType": c.func.returns.as_str(),
        },
        "args": c.args.iter().map(tree).collect::<Vec<_>>(),
    })
}

fn subquery(s: &SubqueryExpr) -> Value {
    json!({
        "type": "subquery",
        "expr": tree(&s.expr),
        "range": s.range_ms,
        "rangeExpr": duration(s.range_expr.as_deref()),
        "offset": s.shift.original_offset_ms,
        "offsetExpr": duration(s.shift.original_offset_expr.as_deref()),
        "step": s.step_ms,
        "stepExpr": duration(s.step_expr.as_deref()),
        "timestamp": s.shift.timestamp_ms,
        "startOrEnd": start_or_end(s.shift.start_or_end),
    })
}

fn selector(s: &VectorSelector, kind: &str) -> Map<String, Value> {
    let matchers: Vec<Value> = s
        .matchers
        .iter()
        .map(|m| {
            let value = String::from_utf8_lossy(&m.value);
            json!({ "name": m.name, "value": value, "type": m.op.as_str() })
        })
        .collect();
    let all = json!({
        "type": kind,
        "name": s.name,
        "offset": s.shift.original_offset_ms,
        "offsetExpr": duration(s.shift.original_offset_expr.as_deref()),
        "matchers": matchers,
        "timestamp": s.shift.timestamp_ms,
        "startOrEnd": start_or_end(s.shift.start_or_end),
        "anchored": s.anchored,
        "smoothed": s.smoothed,
    });
    match all {
        Value::Object(all) => all,
        _ => Map::new(),
    }
}

fn start_or_end(at: Option<AtModifier>) -> Option<&'static str> {
    at.map(|a| match a {
        AtModifier::Start => "start",
        AtModifier::End => "end",
    })
}

fn duration(e: Option<&DurationExpr>) -> Value {
    match e {
        None => Value::Null,
        Some(DurationExpr::Number(NumberLiteral { value, duration, .. })) => json!({
            "type": "numberLiteral",
            "val": format_float(*value),
            "duration": duration,
        }),
        Some(DurationExpr::Op { op, lhs, rhs, wrapped, .. }) => json!({
            "type": "durationExpr",
            "op": op.as_str(),
            "lhs": duration(lhs.as_deref()),
            "rhs": duration(rhs.as_deref()),
            "wrapped": wrapped,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_node() {
        let q = r#"sum by (a) (rate(x{b=~"c"}[5m] offset 1m)) / on (a) group_left (d)
            (-max_over_time(y[1h:5m] @ end()) > bool 1) + topk(2, z @ 3) + vector(1e300)"#;
        let v = tree(&parse(q).unwrap());
        let find = |path: &str| v.pointer(path).unwrap_or(&Value::Null).clone();
        assert_eq!(find("/type"), "binaryExpr");
        let division = "/lhs/lhs";
        assert_eq!(find(&format!("{division}/matching/card")), "many-to-one");
        assert_eq!(find(&format!("{division}/matching/include")), json!(["d"]));
        assert_eq!(find(&format!("{division}/lhs/expr/args/0/range")), 300_000);
        assert_eq!(find(&format!("{division}/lhs/expr/args/0/offset")), 60_000);
        assert_eq!(find(&format!("{division}/lhs/expr/func/argTypes")), json!(["matrix"]));
        assert_eq!(find("/lhs/rhs/param/val"), "2");
        assert_eq!(find("/lhs/rhs/expr/timestamp"), 3_000);
    }
}
