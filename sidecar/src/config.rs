//! What a sidecar is told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use periplus_daemon::tls::ServerTls;
use url::Url;

/// Where pushed subtrees are evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum EvaluateIn {
    /// In Prometheus where its answer is exact, else in our engine
    #[default]
    Auto,
    /// Always in our engine, over remote read
    Engine,
}

/// Settings of a sidecar.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// URL of the Prometheus this sidecar stands beside
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    pub prometheus: Url,
    /// How this sidecar reaches its Prometheus beyond the URL.
    #[command(flatten)]
    pub access: Access,
    /// Address for gRPC
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:10901")]
    pub listen: String,
    /// Certificates of the gRPC server.
    #[command(flatten)]
    pub tls: ServerTls,
    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub connections_max: usize,
    /// Bounds on what one request may cost.
    #[command(flatten)]
    pub limits: RequestLimits,
    /// How often Prometheus's health, labels and lag are looked at
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    pub prometheus_poll_interval: Duration,
    /// How far back gaps in Prometheus's data are looked for
    #[arg(long, value_name = "DURATION", default_value = "6h", value_parser = humantime::parse_duration)]
    pub gap_window: Duration,
    /// Where pushed queries are evaluated
    #[arg(long, value_enum, default_value_t)]
    pub evaluate_in: EvaluateIn,
}

/// Credentials and certificates for Prometheus. Secrets are read from files, and again for each request,
/// so that they can be rotated.
#[derive(Args, Clone, Debug, Default)]
pub struct Access {
    /// File with the bearer token for Prometheus
    #[arg(long, value_name = "FILE")]
    pub prometheus_bearer_token_file: Option<PathBuf>,
    /// User for Prometheus's basic authentication
    #[arg(long, value_name = "NAME")]
    pub prometheus_basic_user: Option<String>,
    /// File with the password for it
    #[arg(long, value_name = "FILE")]
    pub prometheus_basic_password_file: Option<PathBuf>,
    /// PEM file with the authorities that sign Prometheus's certificate; without it the system's
    #[arg(long, value_name = "FILE")]
    pub prometheus_tls_ca: Option<PathBuf>,
    /// PEM file with the certificate chain and private key to show to Prometheus
    #[arg(long, value_name = "FILE")]
    pub prometheus_tls_identity: Option<PathBuf>,
}

/// Bounds on what one request may cost.
#[derive(Args, Clone, Debug)]
pub struct RequestLimits {
    /// Series of one request
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    pub series_max: u64,
    /// Chunks of one request
    #[arg(long, value_name = "N", default_value_t = 50_000_000)]
    pub chunks_max: u64,
    /// Bytes of chunks or results of one request
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 30)]
    pub bytes_max: u64,
    /// Samples one evaluation may hold
    #[arg(long, value_name = "N", default_value_t = 50_000_000)]
    pub samples_max: u64,
    /// Memory one evaluation may hold
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30)]
    pub memory_max: u64,
    /// Requests evaluated or streamed at once; more wait
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub concurrent_max: usize,
    /// Time one request may take
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    pub request_timeout: Duration,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            series_max: 2_000_000,
            chunks_max: 50_000_000,
            bytes_max: 8 << 30,
            samples_max: 50_000_000,
            memory_max: 1 << 30,
            concurrent_max: 32,
            request_timeout: Duration::from_secs(120),
        }
    }
}

impl Config {
    /// The defaults for a Prometheus at `url`, for processes that hold several sidecars.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self {
            prometheus: url,
            access: Access::default(),
            listen: "127.0.0.1:0".into(),
            tls: ServerTls::default(),
            connections_max: 512,
            limits: RequestLimits::default(),
            prometheus_poll_interval: Duration::from_secs(5),
            gap_window: Duration::from_secs(6 * 3600),
            evaluate_in: EvaluateIn::Auto,
        }
    }
}
