//! Label sets.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The label that holds the metric's name.
pub const METRIC_NAME: &str = "__name__";

/// A sorted set of label names and values, without empty values and without doubles.
///
/// One shared string holds it all: for each label in order of name, the length of the name, the
/// name, the length of the value, the value. A length below 127 is one byte; a longer one is byte
/// 127 and five bytes of seven bits, lowest first. All of these are ASCII, so the whole is valid
/// UTF-8 and every part can be borrowed as `&str`. Cloning counts a reference; equality and hash
/// look at one run of bytes. [`Ord`] is Prometheus's `labels.Compare`: label by label, name before
/// value, and a prefix before what it begins.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

const LONG: u8 = 127;

fn push_part(out: &mut String, part: &str) {
    let len = part.len();
    if len < LONG as usize {
        out.push(char::from(len as u8));
    } else {
        out.push(char::from(LONG));
        for i in 0..5 {
            out.push(char::from(((len >> (7 * i)) & 0x7f) as u8));
        }
    }
    out.push_str(part);
}

/// Splits the first length-prefixed part off; `None` at the end.
fn split_part(s: &str) -> Option<(&str, &str)> {
    let b = s.as_bytes();
    let (len, head) = match *b.first()? {
        LONG => {
            let mut len = 0usize;
            for i in 0..5 {
                len |= usize::from(*b.get(1 + i)?) << (7 * i);
            }
            (len, 6)
        }
        short => (usize::from(short), 1),
    };
    Some((s.get(head..head + len)?, s.get(head + len..)?))
}

impl Labels {
    /// The set with no labels.
    #[must_use]
    pub fn empty() -> Self {
        Self(Arc::from(""))
    }

    /// The set of the given pairs: sorted, of doubles the last one kept, empty values left out.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let pairs: Vec<(N, V)> = pairs.into_iter().collect();
        let mut refs: Vec<(&str, &str)> =
            pairs.iter().map(|(n, v)| (n.as_ref(), v.as_ref())).collect();
        if !refs.windows(2).all(|w| w[0].0 < w[1].0) {
            let map: BTreeMap<&str, &str> = refs.iter().copied().collect();
            refs = map.into_iter().collect();
        }
        Self::from_sorted(refs)
    }

    /// Packs pairs that are already sorted by name and free of doubles; empty values are left out.
    fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut out = String::new();
        for (n, v) in pairs {
            if !v.is_empty() {
                push_part(&mut out, n);
                push_part(&mut out, v);
            }
        }
        Self(Arc::from(out))
    }

    /// The labels in order of name.
    #[must_use]
    pub fn iter(&self) -> LabelsIter<'_> {
        LabelsIter { rest: &self.0 }
    }

    /// The value of `name`; `None` where the label is absent.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        for (n, v) in self.iter() {
            match n.cmp(name) {
                Ordering::Less => {}
                Ordering::Equal => return Some(v),
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// The value of `name`, the empty string where the label is absent (Prometheus makes no
    /// difference between the two).
    #[must_use]
    pub fn value(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// The metric's name, if it has one.
    #[must_use]
    pub fn metric_name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    /// Number of labels; walks the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are no labels.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes this set occupies on the heap when not shared.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.0.len() + 16
    }

    /// The packed bytes: equal sets have equal bytes, so this can serve as a grouping key.
    #[must_use]
    pub fn as_packed(&self) -> &str {
        &self.0
    }

    /// The labels for which `keep` says yes.
    #[must_use]
    pub fn filter(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        Self::from_sorted(self.iter().filter(|(n, _)| keep(n)))
    }

    /// The labels less the metric's name.
    #[must_use]
    pub fn without_name(&self) -> Self {
        if self.get(METRIC_NAME).is_none() {
            return self.clone();
        }
        self.filter(|n| n != METRIC_NAME)
    }

    /// A builder that starts from this set.
    #[must_use]
    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder { pairs: self.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect() }
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = LabelsIter<'a>;
    fn into_iter(self) -> LabelsIter<'a> {
        self.iter()
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(iter: I) -> Self {
        Self::from_pairs(iter)
    }
}

/// `{a="1", b="2"}`, values quoted as Rust quotes them: for logs and tests. What PromQL prints is
/// printed by the engine.
impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (n, v)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{n}={v:?}")?;
        }
        f.write_str("}")
    }
}

/// Walks a label set in order of name.
#[derive(Clone, Debug)]
pub struct LabelsIter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for LabelsIter<'a> {
    type Item = (&'a str, &'a str);
    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = split_part(self.rest)?;
        let (value, rest) = split_part(rest)?;
        self.rest = rest;
        Some((name, value))
    }
}

/// Changes a label set step by step; an empty value removes the label.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    pairs: BTreeMap<String, String>,
}

impl LabelsBuilder {
    /// An empty builder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `name` to `value`; an empty value removes it.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) -> &mut Self {
        let (name, value) = (name.into(), value.into());
        if value.is_empty() {
            self.pairs.remove(&name);
        } else {
            self.pairs.insert(name, value);
        }
        self
    }

    /// Removes `name`.
    pub fn del(&mut self, name: &str) -> &mut Self {
        self.pairs.remove(name);
        self
    }

    /// The value set for `name` so far.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.get(name).map(String::as_str)
    }

    /// The finished set.
    #[must_use]
    pub fn build(&self) -> Labels {
        Labels::from_sorted(self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sorted_without_doubles_and_empties() {
        let l = Labels::from_pairs([("b", "2"), ("a", "1"), ("b", "3"), ("c", "")]);
        assert_eq!(l.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "3")]);
        assert_eq!((l.get("b"), l.get("c"), l.value("c"), l.len()), (Some("3"), None, "", 2));
    }

    #[test]
    fn prefix_sorts_first_and_names_before_values() {
        let set = |s: &[(&str, &str)]| Labels::from_pairs(s.iter().copied());
        assert!(set(&[("a", "1")]) < set(&[("a", "1"), ("b", "0")]));
        assert!(set(&[("a", "1"), ("b", "9")]) < set(&[("a", "1"), ("c", "0")]));
        assert!(set(&[("a", "10")]) < set(&[("a", "9")]));
    }

    #[test]
    fn long_parts_survive() {
        let long = "x".repeat(300_000);
        let l = Labels::from_pairs([("n".repeat(127), long.clone()), ("z".into(), "é".into())]);
        assert_eq!(l.value(&"n".repeat(127)), long);
        assert_eq!(l.value("z"), "é");
    }

    proptest! {
        #[test]
        fn packs_and_unpacks(pairs in proptest::collection::btree_map(".{0,200}", ".{1,200}", 0..8)) {
            let l = Labels::from_pairs(&pairs);
            let back: BTreeMap<String, String> =
                l.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            prop_assert_eq!(back, pairs);
            prop_assert_eq!(l.to_builder().build(), l);
        }
    }
}
