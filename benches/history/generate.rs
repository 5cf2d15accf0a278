//! A simulated fleet's samples: as parts in a bucket, and day by day for whoever wants them too.

use std::collections::BTreeMap;

use periplus_block::chunk::ChunkSamples;
use periplus_bucket::catalog::{Catalog, Change, Part};
use periplus_bucket::{Bucket, Key, Location, OpenOptions};
use periplus_columnar::{Day, MemorySinks, PartMeta, PartWriter, Resolution, WriteOptions};
use periplus_simfleet::{Cluster, Fleet, FleetConfig, ScrapeConfig, ScrapedSeries};
use ulid::Ulid;

/// A midnight (UTC), Unix milliseconds: the first day begins there.
pub(crate) const FROM_MS: i64 = 1_790_035_200_000 / DAY_MS * DAY_MS;
/// A day.
pub(crate) const DAY_MS: i64 = 86_400_000;

/// How large the fleet is, and for how long.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) clusters: u32,
    pub(crate) pods: u32,
    pub(crate) days: u32,
    pub(crate) interval_ms: i64,
}

impl Shape {
    pub(crate) fn fleet(&self) -> Fleet {
        let nodes = (self.pods / 12).max(2);
        Fleet::new(FleetConfig { seed: 7, clusters: self.clusters, nodes, pods: self.pods })
    }

    pub(crate) fn until_ms(&self) -> i64 {
        FROM_MS + i64::from(self.days) * DAY_MS
    }

    /// A cluster's series of one day, in order of labels.
    pub(crate) fn day(&self, cluster: &Cluster, day: u32) -> Vec<ScrapedSeries> {
        let from = FROM_MS + i64::from(day) * DAY_MS;
        let scrape = ScrapeConfig { interval_ms: self.interval_ms, replica: 0 };
        let mut series = cluster.scraped(from, from + DAY_MS, scrape);
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        series
    }
}

/// What was written.
#[derive(Default)]
pub(crate) struct Written {
    pub(crate) series: u64,
    pub(crate) samples: u64,
    pub(crate) bytes: u64,
}

/// Samples in order, of two of one time the first, as a Prometheus keeps them.
pub(crate) fn samples(s: &ScrapedSeries) -> ChunkSamples {
    let mut out = ChunkSamples::new();
    for (t, v) in s.samples() {
        if out.ts.last().is_none_or(|last| *last < t) {
            out.push(t, v, 0);
        }
    }
    out
}

/// Writes all days of all clusters and commits them.
pub(crate) async fn write(shape: &Shape, url: &str) -> Written {
    let bucket = Bucket::open(&Location::parse(url).unwrap(), &OpenOptions::default()).unwrap();
    let fleet = shape.fleet();
    let (mut out, mut add) = (Written::default(), Vec::new());
    for cluster in fleet.clusters() {
        for day in 0..shape.days {
            let part = write_day(shape, cluster, day, &bucket).await;
            out.series = out.series.max(part.series * u64::from(shape.clusters));
            out.samples += part.samples;
            out.bytes += part.bytes();
            add.push(part);
        }
    }
    let change = Change { add, ..Change::default() };
    Catalog::new(bucket).commit(&change).await.unwrap();
    out
}

async fn write_day(shape: &Shape, cluster: &Cluster, day: u32, bucket: &Bucket) -> Part {
    let external: BTreeMap<String, String> =
        cluster.external_labels().iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let meta = PartMeta {
        part: Ulid::generate(),
        external,
        replica_labels: Vec::new(),
        day: Day::of_ms(FROM_MS + i64::from(day) * DAY_MS),
        resolution: Resolution::Raw,
        sources: vec![Ulid::generate()],
        inputs: Vec::new(),
        promoted: ["job", "namespace", "node", "pod"].map(str::to_owned).to_vec(),
    };
    let sinks = MemorySinks::default();
    let mut writer =
        PartWriter::new(meta.clone(), WriteOptions::default(), Box::new(sinks.clone())).unwrap();
    for s in shape.day(cluster, day) {
        let samples = samples(&s);
        if !samples.is_empty() {
            writer.push(&s.labels, &samples).unwrap();
        }
    }
    let summary = writer.finish().unwrap();
    let directory = meta.directory();
    for f in &summary.files {
        let key = Key::parse(&meta.path(f.file)).unwrap();
        bucket.put(&key, sinks.bytes(f.file).unwrap()).await.unwrap();
    }
    Part::describe(&summary, &directory).unwrap()
}
