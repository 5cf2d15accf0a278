//! From the value of the root node to the value of the query.

use crate::engine::{QueryError, QuerySpec};
use crate::exec::row::{Frame, Val, without_metadata};
use crate::parse::ast::ValueType;
use crate::value::Value;

/// Drops names that were to be dropped at the end, sorts, checks the size.
///
/// # Errors
/// Series that have become equal, or more points than the limit.
pub(super) fn value(v: Val, ty: ValueType, spec: &QuerySpec) -> Result<Value, QueryError> {
    let grid = spec.grid;
    match v {
        Val::Scalar(values) if ty == ValueType::Scalar => Ok(Value::Scalar { grid, values }),
        Val::Scalar(_) => Err(QueryError::internal("a scalar where there should be none")),
        Val::Text(s) => Ok(Value::String(s)),
        Val::Range(mut r) => {
            r.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(Value::Range(r))
        }
        Val::Vector(mut f) => {
            clean(&mut f)?;
            let points: u64 = f.rows.iter().map(|r| r.present.count() as u64).sum();
            if points > spec.limits.output_points {
                let max = spec.limits.output_points;
                return Err(QueryError::limit("points of output", points, max));
            }
            if !(spec.instant && f.ordered) {
                f.rows.sort_by(|a, b| a.labels.cmp(&b.labels));
            }
            Ok(Value::Vector(f.into_matrix(grid)))
        }
    }
}

fn clean(f: &mut Frame) -> Result<(), QueryError> {
    f.drop_empty();
    for r in f.rows.iter_mut().filter(|r| r.drop_name) {
        r.labels = without_metadata(&r.labels);
    }
    f.merge_equal()
}
