//! Turns what lies in the bucket as TSDB blocks into Parquet, one step after the other, each of which can be
//! repeated: discover what there is, convert blocks, merge them into days, downsample, keep as long as asked,
//! clean up.
