//! One part from its inputs: written to local files, read back, compared bit for bit.
//!
//! [`input`] gives the series of a block or part in order, [`join`] makes one run of samples of those that
//! have the same labels. Both passes, the one that writes and the one that compares, go through the same
//! inputs anew, series by series: memory does not grow with them.

pub mod input;
pub mod join;

use std::fmt;
use std::path::{Path, PathBuf};

use periplus_block::BlockError;
use periplus_columnar::{
    AggregateSamples, ColumnarError, DirSinks, PartMeta, PartReader, PartSummary, PartWriter,
    Resolution, SeriesData, WriteOptions,
};
use periplus_model::{Labels, TimeRange, replicas};

use crate::downsample;
use crate::erase::{self, Erasure};
use crate::local::PartFiles;
use crate::plan::{Input, Kind, Step};
use input::{Item, Opened, Samples};

/// Why a part could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// An input is bad.
    #[error("{input}: {reason}")]
    Bad {
        /// Which.
        input: Input,
        /// Whether only this day of it is.
        this_day: bool,
        /// What is wrong with it.
        reason: String,
    },
    /// What was written is not what was read.
    #[error("{0}, read back, is not what it was made from")]
    Differs(String),
    /// The part can't be written.
    #[error("writing a part in {directory}: {source}")]
    Write {
        /// Where.
        directory: PathBuf,
        /// Why.
        source: ColumnarError,
    },
    /// It was asked to end.
    #[error("given up: the process ends, or another one has the stream")]
    Cancelled,
}

impl MakeError {
    fn block(input: Input, error: &BlockError) -> Self {
        let this_day = matches!(error.source, periplus_block::FileError::Chunk { .. });
        Self::Bad { input, this_day, reason: error.to_string() }
    }

    fn part(input: Input, error: &ColumnarError) -> Self {
        Self::Bad { input, this_day: false, reason: error.to_string() }
    }
}

/// What is to be made, with all that is needed for it.
pub struct Job<'a> {
    /// The step.
    pub step: &'a Step,
    /// What its part will say of itself.
    pub meta: PartMeta,
    /// Its inputs, open.
    pub inputs: Vec<Opened>,
    /// What is to be gone from it.
    pub erasures: Vec<Erasure>,
    /// Asked now and then whether to go on.
    pub go_on: &'a (dyn Fn() -> bool + Sync),
}

impl fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("step", &self.step).finish_non_exhaustive()
    }
}

/// Series after which it is asked whether to go on.
const ASK_EVERY: u64 = 256;

/// Makes the part in a directory that is there and empty.
///
/// # Errors
/// An input is bad; the part can't be written; what was written is not what was read.
pub fn make(job: &Job<'_>, directory: &Path) -> Result<PartSummary, MakeError> {
    let failed = |source| MakeError::Write { directory: directory.to_owned(), source };
    let sinks = Box::new(DirSinks(directory.to_owned()));
    let mut writer =
        PartWriter::new(job.meta.clone(), WriteOptions::default(), sinks).map_err(failed)?;
    let mut series = 0;
    each(job, |labels, made| {
        series += 1;
        match made {
            Made::Raw(samples) => writer.push(labels, samples).map_err(failed),
            Made::Aggregates(samples) => writer.push_aggregates(labels, &samples).map_err(failed),
        }
    })?;
    let summary = writer.finish().map_err(failed)?;
    if series > 0 {
        compare(job, directory)?;
    }
    Ok(summary)
}

/// Reads the part back beside a second pass over the inputs.
fn compare(job: &Job<'_>, directory: &Path) -> Result<(), MakeError> {
    let name = job.meta.directory();
    let differs = |why: &dyn fmt::Display| MakeError::Differs(format!("{name}: {why}"));
    let files = PartFiles::new(&name, directory);
    let mut reader = PartReader::open(&files).map_err(|e| differs(&e))?;
    each(job, |labels, made| {
        match made {
            Made::Raw(samples) => reader.expect_raw(labels, samples),
            Made::Aggregates(samples) => reader.expect(labels, &SeriesData::Aggregates(*samples)),
        }
        .map_err(|e| differs(&e))
    })?;
    reader.expect_end().map_err(|e| differs(&e))
}

/// One series of the part.
enum Made<'a> {
    Raw(&'a periplus_block::chunk::ChunkSamples),
    Aggregates(Box<AggregateSamples>),
}

/// Goes through all series of the part to be, in order of labels; those without samples are left out.
fn each(
    job: &Job<'_>,
    mut then: impl FnMut(&Labels, Made<'_>) -> Result<(), MakeError>,
) -> Result<(), MakeError> {
    let step = job.step;
    let mut merged = input::Merged::new(&job.inputs, step.day.range())?;
    let mut seen = 0u64;
    while let Some((labels, items)) = merged.next_series()? {
        seen += 1;
        if seen.is_multiple_of(ASK_EVERY) && !(job.go_on)() {
            return Err(MakeError::Cancelled);
        }
        let gone: Vec<TimeRange> = job
            .erasures
            .iter()
            .filter(|e| e.takes(&step.stream, &labels))
            .map(|e| e.range)
            .collect();
        let samples = combine(step, &labels, items);
        match samples {
            Samples::Raw(mut samples) => {
                if !gone.is_empty() {
                    erase::from_raw(&mut samples, &gone);
                }
                if step.resolution == Resolution::Raw {
                    if !samples.is_empty() {
                        then(&labels, Made::Raw(&samples))?;
                    }
                    continue;
                }
                let aggregates = downsample::raw(&samples, step.resolution);
                if !aggregates.is_empty() {
                    then(&labels, Made::Aggregates(Box::new(aggregates)))?;
                }
            }
            Samples::Aggregates(mut samples) => {
                if step.kind == Kind::Downsample {
                    samples = downsample::coarser(&samples, step.resolution);
                }
                if !gone.is_empty() {
                    erase::from_aggregates(&mut samples, step.resolution, &gone);
                }
                if !samples.is_empty() {
                    then(&labels, Made::Aggregates(Box::new(samples)))?;
                }
            }
        }
    }
    Ok(())
}

/// One run of samples from those that several inputs have.
fn combine(step: &Step, labels: &Labels, items: Vec<Item>) -> Samples {
    if step.kind != Kind::Deduplicate {
        return join::all(items.into_iter().map(|i| i.samples).collect());
    }
    let mut runs: Vec<(usize, Vec<Samples>)> = Vec::new();
    for item in items {
        match runs.iter_mut().find(|(group, _)| *group == item.group) {
            Some((_, run)) => run.push(item.samples),
            None => runs.push((item.group, vec![item.samples])),
        }
    }
    runs.sort_by_key(|(group, _)| *group);
    let mut raw = Vec::new();
    for (_, run) in runs {
        match join::all(run) {
            Samples::Raw(samples) => raw.push(samples),
            // Only raw parts are planned to be deduplicated.
            other @ Samples::Aggregates(_) => return other,
        }
    }
    let mut out = periplus_block::chunk::ChunkSamples::new();
    replicas::merge(&raw, replicas::counts(labels, None), &mut out);
    Samples::Raw(out)
}
