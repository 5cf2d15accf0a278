//! Positions in annotations: Prometheus tells those in the question it was asked, the user wants those in
//! the question they wrote.

use std::collections::BTreeMap;

use periplus_promql::annotations::position;
use periplus_promql::parse::ast::{Expr, Span};

/// Where nodes of a rewritten query stand in the original.
#[derive(Clone, Debug, Default)]
pub(super) struct Positions {
    /// Start in the text that was asked → start in the original.
    starts: BTreeMap<u32, Span>,
}

impl Positions {
    /// Adds the nodes of two trees of the same shape.
    pub(super) fn pair(&mut self, asked: &Expr, original: &Expr) {
        self.starts.insert(asked.span().start, original.span());
        let (a, o) = (children(asked), children(original));
        for (a, o) in a.into_iter().zip(o) {
            self.pair(a, o);
        }
        if let (Expr::MatrixSelector(a), Expr::MatrixSelector(o)) = (asked, original) {
            self.starts.insert(a.selector.span.start, o.selector.span);
        }
    }

    /// An annotation with the position in the original, when it has one.
    pub(super) fn translate(&self, annotation: String, original: &str) -> String {
        let Some((text, column)) = split(&annotation) else {
            return annotation;
        };
        // What is asked is one line.
        let start = column.saturating_sub(1);
        let found = self.starts.range(..=start).next_back().map(|(_, span)| *span);
        match found {
            Some(span) => format!("{text} ({})", position(span, original)),
            None => annotation,
        }
    }
}

/// `… (1:17)` → the text before and 17.
fn split(annotation: &str) -> Option<(&str, u32)> {
    let (text, rest) = annotation.rsplit_once(" (")?;
    let (line, column) = rest.strip_suffix(')')?.split_once(':')?;
    (line == "1").then_some(())?;
    Some((text, column.parse().ok()?))
}

fn children(e: &Expr) -> Vec<&Expr> {
    match e {
        Expr::Paren(p) => vec![&p.expr],
        Expr::Unary(u) => vec![&u.expr],
        Expr::Binary(b) => vec![&b.lhs, &b.rhs],
        Expr::Aggregate(a) => a.param.iter().chain([&a.expr]).collect(),
        Expr::Call(c) => c.args.iter().collect(),
        Expr::Subquery(s) => vec![&s.expr],
        Expr::Number(_)
        | Expr::String(_)
        | Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::Leaf(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use periplus_promql::parse::parse;

    use super::*;

    #[test]
    fn columns_move_with_what_was_taken_out() {
        let original = "sum by (cluster, pod) (rate(x{cluster=\"a\"}[5m]))";
        let asked = "sum by (pod) (rate(x[5m]))";
        let mut positions = Positions::default();
        positions.pair(&parse(asked).unwrap(), &parse(original).unwrap());
        let at = |s: &str| positions.translate(s.to_owned(), original);
        assert_eq!(at("PromQL info: metric \"x\" (1:20)"), "PromQL info: metric \"x\" (1:29)");
        assert_eq!(at("PromQL warning: no position"), "PromQL warning: no position");
        assert_eq!(at("w (2 occurrences) (1:20)"), "w (2 occurrences) (1:29)");
    }
}
