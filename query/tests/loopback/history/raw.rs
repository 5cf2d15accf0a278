//! Samples as scraped: equal to what Prometheus said over the same blocks, to the last digit.

use std::time::{Duration, Instant};

use periplus_daemon::drain::Drain;
use periplus_model::{MatchOp, Matcher, TimeRange};
use periplus_promql::parse;
use periplus_query::answer::{Answerer, Options};
use periplus_query::history::resolution::MaxResolution;
use periplus_query::{Config, start};

use super::blocks::streams;
use super::convert::{Converted, convert};
use super::recorded::{EXTERNAL, compare, points, recorded};

pub(crate) fn config(bucket: &Converted) -> Config {
    let mut config = Config::defaults();
    config.workers = 1;
    config.history.bucket = Some(bucket.url());
    config
}

pub(crate) async fn answerer(config: &Config, drain: &Drain) -> Answerer {
    let answerer = start(config, drain).unwrap();
    answerer.history.as_ref().unwrap().refresh().await.unwrap();
    answerer
}

pub(crate) fn options() -> Options {
    Options {
        replica_labels: Vec::new(),
        stores: Vec::new(),
        strict: true,
        lookback_ms: 300_000,
        deadline: Instant::now() + Duration::from_secs(120),
        limits: None,
        delayed_name_removal: false,
        per_step_stats: false,
        pushdown: true,
        resolution: MaxResolution::default(),
    }
}

fn only(cluster: &str, replica: &str) -> Options {
    let equal = |n: &str, v: &str| Matcher::new(n, MatchOp::Equal, v).unwrap();
    let store = vec![equal("cluster", cluster), equal("replica", replica)];
    Options { stores: vec![store], ..options() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equals_prometheus_over_the_same_blocks() {
    let streams = streams();
    if streams.is_empty() {
        return;
    }
    let bucket = convert(&streams, TimeRange::ALL).await;
    let drain = Drain::new();
    let answerer = answerer(&config(&bucket), &drain).await;
    let mut asked = 0;
    for (cluster, replica) in [("c1", "a"), ("c1", "b"), ("c2", "a")] {
        for r in recorded(&format!("prometheus-raw-{cluster}-{replica}")) {
            for pushdown in [true, false] {
                let options = Options { pushdown, ..only(cluster, replica) };
                let expr = parse::parse(&r.query).unwrap();
                let text = r.query.as_str().into();
                let ours = answerer.answer(&expr, text, r.when, &options).await;
                let ours = ours.unwrap_or_else(|e| panic!("{}: {e}", r.query));
                // Prometheus adds histograms up in the order of its map of groups: the last bit may differ.
                compare(&r, &points(&ours.value, &EXTERNAL), 1e-14);
                asked += 1;
            }
        }
    }
    assert_eq!(asked, 3 * 42 * 2);
}
