//! External labels: not in Prometheus's storage, on every series of its answers.
//!
//! The series of this endpoint are Prometheus's own with the external labels added, less those a request
//! drops; where a series carries such a label itself, the external one wins. Here are matchers resolved
//! against them and own labels turned into shown ones.

use std::collections::BTreeSet;

use periplus_model::{Labels, Matcher};
use periplus_proto::prometheus::Label;
use periplus_proto::{WireError, WireLimits};

/// The external labels as one request sees them.
#[derive(Clone, Debug, Default)]
pub(crate) struct External {
    /// All of them.
    pub(crate) all: Labels,
    /// Those that are shown.
    pub(crate) shown: Labels,
    /// Labels that no series is to have.
    dropped: BTreeSet<String>,
}

/// What matchers come down to once those on external labels are decided.
#[derive(Clone, Debug)]
pub(crate) enum Resolved {
    /// No series can match.
    Nothing,
    /// These are to be asked of Prometheus; never empty.
    Ask(Vec<Matcher>),
}

/// The own labels of a series, made out of those in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Without any external label: what the order of arrival follows.
    pub(crate) own: Labels,
    /// As they are to be shown.
    pub(crate) labels: Labels,
    /// The external label it carries itself with another value, or one to be dropped.
    pub(crate) carries: Option<String>,
}

impl External {
    /// `dropped` may name any label, external or not, as Thanos has it: then no series shows it.
    pub(crate) fn new(all: &Labels, dropped: &[String]) -> Self {
        let dropped: BTreeSet<String> = dropped.iter().cloned().collect();
        Self { all: all.clone(), shown: all.filter(|n| !dropped.contains(n)), dropped }
    }

    /// As [`new`](Self::new), but what is no external label stays.
    pub(crate) fn dropping_external(all: &Labels, dropped: &[String]) -> Self {
        let external: Vec<String> =
            dropped.iter().filter(|d| all.get(d).is_some()).cloned().collect();
        Self::new(all, &external)
    }

    /// The names that no series shows.
    pub(crate) fn dropped(&self) -> Vec<String> {
        self.dropped.iter().cloned().collect()
    }

    /// Whether some series may have to be sorted: one that carries what is added or dropped.
    pub(crate) fn needs_sort(&self, shadowed: &BTreeSet<String>) -> bool {
        !shadowed.is_empty() || self.dropped.iter().any(|d| self.all.get(d).is_none())
    }

    /// Decides matchers as if every series carried all external labels, also those that are dropped:
    /// matching on a replica label is a way to choose replicas.
    pub(crate) fn resolve(&self, matchers: &[Matcher]) -> Resolved {
        resolve(matchers, |name| self.all.get(name))
    }

    /// A frame's labels as they are to be shown. Prometheus has added the external ones already, except
    /// where the series carries one itself.
    ///
    /// # Errors
    /// Labels that are no labels.
    pub(crate) fn show(&self, frame: &[Label], limits: &WireLimits) -> Result<Shown, WireError> {
        let received = periplus_proto::convert::labels_from_prometheus(frame, limits)?;
        let mut carries = None;
        let own = {
            let keep = |name: &str| {
                if let Some(value) = self.all.get(name) {
                    if received.get(name) != Some(value) {
                        carries = Some(name.to_owned());
                    }
                    return false;
                }
                if self.dropped.contains(name) {
                    carries = Some(name.to_owned());
                    return false;
                }
                true
            };
            received.filter(keep)
        };
        let labels = self.attach(&own);
        Ok(Shown { own, labels, carries })
    }

    /// Own labels with the shown external ones.
    pub(crate) fn attach(&self, own: &Labels) -> Labels {
        if self.shown.is_empty() {
            return own.clone();
        }
        merged(own, self.shown.iter())
    }
}

/// Two runs of labels in order of name, none in both, as one. Already in order, they are packed as they
/// come.
pub(crate) fn merged<'a>(
    own: &'a Labels,
    more: impl Iterator<Item = (&'a str, &'a str)>,
) -> Labels {
    let (mut own, mut more) = (own.iter().peekable(), more.peekable());
    let mut pairs = Vec::with_capacity(32);
    while let (Some(a), Some(b)) = (own.peek(), more.peek()) {
        let next = if a.0 < b.0 { own.next() } else { more.next() };
        pairs.extend(next);
    }
    pairs.extend(own);
    pairs.extend(more);
    Labels::from_pairs(pairs)
}

fn resolve<'a>(matchers: &[Matcher], value: impl Fn(&str) -> Option<&'a str>) -> Resolved {
    let mut ask = Vec::with_capacity(matchers.len());
    for m in matchers {
        match value(&m.name) {
            Some(v) if m.matches(v) => {}
            Some(_) => return Resolved::Nothing,
            None => ask.push(m.clone()),
        }
    }
    if ask.is_empty()
        && let Ok(any) = Matcher::new("__name__", periplus_model::MatchOp::Regex, ".*")
    {
        ask.push(any);
    }
    Resolved::Ask(ask)
}

#[cfg(test)]
mod tests {
    use periplus_model::MatchOp;

    use super::*;

    fn external(dropped: &[&str]) -> External {
        let all = Labels::from_pairs([("cluster", "a"), ("replica", "0")]);
        let dropped: Vec<String> = dropped.iter().map(|s| (*s).to_owned()).collect();
        External::new(&all, &dropped)
    }

    fn frame(pairs: &[(&str, &str)]) -> Vec<Label> {
        pairs.iter().map(|(n, v)| Label { name: (*n).into(), value: (*v).into() }).collect()
    }

    #[test]
    fn matchers_on_external_labels_are_decided() {
        let m = |name: &str, op, value: &str| Matcher::new(name, op, value).unwrap();
        let e = external(&["replica"]);
        let asked = |r: Resolved| match r {
            Resolved::Nothing => None,
            Resolved::Ask(all) => Some(all.iter().map(|m| format!("{m:?}")).collect::<Vec<_>>()),
        };
        let both = [m("cluster", MatchOp::Regex, "a|b"), m("job", MatchOp::Equal, "x")];
        assert_eq!(asked(e.resolve(&both)).unwrap(), ["job=\"x\""]);
        assert_eq!(asked(e.resolve(&[m("cluster", MatchOp::NotEqual, "a")])), None);
        let replica = [m("replica", MatchOp::Equal, "0")];
        assert_eq!(asked(e.resolve(&replica)).unwrap(), ["__name__=~\".*\""]);
    }

    #[test]
    fn the_external_label_wins() {
        let e = external(&["replica"]);
        let limits = WireLimits::default();
        let plain = frame(&[("__name__", "m"), ("cluster", "a"), ("replica", "0"), ("z", "1")]);
        let s = e.show(&plain, &limits).unwrap();
        assert_eq!(s.own, Labels::from_pairs([("__name__", "m"), ("z", "1")]));
        assert_eq!(s.labels, Labels::from_pairs([("__name__", "m"), ("cluster", "a"), ("z", "1")]));
        assert_eq!(s.carries, None);
        let own = frame(&[("__name__", "m"), ("cluster", "mine"), ("replica", "0")]);
        let s = e.show(&own, &limits).unwrap();
        assert_eq!(s.labels.get("cluster"), Some("a"));
        assert_eq!(s.carries.as_deref(), Some("cluster"));
        let dropped = external(&["pod"])
            .show(&frame(&[("cluster", "a"), ("pod", "p"), ("replica", "0")]), &limits);
        assert_eq!(dropped.unwrap().carries.as_deref(), Some("pod"));
    }
}
