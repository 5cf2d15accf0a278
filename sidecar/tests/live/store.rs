//! Thanos's services: series in order, labels, info, queries.

use periplus_model::{Labels, MatchOp, Matcher};
use periplus_proto::WireLimits;
use periplus_proto::convert::{labels_from_prometheus, labels_from_thanos, matchers_to_thanos};
use periplus_proto::thanos::info::InfoRequest;
use periplus_proto::thanos::info::info_client::InfoClient;
use periplus_proto::thanos::query_client::QueryClient;
use periplus_proto::thanos::store_client::StoreClient;
use periplus_proto::thanos::{
    LabelNamesRequest, LabelValuesRequest, QueryRequest, SeriesRequest, query_response,
    series_response,
};
use periplus_sidecar::EvaluateIn;

use crate::prometheus::{Loaded, Prometheus, binaries, now_ms};
use crate::running::{Running, config, labels};

fn matcher(name: &str, op: MatchOp, value: &str) -> Matcher {
    Matcher::new(name, op, value).unwrap()
}

/// What came: labels, number of chunks, bytes of chunks.
type Came = (Labels, usize, usize);

async fn series(running: &Running, request: SeriesRequest) -> Result<Vec<Came>, tonic::Status> {
    let mut client = StoreClient::new(running.channel.clone());
    let mut stream = client.series(request).await?.into_inner();
    let mut out: Vec<Came> = Vec::new();
    let limits = WireLimits::default();
    while let Some(message) = stream.message().await? {
        let all = match message.result {
            Some(series_response::Result::Series(s)) => vec![s],
            Some(series_response::Result::Batch(b)) => b.series,
            other => panic!("{other:?}"),
        };
        for s in all {
            let labels = labels_from_thanos(&s.labels, &limits).unwrap();
            let bytes = s.chunks.iter().map(|c| c.raw.as_ref().unwrap().data.len()).sum();
            out.push((labels, s.chunks.len(), bytes));
        }
    }
    Ok(out)
}

/// Label sets that are prefixes of one another in every way around the external labels.
fn awkward(now: i64) -> Vec<Loaded> {
    let mut out = Vec::new();
    let names = ["a", "d", "n", "s", "z"];
    for bits in 0u32..32 {
        for value in ["1", "2"] {
            let mut pairs = vec![("__name__", "m")];
            pairs.extend(
                names
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| bits >> i & 1 == 1)
                    .map(|(_, n)| (*n, value)),
            );
            let own = labels(&pairs);
            if !out.iter().any(|(l, _): &Loaded| *l == own) {
                out.push((own, vec![(now - 30_000, 1.0), (now - 15_000, 2.0)]));
            }
        }
    }
    out
}

fn request(now: i64) -> SeriesRequest {
    SeriesRequest {
        min_time: now - 3_600_000,
        max_time: now,
        matchers: matchers_to_thanos(&[matcher("__name__", MatchOp::Equal, "m")]),
        ..SeriesRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn series_come_in_order() {
    let external = labels(&[("cluster", "a"), ("replica", "0"), ("region", "eu")]);
    for binary in binaries() {
        let now = now_ms();
        let prometheus = Prometheus::start(&binary, &external, &[]);
        let data = awkward(now);
        prometheus.load(&data);
        let running = Running::start(config(&prometheus.url(), EvaluateIn::Auto)).await;
        for dropped in
            [vec![], vec!["replica"], vec!["replica", "region"], vec!["replica", "d"], vec!["z"]]
        {
            let without: Vec<String> = dropped.iter().map(|s| (*s).to_owned()).collect();
            for (batch, skip) in [(0, false), (7, false), (0, true)] {
                let request = SeriesRequest {
                    without_replica_labels: without.clone(),
                    response_batch_size: batch,
                    skip_chunks: skip,
                    ..request(now)
                };
                let came = series(&running, request).await.unwrap();
                let mut expected: Vec<Labels> = data
                    .iter()
                    .map(|(own, _)| {
                        let all: Labels = own.iter().chain(external.iter()).collect();
                        all.filter(|n| !dropped.contains(&n))
                    })
                    .collect();
                expected.sort();
                expected.dedup();
                let got: Vec<Labels> = came.iter().map(|(l, _, _)| l.clone()).collect();
                assert_eq!(got, expected, "without {dropped:?}");
                assert!(came.iter().all(|(_, chunks, _)| (*chunks == 0) == skip));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn matchers_limits_labels_and_info() {
    let external = labels(&[("cluster", "a"), ("replica", "0")]);
    for binary in binaries() {
        let now = now_ms();
        let prometheus = Prometheus::start(&binary, &external, &[]);
        prometheus.load(&awkward(now));
        let mut settings = config(&prometheus.url(), EvaluateIn::Auto);
        settings.limits.series_max = 40;
        let running = Running::start(settings).await;
        let select = |extra: Matcher| {
            let all = [matcher("__name__", MatchOp::Equal, "m"), extra];
            SeriesRequest { matchers: matchers_to_thanos(&all), ..request(now) }
        };
        let count = async |r| series(&running, r).await.map(|s| s.len());
        assert_eq!(count(select(matcher("cluster", MatchOp::Equal, "b"))).await.unwrap(), 0);
        let by_replica = select(matcher("replica", MatchOp::Regex, "0|1"));
        assert_eq!(count(by_replica).await.unwrap_err().code(), tonic::Code::ResourceExhausted);
        assert_eq!(count(select(matcher("a", MatchOp::Equal, "1"))).await.unwrap(), 16);
        let few = SeriesRequest { limit: 5, ..select(matcher("a", MatchOp::Equal, "1")) };
        assert_eq!(count(few).await.unwrap(), 5);
        let old = SeriesRequest { max_time: 1000, min_time: 0, ..request(now) };
        assert_eq!(count(old).await.unwrap(), 0);
        let broken = select(matcher("a", MatchOp::Equal, "1"));
        let broken = SeriesRequest {
            matchers: broken
                .matchers
                .into_iter()
                .map(|m| periplus_proto::thanos::LabelMatcher { r#type: 9, ..m })
                .collect(),
            ..broken
        };
        assert_eq!(count(broken).await.unwrap_err().code(), tonic::Code::InvalidArgument);

        let mut client = StoreClient::new(running.channel.clone());
        let names =
            client.label_names(LabelNamesRequest::default()).await.unwrap().into_inner().names;
        assert_eq!(names, ["__name__", "a", "cluster", "d", "n", "replica", "s", "z"]);
        let names = LabelNamesRequest {
            matchers: matchers_to_thanos(&[
                matcher("a", MatchOp::Equal, ""),
                matcher("d", MatchOp::Equal, ""),
                matcher("z", MatchOp::Equal, "1"),
            ]),
            without_replica_labels: vec!["replica".into()],
            ..LabelNamesRequest::default()
        };
        let names = client.label_names(names).await.unwrap().into_inner().names;
        assert_eq!(names, ["__name__", "cluster", "n", "s", "z"]);
        let mut values = async |label: &str, m: Option<Matcher>| {
            let request = LabelValuesRequest {
                label: label.into(),
                matchers: matchers_to_thanos(m.as_slice()),
                ..LabelValuesRequest::default()
            };
            client.label_values(request).await.unwrap().into_inner().values
        };
        assert_eq!(values("a", None).await, ["1", "2"]);
        assert_eq!(values("cluster", None).await, ["a"]);
        assert_eq!(
            values("cluster", Some(matcher("a", MatchOp::Equal, "9"))).await,
            Vec::<String>::new()
        );
        assert_eq!(
            values("a", Some(matcher("cluster", MatchOp::Equal, "b"))).await,
            Vec::<String>::new()
        );

        let info = InfoClient::new(running.channel.clone())
            .info(InfoRequest {})
            .await
            .unwrap()
            .into_inner();
        assert_eq!(info.component_type, "sidecar");
        let shown = labels_from_thanos(&info.label_sets[0].labels, &WireLimits::default()).unwrap();
        assert_eq!(shown, external);
        assert!(info.store.unwrap().supports_without_replica_labels);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thanos_queries_are_answered() {
    let external = labels(&[("cluster", "a"), ("replica", "0")]);
    for binary in binaries() {
        let now = now_ms();
        let prometheus = Prometheus::start(&binary, &external, &[]);
        prometheus.load(&awkward(now));
        let running = Running::start(config(&prometheus.url(), EvaluateIn::Auto)).await;
        let request = QueryRequest {
            query: "sum by (cluster, a) (m)".into(),
            time_seconds: now / 1000,
            replica_labels: vec!["replica".into()],
            ..QueryRequest::default()
        };
        let mut client = QueryClient::new(running.channel.clone());
        let mut stream = client.query(request).await.unwrap().into_inner();
        let mut came = Vec::new();
        while let Some(message) = stream.message().await.unwrap() {
            let Some(query_response::Result::Timeseries(s)) = message.result else { continue };
            let labels = labels_from_prometheus(&s.labels, &WireLimits::default()).unwrap();
            came.push((format!("{labels:?}"), s.samples[0].value));
        }
        came.sort_by(|a, b| a.0.cmp(&b.0));
        let values: Vec<f64> = came.iter().map(|c| c.1).collect();
        assert_eq!(came[0].0, r#"{a="1", cluster="a"}"#, "{came:?}");
        assert_eq!(values, [32.0, 32.0, 62.0], "{came:?}");
    }
}

/// The external label wins, and the mistake is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_series_that_carries_an_external_label() {
    let external = labels(&[("cluster", "a"), ("replica", "0")]);
    for binary in binaries() {
        let now = now_ms();
        let prometheus = Prometheus::start(&binary, &external, &[]);
        let running = Running::start(config(&prometheus.url(), EvaluateIn::Auto)).await;
        let mut data = awkward(now);
        for (i, value) in ["a", "mine", "zz"].into_iter().enumerate() {
            let own = labels(&[("__name__", "m"), ("cluster", value), ("d", "1"), ("pod", "p")]);
            data.push((own, vec![(now - 30_000 + i as i64, 1.0)]));
        }
        prometheus.load(&data);
        // The first request may meet it unprepared; asked again it is answered.
        let came = match series(&running, request(now)).await {
            Ok(came) => came,
            Err(e) => {
                assert_eq!(e.code(), tonic::Code::Unavailable, "{e}");
                series(&running, request(now)).await.unwrap()
            }
        };
        assert!(came.windows(2).all(|w| w[0].0 < w[1].0), "sorted, without doubles");
        let carried: Vec<&Came> = came.iter().filter(|c| c.0.get("pod").is_some()).collect();
        assert_eq!(carried.len(), 1);
        assert_eq!((carried[0].0.get("cluster"), carried[0].1), (Some("a"), 3));
        running.until("the label is told", |s| s.shadowed.contains("cluster")).await;
        let request = periplus_proto::fleet::ExecuteRequest {
            query: r#"count by (cluster) (m{cluster="a"})"#.into(),
            start_ms: now,
            end_ms: now,
            ..Default::default()
        };
        let (rows, trailer) = running.execute(request, 1).await.unwrap();
        assert_eq!(trailer.stats.unwrap().path, "engine");
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].columns[0][0], came.len() as f64);
    }
}
