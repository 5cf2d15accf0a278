//! One door to object storage, and the blocks that lie behind it.
//!
//! In the order a request takes:
//!
//! - [`location`] and [`objstore`]: where the bucket is, as a URL or as Thanos's objstore YAML.
//! - [`credentials`]: who asks: AWS's shared credentials file, read again when it changes; the
//!   environment and instance metadata are `object_store`'s.
//! - [`open`]: the client, with timeouts, certificates and its own retries of single HTTP requests.
//! - [`layer`]: wrappers around the one trait ([`object_store::ObjectStore`]): time limits and
//!   retries, counting, caching, and faults for tests.
//! - [`key`]: names of objects. A [`Key`] can't leave its prefix, can't be encoded twice and can't
//!   be a path into somebody's file system; whoever has one needs no further check.
//! - [`bucket`]: the [`Bucket`], which everything else uses; [`upload`] sends files in parts of
//!   bounded memory and [`conditional`] finds out which conditional puts the store really has.
//! - [`lease`]: one owner of a name at a time.
//! - [`catalog`]: which parts of the history there are, known without listing.
//! - [`blocks`]: Thanos's layout of TSDB blocks, and what `periplus bucket` does with it.
//!
//! It knows nothing of what is inside a block beyond the few fields of `meta.json` that tell blocks
//! apart; reading them is `periplus-block`'s. A store that is reached in another way (through a
//! tunnel, say) implements [`object_store::ObjectStore`] and enters by [`Bucket::from_store`].
//!
//! The one decision worth knowing: a put whose answer was lost is *resolved by reading back*, never
//! by guessing. A store that says 503 may have stored the object, and one that says 200 may have
//! stored another size. So [`Bucket::put`] and [`Bucket::put_if_absent`] compare what lies there
//! with what was sent, and [`Bucket::put_file`] verifies each file before it reports success.

pub mod location;
pub mod objstore;

pub mod credentials;
pub mod open;

pub mod layer;

pub mod key;

pub mod bucket;
pub mod conditional;
pub mod upload;

pub mod lease;

pub mod blocks;
pub mod catalog;

mod error;

pub use bucket::{Bucket, Entry, PutOutcome, Version};
pub use error::{BucketError, Kind};
pub use key::{Key, KeyError};
pub use location::Location;
pub use open::OpenOptions;
