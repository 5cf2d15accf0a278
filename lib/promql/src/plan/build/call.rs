//! Function calls.

use periplus_model::{Labels, re2};

use super::{Builder, Place, absent_labels};
use crate::engine::QueryError;
use crate::parse::ast::{Call, Expr, Span, ValueType};
use crate::passes::invariant::unwrap_parens;
use crate::plan::{HistogramCall, Info, Map, MapOp, NodeId, Op, Read};

/// Longer ones meet the limit when they are compiled.
const REGEX_CHECKED_BYTES: usize = 64 * 1024;

impl Builder<'_> {
    pub(super) fn call(&mut self, c: &Call, place: &Place) -> Result<NodeId, QueryError> {
        let name = c.func.name;
        let below = place.below_function(name);
        let range_arg = c
            .args
            .iter()
            .position(|a| matches!(unwrap_parens(a), Expr::MatrixSelector(_) | Expr::Subquery(_)));
        if let Some(i) = range_arg {
            let call = self.range_call(c, i, &below)?;
            if name != "absent_over_time" {
                return Ok(call);
            }
            let labels = match unwrap_parens(&c.args[i]) {
                Expr::MatrixSelector(_) => absent_labels(unwrap_parens(&c.args[i])),
                _ => Labels::empty(),
            };
            let op = Op::AbsentOverTime { child: call, labels };
            return Ok(self.push(op, c.span, ValueType::Vector, place));
        }
        if c.func.returns == ValueType::Scalar {
            return self.scalar_call(c, &below);
        }
        match name {
            "label_replace" | "label_join" => self.label_call(c, &below),
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => {
                self.sort_call(c, &below)
            }
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => {
                self.histogram_call(c, &below)
            }
            "info" => self.info_call(c, &below),
            "absent" => {
                let child = self.arg(c, 0, &below)?;
                let labels = absent_labels(unwrap_parens(&c.args[0]));
                Ok(self.push(Op::Absent { child, labels }, c.span, ValueType::Vector, place))
            }
            "vector" => {
                let child = self.arg(c, 0, &below)?;
                Ok(self.push(Op::ToVector(child), c.span, ValueType::Vector, place))
            }
            "timestamp" | "start_timestamp" => self.time_of(c, &below),
            _ => self.map_call(c, &below),
        }
    }

    fn arg(&mut self, c: &Call, i: usize, place: &Place) -> Result<NodeId, QueryError> {
        match c.args.get(i) {
            Some(e) => self.node(unwrap_parens(e), place),
            None => Err(QueryError::internal(format!("{} lacks argument {i}", c.func.name))),
        }
    }

    fn text(&self, c: &Call, i: usize) -> Result<String, QueryError> {
        match c.args.get(i).map(unwrap_parens) {
            Some(Expr::String(s)) => Ok(String::from_utf8_lossy(&s.value).into_owned()),
            _ => Err(QueryError::internal(format!("{}: argument {i} is no string", c.func.name))),
        }
    }

    /// An argument that has to name a label: not empty, and UTF-8.
    fn label_name(&self, c: &Call, i: usize, what: &str) -> Result<String, QueryError> {
        let Some(Expr::String(s)) = c.args.get(i).map(unwrap_parens) else {
            return self.text(c, i);
        };
        match std::str::from_utf8(&s.value) {
            Ok(name) if !name.is_empty() => Ok(name.to_owned()),
            _ => {
                let shown = String::from_utf8_lossy(&s.value);
                let func = c.func.name;
                let text = format!("invalid {what} label name in {func}(): {shown}");
                Err(QueryError::execution(text))
            }
        }
    }

    fn scalar_call(&mut self, c: &Call, place: &Place) -> Result<NodeId, QueryError> {
        let grid = self.spec.grid;
        let number = |v: f64| Op::Number(v);
        let op = match c.func.name {
            "time" => Op::Time,
            "pi" => number(std::f64::consts::PI),
            "start" => number(grid.start_ms as f64 / 1000.0),
            "end" => number(grid.end_ms as f64 / 1000.0),
            "range" => number(self.times.range_s),
            "step" if grid.start_ms == grid.end_ms => number(0.0),
            "step" => number(self.times.step_s),
            "scalar" => Op::ToScalar(self.arg(c, 0, place)?),
            "max_of" | "min_of" => Op::ScalarPick {
                max: c.func.name == "max_of",
                lhs: self.arg(c, 0, place)?,
                rhs: self.arg(c, 1, place)?,
            },
            other => return Err(QueryError::internal(format!("unknown scalar function {other}"))),
        };
        Ok(self.push(op, c.span, ValueType::Scalar, place))
    }

    fn label_call(&mut self, c: &Call, place: &Place) -> Result<NodeId, QueryError> {
        let child = self.arg(c, 0, place)?;
        let dst = self.label_name(c, 1, "destination")?;
        let op = if c.func.name == "label_replace" {
            let regex = self.text(c, 4)?;
            // By its bytes: what is no UTF-8 is no expression.
            if let Some(Expr::String(s)) = c.args.get(4).map(unwrap_parens)
                && s.value.len() <= REGEX_CHECKED_BYTES
                && (std::str::from_utf8(&s.value).is_err() || re2::check(&s.value).is_err())
            {
                let text = format!("invalid regular expression in label_replace(): {regex}");
                return Err(QueryError::execution(text));
            }
            Op::LabelReplace {
                child,
                dst,
                replacement: self.text(c, 2)?,
                src: self.text(c, 3)?,
                regex,
            }
        } else {
            let name = |i| self.label_name(c, i, "source");
            let src = (3..c.args.len()).map(name).collect::<Result<Vec<_>, _>>()?;
            Op::LabelJoin { child, dst, separator: self.text(c, 2)?, src }
        };
        Ok(self.push(op, c.span, ValueType::Vector, place))
    }

    fn sort_call(&mut self, c: &Call, place: &Place) -> Result<NodeId, QueryError> {
        let child = self.arg(c, 0, place)?;
        let name = c.func.name;
        let labels = match name {
            "sort_by_label" | "sort_by_label_desc" => {
                Some((1..c.args.len()).map(|i| self.text(c, i)).collect::<Result<_, _>>()?)
            }
            _ => None,
        };
        let op = Op::Sort { child, descending: name.ends_with("_desc"), labels };
        Ok(self.push(op, c.span, ValueType::Vector, place))
    }

    fn histogram_call(&mut self, c: &Call, place: &Place) -> Result<NodeId, QueryError> {
        let (vector, numbers, label) = match c.func.name {
            "histogram_quantile" => (1, 0..1, String::new()),
            "histogram_fraction" => (2, 0..2, String::new()),
            _ => (0, 2..c.args.len(), self.text(c, 1)?),
        };
        let (mut child, mut vector_span) = (0, Span::default());
        let mut scalars = Vec::new();
        for (i, a) in c.args.iter().enumerate() {
            let a = unwrap_parens(a);
            if i == vector {
                (child, vector_span) = (self.node(a, place)?, a.span());
            } else if numbers.contains(&i) {
                scalars.push((self.node(a, place)?, a.span()));
            }
        }
        let op =
            Op::Histogram(HistogramCall { func: c.func.name, child, scalars, label, vector_span });
        Ok(self.push(op, c.span, ValueType::Vector, place))
    }

    fn info_call(&mut self, c: &Call, place: &Place) -> Result<NodeId, QueryError> {
        let child = self.arg(c, 0, place)?;
        let matchers = match c.args.get(1).map(unwrap_parens) {
            Some(Expr::VectorSelector(v)) => Some(self.matchers(&v.matchers)?),
            _ => None,
        };
        let (at, offset_ms) = match c.args.first().map(|a| self.first_selector_time(a, 0)) {
            Some(found) => found?.unwrap_or((None, 0)),
            None => (None, 0),
        };
        let op = Op::Info(Info { child, matchers, at, offset_ms });
        Ok(self.push(op, c.span, ValueType::Vector, place))
    }

    /// The `@` and offset of the first instant selector in an expression, offsets of subqueries
    /// around it added up to the first `@`.
    fn first_selector_time(
        &self,
        e: &Expr,
        depth: usize,
    ) -> Result<Option<(Option<i64>, i64)>, QueryError> {
        if depth > super::DEPTH_MAX {
            return Ok(None);
        }
        let first = |list: Vec<&Expr>| {
            for e in list {
                if let Some(found) = self.first_selector_time(e, depth + 1)? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        };
        match e {
            Expr::VectorSelector(v) => self.shift(&v.shift).map(Some),
            Expr::MatrixSelector(m) => self.shift(&m.selector.shift).map(Some),
            Expr::Subquery(s) => {
                let Some((at, offset)) = self.first_selector_time(&s.expr, depth + 1)? else {
                    return Ok(None);
                };
                if at.is_some() {
                    return Ok(Some((at, offset)));
                }
                let (at, more) = self.shift(&s.shift)?;
                Ok(Some((at, offset + more)))
            }
            Expr::Number(_) | Expr::String(_) | Expr::Leaf(_) => Ok(None),
            Expr::Paren(p) => first(vec![&p.expr]),
            Expr::Unary(u) => first(vec![&u.expr]),
            Expr::Binary(b) => first(vec![&b.lhs, &b.rhs]),
            Expr::Aggregate(a) => first(std::iter::once(&a.expr).chain(&a.param).collect()),
            Expr::Call(c) => first(c.args.iter().collect()),
        }
    }

    /// `timestamp` and `start_timestamp`, which look at samples only right above a selector.
    fn time_of(&mut self, c: &Call, place: &Place) -> Result<NodeId, QueryError> {
        let start = c.func.name == "start_timestamp";
        if let Some(Expr::VectorSelector(v)) = c.args.first().map(unwrap_parens) {
            let read = if start { Read::StartTimestamp } else { Read::Timestamp };
            return self.vector_selector(v, place, Some(read));
        }
        let child = self.arg(c, 0, place)?;
        // Of anything else nothing is known, but it may still be an error.
        let op = if start { MapOp::Nothing } else { MapOp::StepTime };
        let op = Op::Map(Map { child, op, scalars: Vec::new() });
        Ok(self.push(op, c.span, ValueType::Vector, place))
    }

    /// The functions of each series by itself.
    fn map_call(&mut self, c: &Call, place: &Place) -> Result<NodeId, QueryError> {
        let name = c.func.name;
        let op = match name {
            "round" => MapOp::Round,
            "clamp" => MapOp::Clamp,
            "clamp_min" => MapOp::ClampMin,
            "clamp_max" => MapOp::ClampMax,
            "minute" | "hour" | "day_of_week" | "day_of_month" | "day_of_year"
            | "days_in_month" | "month" | "year" => MapOp::Date(name),
            "histogram_count" | "histogram_sum" | "histogram_avg" | "histogram_stddev"
            | "histogram_stdvar" => MapOp::Histogram(name),
            _ if crate::functions::math::unary(name).is_some() => MapOp::Math(name),
            _ => return Err(QueryError::execution(format!("unknown function {name}"))),
        };
        let child = if c.args.is_empty() {
            let time = self.push(Op::Time, c.span, ValueType::Scalar, place);
            self.push(Op::ToVector(time), c.span, ValueType::Vector, place)
        } else {
            self.arg(c, 0, place)?
        };
        let scalars =
            (1..c.args.len()).map(|i| self.arg(c, i, place)).collect::<Result<Vec<_>, _>>()?;
        let op = Op::Map(Map { child, op, scalars });
        Ok(self.push(op, c.span, ValueType::Vector, place))
    }
}
