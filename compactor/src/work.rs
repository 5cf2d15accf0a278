//! Carries one step out: inputs fetched, the part made, its files sent.
//!
//! The part is in the bucket then, but nobody knows of it until it is committed.

use std::sync::Arc;

use periplus_bucket::catalog::Part;
use periplus_bucket::upload::Uploader;
use periplus_bucket::{Bucket, BucketError, Key, Kind as BucketKind};
use periplus_columnar::{ColumnarError, PartMeta, PartSummary};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::erase::Erasure;
use crate::local::{self, FetchError, PartFiles, WorkDir};
use crate::make::input::{Files, Opened};
use crate::make::{self, Job, MakeError};
use crate::plan::{Input, Kind, Step, Subject, reduced};

/// How a step ended.
#[derive(Debug)]
pub enum Outcome {
    /// The part is in the bucket.
    Made {
        /// What the catalog is to be told.
        part: Box<Part>,
        /// Samples in it.
        samples: u64,
        /// Bytes sent.
        bytes: u64,
    },
    /// Something is bad.
    Bad {
        /// What is to be set aside.
        subjects: Vec<Subject>,
        /// Why.
        reason: String,
        /// Whether what was written differed from what was read.
        differs: bool,
    },
    /// An input is gone: somebody deleted or replaced it since it was planned.
    Gone(String),
}

/// Why work can't go on at all.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The store refuses or does not answer.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The working directory can't be used.
    #[error("{0}")]
    Disk(String),
    /// The catalog can't take what was made.
    #[error("catalog: {0}")]
    Catalog(String),
    /// It was asked to end, or another one has the stream.
    #[error("given up: the process ends, or another one has the stream")]
    Ended,
}

impl WorkError {
    /// A word for metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Bucket(_) => "bucket",
            Self::Disk(_) => "disk",
            Self::Catalog(_) => "catalog",
            Self::Ended => "ended",
        }
    }
}

/// What carrying out needs.
#[derive(Clone, Debug)]
pub struct Worker {
    /// The bucket.
    pub bucket: Bucket,
    /// Where things are under way.
    pub dir: Arc<WorkDir>,
    /// Sends files.
    pub uploader: Arc<Uploader>,
    /// Labels that get columns of their own.
    pub promoted: Arc<[String]>,
}

enum Stopped {
    Work(WorkError),
    Outcome(Outcome),
}

impl From<WorkError> for Stopped {
    fn from(error: WorkError) -> Self {
        Self::Work(error)
    }
}

impl Worker {
    /// Makes a part and sends its files. What is found bad is fetched anew and tried once more.
    ///
    /// # Errors
    /// What concerns all steps; what concerns this one is in the outcome.
    pub async fn carry_out(
        &self,
        step: &Step,
        parts: &[Arc<Part>],
        erasures: Vec<Erasure>,
        stop: &CancellationToken,
    ) -> Result<Outcome, WorkError> {
        let mut done = self.try_to(step, parts, erasures.clone(), stop).await;
        if matches!(&done, Err(Stopped::Outcome(Outcome::Bad { .. }))) && !stop.is_cancelled() {
            // What a network, a disk or a store that lies once made of it is not what is in the bucket.
            for input in &step.inputs {
                if let Input::Block(id) = input {
                    self.dir.forget(*id).await;
                }
            }
            done = self.try_to(step, parts, erasures, stop).await;
        }
        match done {
            Ok(outcome) | Err(Stopped::Outcome(outcome)) => Ok(outcome),
            Err(Stopped::Work(error)) => Err(error),
        }
    }

    async fn try_to(
        &self,
        step: &Step,
        parts: &[Arc<Part>],
        erasures: Vec<Erasure>,
        stop: &CancellationToken,
    ) -> Result<Outcome, Stopped> {
        if stop.is_cancelled() {
            return Err(WorkError::Ended.into());
        }
        let scratch = self.dir.scratch().map_err(|e| disk(&e))?;
        let inputs = self.open(step, parts, scratch.path()).await?;
        let mut notes: Vec<String> = step.inputs.iter().map(ToString::to_string).collect();
        notes.extend(erasures.iter().map(Erasure::note));
        let meta = PartMeta {
            part: Ulid::generate(),
            external: step.stream.clone(),
            replica_labels: step.replica_labels.clone(),
            day: step.day,
            resolution: step.resolution,
            sources: step.sources.iter().copied().collect(),
            inputs: notes,
            promoted: self.promoted.to_vec(),
        };
        let directory = scratch.path().join("part");
        std::fs::create_dir(&directory).map_err(|e| WorkError::Disk(e.to_string()))?;
        let (made, at, owned, token) =
            (meta.clone(), directory.clone(), step.clone(), stop.clone());
        let done = tokio::task::spawn_blocking(move || {
            let go_on = || !token.is_cancelled();
            let job = Job { step: &owned, meta: made, inputs, erasures, go_on: &go_on };
            make::make(&job, &at)
        })
        .await;
        let summary = match done {
            Ok(Ok(summary)) => summary,
            Ok(Err(error)) => return Err(failed(step, error)),
            // Whatever made it panic would do so again.
            Err(error) => {
                let (subjects, reason) = (subjects(step), format!("making its part: {error}"));
                return Err(Stopped::Outcome(Outcome::Bad { subjects, reason, differs: false }));
            }
        };
        if stop.is_cancelled() {
            return Err(WorkError::Ended.into());
        }
        self.send(&meta, &summary, &directory).await.map_err(Stopped::Work)
    }

    async fn open(
        &self,
        step: &Step,
        parts: &[Arc<Part>],
        scratch: &std::path::Path,
    ) -> Result<Vec<Opened>, Stopped> {
        let mut opened = Vec::with_capacity(step.inputs.len());
        let mut groups = Vec::new();
        for input in &step.inputs {
            let (files, stream) = match input {
                Input::Block(id) => {
                    let block = self.dir.block(&self.bucket, *id).await;
                    let block = block.map_err(|e| not_fetched(*input, e))?;
                    (Files::Block(block, step.resolution), None)
                }
                Input::Part(id) => {
                    let Some(part) = parts.iter().find(|p| p.part == *id) else {
                        let gone = format!("{input} is not in the catalog any more");
                        return Err(Stopped::Outcome(Outcome::Gone(gone)));
                    };
                    let directory = scratch.join(id.to_string());
                    for file in &part.files {
                        let key = part.key(&file.file).map_err(BucketError::from);
                        let key = key.map_err(WorkError::from)?;
                        let to = directory.join(key.name());
                        let fetched = local::fetch(&self.bucket, &key, file.size, &to).await;
                        fetched.map_err(|e| not_fetched(*input, e))?;
                    }
                    if part.files.is_empty() {
                        continue;
                    }
                    let files = PartFiles::new(&part.directory, &directory);
                    (Files::Part(files), Some(&part.external))
                }
            };
            let group = match stream.filter(|_| step.kind == Kind::Deduplicate) {
                None => 0,
                Some(stream) => match groups.iter().position(|s| *s == stream) {
                    Some(group) => group,
                    None => {
                        groups.push(stream);
                        groups.len() - 1
                    }
                },
            };
            opened.push(Opened { input: *input, group, files });
        }
        if step.kind == Kind::Deduplicate {
            // The order of replicas must not depend on the names of parts.
            let mut order: Vec<usize> = (0..groups.len()).collect();
            order.sort_by_key(|g| groups.get(*g));
            for input in &mut opened {
                input.group = order.iter().position(|g| *g == input.group).unwrap_or(0);
            }
        }
        Ok(opened)
    }

    async fn send(
        &self,
        meta: &PartMeta,
        summary: &PartSummary,
        directory: &std::path::Path,
    ) -> Result<Outcome, WorkError> {
        // A part without series is a line in the catalog and nothing else.
        let (mut summary, mut bytes) = (summary.clone(), 0);
        if summary.series == 0 {
            summary.files.clear();
        }
        for file in &summary.files {
            let key = Key::parse(&meta.path(file.file)).map_err(BucketError::from)?;
            let path = directory.join(file.file.name());
            bytes += self.uploader.put_file(&self.bucket, &key, &path).await?.bytes_sent;
        }
        let samples = summary.samples + summary.histograms;
        let part = Part::describe(&summary, &meta.directory());
        let part = Box::new(part.map_err(|e| WorkError::Catalog(e.to_string()))?);
        Ok(Outcome::Made { part, samples, bytes })
    }
}

fn disk(error: &FetchError) -> WorkError {
    WorkError::Disk(error.to_string())
}

fn not_fetched(input: Input, error: FetchError) -> Stopped {
    let bad = |reason| {
        let subjects = vec![subject(input)];
        Stopped::Outcome(Outcome::Bad { subjects, reason, differs: false })
    };
    match error {
        FetchError::Bucket(error) if error.kind() == BucketKind::NotFound => {
            Stopped::Outcome(Outcome::Gone(format!("{input}: {error}")))
        }
        FetchError::Bucket(error)
            if !error.kind().is_passing() && error.kind() == BucketKind::Corrupt =>
        {
            bad(error.to_string())
        }
        FetchError::Bucket(error) => Stopped::Work(error.into()),
        FetchError::Block(error) => bad(error.to_string()),
        error @ FetchError::Disk { .. } => Stopped::Work(disk(&error)),
    }
}

fn subject(input: Input) -> Subject {
    match input {
        Input::Block(id) => Subject::Block(id),
        Input::Part(id) => Subject::Part(id),
    }
}

/// What is set aside where it can't be told which input is to blame: this day of each.
fn subjects(step: &Step) -> Vec<Subject> {
    let this_day = |input: &Input| match input {
        Input::Block(id) => Subject::BlockDay(*id, step.day),
        Input::Part(id) => Subject::Part(*id),
    };
    step.inputs.iter().map(this_day).collect()
}

fn failed(step: &Step, error: MakeError) -> Stopped {
    let reason = error.to_string();
    Stopped::Outcome(match error {
        MakeError::Bad { input: Input::Block(id), this_day: true, .. } => {
            let subjects = vec![Subject::BlockDay(id, step.day)];
            Outcome::Bad { subjects, reason, differs: false }
        }
        MakeError::Bad { input, .. } => {
            Outcome::Bad { subjects: vec![subject(input)], reason, differs: false }
        }
        MakeError::Differs(_) => Outcome::Bad { subjects: subjects(step), reason, differs: true },
        MakeError::Write { source: ColumnarError::Refused { .. }, .. } => {
            Outcome::Bad { subjects: subjects(step), reason, differs: false }
        }
        MakeError::Write { .. } => return Stopped::Work(WorkError::Disk(reason)),
        MakeError::Cancelled => return Stopped::Work(WorkError::Ended),
    })
}

/// Whose lease a step needs: that of the stream without replica labels, so that replicas go together.
#[must_use]
pub fn lease_of(step: &Step, replica_labels: &[String]) -> crate::plan::Stream {
    reduced(&step.stream, replica_labels)
}
