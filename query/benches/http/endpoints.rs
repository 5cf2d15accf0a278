//! Ten endpoints that answer any sum with one of each of them, after two milliseconds.

use std::net::SocketAddr;
use std::time::Duration;

use periplus_model::Labels;
use periplus_promql::partial::{PartialGroup, PartialKind, PartialMatrix};
use periplus_promql::value::{Bitmap, StepGrid};
use periplus_proto::convert::label_set_to_fleet;
use periplus_proto::fleet::execute_response::Frame;
use periplus_proto::fleet::fleet_server::{Fleet, FleetServer};
use periplus_proto::fleet::{self, ExecuteRequest, ExecuteResponse, Trailer};
use periplus_query::fanout::wire::encode_partial;
use tonic::{Request, Response, Status};

use super::Failure;

const ENDPOINTS: usize = 10;

#[derive(Clone)]
struct Sum {
    external: Labels,
}

#[tonic::async_trait]
impl Fleet for Sum {
    type ExecuteStream = tokio_stream::Iter<std::vec::IntoIter<Result<ExecuteResponse, Status>>>;

    async fn describe(
        &self,
        _: Request<fleet::DescribeRequest>,
    ) -> Result<Response<fleet::DescribeResponse>, Status> {
        let stream = fleet::Stream {
            external_labels: Some(label_set_to_fleet(&self.external)),
            time_range: Some(fleet::TimeRange { min_ms: 0, max_ms: i64::MAX }),
            ..fleet::Stream::default()
        };
        let mut answer = fleet::DescribeResponse { streams: vec![stream], ..Default::default() };
        answer.set_component(fleet::Component::Sidecar);
        Ok(Response::new(answer))
    }

    async fn execute(
        &self,
        _: Request<ExecuteRequest>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let partial = PartialMatrix {
            kind: PartialKind::Sum,
            grid: StepGrid::instant(0),
            groups: vec![PartialGroup {
                group: Labels::empty(),
                labels: Labels::empty(),
                drop_name: true,
                columns: vec![vec![1.0], vec![0.0]],
                present: Bitmap::new(1, true),
                flags: Vec::new(),
                histograms: Vec::new(),
            }],
        };
        let batches = encode_partial(&partial).into_iter();
        let mut frames: Vec<_> =
            batches.map(|b| Ok(ExecuteResponse { frame: Some(Frame::Batch(b)) })).collect();
        frames.push(Ok(ExecuteResponse { frame: Some(Frame::Trailer(Trailer::default())) }));
        Ok(Response::new(tokio_stream::iter(frames)))
    }
}

/// Starts the endpoints; their addresses.
pub(crate) async fn start() -> Result<Vec<SocketAddr>, Failure> {
    let mut addresses = Vec::new();
    for i in 0..ENDPOINTS {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?);
        let external = Labels::from_pairs([("cluster", format!("cluster-{i}"))]);
        let service = FleetServer::new(Sum { external });
        let incoming = futures::StreamExt::map(
            tokio_stream::wrappers::TcpListenerStream::new(listener),
            |stream| stream.inspect(|s| drop(s.set_nodelay(true))),
        );
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(incoming));
    }
    Ok(addresses)
}
