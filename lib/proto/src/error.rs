//! Why received bytes are refused, and the bounds they are held to.

/// A received message that can't be used. The text names what was wrong with what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The message contradicts itself or its protocol.
    #[error("malformed {what}: {problem}")]
    Malformed {
        /// The message or field.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The message is larger than we accept.
    #[error("{what}: {got} is above the limit of {max}")]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        got: u64,
        /// How many are accepted.
        max: u64,
    },
}

impl WireError {
    /// A [`WireError::Malformed`].
    pub fn malformed(what: &'static str, problem: impl Into<String>) -> Self {
        Self::Malformed { what, problem: problem.into() }
    }

    pub(crate) fn check(what: &'static str, got: usize, max: usize) -> Result<(), Self> {
        if got > max {
            return Err(Self::TooLarge { what, got: got as u64, max: max as u64 });
        }
        Ok(())
    }
}

/// What is accepted from the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireLimits {
    /// Labels of one series.
    pub labels_per_series_max: usize,
    /// Bytes of one label name or value.
    pub label_bytes_max: usize,
    /// Symbols of one answer.
    pub symbols_max: usize,
    /// Bytes of all symbols of one answer.
    pub symbol_bytes_max: usize,
    /// Rows of one answer.
    pub rows_max: usize,
    /// Values of one answer: rows × columns × steps, whether present or not.
    pub cells_max: usize,
    /// Buckets of one histogram, positive and negative each; also its spans and custom bounds.
    pub buckets_max: usize,
    /// Histograms of one answer.
    pub histograms_max: usize,
}

impl Default for WireLimits {
    fn default() -> Self {
        Self {
            labels_per_series_max: 1_000,
            label_bytes_max: 1 << 20,
            symbols_max: 4_000_000,
            symbol_bytes_max: 256 << 20,
            rows_max: 5_000_000,
            cells_max: 100_000_000,
            buckets_max: 20_000,
            histograms_max: 5_000_000,
        }
    }
}
