//! Spans of time in Unix milliseconds.

/// A closed range of Unix milliseconds, `min_t..=max_t`. Empty when `min_t > max_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// The first millisecond inside.
    pub min_t: i64,
    /// The last millisecond inside.
    pub max_t: i64,
}

impl TimeRange {
    /// All of time.
    pub const ALL: Self = Self { min_t: i64::MIN, max_t: i64::MAX };

    /// The range `min_t..=max_t`.
    #[must_use]
    pub const fn new(min_t: i64, max_t: i64) -> Self {
        Self { min_t, max_t }
    }

    /// Whether no millisecond lies inside.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.min_t > self.max_t
    }

    /// Whether `t` lies inside.
    #[must_use]
    pub const fn contains(&self, t: i64) -> bool {
        self.min_t <= t && t <= self.max_t
    }

    /// Whether the two share a millisecond.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.min_t <= other.max_t && other.min_t <= self.max_t
    }

    /// What lies inside both; may be empty.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        Self { min_t: self.min_t.max(other.min_t), max_t: self.max_t.min(other.max_t) }
    }

    /// The smallest range that holds both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        if self.is_empty() {
            return *other;
        }
        if other.is_empty() {
            return *self;
        }
        Self { min_t: self.min_t.min(other.min_t), max_t: self.max_t.max(other.max_t) }
    }
}
