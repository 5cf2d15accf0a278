//! A fleet of real processes: for each replica of each cluster a Prometheus that holds its data, and a
//! sidecar beside it.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::ask::{When, ask, client};
use super::data::Dataset;
use super::place::Place;
use super::product::Sidecar;
use super::prometheus::{Flavour, Prometheus};

/// Seconds since the epoch.
pub(crate) fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs() as i64
}

/// One replica of one cluster.
pub(crate) struct Member {
    pub(crate) prometheus: Prometheus,
    pub(crate) sidecar: Sidecar,
}

impl Member {
    /// Starts the Prometheus of a replica, fills it, and starts the sidecar beside it.
    pub(crate) async fn start(
        flavour: &Flavour,
        data: &Dataset,
        (cluster, replica): (usize, usize),
        place: &Place,
        follows_log: bool,
        dir: &Path,
    ) -> Self {
        let of = &data.clusters[cluster];
        let letter = ["a", "b"][replica];
        let name = format!("{}-{letter}", of.external[0].1);
        let mut external = of.external.clone();
        external.push(("replica", letter));
        let prometheus = Prometheus::start_at(flavour, &name, &external, place, dir).await;
        prometheus.store(&data.held(cluster, replica)).await;
        let tsdb = prometheus.tsdb().display().to_string();
        let more: &[&str] = if follows_log { &["--tsdb", &tsdb] } else { &[] };
        let (name, url) = (format!("sidecar-{name}"), &prometheus.url);
        let sidecar = Sidecar::start(&name, url, more, place, dir).await;
        Self { prometheus, sidecar }
    }
}

/// The members in order: cluster by cluster, replica by replica.
pub(crate) struct Fleet {
    pub(crate) members: Vec<Member>,
}

impl Fleet {
    /// Starts all members on loopback; their sidecars follow the write-ahead logs or do not.
    pub(crate) async fn start(
        flavour: &Flavour,
        data: &Dataset,
        follows_log: bool,
        dir: &Path,
    ) -> Self {
        let mut members = Vec::new();
        for (cluster, of) in data.clusters.iter().enumerate() {
            for replica in 0..of.replicas {
                let at = (cluster, replica);
                let place = Place::loopback();
                members.push(Member::start(flavour, data, at, &place, follows_log, dir).await);
            }
        }
        Self { members }
    }

    /// Waits until the query at `url` knows every cluster of the data.
    pub(crate) async fn whole(&self, url: &str, data: &Dataset) {
        let (client, when) = (client(), When::Instant(data.until_ms - 20_500));
        let mut last = String::new();
        for _ in 0..300 {
            let answer = ask(&client, url, "count by (cluster) (state)", when).await;
            match answer {
                Ok(a) if a.rows() == data.clusters.len() && a.warnings().is_empty() => return,
                Ok(a) => last = a.body.to_string(),
                Err(e) => last = e,
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("the fleet does not become whole: {last}");
    }

    /// Where the sidecars serve gRPC.
    pub(crate) fn endpoints(&self) -> Vec<&str> {
        self.members.iter().map(|m| m.sidecar.grpc.as_str()).collect()
    }
}
