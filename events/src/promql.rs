//! The counters for PromQL: `thanos.Store` and `thanos.info.Info`, so that the query layer has the hub as one more endpoint.
//!
//! The one decision worth knowing: the endpoint announces `__name__="periplus_events_total"` as its external label, which is
//! simply true: all its series have it. The query layer routes selectors by external labels, so it asks the hub only where
//! a selector can mean events, and every other question is pushed down as if the hub were not there.

use std::net::SocketAddr;
use std::sync::Arc;

use periplus_block::chunk::XorEncoder;
use periplus_daemon::drain::Drain;
use periplus_daemon::grpc;
use periplus_daemon::listen::Listener;
use periplus_model::{Labels, METRIC_NAME, Matcher};
use periplus_proto::convert::{labels_to_thanos, matchers_from_thanos};
use periplus_proto::thanos::info::info_server::{Info, InfoServer};
use periplus_proto::thanos::info::{InfoRequest, InfoResponse, StoreInfo, TsdbInfo};
use periplus_proto::thanos::store_server::{Store, StoreServer};
use periplus_proto::thanos::{self, SeriesRequest, SeriesResponse, ZLabelSet, series_response};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::counters::{Key, METRIC, Samples};
use crate::hub::{Active, Hub, HubError};
use crate::log::commit::now_us;

/// Samples of a chunk.
const CHUNK_SAMPLES: usize = 120;
/// Samples of an answer at most.
const SAMPLES_MAX: i64 = 50_000_000;
/// Milliseconds between samples where a day or less is asked for, and where more is.
const STEPS_MS: (i64, i64) = (15_000, 60_000);
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Serves the counters of a hub.
#[derive(Clone, Debug)]
pub struct Service {
    hub: Hub,
}

/// A bound gRPC listener, not serving yet.
#[derive(Debug)]
pub struct Bound {
    service: Service,
    listener: Listener,
}

impl Bound {
    /// Binds `address`.
    ///
    /// # Errors
    /// It can't be listened on, or the certificates can't be used.
    pub async fn bind(hub: Hub, address: &str) -> Result<Self, HubError> {
        hub.shared.config.tls.tonic()?;
        let listener = Listener::bind(address, "grpc", hub.shared.config.max_connections).await?;
        Ok(Self { service: Service { hub }, listener })
    }

    /// Where it will listen.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Serves until the process is asked to end.
    ///
    /// # Errors
    /// The certificates can't be used.
    pub async fn run(self, drain: &Drain) -> Result<(), HubError> {
        let max = grpc::REQUEST_BYTES_MAX;
        let router = grpc::server(&self.service.hub.shared.config.tls)?
            .add_service(StoreServer::new(self.service.clone()).max_decoding_message_size(max))
            .add_service(InfoServer::new(self.service).max_decoding_message_size(max));
        if let Err(error) = grpc::serve(router, self.listener, drain.token()).await {
            tracing::error!(%error, "the gRPC server of the events hub ended");
        }
        Ok(())
    }
}

impl Service {
    fn active(&self) -> Result<Arc<Active>, Status> {
        self.hub.active().map_err(Status::unavailable)
    }
}

/// The labels of a series.
fn labels(key: &Key) -> Labels {
    let own = key.labels().into_iter().filter(|(_, v)| !v.is_empty());
    Labels::from_pairs(own.chain([(METRIC_NAME, METRIC)]))
}

fn value<'a>(key: &'a Key, name: &str) -> &'a str {
    if name == METRIC_NAME {
        return METRIC;
    }
    key.labels().into_iter().find(|(n, _)| *n == name).map_or("", |(_, v)| v)
}

fn matches(matchers: &[Matcher], key: &Key) -> bool {
    matchers.iter().all(|m| m.matches(value(key, &m.name)))
}

fn matchers(all: &[thanos::LabelMatcher]) -> Result<Vec<Matcher>, Status> {
    matchers_from_thanos(all).map_err(|e| Status::invalid_argument(e.to_string()))
}

#[expect(clippy::cast_precision_loss, reason = "counts, exact below 2^53")]
fn chunks(samples: &[(i64, u64)]) -> Result<Vec<thanos::AggrChunk>, Status> {
    let mut out = Vec::new();
    for run in samples.chunks(CHUNK_SAMPLES) {
        let mut encoder = XorEncoder::new();
        for (t, total) in run {
            let full = |_| Status::internal("a chunk took fewer samples than it has room for");
            encoder.append(*t, *total as f64).map_err(full)?;
        }
        let data = encoder.finish().into();
        out.push(thanos::AggrChunk {
            min_time: run.first().map_or(0, |s| s.0),
            max_time: run.last().map_or(0, |s| s.0),
            raw: Some(thanos::Chunk { r#type: thanos::chunk::Encoding::Xor as i32, data, hash: 0 }),
            ..thanos::AggrChunk::default()
        });
    }
    Ok(out)
}

/// The series of a request, ordered by labels.
fn select(active: &Active, request: &SeriesRequest) -> Result<Vec<(Labels, Samples)>, Status> {
    let matchers = matchers(&request.matchers)?;
    let (min, max) = (request.min_time, request.max_time);
    let now = now_us() / 1000;
    let begin = active.counters.oldest_ms().unwrap_or(now).max(min);
    let long = max.min(now).saturating_sub(begin) > DAY_MS;
    let step = if long { STEPS_MS.1 } else { STEPS_MS.0 };
    let steps = max.min(now).saturating_sub(begin).max(0) / step + 1;
    let count = active.counters.count(|k| matches(&matchers, k));
    if steps.saturating_mul(i64::try_from(count).unwrap_or(i64::MAX)) > SAMPLES_MAX {
        let text =
            format!("{METRIC}: more than {SAMPLES_MAX} samples; select less, or a shorter time");
        return Err(Status::resource_exhausted(text));
    }
    let all = active.counters.samples(|k| matches(&matchers, k), (min, max), step, now);
    let mut series: Vec<(Labels, Samples)> = all
        .into_iter()
        .filter(|s| !s.samples.is_empty())
        .map(|s| {
            let shown = labels(&s.key);
            let dropped = &request.without_replica_labels;
            (shown.filter(|n| !dropped.iter().any(|d| d == n)), s)
        })
        .collect();
    series.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(series)
}

#[tonic::async_trait]
impl Store for Service {
    type SeriesStream = ReceiverStream<Result<SeriesResponse, Status>>;

    async fn series(
        &self,
        request: Request<SeriesRequest>,
    ) -> Result<Response<Self::SeriesStream>, Status> {
        let (active, request) = (self.active()?, request.into_inner());
        let (tx, rx) = tokio::sync::mpsc::channel(16);
        tokio::task::spawn_blocking(move || {
            let send = || -> Result<(), Status> {
                let series = select(&active, &request)?;
                let limit = usize::try_from(request.limit).ok().filter(|l| *l > 0);
                for (labels, samples) in series.into_iter().take(limit.unwrap_or(usize::MAX)) {
                    let chunks =
                        if request.skip_chunks { Vec::new() } else { chunks(&samples.samples)? };
                    let series = thanos::Series { labels: labels_to_thanos(&labels), chunks };
                    let message =
                        SeriesResponse { result: Some(series_response::Result::Series(series)) };
                    if tx.blocking_send(Ok(message)).is_err() {
                        return Ok(());
                    }
                }
                Ok(())
            };
            if let Err(status) = send() {
                let _left = tx.blocking_send(Err(status));
            }
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn label_names(
        &self,
        request: Request<thanos::LabelNamesRequest>,
    ) -> Result<Response<thanos::LabelNamesResponse>, Status> {
        let (active, request) = (self.active()?, request.into_inner());
        let matchers = matchers(&request.matchers)?;
        let mut names = std::collections::BTreeSet::new();
        active.counters.each(|key| {
            if matches(&matchers, key) {
                names.extend(labels(key).iter().map(|(n, _)| n.to_owned()));
            }
        });
        let names = names.into_iter().collect();
        Ok(Response::new(thanos::LabelNamesResponse { names, ..Default::default() }))
    }

    async fn label_values(
        &self,
        request: Request<thanos::LabelValuesRequest>,
    ) -> Result<Response<thanos::LabelValuesResponse>, Status> {
        let (active, request) = (self.active()?, request.into_inner());
        let matchers = matchers(&request.matchers)?;
        let mut values = std::collections::BTreeSet::new();
        active.counters.each(|key| {
            let value = value(key, &request.label);
            if !value.is_empty() && matches(&matchers, key) {
                values.insert(value.to_owned());
            }
        });
        let values = values.into_iter().collect();
        Ok(Response::new(thanos::LabelValuesResponse { values, ..Default::default() }))
    }
}

#[tonic::async_trait]
impl Info for Service {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let active = self.active()?;
        let external = Labels::from_pairs([(METRIC_NAME, METRIC)]);
        let set = ZLabelSet { labels: labels_to_thanos(&external) };
        let min_time = active.counters.oldest_ms().unwrap_or_else(|| now_us() / 1000);
        let max_time = i64::MAX;
        Ok(Response::new(InfoResponse {
            label_sets: vec![set.clone()],
            component_type: "store".to_owned(),
            store: Some(StoreInfo {
                min_time,
                max_time,
                supports_sharding: false,
                supports_without_replica_labels: true,
                tsdb_infos: vec![TsdbInfo { labels: Some(set), min_time, max_time }],
                supports_projections: false,
            }),
            ..InfoResponse::default()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use periplus_block::chunk::{ChunkEncoding, sample_count};

    #[test]
    fn samples_become_chunks() {
        let samples: Vec<(i64, u64)> = (0..250).map(|i| (i * 15_000, i as u64 / 3)).collect();
        let chunks = chunks(&samples).unwrap();
        assert_eq!(chunks.len(), 3);
        assert_eq!((chunks[1].min_time, chunks[2].max_time), (120 * 15_000, 249 * 15_000));
        let raw = chunks[2].raw.as_ref().unwrap();
        assert_eq!(sample_count(ChunkEncoding::Xor, &raw.data).unwrap(), 10);
    }

    #[test]
    fn series_have_a_name_and_no_empty_labels() {
        let key = Key {
            cluster: "a".into(),
            namespace: String::new(),
            reason: "BackOff".into(),
            type_: "Warning".into(),
            kind: "Pod".into(),
        };
        let labels = labels(&key);
        assert_eq!(labels.metric_name(), Some(METRIC));
        assert_eq!((labels.len(), labels.value("namespace")), (5, ""));
        let matcher = |n: &str, v: &str| Matcher::equal(n, v);
        assert!(matches(&[matcher("__name__", METRIC), matcher("namespace", "")], &key));
        assert!(!matches(&[matcher("pod", "x")], &key));
    }
}
