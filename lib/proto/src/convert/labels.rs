//! Label sets.

use periplus_model::Labels;

use crate::error::{WireError, WireLimits};
use crate::{fleet, prometheus, thanos};

/// Checks names and values one by one and packs them.
///
/// Names must ascend strictly: an answer in another order is broken, and sorting it silently would hide
/// that its series are out of order, too. Empty values mean an absent label and are left out.
fn packed<'a>(
    what: &'static str,
    count: usize,
    pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    limits: &WireLimits,
) -> Result<Labels, WireError> {
    WireError::check("labels of one series", count, limits.labels_per_series_max)?;
    let mut before: Option<&str> = None;
    for (name, value) in pairs.clone() {
        if name.is_empty() {
            return Err(WireError::malformed(what, "a label without a name"));
        }
        WireError::check("bytes of a label name", name.len(), limits.label_bytes_max)?;
        WireError::check("bytes of a label value", value.len(), limits.label_bytes_max)?;
        if before.is_some_and(|b| b >= name) {
            let shown: String = name.chars().take(64).collect();
            return Err(WireError::malformed(what, format!("label {shown:?} is out of order")));
        }
        before = Some(name);
    }
    Ok(Labels::from_pairs(pairs))
}

/// Thanos's labels, checked.
///
/// # Errors
/// Names that do not ascend, an empty name, or more or longer ones than `limits` allows.
pub fn labels_from_thanos(
    labels: &[thanos::Label],
    limits: &WireLimits,
) -> Result<Labels, WireError> {
    let pairs = labels.iter().map(|l| (l.name.as_str(), l.value.as_str()));
    packed("series labels", labels.len(), pairs, limits)
}

/// Prometheus's labels, checked as [`labels_from_thanos`] does.
///
/// # Errors
/// As [`labels_from_thanos`].
pub fn labels_from_prometheus(
    labels: &[prometheus::Label],
    limits: &WireLimits,
) -> Result<Labels, WireError> {
    let pairs = labels.iter().map(|l| (l.name.as_str(), l.value.as_str()));
    packed("series labels", labels.len(), pairs, limits)
}

/// A label set of the fleet protocol, checked as [`labels_from_thanos`] does.
///
/// # Errors
/// As [`labels_from_thanos`].
pub fn label_set_from_fleet(
    set: &fleet::LabelSet,
    limits: &WireLimits,
) -> Result<Labels, WireError> {
    let pairs = set.labels.iter().map(|l| (l.name.as_str(), l.value.as_str()));
    packed("external labels", set.labels.len(), pairs, limits)
}

/// Labels as Thanos sends them.
#[must_use]
pub fn labels_to_thanos(labels: &Labels) -> Vec<thanos::Label> {
    labels.iter().map(|(n, v)| thanos::Label { name: n.to_owned(), value: v.to_owned() }).collect()
}

/// Labels as Prometheus sends them.
#[must_use]
pub fn labels_to_prometheus(labels: &Labels) -> Vec<prometheus::Label> {
    labels
        .iter()
        .map(|(n, v)| prometheus::Label { name: n.to_owned(), value: v.to_owned() })
        .collect()
}

/// Labels as the fleet protocol has them.
#[must_use]
pub fn label_set_to_fleet(labels: &Labels) -> fleet::LabelSet {
    let labels = labels
        .iter()
        .map(|(n, v)| fleet::Label { name: n.to_owned(), value: v.to_owned() })
        .collect();
    fleet::LabelSet { labels }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&str, &str)]) -> Result<Labels, WireError> {
        let labels: Vec<thanos::Label> = pairs
            .iter()
            .map(|(n, v)| thanos::Label { name: (*n).into(), value: (*v).into() })
            .collect();
        labels_from_thanos(&labels, &WireLimits { labels_per_series_max: 2, ..Default::default() })
    }

    #[test]
    fn only_sorted_bounded_labels_come_in() {
        assert_eq!(check(&[("a", "1"), ("b", "")]), Ok(Labels::from_pairs([("a", "1")])));
        assert!(check(&[("b", "1"), ("a", "1")]).is_err());
        assert!(check(&[("a", "1"), ("a", "1")]).is_err());
        assert!(check(&[("", "1")]).is_err());
        assert!(check(&[("a", "1"), ("b", "1"), ("c", "1")]).is_err());
        let long = "x".repeat(2 << 20);
        assert!(check(&[("a", long.as_str())]).is_err());
    }

    #[test]
    fn round_trips() {
        let l = Labels::from_pairs([("a", "1"), ("b", "ü")]);
        let limits = WireLimits::default();
        assert_eq!(labels_from_thanos(&labels_to_thanos(&l), &limits), Ok(l.clone()));
        assert_eq!(labels_from_prometheus(&labels_to_prometheus(&l), &limits), Ok(l.clone()));
        assert_eq!(label_set_from_fleet(&label_set_to_fleet(&l), &limits), Ok(l));
    }
}
