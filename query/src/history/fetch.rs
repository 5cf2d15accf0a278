//! From series to the bytes of their pages: what a batch of neighbours needs of every part, in few requests.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use periplus_block::source::RangedBytes;
use periplus_columnar::{
    Aggregate, ColumnarError, Columns, Footer, HistogramReader, PartFile, SampleReader, Window,
};
use periplus_model::TimeRange;

use super::blocks::AtHand;
use super::bundle::PartBytes;
use super::coverage::Pick;
use super::open::{Opened, Parts, ReadError};
use super::resolution::Column;
use super::select::{Found, Selection};

/// Parts whose pages are fetched at once.
const FETCHED_AT_ONCE: usize = 16;

/// Bytes of a file that are at hand, and what makes sense of them.
#[derive(Clone, Debug)]
pub struct Source {
    footer: Footer,
    bytes: Arc<Held>,
}

/// Blocks at hand as the readers of pages want them.
#[derive(Debug)]
struct Held {
    at_hand: AtHand,
    len: u64,
}

impl RangedBytes for Held {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, range: Range<u64>) -> io::Result<bytes::Bytes> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "these bytes were not fetched");
        self.at_hand.bytes(range).ok_or_else(missing)
    }
}

impl Source {
    /// A reader of floats.
    ///
    /// # Errors
    /// The file is another one than its name says.
    pub fn samples(&self) -> Result<SampleReader, ColumnarError> {
        SampleReader::new(&self.footer, Arc::clone(&self.bytes) as Arc<dyn RangedBytes>)
    }

    /// A reader of histograms.
    ///
    /// # Errors
    /// As [`Self::samples`].
    pub fn histograms(&self) -> Result<HistogramReader, ColumnarError> {
        HistogramReader::new(&self.footer, Arc::clone(&self.bytes) as Arc<dyn RangedBytes>)
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.at_hand.len()
    }
}

/// What a batch of series needs, by index among the picks; and what could not be had.
pub type Fetched = (HashMap<u32, PartBytes>, Vec<(Pick, ReadError)>);

/// Fetches what `series` have in `range`.
pub async fn fetch(
    parts: &Parts,
    selection: &Selection,
    series: &[Found],
    range: TimeRange,
    column: Column,
) -> Fetched {
    let mut wanted: HashMap<u32, Vec<Window>> = HashMap::new();
    for place in series.iter().flat_map(|s| &s.places) {
        let Some(table) = selection.tables.get(place.table as usize) else { continue };
        let windows = table.series.windows(place.row).filter(|w| w.range.overlaps(&range));
        wanted.entry(place.pick).or_default().extend(windows);
    }
    let mut each = stream::iter(wanted.into_iter().filter_map(|(at, windows)| {
        let pick = selection.picks.get(at as usize)?;
        Some(async move { (at, pick, one(parts, pick, &windows, column).await) })
    }))
    .buffer_unordered(FETCHED_AT_ONCE);
    let (mut all, mut lost) = (HashMap::new(), Vec::new());
    while let Some((at, pick, got)) = each.next().await {
        match got {
            Ok(bytes) => _ = all.insert(at, bytes),
            Err(error) => lost.push((pick.clone(), error)),
        }
    }
    (all, lost)
}

async fn one(
    parts: &Parts,
    pick: &Pick,
    windows: &[Window],
    column: Column,
) -> Result<PartBytes, ReadError> {
    let columns = columns(pick, column);
    let rows = |of: fn(&Window) -> &Range<u64>| {
        let mut rows: Vec<Range<u64>> =
            windows.iter().map(|w| of(w).clone()).filter(|r| !r.is_empty()).collect();
        rows.sort_unstable_by_key(|r| r.start);
        rows
    };
    let mut out = PartBytes { pick: pick.clone(), samples: None, histograms: None };
    for (which, rows) in [
        (PartFile::Samples, rows(|w| &w.rows)),
        (PartFile::Histograms, rows(|w| &w.histogram_rows)),
    ] {
        if rows.is_empty() {
            continue;
        }
        let Some(Opened { file, footer }) = parts.open(&pick.part, which).await? else { continue };
        let ranges = match which {
            PartFile::Histograms => footer.histogram_ranges(rows),
            _ => footer.sample_ranges(rows, columns),
        };
        let at_hand = parts.blocks.get(&file, ranges).await?;
        let bytes = Arc::new(Held { at_hand, len: file.size });
        let source = Some(Source { footer, bytes });
        match which {
            PartFile::Histograms => out.histograms = source,
            _ => out.samples = source,
        }
    }
    Ok(out)
}

/// The columns of a part that a question for `column` reads.
fn columns(pick: &Pick, column: Column) -> Columns {
    if pick.part.resolution_ms == 0 {
        return Columns::Raw;
    }
    Columns::of(match column {
        Column::Value => &[Aggregate::Count, Aggregate::Sum],
        Column::Count => &[Aggregate::Count],
        Column::Sum => &[Aggregate::Sum],
        Column::Min => &[Aggregate::Min],
        Column::Max => &[Aggregate::Max],
        Column::Counter => &[Aggregate::Counter],
    })
}
