//! Start timestamps: when a counter began, told per sample where a chunk has them.
//!
//! One header byte: its high bit says that the first sample carries one (as a varint, the sample's
//! time less the start); the other seven bits say from which sample on each carries one, as the
//! change of (the time of the sample before − the start); 0 means none does. A sample that carries
//! none has the start of the one before.

use super::bits::{Bad, BitReader};
use super::varbit::read_int;

pub(super) struct StartTimes {
    first_known: bool,
    change_on: usize,
    /// Time of the sample before, less the start.
    diff: i64,
    start: i64,
}

impl StartTimes {
    pub(super) fn new(header: u8) -> Self {
        Self {
            first_known: header & 0x80 != 0,
            change_on: usize::from(header & 0x7f),
            diff: 0,
            start: 0,
        }
    }

    /// Whether any sample carries one.
    pub(super) fn any(&self) -> bool {
        self.first_known || self.change_on > 0
    }

    /// Reads what sample `i` at `t` carries; `before` is the time of the sample before it.
    #[inline]
    pub(super) fn decode(
        &mut self,
        r: &mut BitReader<'_>,
        i: usize,
        t: i64,
        before: i64,
    ) -> Result<(), Bad> {
        if i == 0 {
            if self.first_known {
                self.diff = r.varint()?;
                self.start = t.wrapping_sub(self.diff);
            }
            return Ok(());
        }
        if self.change_on > 0 && i >= self.change_on {
            let change = read_int(r);
            self.diff = if i == self.change_on { change } else { self.diff.wrapping_add(change) };
            self.start = before.wrapping_sub(self.diff);
        }
        Ok(())
    }

    /// The current sample's start, Unix milliseconds; 0 where unknown.
    pub(super) fn at(&self) -> i64 {
        self.start
    }
}
