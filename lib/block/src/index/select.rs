//! From matchers to series.

use periplus_model::Matcher;

use super::Index;
use super::postings::{self, SeriesRef};
use crate::error::{BlockFile, FileError};

impl Index {
    /// Every series, ascending.
    ///
    /// # Errors
    /// What is wrong with the list.
    pub fn all_series(&self) -> Result<Vec<SeriesRef>, FileError> {
        match self.offsets.find("", "") {
            Some(offset) => self.postings_at(offset),
            None => Ok(Vec::new()),
        }
    }

    /// The series that pass all matchers, ascending; all of them where there are none.
    ///
    /// A matcher that an absent label passes takes away the series whose value fails it, any other
    /// one keeps those whose value passes. Matchers that name their values outright come first: they
    /// cost a lookup per value, while the others look at every value of their label.
    ///
    /// # Errors
    /// What is wrong with the lists that were needed.
    pub fn select(&self, matchers: &[Matcher]) -> Result<Vec<SeriesRef>, FileError> {
        let mut order: Vec<&Matcher> =
            matchers.iter().filter(|m| !self.passes_everything(m)).collect();
        order.sort_by_key(|m| (m.matches_empty(), m.literal_values().is_none(), self.cost(m)));
        let mut found: Option<Vec<SeriesRef>> = None;
        for matcher in order {
            if found.as_ref().is_some_and(Vec::is_empty) {
                break;
            }
            if matcher.matches_empty() {
                let failing = self.with_value(matcher, false)?;
                let mut rest = match found {
                    Some(found) => found,
                    None => self.all_series()?,
                };
                postings::subtract(&mut rest, &failing);
                found = Some(rest);
            } else {
                let passing = self.with_value(matcher, true)?;
                found = Some(match found {
                    None => passing,
                    Some(mut found) => {
                        postings::intersect(&mut found, &passing);
                        found
                    }
                });
            }
        }
        found.map_or_else(|| self.all_series(), Ok)
    }

    /// Whether the matcher passes any value and none: `.*`.
    fn passes_everything(&self, matcher: &Matcher) -> bool {
        matcher.matches_empty()
            && matcher.op == periplus_model::MatchOp::Regex
            && &*matcher.value == ".*"
    }

    fn cost(&self, matcher: &Matcher) -> usize {
        self.offsets.value_count(&matcher.name)
    }

    /// The series that have the matcher's label with a value that passes, or with one that fails.
    fn with_value(&self, matcher: &Matcher, passes: bool) -> Result<Vec<SeriesRef>, FileError> {
        let mut lists = Lists { lists: Vec::new(), room: self.series_count_max() };
        match matcher.literal_values() {
            Some(values) if passes => {
                for value in values {
                    if let Some(offset) = self.offsets.find(&matcher.name, value) {
                        lists.push(self, offset)?;
                    }
                }
            }
            // `!=` fails for one value alone.
            None if !passes && matcher.op == periplus_model::MatchOp::NotEqual => {
                if let Some(offset) = self.offsets.find(&matcher.name, &matcher.value) {
                    lists.push(self, offset)?;
                }
            }
            _ => self.offsets.for_each_value(&matcher.name, |value, offset| {
                if matcher.matches(value) == passes {
                    lists.push(self, offset)?;
                }
                Ok(())
            })?,
        }
        Ok(postings::union(lists.lists))
    }
}

/// The lists of one label's values. A series has one value of a label, so together they can't be
/// longer than there are series; a table that names one long list a million times is told by that.
struct Lists {
    lists: Vec<Vec<SeriesRef>>,
    room: u64,
}

impl Lists {
    fn push(&mut self, index: &Index, offset: u64) -> Result<(), FileError> {
        let list = index.postings_at(offset)?;
        self.room = self.room.checked_sub(list.len() as u64).ok_or_else(|| {
            FileError::corrupt(
                BlockFile::Index,
                "a postings list",
                offset,
                "the lists of one label hold more series than the index has room for",
            )
        })?;
        self.lists.push(list);
        Ok(())
    }
}
