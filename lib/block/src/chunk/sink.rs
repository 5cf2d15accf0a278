//! Where the samples of histogram chunks go: as they were stored, or as queries compute with them.

use std::sync::Arc;

use periplus_model::{FloatHistogram, SampleBuffer};

use super::histogram::Sample;
use super::samples::{ChunkSamples, HistogramValue};

/// Takes histograms in order of time; a start of 0 is unknown.
pub(super) trait Sink {
    /// One of an integer chunk.
    fn integer(&mut self, t: i64, sample: &Sample<'_>, start: i64);

    /// One of a float chunk.
    fn float(&mut self, t: i64, histogram: FloatHistogram, start: i64);
}

impl Sink for ChunkSamples {
    fn integer(&mut self, t: i64, sample: &Sample<'_>, start: i64) {
        self.push_histogram(t, HistogramValue::Integer(sample.integer()), start);
    }

    fn float(&mut self, t: i64, histogram: FloatHistogram, start: i64) {
        self.push_histogram(t, HistogramValue::Float(histogram), start);
    }
}

/// Without a stop at the integer form: queries read many histograms.
impl Sink for SampleBuffer {
    fn integer(&mut self, t: i64, sample: &Sample<'_>, start: i64) {
        self.float(t, sample.float(), start);
    }

    fn float(&mut self, t: i64, histogram: FloatHistogram, start: i64) {
        self.push_histogram(t, Arc::new(histogram));
        if start != 0 {
            self.set_last_start(start);
        }
    }
}
