//! Counts samples as Prometheus does.

use crate::plan::{Context, ContextKind};

/// Samples looked at and read: in all and, where asked for, by step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) total: u64,
    pub(crate) read: u64,
    /// Empty when not asked for.
    pub(crate) total_at: Vec<u64>,
    pub(crate) read_at: Vec<u64>,
}

impl Counts {
    pub(crate) fn new(steps: Option<usize>) -> Self {
        let steps = steps.unwrap_or(0);
        Self { total: 0, read: 0, total_at: vec![0; steps], read_at: vec![0; steps] }
    }

    /// An empty one of the same kind.
    pub(crate) fn like(other: &Self) -> Self {
        Self::new(Some(other.total_at.len()))
    }

    #[inline]
    pub(crate) fn at_step(&mut self, step: usize, total: u64, read: u64) {
        self.total += total;
        self.read += read;
        if !self.total_at.is_empty() {
            self.by_step(step, total, read);
        }
    }

    /// Counts a sample that several steps see and that each reads anew.
    pub(crate) fn at_steps(&mut self, steps: std::ops::Range<usize>, weight: u64) {
        let all = weight * steps.len() as u64;
        self.total += all;
        self.read += all;
        if !self.total_at.is_empty() {
            steps.for_each(|i| self.by_step(i, weight, weight));
        }
    }

    /// Counts for a step only; the caller counts the whole.
    pub(crate) fn by_step(&mut self, step: usize, total: u64, read: u64) {
        if let Some(n) = self.total_at.get_mut(step) {
            *n += total;
        }
        if let Some(n) = self.read_at.get_mut(step) {
            *n += read;
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.total += other.total;
        self.read += other.read;
        for (a, b) in self.total_at.iter_mut().zip(&other.total_at) {
            *a += b;
        }
        for (a, b) in self.read_at.iter_mut().zip(&other.read_at) {
            *a += b;
        }
    }

    /// Takes over what the nodes of an inner context counted.
    pub(crate) fn absorb(&mut self, inner: &Self, context: &Context, outer: &Context) {
        let steps = outer.grid.steps();
        match context.kind {
            ContextKind::Root => self.merge(inner),
            ContextKind::Invariant => {
                self.total += inner.total * steps as u64;
                self.total_at.iter_mut().for_each(|n| *n += inner.total);
                self.read += inner.read;
                if let Some(n) = self.read_at.first_mut() {
                    *n += inner.read;
                }
            }
            ContextKind::RawSubquery => {
                self.total += inner.total;
                if let Some(n) = self.total_at.last_mut() {
                    *n += inner.total;
                }
                self.absorb_read(inner, context, outer, 0, 0);
            }
            ContextKind::Subquery { offset_ms, range_ms } => {
                self.absorb_read(inner, context, outer, offset_ms, range_ms);
            }
        }
    }

    /// Samples a subquery read count for the first outer step that uses them, if one does.
    fn absorb_read(
        &mut self,
        inner: &Self,
        context: &Context,
        outer: &Context,
        offset_ms: i64,
        range_ms: i64,
    ) {
        let steps = outer.grid.steps();
        if steps <= 1 || inner.read_at.is_empty() {
            self.read += inner.read;
            if let Some(n) = self.read_at.first_mut() {
                *n += inner.read;
            }
            return;
        }
        let step = outer.grid.step_ms.max(1);
        for (k, n) in inner.read_at.iter().enumerate().filter(|(_, n)| **n > 0) {
            let t = context.grid.time(k).saturating_add(offset_ms);
            let past = t.saturating_sub(outer.grid.start_ms).max(0);
            let at = (past.saturating_add(step - 1) / step) as usize;
            let at = at.min(steps - 1);
            if range_ms > 0 && t <= outer.grid.time(at).saturating_sub(range_ms) {
                continue;
            }
            self.read += n;
            if let Some(m) = self.read_at.get_mut(at) {
                *m += n;
            }
        }
    }
}
