//! The right order of series once external labels are added, with a bounded hold-back.
//!
//! Prometheus sends series in order of their own labels. Adding the same labels to all of them changes the
//! order of two series A < B in one case only: A's labels are a strict prefix of B's, and the label of B
//! that follows the prefix has a name before the last external label's. Then B comes first, for where B
//! has that label, A has an external label with a later name. So such an A is held back until a series
//! arrives that does not extend it in this way. What extends a series comes right after it, so what is
//! held is a chain of prefixes, no more than a series has labels.

use periplus_model::Labels;

/// Holds back what has to wait.
#[derive(Debug)]
pub(crate) struct HoldBack<T> {
    /// The greatest name among the labels that are added; `None` when none are.
    last_added: Option<String>,
    /// Each one a strict prefix of the next.
    held: Vec<(Labels, T)>,
}

impl<T> HoldBack<T> {
    /// For series to which `added` is added; none of them may carry a label of such a name.
    pub(crate) fn new(added: &Labels) -> Self {
        Self { last_added: added.iter().last().map(|(n, _)| n.to_owned()), held: Vec::new() }
    }

    /// Takes the next series in order of own labels; `release` gets those whose turn has come.
    pub(crate) fn push(&mut self, own: Labels, item: T, mut release: impl FnMut(T)) {
        while let Some((top, _)) = self.held.last() {
            if self.comes_before(&own, top) {
                break;
            }
            if let Some((_, item)) = self.held.pop() {
                release(item);
            }
        }
        self.held.push((own, item));
    }

    /// Releases all that is held.
    pub(crate) fn finish(&mut self, mut release: impl FnMut(T)) {
        while let Some((_, item)) = self.held.pop() {
            release(item);
        }
    }

    /// The series that arrived last.
    pub(crate) fn newest(&mut self) -> Option<&mut T> {
        self.held.last_mut().map(|(_, item)| item)
    }

    /// Whether `later`, which arrived after `held`, comes before it once labels are added.
    fn comes_before(&self, later: &Labels, held: &Labels) -> bool {
        let Some(last_added) = &self.last_added else {
            return false;
        };
        let mut rest = later.iter();
        for label in held {
            if rest.next() != Some(label) {
                return false;
            }
        }
        rest.next().is_some_and(|(next, _)| next < last_added.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn merged(own: &Labels, added: &Labels) -> Labels {
        own.iter().chain(added.iter()).collect()
    }

    fn run(mut series: Vec<Labels>, added: &Labels) -> (Vec<Labels>, Vec<Labels>, usize) {
        series.sort();
        series.dedup();
        let mut hold = HoldBack::new(added);
        let (mut out, mut deepest) = (Vec::new(), 0);
        for own in &series {
            hold.push(own.clone(), merged(own, added), |l| out.push(l));
            deepest = deepest.max(hold.held.len());
        }
        hold.finish(|l| out.push(l));
        let mut expected: Vec<Labels> = series.iter().map(|o| merged(o, added)).collect();
        expected.sort();
        (out, expected, deepest)
    }

    #[test]
    fn a_prefix_waits_for_what_extends_it() {
        let set = |s: &[(&str, &str)]| Labels::from_pairs(s.iter().copied());
        let series = vec![
            set(&[("a", "1")]),
            set(&[("a", "1"), ("b", "1")]),
            set(&[("a", "1"), ("b", "1"), ("c", "1")]),
            set(&[("a", "1"), ("z", "1")]),
            set(&[("a", "2")]),
        ];
        let (out, expected, deepest) = run(series, &set(&[("cluster", "x"), ("m", "y")]));
        assert_eq!(out, expected);
        assert_eq!(deepest, 3);
        assert_ne!(out.first(), Some(&set(&[("a", "1"), ("cluster", "x"), ("m", "y")])));
    }

    proptest! {
        #[test]
        fn equals_a_full_sort(
            series in proptest::collection::vec(
                proptest::collection::btree_map("[acegikm]", "[12]", 0..6), 0..60),
            added in proptest::collection::btree_map("[bdfhjlnz]", "[xy]", 0..4),
        ) {
            let series: Vec<Labels> = series.iter().map(Labels::from_pairs).collect();
            let (out, expected, deepest) = run(series, &Labels::from_pairs(&added));
            prop_assert_eq!(out, expected);
            prop_assert!(deepest <= 7);
        }
    }
}
