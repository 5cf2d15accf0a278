//! Series of blocks and parts, in order of labels.

use std::sync::Arc;

use periplus_block::chunk::ChunkSamples;
use periplus_block::index::SeriesRef;
use periplus_block::{Block, BlockError};
use periplus_columnar::{AggregateSamples, PartReader, Resolution, SeriesData};
use periplus_model::{Labels, TimeRange};

use super::MakeError;
use crate::downsample::adopt;
use crate::local::PartFiles;
use crate::plan::Input;

/// Samples of a series from one input.
#[derive(Clone, Debug)]
pub enum Samples {
    /// As they were scraped.
    Raw(ChunkSamples),
    /// Of a coarser resolution.
    Aggregates(AggregateSamples),
}

/// A series as one input has it.
#[derive(Debug)]
pub struct Item {
    /// Its samples.
    pub samples: Samples,
    /// Inputs of one group are of one replica.
    pub group: usize,
}

/// What is behind an input.
#[derive(Clone)]
pub enum Files {
    /// A block.
    Block(Arc<Block>, Resolution),
    /// A part.
    Part(PartFiles),
}

/// An input that can be gone through, again and again.
#[derive(Clone)]
pub struct Opened {
    /// Which.
    pub input: Input,
    /// Its replica.
    pub group: usize,
    /// Where its bytes come from.
    pub files: Files,
}

/// Several inputs at once.
pub struct Merged<'a> {
    lanes: Vec<Lane<'a>>,
    day: TimeRange,
}

struct Lane<'a> {
    opened: &'a Opened,
    cursor: Cursor<'a>,
    head: Option<(Labels, Samples)>,
}

enum Cursor<'a> {
    Block(&'a Block, Resolution, std::vec::IntoIter<SeriesRef>),
    Part(Box<PartReader>),
}

impl<'a> Merged<'a> {
    /// Opens all inputs at their beginning.
    ///
    /// # Errors
    /// Which of them is bad.
    pub fn new(inputs: &'a [Opened], day: TimeRange) -> Result<Self, MakeError> {
        let mut lanes = Vec::with_capacity(inputs.len());
        for opened in inputs {
            let cursor = match &opened.files {
                Files::Block(block, resolution) => {
                    let all = block.select(&[]);
                    let all = all.map_err(|e| MakeError::block(opened.input, &e))?;
                    Cursor::Block(block, *resolution, all.into_iter())
                }
                Files::Part(files) => {
                    let reader = PartReader::open(files);
                    let reader = reader.map_err(|e| MakeError::part(opened.input, &e))?;
                    Cursor::Part(Box::new(reader))
                }
            };
            let mut lane = Lane { opened, cursor, head: None };
            lane.advance(day)?;
            lanes.push(lane);
        }
        Ok(Self { lanes, day })
    }

    /// The next series, with what each input has of it.
    ///
    /// # Errors
    /// Which input is bad.
    pub fn next_series(&mut self) -> Result<Option<(Labels, Vec<Item>)>, MakeError> {
        let heads = self.lanes.iter().filter_map(|l| l.head.as_ref().map(|(labels, _)| labels));
        let Some(labels) = heads.min().cloned() else { return Ok(None) };
        let mut items = Vec::new();
        for lane in &mut self.lanes {
            while lane.head.as_ref().is_some_and(|(own, _)| *own == labels) {
                if let Some((_, samples)) = lane.head.take() {
                    items.push(Item { samples, group: lane.opened.group });
                }
                lane.advance(self.day)?;
                if lane.head.as_ref().is_some_and(|(next, _)| *next < labels) {
                    let reason = format!("its series are not in order of labels at {labels:?}");
                    let input = lane.opened.input;
                    return Err(MakeError::Bad { input, this_day: false, reason });
                }
            }
        }
        Ok(Some((labels, items)))
    }
}

impl Lane<'_> {
    fn advance(&mut self, day: TimeRange) -> Result<(), MakeError> {
        let input = self.opened.input;
        self.head = match &mut self.cursor {
            Cursor::Block(block, resolution, references) => {
                let next = next_of_block(block, *resolution, references, day);
                next.map_err(|e| MakeError::block(input, &e))?
            }
            Cursor::Part(reader) => {
                let next = reader.next_series().map_err(|e| MakeError::part(input, &e))?;
                next.map(|series| {
                    let samples = match series.data {
                        SeriesData::Aggregates(aggregates) => Samples::Aggregates(aggregates),
                        SeriesData::Raw(samples) => Samples::Raw(samples),
                    };
                    (series.labels, samples)
                })
            }
        };
        Ok(())
    }
}

/// The next series with samples in the day.
fn next_of_block(
    block: &Block,
    resolution: Resolution,
    references: &mut std::vec::IntoIter<SeriesRef>,
    day: TimeRange,
) -> Result<Option<(Labels, Samples)>, BlockError> {
    for reference in references {
        let series = block.series(reference)?;
        if !series.chunks.iter().any(|c| c.range.overlaps(&day)) {
            continue;
        }
        if resolution != Resolution::Raw {
            let aggregates = adopt::series(block, &series, day, resolution)?;
            if !aggregates.is_empty() {
                return Ok(Some((series.labels, Samples::Aggregates(aggregates))));
            }
            continue;
        }
        let mut samples = ChunkSamples::new();
        for chunk in series.chunks.iter().filter(|c| c.range.overlaps(&day)) {
            block.decode(&series, chunk, day, &mut samples)?;
        }
        if !samples.is_empty() {
            super::join::in_order(&mut samples);
            return Ok(Some((series.labels, Samples::Raw(samples))));
        }
    }
    Ok(None)
}
