//! Asking an endpoint what stands behind it.

use std::time::Duration;

use periplus_model::{Labels, TimeRange};
use periplus_proto::convert::{label_set_from_fleet, labels_from_thanos};
use periplus_proto::fleet::fleet_client::FleetClient;
use periplus_proto::fleet::{self, DescribeRequest};
use periplus_proto::thanos::info::info_client::InfoClient;
use periplus_proto::thanos::info::{InfoRequest, InfoResponse};
use periplus_proto::{WireError, WireLimits};
use tonic::transport::Channel;
use tonic::{Code, Request, Status as Rpc};

use super::{Kind, StreamInfo};

/// Streams accepted from one endpoint.
const STREAMS_MAX: usize = 20_000;
/// Gaps accepted for one stream; beyond it the oldest are taken together.
const GAPS_MAX: usize = 1_000;

/// What an endpoint said.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// What it is.
    pub kind: Kind,
    /// Its version.
    pub version: String,
    /// What stands behind it.
    pub streams: Vec<StreamInfo>,
}

/// Asks for the streams behind `channel`, within `timeout`.
///
/// # Errors
/// A sentence on why there is no usable answer.
pub async fn probe(channel: &Channel, timeout: Duration) -> Result<Described, String> {
    let all = async {
        let mut fleet = FleetClient::new(channel.clone()).max_decoding_message_size(64 << 20);
        match fleet.describe(with_timeout(DescribeRequest {}, timeout)).await {
            Ok(answer) => {
                from_fleet(answer.into_inner()).map_err(|e| e.to_string()).and_then(has_streams)
            }
            Err(e) if e.code() == Code::Unimplemented => {
                let mut info = InfoClient::new(channel.clone());
                match info.info(with_timeout(InfoRequest {}, timeout)).await {
                    Ok(answer) => from_thanos(&answer.into_inner()).map_err(|e| e.to_string()),
                    Err(e) => Err(explain(&e)),
                }
            }
            Err(e) => Err(explain(&e)),
        }
    };
    match tokio::time::timeout(timeout, all).await {
        Ok(result) => result,
        Err(_) => Err(format!("did not say within {timeout:?} what it has")),
    }
}

/// A sidecar without streams has not reached its Prometheus yet. As an answer that would make its
/// cluster vanish without a word, so it counts as none.
fn has_streams(d: Described) -> Result<Described, String> {
    if d.kind == Kind::Sidecar && d.streams.is_empty() {
        return Err("its sidecar has not reached its Prometheus yet".to_owned());
    }
    Ok(d)
}

fn with_timeout<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

/// A gRPC status as a sentence.
#[must_use]
pub fn explain(e: &Rpc) -> String {
    let mut text = match e.message() {
        "" => format!("{:?}", e.code()),
        message => message.to_owned(),
    };
    // The transport's own words are in the chain of sources.
    let mut source = std::error::Error::source(e);
    while let Some(s) = source {
        let more = s.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = s.source();
    }
    text.truncate(text.floor_char_boundary(500));
    text
}

fn from_fleet(answer: fleet::DescribeResponse) -> Result<Described, WireError> {
    let kind = match answer.component() {
        fleet::Component::Query => Kind::Query,
        _ => Kind::Sidecar,
    };
    if answer.streams.len() > STREAMS_MAX {
        return Err(WireError::TooLarge {
            what: "streams of an endpoint",
            got: answer.streams.len() as u64,
            max: STREAMS_MAX as u64,
        });
    }
    let streams = answer.streams.into_iter().map(stream).collect::<Result<_, _>>()?;
    Ok(Described { kind, version: answer.version, streams })
}

fn stream(s: fleet::Stream) -> Result<StreamInfo, WireError> {
    let limits = WireLimits::default();
    let labels = s.external_labels.unwrap_or_default();
    let range = |r: &fleet::TimeRange| TimeRange::new(r.min_ms, r.max_ms);
    let mut gaps: Vec<TimeRange> = s.gaps.iter().map(range).filter(|g| !g.is_empty()).collect();
    gaps.sort_unstable_by_key(|g| g.min_t);
    if gaps.len() > GAPS_MAX {
        let recent = gaps.split_off(gaps.len() - GAPS_MAX);
        let old = gaps.iter().fold(TimeRange::new(1, 0), |all, g| all.union(g));
        gaps = std::iter::once(old).chain(recent).collect();
    }
    Ok(StreamInfo {
        labels: label_set_from_fleet(&labels, &limits)?,
        available: s.time_range.as_ref().map_or(TimeRange::ALL, range),
        gaps,
        problem: s.problem,
        problem_since_ms: s.problem_since_ms,
        lag_ms: s.lag_ms,
        version: s.source_version,
        address: s.address,
        shadowed: s.shadowed_labels,
        head_series: s.head_series,
    })
}

fn from_thanos(answer: &InfoResponse) -> Result<Described, WireError> {
    let limits = WireLimits::default();
    let all = match &answer.store {
        Some(s) => TimeRange::new(s.min_time, s.max_time),
        None => {
            return Err(WireError::Malformed {
                what: "thanos.info.Info",
                problem: "the endpoint serves no store".to_owned(),
            });
        }
    };
    let mut sets: Vec<Labels> = Vec::new();
    for set in answer.label_sets.iter().take(STREAMS_MAX) {
        sets.push(labels_from_thanos(&set.labels, &limits)?);
    }
    if sets.is_empty() {
        sets.push(Labels::empty());
    }
    sets.sort_unstable();
    sets.dedup();
    let stream = |labels| StreamInfo {
        labels,
        available: all,
        gaps: Vec::new(),
        problem: String::new(),
        problem_since_ms: 0,
        lag_ms: -1,
        version: String::new(),
        address: String::new(),
        shadowed: Vec::new(),
        head_series: 0,
    };
    let version = format!("thanos {}", answer.component_type);
    Ok(Described { kind: Kind::Thanos, version, streams: sets.into_iter().map(stream).collect() })
}
