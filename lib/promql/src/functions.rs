//! The functions, by family. Those over a window of samples ([`Win`]) are called for every series and
//! step; everything they need is in the window, and what they have to say goes into the [`Cx`].

use std::sync::Arc;

use periplus_model::{CounterResetHint, FloatHistogram};

use crate::annotations::{Annotation, Annotations};
use crate::engine::QueryError;
use crate::parse::ast::Span;

pub(crate) mod binop;
pub(crate) mod changes;
pub(crate) mod extended;
pub(crate) mod histogram_quantile;
pub(crate) mod instant_delta;
pub(crate) mod linear;
pub(crate) mod math;
pub(crate) mod over_time;
pub(crate) mod over_time_histogram;
pub(crate) mod quantile;
pub(crate) mod rate;
pub(crate) mod time;

/// A value at a step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Point {
    Float(f64),
    Hist(Arc<FloatHistogram>),
}

/// The samples of one series a function looks at for one step: floats and histograms apart, each
/// in order of time. Start timestamps are empty when none is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Win<'a> {
    /// The evaluation time.
    pub(crate) t: i64,
    /// The beginning of the range, exclusive.
    pub(crate) start: i64,
    /// Its end, inclusive.
    pub(crate) end: i64,
    pub(crate) range_ms: i64,
    pub(crate) ft: &'a [i64],
    pub(crate) fv: &'a [f64],
    pub(crate) fst: &'a [i64],
    pub(crate) ht: &'a [i64],
    pub(crate) hv: &'a [Arc<FloatHistogram>],
    pub(crate) hst: &'a [i64],
    /// The scalar arguments at this step.
    pub(crate) args: [f64; 2],
    pub(crate) anchored: bool,
    pub(crate) smoothed: bool,
    /// Whether it is known that every histogram but the first goes on from the one before it: no
    /// reset, no gauge, the same schema.
    pub(crate) calm: bool,
}

impl Win<'_> {
    /// Whether there are floats and histograms.
    pub(crate) fn is_mixed(&self) -> bool {
        !self.fv.is_empty() && !self.hv.is_empty()
    }
}

/// What functions of a series report to.
pub(crate) struct Cx<'a> {
    pub(crate) annotations: &'a mut Annotations,
    /// The metric's name, empty when it has none.
    pub(crate) name: &'a str,
    /// Where annotations point.
    pub(crate) span: Span,
    /// Kinds already said of this series.
    said: u32,
    pub(crate) error: Option<QueryError>,
}

impl<'a> Cx<'a> {
    pub(crate) fn new(annotations: &'a mut Annotations, name: &'a str, span: Span) -> Self {
        Self { annotations, name, span, said: 0, error: None }
    }

    /// Adds an annotation of a kind that is said once of a series, whatever the steps.
    fn once(&mut self, kind: u32, make: impl FnOnce(&str, Span) -> Annotation) {
        if self.said & kind == 0 {
            self.said |= kind;
            self.annotations.add(make(self.name, self.span));
        }
    }

    pub(crate) fn mixed_floats_histograms(&mut self) {
        self.once(1, Annotation::mixed_floats_histograms);
    }

    pub(crate) fn ignored_in_mixed_range(&mut self) {
        self.once(2, Annotation::histogram_ignored_in_mixed_range);
    }

    pub(crate) fn mixed_exponential_custom(&mut self) {
        self.once(4, Annotation::mixed_exponential_custom);
    }

    pub(crate) fn not_counter(&mut self) {
        self.once(8, Annotation::native_not_counter);
    }

    pub(crate) fn not_gauge(&mut self) {
        self.once(16, Annotation::native_not_gauge);
    }

    pub(crate) fn start_time_overlap(&mut self) {
        self.annotations.add(Annotation::start_time_overlap(self.name, self.span));
    }

    pub(crate) fn mismatched_bounds(&mut self, op: crate::annotations::HistogramOperation) {
        self.once(32 << op as u32, |_, span| Annotation::mismatched_custom_buckets(op, span));
    }

    pub(crate) fn reset_collision(&mut self) {
        let op = crate::annotations::HistogramOperation::Aggregation;
        self.once(512, |_, span| Annotation::reset_collision(op, span));
    }

    pub(crate) fn invalid_quantile(&mut self, q: f64) {
        let span = self.span;
        self.annotations.add(Annotation::invalid_quantile(q, span));
    }
}

/// Whether a histogram is marked as a gauge.
pub(crate) fn is_gauge(h: &FloatHistogram) -> bool {
    h.counter_reset_hint == CounterResetHint::Gauge
}
