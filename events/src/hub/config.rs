//! Settings of the hub.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, FromArgMatches};
use periplus_daemon::config::duration;
use periplus_daemon::tls::ServerTls;

use crate::store::upkeep::UpkeepConfig;
use crate::wire::WireLimits;

/// Settings; each is a flag, an environment variable and a field of the file.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Address of the HTTP API, for senders and readers
    #[arg(long, default_value = "127.0.0.1:9095", value_name = "ADDR")]
    pub listen: Option<String>,
    /// Address of the gRPC service by which a query layer has periplus_events_total (give it there as --endpoint)
    #[arg(long, value_name = "ADDR")]
    pub grpc: Option<String>,
    /// Directory for the log, and for the files where there is no --bucket
    #[arg(long, default_value = "./events-data", value_name = "DIR")]
    pub data: PathBuf,
    /// Bucket for the files: file:///DIR, s3://BUCKET/PREFIX, gs://…, az://…; without it they stay below --data
    #[arg(long, value_name = "URL")]
    pub bucket: Option<String>,
    /// One of several hubs over one bucket: the log is kept there, and the hub that holds the lease answers
    #[arg(long)]
    pub shared: bool,
    /// How long after the leader's last sign another hub takes over
    #[arg(long, default_value = "15s", value_parser = duration, value_name = "DURATION")]
    pub lease: Duration,
    /// YAML file of who may send events of which clusters, and who may read; needed unless --listen is loopback
    #[arg(long, value_name = "FILE")]
    pub access: Option<PathBuf>,
    /// Region of a cluster, as CLUSTER=REGION; may be repeated
    #[arg(long, value_name = "CLUSTER=REGION")]
    pub region: Vec<String>,
    /// Bytes of recent events in memory
    #[arg(long, default_value_t = 640 << 20, value_name = "BYTES")]
    pub memory: usize,
    /// Bytes of files' indexes in memory
    #[arg(long, default_value_t = 128 << 20, value_name = "BYTES")]
    pub index_cache: usize,
    /// Events not changed for this long go into a file; the API server forgets them after an hour
    #[arg(long, default_value = "90m", value_parser = duration, value_name = "DURATION")]
    pub settle: Duration,
    /// Files are deleted once their events are older
    #[arg(long, default_value = "30d", value_parser = duration, value_name = "DURATION")]
    pub retention: Duration,
    /// How often rows are moved on
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub upkeep_interval: Duration,
    /// Bytes of one request's body as it is sent
    #[arg(long, default_value_t = 8 << 20, value_name = "BYTES")]
    pub max_body_bytes: usize,
    /// Bytes of one request's body once decompressed
    #[arg(long, default_value_t = 32 << 20, value_name = "BYTES")]
    pub max_batch_bytes: usize,
    /// Events of one request
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub max_batch_events: usize,
    /// Bytes of one message; a longer one is cut and marked
    #[arg(long, default_value_t = crate::event::MESSAGE_BYTES, value_name = "BYTES")]
    pub max_message_bytes: usize,
    /// Bytes of all requests being taken in at once, decompressed; more wait
    #[arg(long, default_value_t = 128 << 20, value_name = "BYTES")]
    pub max_bodies_bytes: usize,
    /// Live streams at once
    #[arg(long, default_value_t = 256, value_name = "N")]
    pub max_tails: usize,
    /// Searches at once; more wait
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub max_searches: usize,
    /// The longest a search may take
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub search_timeout: Duration,
    /// Series of periplus_events_total at most; further ones are counted together as "other"
    #[arg(long, default_value_t = 50_000, value_name = "N")]
    pub max_series: usize,
    /// Connections accepted at once
    #[arg(long, default_value_t = 4096, value_name = "N")]
    pub max_connections: usize,
    /// TLS of the listener.
    #[command(flatten)]
    pub tls: ServerTls,
}

impl Config {
    /// What holds when nothing is set, for a process that composes services.
    ///
    /// # Panics
    /// Never: a test holds that the defaults parse.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the defaults are constants, and tested")]
    pub fn defaults() -> Self {
        let command = Self::augment_args(clap::Command::new("hub"));
        let matches = command.try_get_matches_from(["hub"]).expect("defaults are valid");
        Self::from_arg_matches(&matches).expect("defaults are valid")
    }

    /// What is taken of one request.
    #[must_use]
    pub fn wire_limits(&self) -> WireLimits {
        WireLimits {
            body_bytes_max: self.max_body_bytes,
            decoded_bytes_max: self.max_batch_bytes,
            events_max: self.max_batch_events,
            message_bytes: self.max_message_bytes,
            ..WireLimits::default()
        }
    }

    /// When rows move.
    #[must_use]
    pub fn upkeep(&self) -> UpkeepConfig {
        UpkeepConfig {
            settle: self.settle,
            memory_bytes: self.memory,
            retention: self.retention,
            ..UpkeepConfig::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        let config = Config::defaults();
        assert_eq!(config.settle, Duration::from_secs(5400));
        assert_eq!(config.wire_limits(), WireLimits::default());
    }
}
