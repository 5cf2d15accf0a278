//! The hub's rows: one for each (cluster, uid), in its latest state.
//!
//! In the order a row takes: [`memory`] merges what the log gives it, row by row, in an open run; [`block`] packs
//! full runs, with [`columns`] that questions are decided by and a [`summary`] that lets them pass it by;
//! [`parquet`] is what runs become once they are settled, [`files`] keeps the list of those files in the
//! bucket and finds rows in them; [`upkeep`] moves rows from memory to files, merges files of a day, and
//! forgets what is too old. [`filter`] is what a question selects.
//!
//! The one decision worth knowing: everything goes by a row's number. Memory holds all live rows numbered from
//! `evicted_below` on, files hold all live rows below `flushed_below`, and a row that is superseded where it
//! already lies in a file is in a set of dead numbers. So whether a row counts is decided by its number alone, for
//! memory, files and the log that is replayed after a crash, and a snapshot of these three is exact.

pub mod block;
pub mod columns;
pub mod files;
pub mod filter;
pub mod memory;
pub mod parquet;
pub mod summary;
pub mod upkeep;

pub use columns::Row;
pub use filter::{Field, Filter, Regions, Text};
pub use memory::{Memory, Snapshot};
pub use summary::RowKey;
