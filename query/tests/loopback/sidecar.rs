//! An endpoint over series in memory: what a sidecar answers, and ways to fail.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use periplus_block::chunk::{ChunkSamples, encode};
use periplus_model::{Labels, Matcher, SampleBuffer, TimeRange};
use periplus_promql::engine::{Engine, EngineConfig, Leaves, QuerySpec};
use periplus_promql::limits::Cancel;
use periplus_promql::parse;
use periplus_promql::source::{SelectRequest, SeriesEntry, SeriesStream, Source, SourceError};
use periplus_promql::value::{StepGrid, Value};
use periplus_proto::convert::{label_set_to_fleet, labels_to_thanos, matchers_from_thanos};
use periplus_proto::fleet::execute_response::Frame;
use periplus_proto::fleet::fleet_server::{Fleet, FleetServer};
use periplus_proto::fleet::{self, ExecuteRequest, ExecuteResponse, PartialKind, Trailer};
use periplus_proto::thanos::info::info_server::{Info, InfoServer};
use periplus_proto::thanos::info::{InfoRequest, InfoResponse, StoreInfo};
use periplus_proto::thanos::series_response::Result as SeriesFrame;
use periplus_proto::thanos::store_server::{Store, StoreServer};
use periplus_proto::thanos::{self, AggrChunk, SeriesRequest, SeriesResponse, ZLabelSet};
use periplus_query::fanout::QueryTimes;
use periplus_query::fanout::wire::{encode_partial, encode_series};
use periplus_query::times::pin;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::data::Series;

/// How an endpoint fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Describes itself, but never answers a question.
    Hangs,
    /// Sends half an answer and stops sending.
    Stalls,
    /// Sends half an answer and ends it.
    BreaksOff,
    /// Sends rows that refer to nothing.
    Garbage,
    /// Says it can't.
    Refuses,
}

/// An endpoint's data and behaviour.
#[derive(Clone)]
pub(crate) struct FakeSidecar {
    pub(crate) external: Labels,
    pub(crate) series: Arc<Series>,
    pub(crate) gaps: Vec<(i64, i64)>,
    pub(crate) fault: Fault,
    /// Whether it is a Thanos sidecar, which only gives series.
    pub(crate) thanos: bool,
    pub(crate) engine: Arc<Engine>,
    /// Execute requests answered.
    pub(crate) executed: Arc<AtomicUsize>,
    /// Series requests answered.
    pub(crate) fetched: Arc<AtomicUsize>,
}

impl FakeSidecar {
    pub(crate) fn new(external: Labels, series: Series) -> Self {
        Self {
            external,
            series: Arc::new(series),
            gaps: Vec::new(),
            fault: Fault::None,
            thanos: false,
            engine: engine(),
            executed: Arc::default(),
            fetched: Arc::default(),
        }
    }

    /// Serves on a port of its own until the runtime ends.
    pub(crate) async fn serve(self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let thanos = self.thanos;
        tokio::spawn(async move {
            let mut server = tonic::transport::Server::builder();
            let router = server
                .add_service(StoreServer::new(self.clone()))
                .add_service(InfoServer::new(self.clone()));
            let router = match thanos {
                true => router,
                false => router.add_service(FleetServer::new(self)),
            };
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            router.serve_with_incoming(incoming).await.expect("served");
        });
        address
    }

    fn with_labels(&self, drop: &[String]) -> Series {
        labelled(&self.series, &self.external.filter(|n| !drop.iter().any(|d| d == n)))
    }
}

pub(crate) fn engine() -> Arc<Engine> {
    let config = EngineConfig { workers: 1, ..EngineConfig::default() };
    Arc::new(Engine::new(&config).expect("an engine"))
}

/// The series with more labels, in order.
pub(crate) fn labelled(series: &Series, more: &Labels) -> Series {
    let mut out: Series = series
        .iter()
        .map(|(l, s)| {
            let mut b = l.to_builder();
            more.iter().for_each(|(n, v)| _ = b.set(n, v));
            (b.build(), s.clone())
        })
        .collect();
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

/// A source of the engine over series in memory.
pub(crate) struct Memory(pub(crate) Series);

struct Once(Option<Vec<SeriesEntry>>);

impl SeriesStream for Once {
    fn next_block(&mut self) -> Result<Option<Vec<SeriesEntry>>, SourceError> {
        Ok(self.0.take())
    }
}

impl Source for Memory {
    fn select(&self, r: &SelectRequest) -> Result<Box<dyn SeriesStream>, SourceError> {
        let found = self.0.iter().filter(|(l, s)| matches(&r.matchers, l) && touches(s, r.range));
        let entry = |(l, s): &(Labels, SampleBuffer)| SeriesEntry {
            labels: l.clone(),
            samples: Arc::new(s.clone()),
        };
        Ok(Box::new(Once(Some(found.map(entry).collect()))))
    }
}

fn matches(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|m| m.matches(labels.value(&m.name)))
}

fn touches(samples: &SampleBuffer, range: TimeRange) -> bool {
    samples.ts.iter().any(|t| range.contains(*t))
}

type Out<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Fleet for FakeSidecar {
    type ExecuteStream = Out<ExecuteResponse>;

    async fn describe(
        &self,
        _: Request<fleet::DescribeRequest>,
    ) -> Result<Response<fleet::DescribeResponse>, Status> {
        let gap = |(a, b): &(i64, i64)| fleet::TimeRange { min_ms: *a, max_ms: *b };
        let stream = fleet::Stream {
            external_labels: Some(label_set_to_fleet(&self.external)),
            time_range: Some(fleet::TimeRange { min_ms: 0, max_ms: i64::MAX }),
            gaps: self.gaps.iter().map(gap).collect(),
            ..fleet::Stream::default()
        };
        let mut answer = fleet::DescribeResponse::default();
        answer.set_component(fleet::Component::Sidecar);
        answer.streams = vec![stream];
        Ok(Response::new(answer))
    }

    async fn execute(
        &self,
        request: Request<ExecuteRequest>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        self.executed.fetch_add(1, Ordering::Relaxed);
        match self.fault {
            Fault::Hangs => std::future::pending::<()>().await,
            Fault::Refuses => return Err(Status::unavailable("the Prometheus is down")),
            _ => {}
        }
        let this = self.clone();
        let frames = tokio::task::spawn_blocking(move || this.run(&request.into_inner()));
        let mut frames = frames.await.expect("it ran")?;
        if self.fault == Fault::Garbage {
            let row = fleet::Row { label_refs: vec![7, 99], ..fleet::Row::default() };
            let batch = fleet::Batch { rows: vec![row], ..fleet::Batch::default() };
            frames.insert(0, ExecuteResponse { frame: Some(Frame::Batch(batch)) });
        }
        if matches!(self.fault, Fault::Stalls | Fault::BreaksOff) {
            frames.pop();
        }
        let sent = tokio_stream::iter(frames.into_iter().map(Ok));
        if self.fault == Fault::Stalls {
            let never = tokio_stream::StreamExt::chain(sent, tokio_stream::pending());
            return Ok(Response::new(Box::pin(never)));
        }
        Ok(Response::new(Box::pin(sent)))
    }
}

impl FakeSidecar {
    fn run(&self, r: &ExecuteRequest) -> Result<Vec<ExecuteResponse>, Status> {
        let expr = parse::parse(&r.query).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let grid = match r.step_ms {
            0 => StepGrid::instant(r.start_ms),
            step_ms => StepGrid { start_ms: r.start_ms, end_ms: r.end_ms, step_ms },
        };
        let times = QueryTimes {
            start_ms: r.query_start_ms,
            end_ms: r.query_end_ms,
            step_ms: r.query_step_ms,
        };
        let mut spec = QuerySpec::range(pin(&expr, times), r.query.as_str(), grid);
        spec.lookback_ms = r.lookback_ms;
        let source = Memory(self.with_labels(&r.drop_labels));
        let fail = |e: periplus_promql::engine::QueryError| Status::failed_precondition(e.message);
        let (leaves, cancel) = (Leaves::new(), Cancel::new());
        let (batches, annotations) = match r.partial() {
            PartialKind::Whole => {
                let done = self.engine.execute(&spec, &source, &leaves, &cancel).map_err(fail)?;
                match &done.value {
                    Value::Vector(m) => (encode_series(m), done.annotations),
                    other => return Err(Status::internal(format!("{other:?}"))),
                }
            }
            _ => {
                let done = self.engine.execute_partial(&spec, &source, &leaves, &cancel);
                let done = done.map_err(fail)?;
                (encode_partial(&done.partial), done.annotations)
            }
        };
        let (warnings, infos) = annotations.to_strings(&r.query, 0);
        let trailer = Trailer { warnings, infos, ..Trailer::default() };
        let mut frames: Vec<ExecuteResponse> =
            batches.into_iter().map(|b| ExecuteResponse { frame: Some(Frame::Batch(b)) }).collect();
        frames.push(ExecuteResponse { frame: Some(Frame::Trailer(trailer)) });
        Ok(frames)
    }
}

#[tonic::async_trait]
impl Info for FakeSidecar {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Ok(Response::new(InfoResponse {
            label_sets: vec![ZLabelSet { labels: labels_to_thanos(&self.external) }],
            component_type: "sidecar".into(),
            store: Some(StoreInfo { min_time: 0, max_time: i64::MAX, ..StoreInfo::default() }),
            ..InfoResponse::default()
        }))
    }
}

fn chunks(samples: &SampleBuffer, range: TimeRange) -> Vec<AggrChunk> {
    let mut all = ChunkSamples::default();
    for (t, v) in samples.ts.iter().zip(&samples.values).filter(|(t, _)| range.contains(**t)) {
        all.ts.push(*t);
        all.values.push(*v);
    }
    let chunk = |c: periplus_block::chunk::EncodedChunk| AggrChunk {
        min_time: c.range.min_t,
        max_time: c.range.max_t,
        raw: Some(thanos::Chunk {
            r#type: c.encoding.store_api().expect("a plain encoding"),
            data: Bytes::from(c.payload),
            ..thanos::Chunk::default()
        }),
        ..AggrChunk::default()
    };
    encode(&all).expect("encoded").into_iter().map(chunk).collect()
}

#[tonic::async_trait]
impl Store for FakeSidecar {
    type SeriesStream = Out<SeriesResponse>;

    async fn series(
        &self,
        request: Request<SeriesRequest>,
    ) -> Result<Response<Self::SeriesStream>, Status> {
        self.fetched.fetch_add(1, Ordering::Relaxed);
        if self.fault == Fault::Hangs {
            std::future::pending::<()>().await;
        }
        let r = request.into_inner();
        let matchers = matchers_from_thanos(&r.matchers).expect("good matchers");
        // Matchers see the labels that are dropped from the answer, as with Thanos.
        let full = |l: &Labels| {
            let mut b = l.to_builder();
            self.external.iter().for_each(|(n, v)| _ = b.set(n, v));
            b.build()
        };
        let range = TimeRange::new(r.min_time, r.max_time);
        let mut frames: Vec<Result<SeriesResponse, Status>> = Vec::new();
        for (labels, samples) in self.with_labels(&r.without_replica_labels) {
            if !matches(&matchers, &full(&labels)) || !touches(&samples, range) {
                continue;
            }
            let chunks = if r.skip_chunks { Vec::new() } else { chunks(&samples, range) };
            let series = thanos::Series { labels: labels_to_thanos(&labels), chunks };
            frames.push(Ok(SeriesResponse { result: Some(SeriesFrame::Series(series)) }));
        }
        match self.fault {
            Fault::Stalls | Fault::BreaksOff => {
                frames.truncate(frames.len() / 2);
                let sent = tokio_stream::iter(frames);
                let end: Out<SeriesResponse> = match self.fault {
                    Fault::Stalls => Box::pin(tokio_stream::pending()),
                    _ => Box::pin(tokio_stream::iter([Err(Status::unavailable("gone"))])),
                };
                Ok(Response::new(Box::pin(tokio_stream::StreamExt::chain(sent, end))))
            }
            Fault::Refuses => Err(Status::unavailable("the Prometheus is down")),
            _ => Ok(Response::new(Box::pin(tokio_stream::iter(frames)))),
        }
    }

    async fn label_names(
        &self,
        _: Request<thanos::LabelNamesRequest>,
    ) -> Result<Response<thanos::LabelNamesResponse>, Status> {
        let all = self.with_labels(&[]);
        let mut names: Vec<String> =
            all.iter().flat_map(|(l, _)| l.iter().map(|(n, _)| n.to_owned())).collect();
        names.sort();
        names.dedup();
        Ok(Response::new(thanos::LabelNamesResponse { names, ..Default::default() }))
    }

    async fn label_values(
        &self,
        request: Request<thanos::LabelValuesRequest>,
    ) -> Result<Response<thanos::LabelValuesResponse>, Status> {
        if self.fault == Fault::Hangs {
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        let r = request.into_inner();
        let matchers = matchers_from_thanos(&r.matchers).expect("good matchers");
        let all = self.with_labels(&[]);
        let mut values: Vec<String> = all
            .iter()
            .filter(|(l, _)| matches(&matchers, l))
            .filter_map(|(l, _)| l.get(&r.label).map(str::to_owned))
            .collect();
        values.sort();
        values.dedup();
        Ok(Response::new(thanos::LabelValuesResponse { values, ..Default::default() }))
    }
}
