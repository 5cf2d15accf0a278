//! Settings of the query service.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, FromArgMatches};
use periplus_daemon::config::duration;
use periplus_daemon::tls::{ClientTls, ServerTls};

use crate::history::HistoryArgs;

/// Settings; each is a flag, an environment variable and a field of the file.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Address of the HTTP API
    #[arg(long, default_value = "127.0.0.1:9090", value_name = "ADDR")]
    pub listen: String,
    /// Address of the gRPC services, through which other query layers use this one as an endpoint
    #[arg(long, default_value = "127.0.0.1:10902", value_name = "ADDR")]
    pub grpc: String,
    /// Endpoint to ask: host:port, dns+host:port (all its addresses) or dnssrv+name; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub endpoint: Vec<String>,
    /// File of endpoints in Prometheus's file_sd form, JSON or YAML, watched; * in its name; may be repeated
    #[arg(long, value_name = "FILE")]
    pub endpoint_file: Vec<PathBuf>,
    /// How often names of endpoints are resolved
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub refresh_interval: Duration,
    /// How often each endpoint is asked how it is
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "DURATION")]
    pub probe_interval: Duration,
    /// How long an endpoint may take to say how it is
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "DURATION")]
    pub probe_timeout: Duration,
    /// External label that only tells replicas of one Prometheus apart; may be repeated
    #[arg(long, value_name = "LABEL")]
    pub replica_label: Vec<String>,
    /// Directory where known clusters are remembered across restarts
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// After how long a cluster that is gone is forgotten
    #[arg(long, default_value = "30d", value_parser = duration, value_name = "DURATION")]
    pub forget_after: Duration,
    /// The longest a query may take
    #[arg(long, default_value = "2m", value_parser = duration, value_name = "DURATION")]
    pub query_timeout: Duration,
    /// The longest an endpoint may take for one request; a slower one is missing in the answer
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub endpoint_timeout: Duration,
    /// Ask a second replica as well when the first has not answered after this long (off by default)
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub hedge_after: Option<Duration>,
    /// How far an instant selector looks back for a sample
    #[arg(long, default_value = "5m", value_parser = duration, value_name = "DURATION")]
    pub lookback_delta: Duration,
    /// Fail rather than answer without a cluster, unless a request says partial_response=true
    #[arg(long)]
    pub strict: bool,
    /// How long an answer is given again to who asks the same for the same times; 0s: each is asked anew
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "DURATION")]
    pub answer_ttl: Duration,
    /// Queries that run at once; more wait
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub max_concurrent_queries: usize,
    /// Requests to endpoints that one query has running at once
    #[arg(long, default_value_t = 1024, value_name = "N")]
    pub max_concurrent_requests: usize,
    /// HTTP requests that are worked on at once; more wait for ten seconds and are then refused
    #[arg(long, default_value_t = 512, value_name = "N")]
    pub max_http_requests: usize,
    /// Connections accepted at once, HTTP and gRPC each
    #[arg(long, default_value_t = 4096, value_name = "N")]
    pub max_connections: usize,
    /// Samples one query may hold in memory
    #[arg(long, default_value_t = 50_000_000, value_name = "N")]
    pub max_samples: u64,
    /// Series one query may select
    #[arg(long, default_value_t = 2_000_000, value_name = "N")]
    pub max_series: u64,
    /// Bytes one query may hold in memory
    #[arg(long, default_value_t = 1 << 30, value_name = "BYTES")]
    pub max_query_bytes: u64,
    /// Bytes all queries may hold in memory together
    #[arg(long, default_value_t = 4 << 30, value_name = "BYTES")]
    pub max_total_bytes: u64,
    /// Threads that evaluate queries; 0: one per core
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub workers: usize,
    /// The bucket's history.
    #[command(flatten)]
    pub history: HistoryArgs,
    /// TLS of the listeners.
    #[command(flatten)]
    pub server_tls: ServerTls,
    /// TLS towards endpoints.
    #[command(flatten)]
    pub client_tls: ClientTls,
}

impl Config {
    /// What holds when nothing is set, for a process that composes services.
    ///
    /// # Panics
    /// Never: a test holds that the defaults parse.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the defaults are constants, and tested")]
    pub fn defaults() -> Self {
        let command = Self::augment_args(clap::Command::new("query"));
        let matches = command.try_get_matches_from(["query"]).expect("defaults are valid");
        Self::from_arg_matches(&matches).expect("defaults are valid")
    }

    /// The settings as they are shown; nothing here is secret but what files hold.
    #[must_use]
    pub fn shown(&self) -> Vec<(String, String)> {
        let seconds = |d: Duration| format!("{d:?}");
        [
            ("web.listen-address", self.listen.clone()),
            ("grpc", self.grpc.clone()),
            ("endpoint", self.endpoint.join(",")),
            ("replica-label", self.replica_label.join(",")),
            ("query.timeout", seconds(self.query_timeout)),
            ("endpoint-timeout", seconds(self.endpoint_timeout)),
            ("query.lookback-delta", seconds(self.lookback_delta)),
            ("query.max-concurrency", self.max_concurrent_queries.to_string()),
            ("query.max-samples", self.max_samples.to_string()),
            ("strict", self.strict.to_string()),
        ]
        .into_iter()
        .map(|(n, v)| (n.to_owned(), v))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        let c = Config::defaults();
        assert_eq!(c.lookback_delta, Duration::from_secs(300));
        assert_eq!(c.forget_after, Duration::from_secs(30 * 86_400));
        assert!(c.shown().len() > 5);
    }
}
