//! Subtrees that were evaluated elsewhere.

use super::Exec;
use super::row::{Frame, Row, Val};
use crate::engine::{ErrorKind, LeafValue, QueryError};
use crate::parse::ast::ValueType;
use crate::plan::Node;

impl Exec<'_> {
    pub(super) fn leaf(&self, id: u32, n: &Node) -> Result<Val, QueryError> {
        let steps = n.grid.steps();
        let wrong = |what: &str| {
            let text = format!("the answer for part {id} of the query {what}");
            QueryError::new(ErrorKind::Internal, text)
        };
        match (self.leaves.get(id), n.ty) {
            (Some(LeafValue::Scalar(v)), ValueType::Scalar) if v.len() == steps => {
                Ok(Val::Scalar(v.clone()))
            }
            (Some(LeafValue::Vector(m)), ValueType::Vector) => {
                if m.grid.steps() != steps || (steps > 0 && m.grid.start_ms != n.grid.start_ms) {
                    return Err(wrong("is for other evaluation times"));
                }
                let mut rows = Vec::with_capacity(m.series.len());
                for s in &m.series {
                    let fits = s.values.len() == steps
                        && s.present.len() == steps
                        && s.histograms.iter().all(|(i, _)| (*i as usize) < steps);
                    if !fits {
                        return Err(wrong("has columns of the wrong length"));
                    }
                    rows.push(Row {
                        labels: s.labels.clone(),
                        drop_name: false,
                        values: s.values.clone(),
                        present: s.present.clone(),
                        hist: s.histograms.clone(),
                    });
                }
                Ok(Val::Vector(Frame::new(rows)))
            }
            (Some(_), _) => Err(wrong("has the wrong type or length")),
            (None, _) => Err(wrong("is missing")),
        }
    }
}
