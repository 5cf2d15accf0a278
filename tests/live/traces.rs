//! One question is one trace, from the query process to the sidecars.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use parking_lot::Mutex;
use periplus_model::Labels;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::ask::{When, ask, client};
use super::fleet::now_s;
use super::place::Place;
use super::product::{Query, Sidecar};
use super::prometheus::{Prometheus, flavours};

/// Keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ResourceSpans>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().extend(request.into_inner().resource_spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A span: which service, its trace, its own id, its parent's, its name.
#[derive(Clone, Debug)]
struct Seen {
    service: String,
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
    name: String,
}

impl Collector {
    fn seen(&self) -> Vec<Seen> {
        let mut all = Vec::new();
        for resource in self.0.lock().iter() {
            let attributes = resource.resource.iter().flat_map(|r| &r.attributes);
            let service = attributes
                .filter(|a| a.key == "service.name")
                .filter_map(|a| a.value.as_ref()?.value.as_ref())
                .find_map(|v| if let Value::StringValue(s) = v { Some(s.clone()) } else { None });
            for span in resource.scope_spans.iter().flat_map(|s| &s.spans) {
                all.push(Seen {
                    service: service.clone().unwrap_or_default(),
                    trace: span.trace_id.clone(),
                    id: span.span_id.clone(),
                    parent: span.parent_span_id.clone(),
                    name: span.name.clone(),
                });
            }
        }
        all
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_one_trace_from_query_to_sidecar() {
    let dir = tempfile::tempdir().expect("a directory");
    let collector = Collector::default();
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let address = incoming.local_addr().expect("an address");
    let service = TraceServiceServer::new(collector.clone());
    let server = tonic::transport::Server::builder().add_service(service);
    let _server = tokio::spawn(server.serve_with_incoming(incoming));

    let flavour = flavours().remove(0);
    let prometheus = Prometheus::start(&flavour, "p", &[("cluster", "traced")], dir.path()).await;
    let now_ms = now_s() * 1000;
    let labels = Labels::from_pairs([("__name__", "traced_total")]);
    prometheus.store(&[(labels, vec![(now_ms - 1000, 1.0), (now_ms, 2.0)])]).await;
    let otlp = format!("http://{address}");
    let more = ["--otlp-endpoint", otlp.as_str()];
    let (url, place) = (&prometheus.url, Place::loopback());
    let mut sidecar = Sidecar::start("sidecar", url, &more, &place, dir.path()).await;
    let mut query = Query::start("query", &[&sidecar.grpc], &more, dir.path()).await;
    let mut answer = None;
    for _ in 0..300 {
        let when = When::Instant(now_ms);
        answer = ask(&client(), &query.url, "sum(traced_total)", when).await.ok();
        if answer.as_ref().is_some_and(|a| a.rows() == 1) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(answer.as_ref().is_some_and(|a| a.rows() == 1), "{answer:?}");
    // Whoever ends sends what it still has.
    assert_eq!(query.process.terminate(), Some(0), "{}", query.process.last_words());
    assert_eq!(sidecar.process.terminate(), Some(0), "{}", sidecar.process.last_words());

    let seen = collector.seen();
    let joined = seen.iter().filter(|s| s.service == "periplus-sidecar").find_map(|below| {
        let above = |s: &&Seen| s.service == "periplus-query" && s.id == below.parent;
        let above = seen.iter().find(above)?;
        Some((above.trace == below.trace, above.name.clone(), below.name.clone()))
    });
    assert!(joined.as_ref().is_some_and(|j| j.0), "no trace crosses: {joined:?} of {seen:#?}");
}
