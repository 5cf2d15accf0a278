//! `sort`, `sort_by_label` and their descending forms.

use std::cmp::Ordering;

use periplus_model::Labels;

use super::Exec;
use super::row::{Frame, Row};
use crate::annotations::Annotation;
use crate::engine::QueryError;
use crate::plan::{Node, NodeId};

impl Exec<'_> {
    pub(super) fn sort(
        &mut self,
        child: NodeId,
        descending: bool,
        labels: Option<&[String]>,
        n: &Node,
    ) -> Result<Frame, QueryError> {
        let mut f = self.take_frame(child)?;
        if n.grid.steps() != 1 {
            self.annotations.add(Annotation::sort_in_range_query(n.span));
        }
        match labels {
            Some(labels) => {
                f.rows.sort_by(|a, b| {
                    let order = by_labels(&a.labels, &b.labels, labels);
                    if descending { order.reverse() } else { order }
                });
            }
            None => {
                f.rows.iter_mut().for_each(drop_histograms);
                f.drop_empty();
                f.rows.sort_by(|a, b| by_value(a, b, descending));
            }
        }
        f.ordered = n.grid.steps() == 1;
        Ok(f)
    }
}

fn drop_histograms(r: &mut Row) {
    for (s, _) in std::mem::take(&mut r.hist) {
        r.present.set(s as usize, false);
    }
}

/// NaN comes last either way; ties go by labels.
fn by_value(a: &Row, b: &Row, descending: bool) -> Ordering {
    let first = |r: &Row| r.values.first().copied().unwrap_or(f64::NAN);
    let (x, y) = (first(a), first(b));
    let by_value = match (x.is_nan(), y.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        _ => x.partial_cmp(&y).unwrap_or(Ordering::Equal),
    };
    let by_value = if descending { by_value.reverse() } else { by_value };
    by_value.then_with(|| a.labels.cmp(&b.labels))
}

fn by_labels(a: &Labels, b: &Labels, names: &[String]) -> Ordering {
    for n in names {
        let (x, y) = (a.value(n), b.value(n));
        if x != y {
            return if natural_less(x, y) { Ordering::Less } else { Ordering::Greater };
        }
    }
    a.cmp(b)
}

/// Runs of digits and of anything else.
fn chunks(s: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = s;
    while let Some(c) = rest.chars().next() {
        let digits = c.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
        let (head, tail) = rest.split_at(end);
        out.push(head);
        rest = tail;
    }
    out
}

/// Whether `a` comes before `b` when numbers within them count as numbers. For different texts.
fn natural_less(a: &str, b: &str) -> bool {
    let (ca, cb) = (chunks(a), chunks(b));
    for (i, x) in ca.iter().enumerate() {
        let Some(y) = cb.get(i) else { return false };
        let same = match (x.parse::<i64>(), y.parse::<i64>()) {
            (Ok(m), Ok(n)) if m != n => return m < n,
            (Ok(_), Ok(_)) => true,
            _ => x == y,
        };
        if !same {
            return x < y;
        }
        if i + 1 == ca.len() {
            return true;
        }
        if i + 1 == cb.len() {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::natural_less;

    #[test]
    fn numbers_within_texts() {
        assert!(natural_less("node2", "node10") && !natural_less("node10", "node2"));
        assert!(natural_less("a", "b") && natural_less("a", "a1") && !natural_less("a1", "a"));
        assert!(natural_less("cpu 2", "cpu 11") && natural_less("02x", "2y"));
    }
}
