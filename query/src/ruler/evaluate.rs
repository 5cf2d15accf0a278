//! What rules are evaluated with: who answers, who stores, who is told.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use periplus_model::{FloatHistogram, Labels};
use periplus_promql::parse::ast::Expr;
use periplus_promql::value::Value;

use super::alert::Alert;
use super::rule::Strategy;

/// A sample's value.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

/// One sample of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The labels, the metric's name included where the expression keeps it.
    pub labels: Labels,
    /// The value.
    pub value: SampleValue,
}

/// What an expression gives at one time; a scalar is one sample without labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The samples.
    pub samples: Vec<Sample>,
    /// The labels of the streams that are not in it, replica labels left out; an empty set where
    /// nobody knows what the missing endpoint has.
    pub missing: Vec<Labels>,
    /// What else there is to say.
    pub warnings: Vec<String>,
}

/// Why there is no answer, in a sentence.
pub type EvaluateError = String;

/// The samples of an instant query's value.
///
/// # Errors
/// It is a string or a range.
pub(super) fn samples_of(value: Value) -> Result<Vec<Sample>, EvaluateError> {
    match value {
        Value::Scalar { values, .. } => Ok(vec![Sample {
            labels: Labels::empty(),
            value: SampleValue::Float(values.first().copied().unwrap_or(f64::NAN)),
        }]),
        Value::Vector(m) => Ok(m
            .series
            .into_iter()
            .filter(|s| s.present.get(0))
            .map(|s| {
                let value = match s.histogram_at(0) {
                    Some(h) => SampleValue::Histogram(Arc::clone(h)),
                    None => SampleValue::Float(s.values.first().copied().unwrap_or(f64::NAN)),
                };
                Sample { labels: s.labels, value }
            })
            .collect()),
        Value::String(_) | Value::Range(_) => {
            Err("rule result is not a vector or scalar".to_owned())
        }
    }
}

/// A future that gives an answer.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Answer, EvaluateError>> + Send + 'a>>;

/// Answers expressions over the fleet, either in this process or by asking a query process.
///
/// With [`Strategy::Abort`] an answer that lacks anybody is an error; with [`Strategy::Warn`] it
/// names them.
pub trait Evaluator: Send + Sync {
    /// Evaluates an expression at one time; `expr` is what was read from the text `query`.
    fn instant<'a>(
        &'a self,
        query: &'a Arc<str>,
        expr: &'a Expr,
        t_ms: i64,
        strategy: Strategy,
    ) -> Answering<'a>;

    /// Whether native histograms come whole, so that they can be recorded.
    fn keeps_histograms(&self) -> bool {
        true
    }
}

/// Why a sample is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The series has a later one.
    #[error("out of order sample")]
    OutOfOrder,
    /// The series has another one at this time.
    #[error("duplicate sample for timestamp")]
    Duplicate,
    /// There is no room for another series.
    #[error("too many series; raise --max-recorded-series")]
    Full,
}

/// A sample of a series.
pub type Point = (Labels, i64, SampleValue);

/// Stores what rules give.
pub trait Sink: Send + Sync {
    /// Appends samples; says for each in turn whether it was stored.
    fn append(&self, points: &[Point]) -> Vec<Result<(), Refused>>;
}

/// Is told of alerts.
pub trait Notify: Send + Sync {
    /// Takes alerts to tell of; never waits.
    fn notify(&self, query: &str, alerts: Vec<Alert>);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Notify for Silent {
    fn notify(&self, _: &str, _: Vec<Alert>) {}
}
