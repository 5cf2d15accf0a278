//! What the query layer is told of history.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use periplus_bucket::{Bucket, BucketError, Location, OpenOptions, objstore};

use super::disk::Disk;
use super::resolution::MaxResolution;
use super::{History, HistoryConfig};
use crate::api::time::parse_duration_ns;

/// Settings of history. Without a bucket there is none.
#[derive(Args, Clone, Debug)]
pub struct HistoryArgs {
    /// Bucket with history to answer from: <s3://BUCKET/PREFIX>, gs://, az://, file:///DIR
    #[arg(long, value_name = "URL", conflicts_with = "objstore_config_file")]
    pub bucket: Option<String>,
    /// Thanos's objstore YAML instead of --bucket
    #[arg(long, value_name = "FILE")]
    pub objstore_config_file: Option<PathBuf>,
    /// How often the bucket's catalog is looked at for what is new
    #[arg(long, default_value = "1m", value_parser = humantime_of, value_name = "DURATION")]
    pub catalog_refresh: Duration,
    /// Bytes of the bucket's files kept in memory
    #[arg(long, default_value_t = 96 << 20, value_name = "BYTES")]
    pub history_memory: u64,
    /// Bytes of answers for whole, settled days kept in memory; 0: none
    #[arg(long, default_value_t = 32 << 20, value_name = "BYTES")]
    pub history_answers: u64,
    /// Directory in which bytes of the bucket's files are kept across restarts
    #[arg(long, value_name = "DIR")]
    pub history_cache: Option<PathBuf>,
    /// Bytes that directory may hold
    #[arg(long, default_value_t = 10 << 30, value_name = "BYTES")]
    pub history_cache_size: u64,
    /// Requests to the bucket that run at once
    #[arg(long, default_value_t = 32, value_name = "N")]
    pub history_requests: usize,
    /// How coarse history may be where a request does not say: 0s (coarser only where nothing finer is
    /// left), auto (a fifth of the step, where that keeps an answer's meaning), 5m, 1h
    #[arg(long, default_value = "0s", value_parser = resolution, value_name = "RESOLUTION")]
    pub max_source_resolution: MaxResolution,
}

/// Why there can be no history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The bucket can't be opened.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A file or directory can't be used.
    #[error("--{flag} {}: {source}", path.display())]
    Local {
        /// The flag that names it.
        flag: &'static str,
        /// It.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl HistoryArgs {
    /// The history; `None` where no bucket is given.
    ///
    /// # Errors
    /// The bucket or the directory can't be used.
    pub fn open(&self) -> Result<Option<History>, HistoryError> {
        let at = match (&self.bucket, &self.objstore_config_file) {
            (Some(url), _) => Location::parse(url)?,
            (None, Some(path)) => {
                let local = |source| HistoryError::Local {
                    flag: "objstore-config-file",
                    path: path.clone(),
                    source,
                };
                objstore::parse(&std::fs::read_to_string(path).map_err(local)?)?
            }
            (None, None) => return Ok(None),
        };
        let bucket = Bucket::open(&at, &OpenOptions::default())?;
        let disk = match &self.history_cache {
            None => None,
            Some(path) => {
                let local = |source| HistoryError::Local {
                    flag: "history-cache",
                    path: path.clone(),
                    source,
                };
                Some(Disk::open(path, self.history_cache_size).map_err(local)?)
            }
        };
        let config = HistoryConfig {
            memory_bytes: self.history_memory,
            requests: self.history_requests,
            answer_bytes: self.history_answers,
            refresh: self.catalog_refresh,
        };
        Ok(Some(History::new(bucket, &config, disk)))
    }
}

fn humantime_of(text: &str) -> Result<Duration, String> {
    match periplus_model::duration::parse_duration(text) {
        Ok(ms) if ms > 0 => Ok(Duration::from_millis(ms.unsigned_abs())),
        _ => Err("write it as 30s, 1m or 1h".to_owned()),
    }
}

/// `max_source_resolution` as a flag says it.
fn resolution(text: &str) -> Result<MaxResolution, String> {
    match text {
        "auto" => Ok(MaxResolution::auto()),
        _ => match parse_duration_ns(text)? / 1_000_000 {
            0 => Ok(MaxResolution::default()),
            ms => Ok(MaxResolution { or_what_is_left: true, ..MaxResolution::at_most(ms) }),
        },
    }
}
