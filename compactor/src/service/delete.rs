//! What a deletion would take, looked up before it is stored.

use std::collections::BTreeMap;

use periplus_bucket::Bucket;
use periplus_bucket::blocks::scan;
use periplus_bucket::catalog::Catalog;
use periplus_columnar::{Day, PartReader, Resolution, SeriesData};

use crate::committed;
use crate::erase::Erasure;
use crate::local::{self, FetchError, PartFiles, WorkDir};
use crate::plan::{Input, stream_name};
use crate::work::WorkError;

/// What of a stream and resolution would be gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The stream, as people read it.
    pub stream: String,
    /// Its resolution.
    pub resolution: Resolution,
    /// Parts that would be made anew.
    pub parts: usize,
    /// Series in them, each counted once a part.
    pub series: u64,
    /// Samples, or intervals.
    pub samples: u64,
    /// TSDB blocks of these times, which a deletion leaves alone.
    pub blocks: usize,
}

/// Looks what an erasure takes; nothing is changed. Parts are read one at a time.
///
/// # Errors
/// The store refuses or does not answer, no room for a part, or a part that can't be read.
pub async fn hits(bucket: &Bucket, erasure: &Erasure) -> Result<Vec<Hit>, WorkError> {
    let dir = WorkDir::new(None).map_err(|e| WorkError::Disk(e.to_string()))?;
    let committed = committed::load(&Catalog::new(bucket.clone())).await?;
    let mut hits: BTreeMap<(String, Resolution), Hit> = BTreeMap::new();
    let hit = |stream: &crate::plan::Stream, resolution| Hit {
        stream: stream_name(stream),
        resolution,
        parts: 0,
        series: 0,
        samples: 0,
        blocks: 0,
    };
    for (part, info) in committed.parts.iter().zip(&committed.infos) {
        if !erasure.concerns(&info.stream, info.day) || info.series == 0 {
            continue;
        }
        let scratch = dir.scratch().map_err(|e| WorkError::Disk(e.to_string()))?;
        for file in &part.files {
            let key = part.key(&file.file).map_err(periplus_bucket::BucketError::from)?;
            let to = scratch.path().join(key.name());
            local::fetch(bucket, &key, file.size, &to).await.map_err(|e| match e {
                FetchError::Bucket(error) => WorkError::Bucket(error),
                other => WorkError::Disk(other.to_string()),
            })?;
        }
        let files = PartFiles::new(&part.directory, scratch.path());
        let (erasure, stream) = (erasure.clone(), info.stream.clone());
        let counted = tokio::task::spawn_blocking(move || count(&files, &erasure, &stream));
        let counted = counted.await.map_err(|e| WorkError::Disk(e.to_string()))?;
        let (series, samples) =
            counted.map_err(|e| WorkError::Disk(format!("{}: {e}", Input::Part(info.id))))?;
        if series > 0 {
            let key = (stream_name(&info.stream), info.resolution);
            let entry = hits.entry(key).or_insert_with(|| hit(&info.stream, info.resolution));
            entry.parts += 1;
            entry.series += series;
            entry.samples += samples;
        }
    }
    for found in scan::blocks(bucket).await? {
        let Ok(meta) = &found.meta else { continue };
        let Some(resolution) = Resolution::from_ms(meta.thanos.downsample.resolution) else {
            continue;
        };
        let (from, until) = (Day::of_ms(meta.min_time).0, Day::of_ms(meta.max_time).0);
        let stream = &meta.thanos.labels;
        let days = until.saturating_sub(from).min(crate::plan::DAYS_MAX);
        if (from..=from.saturating_add(days)).any(|d| erasure.concerns(stream, Day(d)))
            && let Some(entry) = hits.get_mut(&(stream_name(stream), resolution))
        {
            entry.blocks += 1;
        }
    }
    Ok(hits.into_values().collect())
}

fn count(
    files: &PartFiles,
    erasure: &Erasure,
    stream: &crate::plan::Stream,
) -> Result<(u64, u64), periplus_columnar::ColumnarError> {
    let mut reader = PartReader::open(files)?;
    let (mut series, mut samples) = (0, 0);
    while let Some(one) = reader.next_series()? {
        if !erasure.takes(stream, &one.labels) {
            continue;
        }
        let is_meant = |t: &&i64| erasure.range.contains(**t);
        let n = match &one.data {
            SeriesData::Aggregates(a) => {
                let histograms = a.histograms.iter().filter(|h| erasure.range.contains(h.ts));
                a.ts.iter().filter(is_meant).count() + histograms.count()
            }
            SeriesData::Raw(samples) => samples.ts.iter().filter(is_meant).count(),
        };
        if n > 0 {
            series += 1;
            samples += n as u64;
        }
    }
    Ok((series, samples))
}
