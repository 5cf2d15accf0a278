//! What shipping asks of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use periplus_model::duration::parse_duration;
use serde::Deserialize;
use url::Url;

use super::ShipError;
use super::config::ShipConfig;
use crate::config::Access;
use crate::prometheus::Client;

const TIMEOUT: Duration = Duration::from_secs(10);
/// A snapshot writes the whole head to disk.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(300);

/// A Prometheus, as far as shipping needs it.
#[async_trait]
pub trait Upstream: Debug + Send + Sync {
    /// Its flags.
    async fn flags(&self) -> Result<BTreeMap<String, String>, ShipError>;

    /// Makes a snapshot of everything, the head included, and gives the name of its directory below
    /// `snapshots` in the data directory.
    async fn snapshot(&self) -> Result<String, ShipError>;
}

/// Prometheus's HTTP API.
#[derive(Debug)]
pub struct PrometheusApi(Client);

impl PrometheusApi {
    /// Its API at a URL.
    ///
    /// # Errors
    /// Files of the access settings that can't be used.
    pub fn new(url: Url, access: &Access) -> Result<Self, ShipError> {
        Client::new(url, access).map(Self).map_err(|e| ShipError::Prometheus(e.to_string()))
    }

    /// Where it is, without credentials.
    #[must_use]
    pub fn address(&self) -> String {
        self.0.address()
    }
}

#[async_trait]
impl Upstream for PrometheusApi {
    async fn flags(&self) -> Result<BTreeMap<String, String>, ShipError> {
        self.0.flags(TIMEOUT).await.map_err(|e| ShipError::Prometheus(e.to_string()))
    }

    async fn snapshot(&self) -> Result<String, ShipError> {
        #[derive(Deserialize)]
        struct Data {
            name: String,
        }
        #[derive(Deserialize)]
        struct Answer {
            data: Data,
        }
        let path = "api/v1/admin/tsdb/snapshot";
        let answer = self.0.query(path, &[], SNAPSHOT_TIMEOUT).await;
        let answer = answer.map_err(|e| {
            ShipError::Prometheus(format!("snapshot: {e} (it needs --web.enable-admin-api)"))
        })?;
        let body = answer.bytes().await.map_err(|e| ShipError::Prometheus(e.to_string()))?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|e| ShipError::Prometheus(format!("snapshot: {e}")))?;
        let name = answer.data.name;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 128 || !name.chars().all(is_plain) {
            return Err(ShipError::Prometheus(format!(
                "snapshot: {name:?} is no directory's name"
            )));
        }
        Ok(name)
    }
}

/// Something about Prometheus's flags that whoever runs it should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Whether data can be missing from the bucket because of it.
    pub is_warning: bool,
    /// What is so, what follows, and what to do.
    pub text: String,
}

/// What follows from Prometheus's flags for shipping.
#[must_use]
pub fn advice(flags: &BTreeMap<String, String>, config: &ShipConfig) -> Vec<Advice> {
    let flag = |name: &str| flags.get(name).map_or("", String::as_str);
    let duration = |name: &str| parse_duration(flag(name)).ok().filter(|ms| *ms > 0);
    let mut all = Vec::new();
    let mut say = |is_warning, text: String| all.push(Advice { is_warning, text });
    let (min, max) =
        (duration("storage.tsdb.min-block-duration"), duration("storage.tsdb.max-block-duration"));
    let delay_file = flag("storage.tsdb.delay-compact-file.path");
    let is_delayed = delay_file.ends_with(&config.state_file);
    match (min, max) {
        // A largest size that is not set follows from the retention, and is larger.
        (Some(min), max) if max != Some(min) => {
            let ranges = format!(
                "Prometheus compacts its blocks itself (--storage.tsdb.min-block-duration {}, \
                 max-block-duration {})",
                flag("storage.tsdb.min-block-duration"),
                flag("storage.tsdb.max-block-duration"),
            );
            let room = periplus_model::duration::format_duration(min * 2);
            if is_delayed {
                say(false, format!("{ranges}, each block only after it was shipped: nothing is lost"));
            } else if config.compacted {
                say(false, format!(
                    "{ranges}: what it compacts before it was shipped is shipped compacted, unless \
                     a part of it is in the bucket already. A compactor over the bucket must cope \
                     with that; where this Prometheus can, set \
                     --storage.tsdb.delay-compact-file.path to {}", config.state_file
                ));
            } else {
                say(true, format!(
                    "{ranges}: a block that is not shipped within about {room} is compacted away \
                     and never shipped. Set max-block-duration to the same as min-block-duration, \
                     or --storage.tsdb.delay-compact-file.path to {} (Prometheus 3), or start the \
                     sidecar with --ship-compacted", config.state_file
                ));
            }
        }
        (Some(_), _) => say(false, "Prometheus does not compact: every block is shipped as it is".into()),
        (None, _) => say(true, "Prometheus does not tell its block durations; whether it compacts blocks before they are shipped is not known".into()),
    }
    if let (Some(min), Some(keep)) = (min, duration("storage.tsdb.retention.time"))
        && keep < 3 * min
    {
        say(
            true,
            format!(
                "Prometheus keeps {} (--storage.tsdb.retention.time): a bucket that is away for longer \
             costs data. Keep at least three times the block duration",
                flag("storage.tsdb.retention.time"),
            ),
        );
    }
    if config.head.is_some() && flag("web.enable-admin-api") == "false" {
        say(
            true,
            "--ship-head needs Prometheus's --web.enable-admin-api; no head is shipped".into(),
        );
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_flags() {
        let flags = |min: &str, max: &str, delay: &str, keep: &str| {
            BTreeMap::from([
                ("storage.tsdb.min-block-duration".to_owned(), min.to_owned()),
                ("storage.tsdb.max-block-duration".to_owned(), max.to_owned()),
                ("storage.tsdb.delay-compact-file.path".to_owned(), delay.to_owned()),
                ("storage.tsdb.retention.time".to_owned(), keep.to_owned()),
                ("web.enable-admin-api".to_owned(), "false".to_owned()),
            ])
        };
        let mut config = ShipConfig::new("/data".into());
        let warnings = |flags: &BTreeMap<String, String>, config: &ShipConfig| {
            advice(flags, config).into_iter().filter(|a| a.is_warning).count()
        };
        assert_eq!(warnings(&flags("2h", "2h", "", "15d"), &config), 0);
        let compacting = flags("2h", "1d12h", "", "15d");
        assert_eq!(warnings(&compacting, &config), 1);
        assert!(advice(&compacting, &config)[0].text.contains("within about 4h"));
        assert_eq!(warnings(&flags("2h", "1d", "/data/thanos.shipper.json", "15d"), &config), 0);
        assert_eq!(warnings(&flags("2h", "2h", "", "4h"), &config), 1);
        assert_eq!(warnings(&BTreeMap::new(), &config), 1);
        config.compacted = true;
        assert_eq!(warnings(&compacting, &config), 0);
        config.head = Some(Duration::from_secs(60));
        assert_eq!(warnings(&compacting, &config), 1);
    }
}
