//! Runs of rows, wherever they lie, looked at in one way.

use std::sync::Arc;

use super::Context;
use crate::store::columns::{Columns, Row};
use crate::store::files::{FileMeta, FilesError};
use crate::store::filter::{Field, Filter};
use crate::store::memory::Sealed;
use crate::store::parquet::{FileIndex, GroupReader};

/// A run of rows that may hold something.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Open(Vec<Arc<Row>>),
    Block(Sealed),
    Group(FileMeta, Arc<FileIndex>, usize),
}

impl Source {
    /// The earliest and latest last time.
    pub(super) fn last(&self) -> (i64, i64) {
        match self {
            Self::Open(rows) => {
                let lasts = rows.iter().map(|r| r.event.last_us);
                (lasts.clone().min().unwrap_or(i64::MAX), lasts.max().unwrap_or(i64::MIN))
            }
            Self::Block(sealed) => (sealed.block.min_last, sealed.block.max_last),
            Self::Group(_, index, n) => index.groups.get(*n).map_or((0, 0), |g| g.last),
        }
    }
}

/// Runs in memory.
pub(super) fn in_memory(context: &Context) -> Vec<Source> {
    let sealed = context.snapshot.sealed.iter().cloned().map(Source::Block);
    sealed.chain([Source::Open(context.snapshot.open.clone())]).collect()
}

/// Groups of files that may hold something; files that can't be read are named in `warnings`.
pub(super) fn in_files(
    context: &Context,
    filter: &Filter,
    wanted: impl Fn(&FileMeta) -> bool,
    warnings: &mut Vec<String>,
) -> Vec<Source> {
    let below = context.snapshot.evicted_below;
    let mut out = Vec::new();
    for meta in &context.snapshot.files.files {
        if meta.min_id >= below
            || meta.max_last < filter.from_us
            || meta.min_last >= filter.to_us
            || meta.max_id <= filter.after_id
            || !wanted(meta)
        {
            continue;
        }
        if context.is_late() {
            break;
        }
        let index = match context.runtime.block_on(context.files.index(meta)) {
            Ok(index) => index,
            Err(error) => {
                warnings.push(format!("rows are missing: {error}"));
                continue;
            }
        };
        for (n, group) in index.groups.iter().enumerate() {
            let may = group.ids.0 < below
                && group.ids.1 > filter.after_id
                && group.last.1 >= filter.from_us
                && group.last.0 < filter.to_us
                && filter.may_be_in(&group.summary);
            if may {
                out.push(Source::Group(meta.clone(), Arc::clone(&index), n));
            }
        }
    }
    out
}

/// A run that was looked through.
pub(super) enum Found<'a> {
    Open(&'a [Arc<Row>]),
    Block(&'a Sealed),
    Group(Box<GroupReader>, Box<Columns>),
}

/// Looks through a run: the places of selected rows, ascending.
pub(super) fn look<'a>(
    context: &Context,
    source: &'a Source,
    filter: &Filter,
) -> Result<(Found<'a>, Vec<u32>), FilesError> {
    match source {
        Source::Open(rows) => {
            let selected = (0..).zip(rows).filter(|(_, r)| filter.selects(r.id, &r.event));
            Ok((Found::Open(rows), selected.map(|(i, _)| i).collect()))
        }
        Source::Block(sealed) => {
            let mut rows = sealed.block.select(filter);
            rows.retain(|row| !sealed.dead.holds(*row as usize));
            Ok((Found::Block(sealed), rows))
        }
        Source::Group(meta, index, n) => {
            let reader = context.runtime.block_on(context.files.group(meta, index, *n))?;
            let wrong = |e| context.files.wrong(meta, e);
            let columns = reader.columns().map_err(wrong)?;
            let mut rows = columns.candidates(filter);
            let snapshot = &context.snapshot;
            rows.retain(|row| {
                let id = columns.ids.get(*row as usize).copied().unwrap_or(i64::MAX);
                id < snapshot.evicted_below && !snapshot.dead.contains(&id)
            });
            if !rows.is_empty() && filter.asks(Field::Name) {
                let takes = |name: &str| filter.takes(Field::Name, name);
                reader.keep_by("name", &mut rows, takes).map_err(wrong)?;
            }
            if !rows.is_empty() && !filter.texts.is_empty() {
                let takes = |m: &str| filter.texts.iter().all(|t| t.is_match(m));
                reader.keep_by("message", &mut rows, takes).map_err(wrong)?;
            }
            Ok((Found::Group(Box::new(reader), Box::new(columns)), rows))
        }
    }
}

impl Found<'_> {
    /// Last time and number of a row.
    pub(super) fn rank(&self, row: u32) -> (i64, i64) {
        let at = row as usize;
        let of = |c: &Columns| {
            let get = |n: &[i64]| n.get(at).copied().unwrap_or_default();
            (get(&c.last), get(&c.ids))
        };
        match self {
            Self::Open(rows) => rows.get(at).map_or((0, 0), |r| (r.event.last_us, r.id)),
            Self::Block(sealed) => of(&sealed.block.columns),
            Self::Group(_, columns) => of(columns),
        }
    }

    /// Last time and count of a row.
    pub(super) fn counted(&self, row: u32) -> (i64, u32) {
        let at = row as usize;
        let of = |c: &Columns| {
            let last = c.last.get(at).copied().unwrap_or_default();
            (last, c.count.get(at).copied().unwrap_or(1))
        };
        match self {
            Self::Open(rows) => rows.get(at).map_or((0, 1), |r| (r.event.last_us, r.event.count)),
            Self::Block(sealed) => of(&sealed.block.columns),
            Self::Group(_, columns) => of(columns),
        }
    }

    /// The values of a field among these rows, and each row's number of its value.
    pub(super) fn values(
        &self,
        field: Field,
        rows: &[u32],
        filter: &Filter,
    ) -> Result<(Vec<String>, Vec<u32>), crate::store::parquet::FileError> {
        let shown = |value: &str| match field {
            Field::Region => filter.region(value).to_owned(),
            _ => value.to_owned(),
        };
        let coded = |columns: &Columns| {
            columns.column(field).map(|column| {
                let codes =
                    rows.iter().map(|r| u32::try_from(column.code(*r as usize)).unwrap_or(0));
                (column.values.iter().map(|v| shown(v)).collect(), codes.collect())
            })
        };
        let each = |texts: Vec<String>| {
            let codes = (0..u32::try_from(texts.len()).unwrap_or(u32::MAX)).collect();
            (texts, codes)
        };
        Ok(match self {
            Self::Open(all) => {
                let of = |row: &u32| all.get(*row as usize).map_or("", |r| field.of(&r.event));
                each(rows.iter().map(|r| shown(of(r))).collect())
            }
            Self::Block(sealed) => match coded(&sealed.block.columns) {
                Some(coded) => coded,
                None => {
                    let mut names = Vec::new();
                    sealed.block.names(rows, |_, name| names.push(name.to_owned()));
                    each(names)
                }
            },
            Self::Group(reader, columns) => match coded(columns) {
                Some(coded) => coded,
                None => each(reader.texts("name", rows)?),
            },
        })
    }
}
