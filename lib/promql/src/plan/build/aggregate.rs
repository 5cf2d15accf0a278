//! Aggregations.

use super::{Builder, Place};
use crate::engine::QueryError;
use crate::parse::ast::{AggregateExpr, AggregateOp, Expr, Span, ValueType};
use crate::passes::invariant::unwrap_parens;
use crate::plan::{Aggregate, NodeId, Op};

impl Builder<'_> {
    pub(super) fn aggregate(
        &mut self,
        a: &AggregateExpr,
        place: &Place,
    ) -> Result<NodeId, QueryError> {
        let name = a.op.as_str();
        let mut grouping = a.grouping.clone();
        let below = place.below_function(name);
        let (mut param, mut label, mut param_span) = (None, String::new(), Span::default());
        if let Some(p) = a.param.as_ref().map(unwrap_parens) {
            param_span = p.span();
            match p {
                Expr::String(s) if a.op == AggregateOp::CountValues => {
                    label = count_values_label(&s.value)?;
                }
                p => {
                    let free = Place { func: None, ..place.clone() };
                    param = Some(self.node(p, &free)?);
                }
            }
        }
        let child = unwrap_parens(&a.expr);
        let expr_span = child.span();
        let child = self.node(child, &below)?;
        grouping.sort();
        grouping.dedup();
        let op = Op::Aggregate(Aggregate {
            op: a.op,
            child,
            param,
            label,
            grouping,
            without: a.without,
            expr_span,
            param_span,
        });
        Ok(self.push(op, a.span, ValueType::Vector, place))
    }
}

fn count_values_label(value: &[u8]) -> Result<String, QueryError> {
    match std::str::from_utf8(value) {
        Ok(s) if !s.is_empty() => Ok(s.to_owned()),
        _ => {
            let shown = periplus_model::float::Quoted(value);
            Err(QueryError::execution(format!("invalid label name {shown}")))
        }
    }
}
