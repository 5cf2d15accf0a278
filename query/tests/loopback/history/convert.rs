//! Streams as parts in a bucket of a test's own.

use periplus_bucket::catalog::{Catalog, Change, Part};
use periplus_bucket::{Bucket, Key, Location, OpenOptions};
use periplus_columnar::{Day, MemorySinks, PartMeta, PartWriter, Resolution, WriteOptions};
use periplus_model::TimeRange;
use ulid::Ulid;

use super::blocks::{Stream, of_day};

/// A bucket in a directory.
pub(crate) struct Converted {
    pub(crate) dir: tempfile::TempDir,
}

impl Converted {
    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.dir.path().display())
    }
}

/// Writes `streams`, of them what lies in `range`, day by day.
pub(crate) async fn convert(streams: &[Stream], range: TimeRange) -> Converted {
    let dir = tempfile::tempdir().unwrap();
    let at = Location::parse(&format!("file://{}", dir.path().display())).unwrap();
    let bucket = Bucket::open(&at, &OpenOptions::default()).unwrap();
    let mut add = Vec::new();
    for stream in streams {
        let times = stream.series.values().flat_map(|s| [s.ts.first(), s.ts.last()]).flatten();
        let (Some(first), Some(last)) = (times.clone().min(), times.max()) else { continue };
        for day in Day::of_ms(*first).0..=Day::of_ms(*last).0 {
            let wanted = Day(day).range().intersect(&range);
            add.extend(write_day(stream, Day(day), wanted, &bucket).await);
        }
    }
    let change = Change { add, ..Change::default() };
    Catalog::new(bucket).commit(&change).await.unwrap();
    Converted { dir }
}

async fn write_day(stream: &Stream, day: Day, wanted: TimeRange, bucket: &Bucket) -> Option<Part> {
    let meta = PartMeta {
        part: Ulid::generate(),
        external: stream.external.clone(),
        replica_labels: Vec::new(),
        day,
        resolution: Resolution::Raw,
        sources: stream.sources.clone(),
        inputs: Vec::new(),
        promoted: ["job", "namespace", "node", "pod"].map(str::to_owned).to_vec(),
    };
    let sinks = MemorySinks::default();
    let mut writer =
        PartWriter::new(meta.clone(), WriteOptions::default(), Box::new(sinks.clone())).unwrap();
    let mut any = false;
    for (labels, samples) in &stream.series {
        let own = of_day(samples, wanted);
        if !own.is_empty() {
            any = true;
            writer.push(labels, &own).unwrap();
        }
    }
    let summary = writer.finish().unwrap();
    if !any {
        return None;
    }
    let directory = meta.directory();
    for f in &summary.files {
        let key = Key::parse(&meta.path(f.file)).unwrap();
        bucket.put(&key, sinks.bytes(f.file).unwrap()).await.unwrap();
    }
    Some(Part::describe(&summary, &directory).unwrap())
}
