//! What can be wrong with a part, said so that the reader finds the place.

use std::fmt;
use std::io;

/// Where in a Parquet file something is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file, as its opener called it.
    pub file: String,
    /// The row group, counted from 0.
    pub row_group: Option<usize>,
    /// The column's path.
    pub column: Option<String>,
}

impl Place {
    /// A place in a file as a whole.
    #[must_use]
    pub fn file(name: &str) -> Self {
        Self { file: name.to_owned(), row_group: None, column: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(group) = self.row_group {
            write!(f, ", row group {group}")?;
        }
        if let Some(column) = &self.column {
            write!(f, ", column {column}")?;
        }
        Ok(())
    }
}

/// An error of reading or writing a part.
#[derive(Debug, thiserror::Error)]
pub enum ColumnarError {
    /// The bytes are no part of ours, or were altered.
    #[error("{place}: {reason}")]
    Corrupt {
        /// Where.
        place: Place,
        /// What is impossible.
        reason: String,
    },
    /// More of the file's end is needed than was given.
    #[error("{file}: the footer and its indexes are the last {needed} bytes, {given} were given")]
    TailTooShort {
        /// Which file.
        file: String,
        /// How many of the last bytes are needed, as far as can be told from those given.
        needed: u64,
        /// How many were given.
        given: u64,
    },
    /// Bytes that were to be there could not be read.
    #[error("{place}: bytes {start} to {end}: {source}")]
    Io {
        /// Where.
        place: Place,
        /// The first byte.
        start: u64,
        /// The byte after the last.
        end: u64,
        /// What reading failed with.
        source: io::Error,
    },
    /// A file can't be created or written.
    #[error("writing {file}: {reason}")]
    Write {
        /// Which file.
        file: String,
        /// What the sink or the Parquet writer says.
        reason: String,
    },
    /// What was given to be written can't be.
    #[error("series {series}: {reason}")]
    Refused {
        /// Its labels.
        series: String,
        /// Why.
        reason: String,
    },
    /// What was read back is not what was written.
    #[error("{file}: series {series}: {reason}")]
    Differs {
        /// Which part.
        file: String,
        /// Its labels.
        series: String,
        /// What differs.
        reason: String,
    },
}

impl ColumnarError {
    pub(crate) fn corrupt(place: &Place, reason: impl Into<String>) -> Self {
        Self::Corrupt { place: place.clone(), reason: reason.into() }
    }

    pub(crate) fn file(name: &str, reason: impl Into<String>) -> Self {
        Self::Corrupt { place: Place::file(name), reason: reason.into() }
    }

    /// Whether the stored bytes are at fault, so that trying again is of no use.
    #[must_use]
    pub const fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::TailTooShort { .. } | Self::Differs { .. })
    }
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, ColumnarError>;
