//! A real Prometheus, a real S3 server, and a real reader over what arrived.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_bucket::blocks::{copy, scan};
use periplus_bucket::upload::UploadOptions;
use periplus_bucket::{Bucket, Location, OpenOptions};
use periplus_model::Labels;
use periplus_sidecar::ship::metrics::ShipMetrics;
use periplus_sidecar::ship::prometheus::{PrometheusApi, Upstream as _, advice};
use periplus_sidecar::ship::{BucketDestination, ShipConfig, Shipper};

use crate::blocks::{assert_identical, assert_readable, labels};
use crate::prometheus::{Loaded, Prometheus, binaries, now_ms};
use crate::weed::Weed;

const MINUTE: i64 = 60_000;
const SERIES: usize = 40;

/// All series for ten minutes from `start`, a sample every 15 s.
fn ten_minutes(start: i64) -> Vec<Loaded> {
    let series = (0..SERIES).map(|n| {
        let name = format!("s{n}");
        let labels = Labels::from_pairs([("__name__", "work_total"), ("series", name.as_str())]);
        let samples = (0..40).map(|i| {
            let t = start + i * 15_000;
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let value = ((t / 1000 % 100_000) * (i64::try_from(n).unwrap() + 1)) as f64;
            (t, value)
        });
        (labels, samples.collect())
    });
    series.collect()
}

/// How many samples it has, by its own query engine.
fn samples(prometheus: &Prometheus) -> String {
    let form = [
        ("query", "sum(count_over_time(work_total[8h]))".to_owned()),
        ("time", (now_ms() / 1000).to_string()),
    ];
    let answer = prometheus.api("query", &form);
    answer["data"]["result"][0]["value"][1].as_str().unwrap_or("none").to_owned()
}

fn blocks_of(prometheus: &Prometheus) -> usize {
    let names = fs::read_dir(prometheus.data()).unwrap();
    names.filter(|e| e.as_ref().unwrap().path().join("meta.json").exists()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hours_of_data_arrive_byte_for_byte() {
    let Some(server) = Weed::start() else { return };
    for (n, binary) in binaries().into_iter().enumerate() {
        let bucket = server.bucket(&format!("ship{n}"));
        let external = Labels::from_pairs([("cluster", "c1"), ("replica", "a")]);
        let flags = [
            "--storage.tsdb.min-block-duration=20m",
            "--storage.tsdb.max-block-duration=20m",
            "--web.enable-admin-api",
        ];
        let mut source = Prometheus::start(&binary, &external, &flags);
        let api = PrometheusApi::new(source.url().parse().unwrap(), &Default::default()).unwrap();
        let config = ShipConfig::new(source.data());
        let said = advice(&api.flags().await.unwrap(), &config);
        assert!(said.iter().all(|a| !a.is_warning), "{said:?}");

        // Blocks are shipped while Prometheus makes the next ones.
        let options = UploadOptions { read_back: n > 0, ..UploadOptions::default() };
        let to = Arc::new(BucketDestination::new(bucket.clone(), options));
        let labels = Box::new(|| Some(labels()));
        let metrics = ShipMetrics::default();
        let mut shipper =
            Shipper::new(config, to, Some(Arc::new(api)), labels, metrics.clone()).unwrap();
        let start = now_ms() - 5 * 60 * MINUTE;
        for step in 0..29 {
            source.load(&ten_minutes(start + step * 10 * MINUTE));
            shipper.sync().await.unwrap();
        }
        let begun = Instant::now();
        while blocks_of(&source) < 12 && begun.elapsed() < Duration::from_secs(90) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(blocks_of(&source) >= 12, "{}", blocks_of(&source));
        shipper.sync().await.unwrap();
        let head = shipper.ship_head().await.unwrap().expect("the head has samples");
        let truth = samples(&source);
        assert_eq!(truth, (SERIES * 40 * 29).to_string());
        source.kill();
        shipper.sync().await.unwrap();
        let found = assert_readable(&bucket).await;
        assert!(found.iter().any(|f| f.id == head));

        // The cluster burns down. Another Prometheus reads what is in the bucket.
        let mut reader = Prometheus::start(&binary, &external, &[]);
        reader.kill();
        let at = Location::parse(&format!("file://{}", reader.data().display())).unwrap();
        let directory = Bucket::open(&at, &OpenOptions::default()).unwrap();
        for block in &found {
            copy::block(&bucket, &directory, block).await.unwrap();
        }
        reader.restart();
        assert_eq!(samples(&reader), truth);

        // Byte for byte, once the snapshot is replaced.
        periplus_bucket::blocks::cleanup::delete_block(&bucket, head).await.unwrap();
        assert_identical(&bucket, &source.data()).await;
        println!(
            "{}: {} blocks, {} bytes, {} requests",
            binary.display(),
            scan::names(&bucket).await.unwrap().len(),
            metrics.bytes.get(),
            bucket.counters().operations("put") + bucket.counters().operations("head"),
        );
    }
}
