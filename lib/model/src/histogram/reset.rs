//! Has a counter started anew?

use super::cells::Cells;
use super::{CounterResetHint, FloatHistogram, bounds, custom};

impl FloatHistogram {
    /// Whether a counter reset lies between `previous` and this histogram.
    ///
    /// The hint decides where it says "reset" or "not reset". Else a reset has happened when any
    /// count went down, when the resolution rose or the zero bucket narrowed (neither happens
    /// without one), or when the zero bucket's end now cuts what was a populated bucket. A coarser
    /// resolution is compared after merging the buckets of `previous`, differing custom bounds at
    /// those both have.
    #[must_use]
    pub fn detect_reset(&self, previous: &Self) -> bool {
        match self.counter_reset_hint {
            CounterResetHint::Reset => return true,
            CounterResetHint::NotReset => return false,
            CounterResetHint::Unknown | CounterResetHint::Gauge => {}
        }
        if self.count < previous.count {
            return true;
        }
        if self.has_custom_buckets() {
            if !previous.has_custom_buckets() {
                return true;
            }
            if self.custom_values != previous.custom_values {
                return custom::any_lower(self, previous);
            }
        } else if previous.has_custom_buckets() {
            return true;
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let zero = previous.zero_at(self.zero_threshold, None);
        if zero.threshold != self.zero_threshold || self.zero_count < zero.count {
            return true;
        }
        self.any_lower(self.positive_cells(), previous.positive_cells(), previous.schema)
            || self.any_lower(self.negative_cells(), previous.negative_cells(), previous.schema)
    }

    /// Whether any count of `previous`, brought to this resolution, is higher than in `current`.
    /// Buckets within the zero bucket don't count.
    fn any_lower(&self, current: Cells<'_>, previous: Cells<'_>, previous_schema: i32) -> bool {
        let (schema, threshold) = (self.schema, self.zero_threshold);
        let outside = |index: &i64| {
            !bounds::is_exponential(schema)
                || threshold == 0.0
                || bounds::exponential(*index, schema) > threshold
        };
        let mut current =
            current.map(|c| (c.index, c.count)).filter(|(index, _)| outside(index)).peekable();
        let mut previous = previous
            .map(|c| {
                let index = if previous_schema == schema {
                    c.index
                } else {
                    bounds::coarser_index(c.index, previous_schema, schema)
                };
                (index, c.count)
            })
            .filter(|(index, _)| outside(index))
            .peekable();
        while let Some((index, mut before)) = previous.next() {
            while let Some((_, count)) = previous.next_if(|(i, _)| *i == index) {
                before += count;
            }
            while current.next_if(|(i, _)| *i < index).is_some() {}
            let lower = match current.next_if(|(i, _)| *i == index) {
                Some((_, now)) => now < before,
                None => before != 0.0,
            };
            if lower {
                return true;
            }
        }
        false
    }
}
