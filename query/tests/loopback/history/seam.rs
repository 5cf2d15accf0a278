//! Live endpoints and the bucket side by side: the answer is that of one source that holds everything.

use periplus_daemon::drain::Drain;
use periplus_model::TimeRange;
use periplus_query::answer::{Answerer, When};

use super::blocks::Stream;
use super::convert::{Converted, convert};
use crate::data::{BEGIN_MS, Cluster, END_MS, clusters, without};
use crate::exact::{compare, truth};
use crate::fleet::{ask, slow};
use crate::sidecar::{FakeSidecar, Fault};

const MINUTE: i64 = 60_000;
/// What is older only the bucket has.
const LIVE_FROM: i64 = BEGIN_MS + 26 * MINUTE;
/// What is newer only the endpoints have.
const STORED_UNTIL: i64 = BEGIN_MS + 34 * MINUTE;

fn stored(clusters: &[Cluster]) -> Vec<Stream> {
    clusters.iter().map(|c| Stream::of(&c.external, &c.series)).collect()
}

async fn answerer(
    addresses: &[std::net::SocketAddr],
    bucket: &Converted,
    drain: &Drain,
) -> Answerer {
    let mut config = slow(addresses);
    config.history.bucket = Some(bucket.url());
    let answerer = periplus_query::start(&config, drain).expect("started");
    answerer.registry.settled(std::time::Duration::from_secs(30)).await;
    answerer.history.as_ref().expect("a bucket").refresh().await.expect("a catalog");
    answerer
}

fn live(c: &Cluster) -> FakeSidecar {
    let old = (0, LIVE_FROM);
    let mut s = FakeSidecar::new(c.external.clone(), without(&c.series, &[old]));
    s.gaps = vec![old];
    s
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_and_history_join_without_a_seam() {
    let (drain, clusters) = (Drain::new(), clusters(6));
    // The last cluster is gone: of it the bucket has all there is.
    let (here, gone) = clusters.split_at(3);
    let mut addresses = Vec::new();
    for c in here {
        addresses.push(live(c).serve().await);
    }
    let mut streams = stored(here);
    streams.iter_mut().for_each(|s| s.cut(TimeRange::new(0, STORED_UNTIL)));
    streams.extend(stored(gone));
    let bucket = convert(&streams, TimeRange::ALL).await;
    let answerer = answerer(&addresses, &bucket, &drain).await;
    compare("seam", &answerer, &truth(&clusters), 16, 120).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thanos_endpoints_join_history() {
    let (drain, clusters) = (Drain::new(), clusters(7));
    let mut addresses = Vec::new();
    for c in &clusters {
        let mut s = live(c);
        s.thanos = true;
        addresses.push(s.serve().await);
    }
    let mut streams = stored(&clusters);
    streams.iter_mut().for_each(|s| s.cut(TimeRange::new(0, STORED_UNTIL)));
    let bucket = convert(&streams, TimeRange::ALL).await;
    let answerer = answerer(&addresses, &bucket, &drain).await;
    compare("thanos and history", &answerer, &truth(&clusters), 17, 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_lost_endpoint_had_is_named() {
    let (drain, clusters) = (Drain::new(), clusters(8));
    let mut s = live(&clusters[0]);
    s.fault = Fault::Refuses;
    let addresses = [s.serve().await];
    let mut streams = stored(&clusters[..1]);
    streams.iter_mut().for_each(|s| s.cut(TimeRange::new(0, STORED_UNTIL)));
    let bucket = convert(&streams, TimeRange::ALL).await;
    let answerer = answerer(&addresses, &bucket, &drain).await;
    for query in ["sum(rate(requests_total[5m]))", "count(temperature)"] {
        let old = ask(&answerer, query, When::instant(BEGIN_MS + 25 * MINUTE)).await.unwrap();
        assert!(old.missing.is_empty(), "{query}: {:?}", old.missing);
        let new = ask(&answerer, query, When::instant(END_MS)).await.unwrap();
        assert_eq!(new.missing.len(), 1, "{query}: {:?}", new.missing);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_come_from_both() {
    use periplus_query::fanout::QueryTimes;
    use periplus_query::series::{LabelQuery, label_names, label_values, series_labels};
    let (drain, clusters) = (Drain::new(), clusters(9));
    let addresses = [live(&clusters[0]).serve().await];
    let bucket = convert(&stored(&clusters[1..]), TimeRange::ALL).await;
    let answerer = answerer(&addresses, &bucket, &drain).await;
    let range = TimeRange::new(BEGIN_MS, END_MS);
    let times = QueryTimes { start_ms: BEGIN_MS, end_ms: END_MS, step_ms: 0 };
    let asked = answerer.ask("".into(), times, &crate::fleet::options());
    let all = LabelQuery { sets: Vec::new(), range, limit: 0 };
    let values = label_values(&asked.question, "cluster", &all).await.unwrap();
    assert_eq!(values, ["madrid", "mumbai", "paris", "tokyo"]);
    let names = label_names(&asked.question, &all).await.unwrap();
    assert_eq!(names.first().map(String::as_str), Some("__name__"));
    assert!(names.contains(&"region".to_owned()) && names.contains(&"room".to_owned()));
    let expect: usize = clusters.iter().map(|c| c.series.len()).sum();
    assert_eq!(series_labels(&asked.question, &all).await.unwrap().len(), expect);
}
