//! TSDB blocks.
