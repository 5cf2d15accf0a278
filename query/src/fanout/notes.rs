//! What a query has to say besides its answer: who is missing, warnings, infos, cost.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use periplus_model::Labels;
use periplus_promql::annotations::{Annotation, Annotations, Severity};
use periplus_promql::parse::ast::Span;

use super::work::{ENTRIES_MAX, FragmentWork, LocalWork, RequestWork, Work};
use crate::endpoints::Missing;

/// Collects from many tasks.
#[derive(Debug, Default)]
pub struct Notes {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By stream and endpoint, so that each is named once however often it was asked.
    missing: BTreeMap<(Labels, String), Missing>,
    annotations: Annotations,
    samples: u64,
    series: u64,
    requests: u64,
    /// What each step did, where somebody wants to know.
    work: Option<Work>,
}

/// What was collected.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    /// Streams that are not in the answer, sorted.
    pub missing: Vec<Missing>,
    /// Warnings and infos of endpoints.
    pub annotations: Annotations,
    /// Samples looked at elsewhere.
    pub samples: u64,
    /// Series looked at elsewhere.
    pub series: u64,
    /// Requests sent to endpoints.
    pub requests: u64,
}

impl Notes {
    /// Notes that also keep what each step did.
    #[must_use]
    pub fn watching() -> Self {
        let inner = Inner { work: Some(Work::default()), ..Inner::default() };
        Self { inner: Mutex::new(inner) }
    }

    /// Whether what each step did is kept.
    #[must_use]
    pub fn is_watching(&self) -> bool {
        self.inner.lock().work.is_some()
    }

    /// Keeps what a request did.
    pub fn asked(&self, request: RequestWork) {
        self.keep(|w| &mut w.requests, request);
    }

    /// Keeps what putting a pushed part together did.
    pub fn merged(&self, fragment: FragmentWork) {
        self.keep(|w| &mut w.fragments, fragment);
    }

    /// Keeps what an evaluation here did.
    pub fn evaluated(&self, local: LocalWork) {
        self.keep(|w| &mut w.local, local);
    }

    fn keep<T>(&self, list: impl FnOnce(&mut Work) -> &mut Vec<T>, entry: T) {
        let mut inner = self.inner.lock();
        if let Some(list) = inner.work.as_mut().map(list)
            && list.len() < ENTRIES_MAX
        {
            list.push(entry);
        }
    }

    /// What each step did so far.
    #[must_use]
    pub fn work(&self) -> Option<Work> {
        self.inner.lock().work.clone()
    }

    /// These are not in the answer.
    pub fn missing(&self, missing: impl IntoIterator<Item = Missing>) {
        let mut inner = self.inner.lock();
        for m in missing {
            inner.missing.entry((m.labels.clone(), m.address.clone())).or_insert(m);
        }
    }

    /// Whether anything is missing so far.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.inner.lock().missing.is_empty()
    }

    /// Whether anything has been said so far, by whom and about what it may be.
    #[must_use]
    pub fn has_any(&self) -> bool {
        let inner = self.inner.lock();
        !inner.missing.is_empty() || !inner.annotations.is_empty()
    }

    /// Adds annotations.
    pub fn annotate(&self, annotations: Annotations) {
        if !annotations.is_empty() {
            self.inner.lock().annotations.merge(annotations);
        }
    }

    /// Adds a warning that is about no place in the query.
    pub fn warn(&self, text: String) {
        self.inner.lock().annotations.add(Annotation::external(Severity::Warning, text));
    }

    /// Adds warnings or infos as an endpoint worded them about the part of the query it was sent.
    pub fn from_endpoint(&self, severity: Severity, texts: &[String], fragment: &str, at: u32) {
        if texts.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        for text in texts.iter().take(100) {
            inner.annotations.add(located(severity, text, fragment, at));
        }
    }

    /// Adds to the cost.
    pub fn cost(&self, samples: u64, series: u64) {
        let mut inner = self.inner.lock();
        inner.samples = inner.samples.saturating_add(samples);
        inner.series = inner.series.saturating_add(series);
    }

    /// Counts a request.
    pub fn request(&self) {
        self.inner.lock().requests += 1;
    }

    /// What was collected so far.
    #[must_use]
    pub fn collected(&self) -> Collected {
        let inner = self.inner.lock();
        Collected {
            missing: inner.missing.values().cloned().collect(),
            annotations: inner.annotations.clone(),
            samples: inner.samples,
            series: inner.series,
            requests: inner.requests,
        }
    }
}

/// An annotation from its text: a position at its end, ` (line:column)` in `fragment`, becomes a
/// position in the query that the fragment was cut from at byte `at`.
fn located(severity: Severity, text: &str, fragment: &str, at: u32) -> Annotation {
    let mut a = Annotation::external(severity, text.to_owned());
    if let Some((words, offset)) = split_position(text, fragment) {
        let start = at.saturating_add(offset);
        a.text = words.to_owned();
        a.span = Some(Span { start, end: start });
    }
    a
}

fn split_position<'a>(text: &'a str, fragment: &str) -> Option<(&'a str, u32)> {
    let (words, position) = text.strip_suffix(')')?.rsplit_once(" (")?;
    let (line, column) = position.split_once(':')?;
    let (line, column): (usize, usize) = (line.parse().ok()?, column.parse().ok()?);
    let before = match line.checked_sub(1)? {
        0 => 0,
        n => fragment.match_indices('\n').nth(n - 1)?.0 + 1,
    };
    let offset = before.checked_add(column.checked_sub(1)?)?;
    (offset <= fragment.len()).then_some((words, u32::try_from(offset).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_move_with_the_fragment() {
        let notes = Notes::default();
        let query = "1 +\n rate(foo[5m])";
        let said = ["PromQL info: odd (1:6)".to_owned(), "no position".to_owned()];
        notes.from_endpoint(Severity::Info, &said, "rate(foo[5m])", 5);
        notes.from_endpoint(Severity::Info, &said, "rate(foo[5m])", 5);
        let (_, infos) = notes.collected().annotations.to_strings(query, 0);
        assert_eq!(infos, ["PromQL info: odd (2:7)", "no position"]);
        assert_eq!(split_position("x (2:1)", "a\nb"), Some(("x", 2)));
        assert_eq!(split_position("x (9:1)", "a\nb"), None);
        assert_eq!(split_position("x (1:99)", "a\nb"), None);
    }
}
