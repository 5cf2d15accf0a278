//! The catalog made anew from what lies in the bucket.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, stream};

use super::part::{File, Month, PREFIX, Part};
use super::stored::{self, Manifest, ManifestAt, Root, Superseded};
use super::verify::Problem;
use super::{AT_A_TIME, Catalog};
use crate::blocks::Progress;
use crate::bucket::{Bucket, Entry, PutOutcome};
use crate::error::BucketError;
use crate::key::Key;

/// How much of a file's end is read at first.
const TAIL_FIRST: u64 = 64 << 10;

/// What a file says of itself.
#[derive(Clone, Debug)]
pub struct Described {
    /// The part's description, as [`Part::describe`] takes it; without files.
    pub description: serde_json::Value,
    /// Rows of this file.
    pub rows: u64,
    /// How many of its last bytes a reader needs first.
    pub tail_len: u64,
}

/// Why a file could not describe itself.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// More of the file's end is needed: so many bytes.
    #[error("the last {0} bytes are needed")]
    More(u64),
    /// It is no file of a part, or was altered.
    #[error("{0}")]
    Bad(String),
}

/// Knows the files of parts; the catalog does not.
pub trait Describe: Send + Sync {
    /// Reads a file's description from its end.
    ///
    /// # Errors
    /// More of it is needed, or it is no file of a part.
    fn describe(&self, name: &str, file_len: u64, tail: &Bytes)
    -> Result<Described, DescribeError>;

    /// CRC-32 of bytes, as [`File::tail_crc32`] has it.
    fn crc32(&self, bytes: &[u8]) -> u32;
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Rebuilt {
    /// Parts in the new catalog.
    pub parts: Vec<Arc<Part>>,
    /// Parts that others replace: they hold the same sources.
    pub superseded: Vec<Arc<Part>>,
    /// Files that make no part.
    pub problems: Vec<Problem>,
}

/// Lists the history, reads the end of every file and writes a catalog of what is there, whatever
/// catalog there was. With `dry_run` nothing is written.
///
/// Of parts that share a source for the same stream, day and resolution the one with more sources is
/// taken, of two with equally many the newer one. Parts without files are not found: what they said
/// (that a source has nothing) is found out again by who converts. Nothing else may commit meanwhile;
/// a commit that is lost this way leaves its files, which the next rebuild finds.
///
/// # Errors
/// The store refuses or does not answer; somebody else put a root meanwhile.
pub async fn rebuild(
    catalog: &Arc<Catalog>,
    describe: &dyn Describe,
    dry_run: bool,
    progress: &mut dyn Progress,
) -> Result<Rebuilt, BucketError> {
    let bucket = catalog.bucket();
    let root = stored::root_key()?;
    let before = bucket.stat(&root).await?;
    let mut rebuilt = Rebuilt::default();
    let directories = directories(bucket).await?;
    progress.more(directories.len() as u64);
    let reads = directories.iter().map(|(directory, files)| async move {
        (directory, read_part(bucket, describe, directory, files).await)
    });
    let mut reads = stream::iter(reads).buffered(AT_A_TIME);
    let mut found = Vec::new();
    while let Some((directory, read)) = reads.next().await {
        progress.step(directory);
        match read? {
            Ok(part) => found.push(Arc::new(part)),
            Err(reason) => rebuilt.problems.push(Problem {
                subject: directory.clone(),
                kind: "description",
                details: reason,
            }),
        }
    }
    choose(found, &mut rebuilt);
    if !dry_run {
        write(catalog, &rebuilt, before).await?;
    }
    Ok(rebuilt)
}

/// The directories of parts and their files, by name.
async fn directories(bucket: &Bucket) -> Result<BTreeMap<String, Vec<Entry>>, BucketError> {
    let mut out: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in bucket.list_all(&Key::parse(PREFIX)?).await? {
        let name = entry.key.as_str();
        if let Some((directory, _)) = name.rsplit_once('/')
            && name.ends_with(".parquet")
            && directory.contains("/part=")
        {
            out.entry(directory.to_owned()).or_default().push(entry);
        }
    }
    Ok(out)
}

type ReadPart = Result<Part, String>;

async fn read_part(
    bucket: &Bucket,
    describe: &dyn Describe,
    directory: &str,
    entries: &[Entry],
) -> Result<ReadPart, BucketError> {
    let (mut files, mut description) = (Vec::new(), None);
    for entry in entries {
        let name = entry.key.name().trim_end_matches(".parquet").to_owned();
        let (described, tail) = match read_file(bucket, describe, entry).await? {
            Ok(found) => found,
            Err(reason) => return Ok(Err(format!("{name}: {reason}"))),
        };
        let of = (described.tail_len.min(tail.len() as u64)) as usize;
        let tail_crc32 = describe.crc32(tail.get(tail.len() - of..).unwrap_or_default());
        let (size, tail_len, rows) = (entry.size, described.tail_len, described.rows);
        if name == "series" {
            description = Some(described.description);
        }
        files.push(File { file: name, size, tail_len, tail_crc32, rows });
    }
    let Some(mut description) = description else {
        return Ok(Err("it has no series.parquet: an upload that was given up".to_owned()));
    };
    let count = |name: &str| description.get(name).and_then(serde_json::Value::as_u64);
    for (counted, file) in [("samples", "samples"), ("histograms", "histograms")] {
        if count(counted) != Some(0) && !files.iter().any(|f| f.file == file) {
            return Ok(Err(format!("{file}.parquet is missing: an upload that was given up")));
        }
    }
    files.sort_by_key(|f| (f.file != "series", f.file != "samples"));
    if let (Some(fields), Ok(files)) = (description.as_object_mut(), serde_json::to_value(&files)) {
        fields.insert("files".to_owned(), files);
    }
    Ok(Part::describe(&description, directory).map_err(|e| e.to_string()))
}

async fn read_file(
    bucket: &Bucket,
    describe: &dyn Describe,
    entry: &Entry,
) -> Result<Result<(Described, Bytes), String>, BucketError> {
    let mut want = TAIL_FIRST.min(entry.size);
    loop {
        let range = entry.size - want..entry.size;
        let tail = bucket.get_range(&entry.key, range).await?;
        match describe.describe(entry.key.as_str(), entry.size, &tail) {
            Ok(described) => return Ok(Ok((described, tail))),
            Err(DescribeError::More(more)) if more > want && more <= entry.size => want = more,
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
}

/// Sorts out which parts are to be found: the larger and newer before those they replace.
fn choose(mut found: Vec<Arc<Part>>, rebuilt: &mut Rebuilt) {
    found.sort_by_key(|p| std::cmp::Reverse((p.sources.len(), p.part)));
    for part in found {
        match rebuilt.parts.iter().find(|p| p.doubles(&part)) {
            None => rebuilt.parts.push(part),
            Some(other) => {
                if !part.sources.iter().all(|s| {
                    rebuilt.parts.iter().any(|p| p.doubles(&part) && p.sources.contains(s))
                }) {
                    rebuilt.problems.push(Problem {
                        subject: part.directory.clone(),
                        kind: "doubled",
                        details: format!(
                            "it shares sources with {} and has some of its own: those are to be \
                             converted again",
                            other.part
                        ),
                    });
                }
                rebuilt.superseded.push(part);
            }
        }
    }
}

async fn write(
    catalog: &Arc<Catalog>,
    rebuilt: &Rebuilt,
    before: Option<Entry>,
) -> Result<(), BucketError> {
    let bucket = catalog.bucket();
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let mut manifests: BTreeMap<(String, Month), Manifest> = BTreeMap::new();
    // Greater than that of any root a reader may know, also where the old one can't be read.
    let mut root = Root { generation: now_ms.unsigned_abs(), ..Root::default() };
    let place = |part: &Part, root: &mut Root| {
        root.streams.insert(part.stream().to_owned(), part.external.clone());
        (part.stream().to_owned(), Month::of_day(part.day))
    };
    for part in &rebuilt.parts {
        let at = place(part, &mut root);
        let of = manifests.entry(at.clone()).or_insert_with(|| Manifest::new(&at.0, at.1));
        of.parts.push(Arc::clone(part));
    }
    for part in &rebuilt.superseded {
        let at = place(part, &mut root);
        let of = manifests.entry(at.clone()).or_insert_with(|| Manifest::new(&at.0, at.1));
        of.superseded.push(Superseded { part: Arc::clone(part), since_ms: now_ms });
    }
    if let Ok(Some((old, _))) = stored::read_root(bucket).await {
        root.generation = root.generation.max(old.generation + 1);
    }
    for manifest in manifests.values_mut() {
        manifest
            .parts
            .sort_by(|a, b| (a.day, &a.resolution, a.part).cmp(&(b.day, &b.resolution, b.part)));
        let key = manifest.new_key()?;
        let bytes = stored::seal(bucket, &key, manifest)?;
        root.manifests.push(ManifestAt {
            stream: manifest.stream.clone(),
            month: manifest.month,
            key: key.to_string(),
            size: bytes.len() as u64,
            parts: manifest.parts.len() as u64,
        });
        bucket.put(&key, bytes).await?;
    }
    root.nonce = ulid::Ulid::generate().to_string();
    root.written = jiff::Timestamp::now().to_string();
    let key = stored::root_key()?;
    let bytes = stored::seal(bucket, &key, &root)?;
    let put = match before {
        Some(entry) => bucket.put_if_version(&key, bytes, &entry.version).await?,
        None => bucket.put_if_absent(&key, bytes).await?,
    };
    if put == PutOutcome::Conflict {
        let reason =
            "somebody else changed the catalog meanwhile; stop the compactors and try again";
        return Err(bucket.malformed(&key, reason));
    }
    catalog.install(root, Vec::new());
    Ok(())
}
