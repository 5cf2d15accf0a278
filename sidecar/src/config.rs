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
    /// Prometheus's data directory; with it recent questions are answered from its write-ahead log, at no cost to Prometheus
    #[arg(long, value_name = "DIR")]
    pub tsdb: Option<PathBuf>,
    /// How far back the write-ahead log is kept in memory; 0 switches that off
    #[arg(long, value_name = "DURATION", default_value = "75m", value_parser = humantime::parse_duration)]
    pub hot_window: Duration,
    /// The most memory that may take; above it, it is switched off
    #[arg(long, value_name = "BYTES", default_value = "32MiB", value_parser = parse_bytes)]
    pub hot_window_memory: u64,
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
    #[arg(long, value_name = "N", default_value_t = 64)]
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
            concurrent_max: 64,
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
            tsdb: None,
            hot_window: Duration::from_secs(75 * 60),
            hot_window_memory: 32 << 20,
            evaluate_in: EvaluateIn::Auto,
        }
    }
}

/// `32MiB`, `1GiB`, `4096`.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..).unwrap_or_default() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        unit => return Err(format!("unknown unit {unit:?}; write a number with KiB, MiB or GiB")),
    };
    let number: u64 = digits.trim().parse().map_err(|e| format!("{digits:?}: {e}"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!(parse_bytes("32MiB"), Ok(32 << 20));
        assert_eq!(parse_bytes("77"), Ok(77));
        assert!(parse_bytes("3MB").is_err() && parse_bytes("MiB").is_err());
        assert!(parse_bytes("99999999999GiB").is_err());
    }
}
