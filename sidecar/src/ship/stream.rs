//! One sidecar for one stream, and for one data directory.
//!
//! Two mistakes are caught. Two Prometheus servers with the same external labels: their sidecars would
//! write one stream, each its own blocks, and everything would be there twice. They meet at the
//! stream's lease in the bucket. And two sidecars over one data directory: they meet at a lock file
//! in it. The identity that the lease knows lies in the data directory too, so a sidecar that starts
//! again over the same data goes on at once, and one with other data waits until the lease is over.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use periplus_bucket::blocks::meta::stream_name;
use periplus_bucket::lease::Held;
use periplus_bucket::upload::sha256;
use periplus_bucket::{Key, KeyError};
use ulid::Ulid;

use super::config::ShipConfig;
use super::destination::{Destination, StreamClaim};
use super::{ShipError, local, state};

/// Below Prometheus's data directory; Prometheus leaves it alone.
const DIRECTORY: &str = "periplus";

/// This sidecar's own directory, locked.
#[derive(Debug)]
pub struct Workplace {
    /// The directory.
    pub directory: PathBuf,
    /// Tells this data directory's sidecar from others.
    pub owner: String,
    /// Held as long as this lives.
    _lock: File,
}

impl Workplace {
    /// Makes and locks it, and removes what a dead predecessor left.
    ///
    /// # Errors
    /// Another process has it, or the data directory can't be written to.
    pub fn open(tsdb: &Path) -> Result<Self, ShipError> {
        let directory = tsdb.join(DIRECTORY);
        fs::create_dir_all(&directory).map_err(|e| ShipError::local("make", &directory, e))?;
        let path = directory.join("ship.lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| ShipError::local("open", &path, e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ShipError::Locked { path: path.display().to_string() });
            }
            Err(TryLockError::Error(e)) => return Err(ShipError::local("lock", &path, e)),
        }
        let place = Self { owner: owner(&directory)?, directory, _lock: lock };
        local::remove(&place.upload())?;
        Ok(place)
    }

    /// Where links of blocks under way are.
    #[must_use]
    pub fn upload(&self) -> PathBuf {
        self.directory.join("upload")
    }
}

fn owner(directory: &Path) -> Result<String, ShipError> {
    let path = directory.join("owner");
    let known = fs::read_to_string(&path).unwrap_or_default();
    if known.trim().parse::<Ulid>().is_ok() {
        return Ok(known.trim().to_owned());
    }
    let owner = Ulid::generate().to_string();
    state::replace(&path, owner.as_bytes())?;
    Ok(owner)
}

/// The name of a stream's lease.
///
/// # Errors
/// Never: it is made of a hash.
pub fn lease_key(labels: &BTreeMap<String, String>) -> Result<Key, KeyError> {
    let hash = sha256(stream_name(labels).as_bytes());
    Key::parse(&format!("periplus/streams/{}/shipper.json", &hash[..32]))
}

/// Makes sure that this sidecar is the stream's only one.
///
/// # Errors
/// [`ShipError::Owned`] where it is not; the destination refuses or does not answer.
pub async fn hold(
    to: &dyn Destination,
    config: &ShipConfig,
    owner: &str,
    labels: &BTreeMap<String, String>,
) -> Result<(), ShipError> {
    if labels.is_empty() {
        return Err(ShipError::NoLabels);
    }
    let stream = stream_name(labels);
    let claim = StreamClaim {
        key: lease_key(labels).map_err(periplus_bucket::BucketError::from)?,
        stream: stream.clone(),
        owner: owner.to_owned(),
        about: config.about.clone(),
        ttl: config.lease,
    };
    match to.hold(&claim).await? {
        Held::Ours => Ok(()),
        Held::Theirs { claim, free_in } => {
            let owner = claim.map_or_else(
                || "what lies there is no claim".to_owned(),
                |c| format!("{}, {}, wrote at {}", c.owner, c.about, c.written),
            );
            Err(ShipError::Owned { stream, owner, free_in })
        }
    }
}
