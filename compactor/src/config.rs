//! What the compactor is told.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use periplus_bucket::{Bucket, BucketError, Location, OpenOptions, objstore};

use crate::plan::Policy;
use crate::retention::{Retention, Rule};

/// Labels of series that questions select by most: they get columns and Bloom filters of their own.
const PROMOTED: [&str; 6] = ["container", "instance", "job", "namespace", "node", "pod"];
/// Columns beyond this many make every file's end larger than what they save.
const PROMOTED_MAX: usize = 64;

/// Settings of compaction.
#[derive(Args, Clone, Debug)]
pub struct CompactorArgs {
    /// The bucket: <s3://BUCKET/PREFIX>, gs://, az://, file:///DIR
    #[arg(long, value_name = "URL", conflicts_with = "objstore_config_file")]
    pub bucket: Option<String>,
    /// Thanos's objstore YAML instead of --bucket
    #[arg(long, value_name = "FILE")]
    pub objstore_config_file: Option<PathBuf>,
    /// Do all there is to do now, then end
    #[arg(long)]
    pub once: bool,
    /// How often new blocks are looked for
    #[arg(long, value_name = "INTERVAL", default_value = "1m", value_parser = humantime::parse_duration)]
    pub interval: Duration,
    /// Directory for blocks and parts under way, as large as the largest blocks of a stream; a temporary one without
    #[arg(long, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
    /// External label that only tells replicas of one Prometheus apart; may be repeated. Replicas are merged, and kept
    #[arg(long, value_name = "LABEL")]
    pub replica_label: Vec<String>,
    /// How long parts are kept: [SELECTOR] raw=30d,5m=180d,1h=2y; may be repeated, the first that matches counts; for ever without
    #[arg(long, value_name = "RULE")]
    pub retention: Vec<Rule>,
    /// How long converted TSDB blocks are kept, as --retention by external labels; for ever without
    #[arg(long, value_name = "RULE")]
    pub block_retention: Vec<Rule>,
    /// How long what was marked or replaced stays, for readers that still use it
    #[arg(long, value_name = "DURATION", default_value = "48h", value_parser = humantime::parse_duration)]
    pub delete_delay: Duration,
    /// How long an upload that was given up stays; 0s: for ever
    #[arg(long, value_name = "DURATION", default_value = "48h", value_parser = humantime::parse_duration)]
    pub partial_delay: Duration,
    /// How long after its end a day is taken for complete, merged and downsampled
    #[arg(long, value_name = "DURATION", default_value = "3h", value_parser = humantime::parse_duration)]
    pub settle: Duration,
    /// Do not make 5 m and 1 h
    #[arg(long)]
    pub no_downsampling: bool,
    /// Label of series that gets a column (label_NAME, for SQL) and a Bloom filter in new parts; may be repeated
    #[arg(long, value_name = "NAME", default_values_t = PROMOTED.map(str::to_owned))]
    pub promote_label: Vec<String>,
    /// Parts made at a time; 0: one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub concurrency: usize,
    /// Name for leases: one that is started again under the same goes on at once; a random one without
    #[arg(long, value_name = "NAME")]
    pub owner: Option<String>,
    /// How long another compactor waits before it takes over a stream; at least 1s
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    pub lease: Duration,
}

impl CompactorArgs {
    /// Opens the bucket.
    ///
    /// # Errors
    /// No bucket is named, or it can't be opened.
    pub fn open(&self) -> Result<Bucket, ConfigError> {
        let at = match (&self.bucket, &self.objstore_config_file) {
            (Some(url), _) => Location::parse(url)?,
            (None, Some(file)) => {
                let yaml = std::fs::read_to_string(file)
                    .map_err(|source| ConfigError::Unreadable { file: file.clone(), source })?;
                objstore::parse(&yaml)?
            }
            (None, None) => return Err(ConfigError::NoBucket),
        };
        Ok(Bucket::open(&at, &OpenOptions::default())?)
    }

    /// Checks the settings.
    #[must_use]
    pub fn config(&self) -> Config {
        let ms = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Config {
            policy: Policy {
                replica_labels: self.replica_label.clone(),
                settle_ms: ms(self.settle),
                downsample: !self.no_downsampling,
                retention: Retention::new(self.retention.clone()),
                ..Policy::default()
            },
            block_retention: Retention::new(self.block_retention.clone()),
            delete_delay: self.delete_delay,
            partial_delay: (!self.partial_delay.is_zero()).then_some(self.partial_delay),
            interval: self.interval,
            lease: self.lease.max(Duration::from_secs(1)),
            owner: self.owner.clone(),
            work_dir: self.work_dir.clone(),
            concurrency: if self.concurrency == 0 { cores } else { self.concurrency },
            promoted: promoted(&self.promote_label),
            ..Config::default()
        }
    }
}

/// In one order, each once: parts of one day differ in their columns only where they were told to.
fn promoted(names: &[String]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().filter(|n| !n.is_empty()).cloned().collect();
    names.sort_unstable();
    names.dedup();
    names.truncate(PROMOTED_MAX);
    names
}

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is wanted.
    pub policy: Policy,
    /// How long converted blocks stay.
    pub block_retention: Retention,
    /// How long what was marked or replaced stays.
    pub delete_delay: Duration,
    /// How long an upload that was given up stays; `None`: for ever.
    pub partial_delay: Option<Duration>,
    /// How long an object below `history/` that no catalog names stays.
    pub orphan_delay: Duration,
    /// Pause between rounds.
    pub interval: Duration,
    /// How long a lease lasts, in whole seconds.
    pub lease: Duration,
    /// Tells this compactor from others, also when it is started again; a random name without.
    pub owner: Option<String>,
    /// Where blocks and parts under way are; a temporary directory without.
    pub work_dir: Option<PathBuf>,
    /// Parts made at a time.
    pub concurrency: usize,
    /// Parts made before they are committed together.
    pub commit_parts: usize,
    /// Labels that get columns of their own, ascending.
    pub promoted: Vec<String>,
    /// What time it is; the system's clock without.
    pub now_ms: Option<i64>,
}

impl Default for Config {
    fn default() -> Self {
        let hours = |n: u64| Duration::from_secs(n * 3600);
        Self {
            policy: Policy::default(),
            block_retention: Retention::default(),
            delete_delay: hours(48),
            partial_delay: Some(hours(48)),
            orphan_delay: hours(48),
            interval: Duration::from_secs(60),
            lease: Duration::from_secs(300),
            owner: None,
            work_dir: None,
            concurrency: 2,
            commit_parts: 32,
            promoted: PROMOTED.map(str::to_owned).to_vec(),
            now_ms: None,
        }
    }
}

/// Settings that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Which bucket?
    #[error("which bucket? Give --bucket URL or --objstore-config-file FILE")]
    NoBucket,
    /// The file can't be read.
    #[error("--objstore-config-file {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The bucket can't be opened.
    #[error(transparent)]
    Bucket(#[from] BucketError),
}
