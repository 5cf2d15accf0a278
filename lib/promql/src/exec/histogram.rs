//! `histogram_quantile`, `histogram_quantiles`, `histogram_fraction` as nodes.

use super::Exec;
use super::row::Frame;
use crate::engine::QueryError;
use crate::functions::histogram_quantile::{Ask, BucketJob};
use crate::plan::HistogramCall;
use crate::value::StepGrid;

impl Exec<'_> {
    pub(super) fn histogram_call(
        &mut self,
        h: &HistogramCall,
        grid: StepGrid,
    ) -> Result<Frame, QueryError> {
        let mut scalars = Vec::with_capacity(h.scalars.len());
        for (id, span) in &h.scalars {
            scalars.push((self.take_scalar(*id)?, *span));
        }
        let f = self.take_frame(h.child)?;
        let job = BucketJob {
            ask: match h.func {
                "histogram_quantile" => Ask::Quantile,
                "histogram_quantiles" => Ask::Quantiles,
                _ => Ask::Fraction,
            },
            scalars: scalars.iter().map(|(v, span)| (v.as_slice(), *span)).collect(),
            label: &h.label,
            vector_span: h.vector_span,
            grid,
            delayed: self.spec.delayed_name_removal,
        };
        let annotations = &mut self.annotations;
        let rows = self.pool.install(|| job.evaluate(&f.rows, annotations));
        let mut out = Frame::new(rows);
        out.drop_empty();
        self.merge_unless_instant(&mut out, grid)?;
        Ok(out)
    }
}
