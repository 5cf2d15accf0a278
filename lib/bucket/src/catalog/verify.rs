//! The catalog held against the bucket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::part::{PREFIX, Part};
use super::rebuild::Describe;
use super::{Catalog, Snapshot};
use crate::blocks::Progress;
use crate::error::BucketError;
use crate::key::Key;

/// What is wrong with the catalog or with what it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The part or the object.
    pub subject: String,
    /// A word for programs: `missing`, `size`, `tail`, `description`, `doubled`.
    pub kind: &'static str,
    /// A sentence for people.
    pub details: String,
}

/// Holds every part against the bucket: its files are there and have their sizes, no two parts say
/// the same twice. With `describe`, each file's end is read too, its checksum compared, and what the
/// file says of itself with what the catalog says.
///
/// # Errors
/// The catalog makes no sense; the store refuses or does not answer.
pub async fn verify(
    catalog: &Arc<Catalog>,
    describe: Option<&dyn Describe>,
    progress: &mut dyn Progress,
) -> Result<Vec<Problem>, BucketError> {
    let snapshot: Snapshot = catalog.snapshot(Duration::ZERO).await?;
    let parts = snapshot.all_parts().await?;
    let listed = catalog.bucket().list_all(&Key::parse(PREFIX)?).await?;
    let sizes: BTreeMap<&str, u64> = listed.iter().map(|e| (e.key.as_str(), e.size)).collect();
    progress.more(parts.len() as u64);
    let mut problems = doubled(&parts);
    for part in &parts {
        for file in &part.files {
            let key = part.key(&file.file)?;
            let problem =
                |kind, details: String| Problem { subject: key.to_string(), kind, details };
            match sizes.get(key.as_str()) {
                None => problems.push(problem("missing", "the object is missing".to_owned())),
                Some(size) if *size != file.size => {
                    let text = format!("it has {size} bytes, the catalog says {}", file.size);
                    problems.push(problem("size", text));
                }
                Some(_) => {
                    let Some(describe) = describe else { continue };
                    let range = file.size - file.tail_len..file.size;
                    let tail = catalog.bucket().get_range(&key, range).await?;
                    problems.extend(tail_problem(describe, part, &key, &tail, file));
                }
            }
        }
        progress.step(&part.part.to_string());
    }
    Ok(problems)
}

fn tail_problem(
    describe: &dyn Describe,
    part: &Part,
    key: &Key,
    tail: &Bytes,
    file: &super::File,
) -> Option<Problem> {
    let problem = |kind, details: String| Some(Problem { subject: key.to_string(), kind, details });
    if describe.crc32(tail) != file.tail_crc32 {
        let text = "its footer has another checksum than the catalog says: it was altered";
        return problem("tail", text.to_owned());
    }
    let described = match describe.describe(key.as_str(), file.size, tail) {
        Ok(described) => described,
        Err(error) => return problem("description", error.to_string()),
    };
    let says = Part::describe(&described.description, &part.directory);
    let same = says.is_ok_and(|says| {
        says.part == part.part
            && says.external == part.external
            && says.day == part.day
            && says.resolution == part.resolution
            && says.sources == part.sources
            && says.samples == part.samples
    });
    if same && described.rows == file.rows {
        return None;
    }
    problem("description", "it describes itself otherwise than the catalog does".to_owned())
}

/// Parts that share a source for the same stream, day and resolution.
pub(super) fn doubled(parts: &[Arc<Part>]) -> Vec<Problem> {
    let mut holders: BTreeMap<_, &Arc<Part>> = BTreeMap::new();
    let mut problems = Vec::new();
    for part in parts {
        for source in &part.sources {
            let place = (part.stream(), part.day, part.resolution.as_str(), source);
            if let Some(other) = holders.insert(place, part) {
                let text = format!("holds source {source}, as part {} does", other.part);
                let subject = part.directory.clone();
                problems.push(Problem { subject, kind: "doubled", details: text });
            }
        }
    }
    problems
}
