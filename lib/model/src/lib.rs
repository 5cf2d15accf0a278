//! The words every other crate speaks in: label sets, matchers, samples, native histograms and time
//! ranges, named as Prometheus names them.
//!
//! In the order data meets them: a selector's [`Matcher`]s choose series by their [`Labels`]; a
//! series is a run of samples (a float or a [`FloatHistogram`] at a time in milliseconds); a
//! [`TimeRange`] bounds what is looked at; [`replicas`] makes one run of several that say the same.
//! [`duration`] and [`float`] read and print Prometheus's durations and numbers.
//!
//! Nothing here does I/O, and nothing here knows where a series comes from. The one decision worth
//! knowing: a label set is a single shared string ([`Labels`]), so that it clones by counting,
//! compares and hashes as one run of bytes, and costs one allocation however many labels it has.

mod almost;
mod buffer;
pub mod duration;
pub mod float;
mod histogram;
mod kahan;
mod labels;
mod matcher;
pub mod re2;
pub mod replicas;
mod sample;
mod time;

pub use almost::almost_equal;
pub use buffer::SampleBuffer;
pub use histogram::{
    Bucket, CUSTOM_BUCKETS_SCHEMA, ClassicBucket, ClassicError, CounterResetHint,
    EXPONENTIAL_SCHEMA_MAX, EXPONENTIAL_SCHEMA_MIN, EXPONENTIAL_SCHEMA_RESERVED_MAX,
    EXPONENTIAL_SCHEMA_RESERVED_MIN, FloatHistogram, ForcedMonotonicity, Histogram, HistogramMean,
    HistogramSum, IncompatibleBuckets, InvalidHistogram, NanObservations, Reconciled, Span, Trim,
    classic_fraction, classic_quantile, from_classic,
};
pub use kahan::kahan_add;
pub use labels::{Labels, LabelsBuilder, METRIC_NAME};
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use sample::{NORMAL_NAN_BITS, STALE_NAN_BITS, is_stale, stale_nan};
pub use time::TimeRange;
