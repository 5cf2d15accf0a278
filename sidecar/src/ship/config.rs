//! What shipping is told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, FromArgMatches as _};
use periplus_bucket::{Bucket, Location, OpenOptions, objstore};
use periplus_daemon::admin::Admin;
use url::Url;

use super::ShipError;
use super::destination::BucketDestination;
use super::metrics::ShipMetrics;
use super::prometheus::PrometheusApi;
use super::shipper::{LabelsFn, Shipper};
use crate::config::Access;

/// Settings of shipping. Without a bucket nothing is shipped.
#[derive(Args, Clone, Debug)]
pub struct ShipArgs {
    /// Bucket to ship blocks to: <s3://BUCKET/PREFIX>, gs://, az://, file:///DIR
    #[arg(long, value_name = "URL", conflicts_with = "objstore_config_file")]
    pub bucket: Option<String>,
    /// Thanos's objstore YAML instead of --bucket
    #[arg(long, value_name = "FILE")]
    pub objstore_config_file: Option<PathBuf>,
    /// Ship blocks that Prometheus compacted too, where the bucket does not hold their parts
    #[arg(long)]
    pub ship_compacted: bool,
    /// Ship a snapshot of the head this often (needs --web.enable-admin-api); off without
    #[arg(long, value_name = "INTERVAL", value_parser = humantime::parse_duration)]
    pub ship_head: Option<Duration>,
    /// How often new blocks are looked for
    #[arg(long, value_name = "INTERVAL", default_value = "30s", value_parser = humantime::parse_duration)]
    pub ship_interval: Duration,
    /// Parts of files in flight at a time, of 6 MiB each
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub ship_concurrency: usize,
    /// Bytes a second at most, such as 20MiB; no limit without
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub ship_bandwidth: Option<u64>,
    /// Read each file back instead of trusting the store's checksum
    #[arg(long)]
    pub ship_read_back: bool,
    /// How long another sidecar waits before it takes over this one's stream
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    pub ship_lease: Duration,
    /// File of shipped blocks, in the data directory; Thanos's name by default
    #[arg(long, value_name = "NAME", default_value = super::state::FILE)]
    pub ship_state_file: String,
}

/// Checked settings.
#[derive(Clone, Debug)]
pub struct ShipConfig {
    /// Prometheus's data directory.
    pub tsdb: PathBuf,
    /// Ship compacted blocks.
    pub compacted: bool,
    /// Ship snapshots of the head.
    pub head: Option<Duration>,
    /// How often new blocks are looked for.
    pub interval: Duration,
    /// Another one's patience.
    pub lease: Duration,
    /// The file of shipped blocks, below `tsdb`.
    pub state_file: String,
    /// Tells this sidecar from others, for people.
    pub about: String,
    /// Files of a block that are sent at a time.
    pub files: usize,
}

impl ShipConfig {
    /// The usual settings for a data directory.
    #[must_use]
    pub fn new(tsdb: PathBuf) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            about: format!("host {}, process {}", host.trim(), std::process::id()),
            tsdb,
            compacted: false,
            head: None,
            interval: Duration::from_secs(30),
            lease: Duration::from_secs(300),
            state_file: super::state::FILE.to_owned(),
            files: 4,
        }
    }
}

impl ShipArgs {
    /// What holds when nothing is set, for a process that composes services.
    ///
    /// # Panics
    /// Never: a test holds that the defaults parse.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the defaults are constants, and tested")]
    pub fn defaults() -> Self {
        let command = Self::augment_args(clap::Command::new("ship"));
        let matches = command.try_get_matches_from(["ship"]).expect("defaults are valid");
        Self::from_arg_matches(&matches).expect("defaults are valid")
    }

    /// The bucket to ship to; `None`: nothing is to be shipped.
    ///
    /// # Errors
    /// The URL or the YAML makes no sense.
    pub fn open(&self) -> Result<Option<Bucket>, ShipError> {
        let at = match (&self.bucket, &self.objstore_config_file) {
            (Some(url), _) => Location::parse(url)?,
            (None, Some(file)) => {
                let yaml =
                    std::fs::read_to_string(file).map_err(|e| ShipError::local("read", file, e))?;
                objstore::parse(&yaml)?
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Bucket::open(&at, &OpenOptions::default())?))
    }

    /// How files are sent.
    #[must_use]
    pub fn upload(&self) -> periplus_bucket::upload::UploadOptions {
        periplus_bucket::upload::UploadOptions {
            parts_max: self.ship_concurrency.clamp(1, 6),
            bytes_per_second: self.ship_bandwidth.unwrap_or(0),
            read_back: self.ship_read_back,
            ..Default::default()
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A data directory that is none, a state file that leads out of it, intervals of nothing.
    pub fn config(&self, tsdb: PathBuf) -> Result<ShipConfig, ShipError> {
        if !tsdb.is_dir() {
            return Err(ShipError::Config(format!(
                "--tsdb {}: no such directory; it is Prometheus's --storage.tsdb.path",
                tsdb.display()
            )));
        }
        let name = &self.ship_state_file;
        if name.is_empty() || name.contains(['/', '\\']) || name == "." || name == ".." {
            return Err(ShipError::Config(format!("--ship-state-file {name:?} is no file name")));
        }
        let second = Duration::from_secs(1);
        if self.ship_interval < second || self.ship_head.is_some_and(|i| i < 10 * second) {
            let text = "--ship-interval is at least 1s, --ship-head at least 10s";
            return Err(ShipError::Config(text.to_owned()));
        }
        if self.ship_lease < 3 * self.ship_interval {
            let text = "--ship-lease is at least three times --ship-interval";
            return Err(ShipError::Config(text.to_owned()));
        }
        Ok(ShipConfig {
            compacted: self.ship_compacted,
            head: self.ship_head,
            interval: self.ship_interval,
            lease: self.ship_lease,
            state_file: name.clone(),
            files: self.ship_concurrency.clamp(1, 6),
            ..ShipConfig::new(tsdb)
        })
    }
}

/// Builds what ships, from the settings of a sidecar; `None`: no bucket is given. `labels` gives the
/// external labels, `None` while they are not known.
///
/// # Errors
/// Settings that make no sense, a data directory that can't be written to or is in use.
pub fn build(
    args: &ShipArgs,
    tsdb: Option<PathBuf>,
    prometheus: Url,
    access: &Access,
    labels: Box<LabelsFn>,
    admin: &Admin,
) -> Result<Option<Shipper>, ShipError> {
    let Some(bucket) = args.open()? else { return Ok(None) };
    let Some(tsdb) = tsdb else {
        let text = "shipping reads Prometheus's blocks: give its data directory with --tsdb";
        return Err(ShipError::Config(text.to_owned()));
    };
    let config = args.config(tsdb)?;
    let upstream = Arc::new(PrometheusApi::new(prometheus, access)?);
    let metrics = ShipMetrics::default();
    admin.register(|registry| {
        // As the sidecar's own: one process may have several.
        let source = ("prometheus".into(), upstream.address().into());
        let registry = registry.sub_registry_with_label(source);
        bucket.register(registry);
        metrics.register(registry);
    });
    let to = Arc::new(BucketDestination::new(bucket, args.upload()));
    Shipper::new(config, to, Some(upstream), labels, metrics).map(Some)
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => return Err(format!("{other:?} is no unit; there are B, KiB, MiB, GiB")),
    };
    let number: u64 = digits.parse().map_err(|_| "write a number, such as 20MiB".to_owned())?;
    number.checked_mul(unit).filter(|n| *n > 0).ok_or_else(|| "out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        let args = ShipArgs::defaults();
        assert_eq!(args.ship_interval, Duration::from_secs(30));
        assert!(args.open().unwrap().is_none());
        args.config(std::env::temp_dir()).unwrap();
    }

    #[test]
    fn bytes() {
        assert_eq!(parse_bytes("20MiB"), Ok(20 << 20));
        assert_eq!(parse_bytes("7"), Ok(7));
        for text in ["", "MiB", "-1", "1MB", "0", "99999999999GiB"] {
            assert!(parse_bytes(text).is_err(), "{text:?}");
        }
    }
}
