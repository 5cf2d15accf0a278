//! Aggregations in pieces: what one process sends so that another can finish.
//!
//! A [`PartialMatrix`] holds, for every group and step, what has to be known of one part of the
//! series so that parts can be merged: not an average but sum, compensation and count. [`merge`] is
//! associative and takes any number of parts, so tiers can merge what they have;
//! [`PartialMatrix::finish`] gives the values. One process alone does exactly the same with the
//! blocks of series its workers aggregate, so a fleet and one process agree.
//!
//! The order wherever one is needed (topk, bottomk, limitk): by value, NaN last; then ascending by
//! labels ([`periplus_model::Labels`]'s `Ord`). It does not depend on where a series came from.

use std::sync::Arc;

use periplus_model::{FloatHistogram, Labels};

use crate::annotations::Annotations;
use crate::engine::{ErrorKind, QueryError};
use crate::value::{Bitmap, StepGrid, StepMatrix};

pub(crate) mod finish;
mod merge;

#[cfg(test)]
mod tests;

pub(crate) use merge::Merger;

/// What is aggregated, and so what the columns of a [`PartialGroup`] mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PartialKind {
    /// `sum`: columns sum, compensation.
    Sum,
    /// `avg`: columns sum (or mean, see [`flags::INCREMENTAL`]), compensation, count.
    Avg,
    /// `count`: column count.
    Count,
    /// `min`: column value.
    Min,
    /// `max`: column value.
    Max,
    /// `group`: no columns.
    Group,
    /// `stddev`: columns count, mean, M2 (sum of squared distances from the mean).
    Stddev,
    /// `stdvar`: columns as `stddev`.
    Stdvar,
    /// `topk(k, …)`: a row per series that is among the k at some step; column value.
    Topk {
        /// How many.
        k: u64,
    },
    /// `bottomk(k, …)`: as topk.
    Bottomk {
        /// How many.
        k: u64,
    },
    /// `limitk(k, …)`: a row per series; the k smallest label sets of those present at a step.
    Limitk {
        /// How many.
        k: u64,
    },
    /// `count_values`: a row per group and value (which is among the labels); column count.
    CountValues,
}

impl PartialKind {
    /// Number of float columns.
    #[must_use]
    pub const fn columns(self) -> usize {
        match self {
            Self::Group => 0,
            Self::Count
            | Self::Min
            | Self::Max
            | Self::Topk { .. }
            | Self::Bottomk { .. }
            | Self::Limitk { .. }
            | Self::CountValues => 1,
            Self::Sum => 2,
            Self::Avg | Self::Stddev | Self::Stdvar => 3,
        }
    }
}

/// Bits that say what happened to a group at a step (`sum` and `avg` only).
pub mod flags {
    /// A float was among the samples.
    pub const FLOAT: u8 = 1;
    /// A histogram was among the samples.
    pub const HISTOGRAM: u8 = 2;
    /// Histograms met that can't be added: there is no result.
    pub const INCOMPATIBLE: u8 = 4;
    /// The float sum overflowed: the first column is a mean.
    pub const INCREMENTAL: u8 = 8;
    /// The histogram sum overflowed: the histogram is a mean.
    pub const HISTOGRAM_INCREMENTAL: u8 = 16;
    /// A histogram came with a counter reset.
    pub const RESET: u8 = 32;
    /// A histogram came with the certainty that there was no reset.
    pub const NOT_RESET: u8 = 64;
    /// Histograms with different custom bounds were brought to the common ones.
    pub const BOUNDS: u8 = 128;
}

/// A histogram at a step.
#[derive(Clone, Debug, PartialEq)]
pub struct PartialHistogram {
    /// Which step.
    pub step: u32,
    /// The sum or mean so far, or the sample (topk and its like).
    pub value: Arc<FloatHistogram>,
    /// Its compensation.
    pub compensation: Option<Arc<FloatHistogram>>,
}

/// A group, or for the kinds that keep series (`topk`, `bottomk`, `limitk`) a series of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct PartialGroup {
    /// The group's labels.
    pub group: Labels,
    /// The labels of the result: those of the group, or of the series.
    pub labels: Labels,
    /// Whether the name among `labels` is dropped in the end (delayed name removal within one
    /// process; what [`crate::engine::Engine::execute_partial`] gives has dropped it already).
    pub drop_name: bool,
    /// [`PartialKind::columns`] columns of one value a step, meaningless where not present.
    pub columns: Vec<Vec<f64>>,
    /// Whether there is anything at a step.
    pub present: Bitmap,
    /// [`flags`] by step, empty for kinds that need none.
    pub flags: Vec<u8>,
    /// Histograms in order of step.
    pub histograms: Vec<PartialHistogram>,
}

/// The aggregate of a part of the series.
#[derive(Clone, Debug, PartialEq)]
pub struct PartialMatrix {
    /// What was aggregated.
    pub kind: PartialKind,
    /// The evaluation times.
    pub grid: StepGrid,
    /// The groups (or series), in ascending order of group, then labels.
    pub groups: Vec<PartialGroup>,
}

/// Merges parts of the same kind over the same grid, in the order given; associative.
///
/// # Errors
/// Parts of different kinds or grids, or with columns of the wrong length.
pub fn merge(parts: Vec<PartialMatrix>) -> Result<PartialMatrix, QueryError> {
    let mut merger = Merger::default();
    for p in parts {
        merger.add(p)?;
    }
    merger.finish()
}

impl PartialMatrix {
    /// The values, sorted by labels (series kept by `topk` and its like at one step: best first,
    /// group by group); annotations say what could not be aggregated, about `span` in the query.
    ///
    /// # Errors
    /// Columns of the wrong length.
    pub fn finish(
        self,
        span: crate::parse::ast::Span,
    ) -> Result<(StepMatrix, Annotations), QueryError> {
        self.check()?;
        let mut annotations = Annotations::new();
        let grid = self.grid;
        let instant = grid.steps() == 1;
        let rows = finish::rows(self, instant, span, &mut annotations);
        let series = rows.into_iter().map(|(_, s)| s).collect();
        Ok((StepMatrix { grid, series }, annotations))
    }

    /// # Errors
    /// A column of a length that does not fit the grid.
    pub(crate) fn check(&self) -> Result<(), QueryError> {
        let steps = self.grid.steps();
        for g in &self.groups {
            let with_flags = matches!(self.kind, PartialKind::Sum | PartialKind::Avg);
            let fits = g.columns.len() == self.kind.columns()
                && g.columns.iter().all(|c| c.len() == steps)
                && g.present.len() == steps
                && g.flags.len() == if with_flags { steps } else { 0 }
                && g.histograms.iter().all(|h| (h.step as usize) < steps);
            if !fits {
                let text = format!(
                    "partial aggregate of group {:?} does not have {} columns of {steps} steps",
                    g.group,
                    self.kind.columns()
                );
                return Err(QueryError::new(ErrorKind::Internal, text));
            }
        }
        Ok(())
    }
}
