//! The streams that were once seen, kept across restarts.
//!
//! The file is JSON, written whole to a neighbour and renamed: `{"version": 1, "endpoints": [{"address",
//! "kind", "seen_ms", "streams": [{name: value, …}, …]}]}`. Nobody else reads it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use periplus_model::{Labels, TimeRange};
use serde::{Deserialize, Serialize};

use super::{Endpoint, Kind, Status, StreamInfo};

/// The largest state file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    endpoints: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    address: String,
    kind: String,
    seen_ms: i64,
    streams: Vec<BTreeMap<String, String>>,
}

/// Where known streams are kept between runs.
#[derive(Clone, Debug)]
pub(super) struct Store {
    path: PathBuf,
}

impl Store {
    pub(super) fn new(data: &Path) -> Self {
        Self { path: data.join("known-endpoints.json") }
    }

    /// What was known when it was last saved: endpoints that are down until they answer. A file that
    /// can't be read is reported and left alone.
    pub(super) fn load(&self) -> Result<Vec<(Endpoint, i64)>, io::Error> {
        let size = match std::fs::metadata(&self.path) {
            Ok(m) => m.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        if size > FILE_BYTES_MAX {
            let text = format!("{} is larger than {FILE_BYTES_MAX} bytes", self.path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let file: File = serde_json::from_slice(&std::fs::read(&self.path)?)?;
        Ok(file.endpoints.into_iter().map(remembered).collect())
    }

    pub(super) fn save<'a>(
        &self,
        endpoints: impl Iterator<Item = (&'a str, Kind, i64, &'a [StreamInfo])>,
    ) -> Result<(), io::Error> {
        let entry = |(address, kind, seen_ms, streams): (&str, Kind, i64, &[StreamInfo])| Entry {
            address: address.to_owned(),
            kind: kind.as_str().to_owned(),
            seen_ms,
            streams: streams.iter().map(|s| pairs(&s.labels)).collect(),
        };
        let file = File { version: 1, endpoints: endpoints.map(entry).collect() };
        if let Some(dir) = self.path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let next = self.path.with_extension("json.new");
        std::fs::write(&next, serde_json::to_vec_pretty(&file)?)?;
        std::fs::rename(&next, &self.path)
    }
}

fn pairs(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

fn remembered(entry: Entry) -> (Endpoint, i64) {
    let kind = match entry.kind.as_str() {
        "sidecar" => Kind::Sidecar,
        "query" => Kind::Query,
        "thanos" => Kind::Thanos,
        _ => Kind::Unknown,
    };
    let stream = |labels: BTreeMap<String, String>| StreamInfo {
        labels: Labels::from_pairs(labels),
        available: TimeRange::ALL,
        gaps: Vec::new(),
        problem: String::new(),
        problem_since_ms: 0,
        lag_ms: -1,
        version: String::new(),
        address: String::new(),
        shadowed: Vec::new(),
        head_series: 0,
    };
    let status = Status {
        kind,
        streams: entry.streams.into_iter().map(stream).collect(),
        since_ms: entry.seen_ms,
        last_error: "it was seen before and has not been found since".to_owned(),
        ..Status::default()
    };
    (Endpoint { address: entry.address, channel: None, status }, entry.seen_ms)
}
