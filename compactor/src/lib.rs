//! The compactor: TSDB blocks in the bucket become Parquet, one part after the other.
//!
//! In the order data takes:
//!
//! - [`discover`]: which blocks there are, with their marks, and which of them can't be what they say.
//! - [`plan`]: from that and the catalog to steps, each of which makes one part; pure.
//! - [`make`]: a part from its inputs, series by series: written, read back, compared bit for bit; with
//!   [`downsample`] for 5 m and 1 h and [`erase`] for what is to be gone.
//! - [`work`]: steps carried out: inputs fetched ([`local`]), parts sent; [`committed`] is the catalog.
//! - [`retention`], [`clean`]: what is too old goes, and what nobody needs any more.
//! - [`quarantine`]: what is bad is set aside with its reason, and the rest goes on.
//! - [`service`]: rounds of all that, streams shared with other compactors by leases.
//!
//! It writes below `history/` and `periplus/` alone, and deletion marks into blocks: Thanos looks at
//! directories named by a ULID and at nothing else, so both can live on one bucket.
//!
//! The one decision worth knowing: nothing is remembered but what the catalog says. A part becomes visible,
//! and those it takes the place of invisible, by one conditional put; a step that was killed before it left
//! objects nobody knows, which go after a while, and is planned again. So there is no state to recover.

pub mod discover;
pub mod plan;

pub mod downsample;
pub mod erase;
pub mod make;

pub mod committed;
pub mod local;
pub mod quarantine;
pub mod work;

pub mod clean;
pub mod retention;

pub mod config;
pub mod metrics;
pub mod service;
