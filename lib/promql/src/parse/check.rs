//! Types: what may stand where.
//!
//! Checks are made as nodes are put together, but an error found here waits until the whole query
//! has been read: a later error of syntax comes before it. Of several, the first in the order in
//! which Prometheus walks the finished tree counts. Once a tree holds an error nothing below it is
//! needed any more, so that the height of what is wrong anyhow is not limited.

use periplus_model::float::Quoted;
use periplus_model::{METRIC_NAME, MatchOp, re2};

use super::ast::{
    AggregateOp, BinaryExpr, Call, Cardinality, Expr, LabelMatcher, NumberLiteral, Span,
    SubqueryExpr, UnaryExpr, ValueType, VectorMatching, VectorSelector,
};
use super::error::Problem;

/// The error of a node, if there is one.
pub(super) type Checked = Result<(), Box<Problem>>;

/// An expression on its way into a tree.
pub(super) struct Tree {
    pub(super) expr: Expr,
    /// What it evaluates to, errors aside.
    pub(super) value_type: ValueType,
    /// How many nodes lie above each other, this one included.
    pub(super) height: usize,
    /// The first error within.
    pub(super) checked: Checked,
}

impl Tree {
    /// Takes the children out of a node that holds an error.
    pub(super) fn hollow(&mut self) {
        self.height = 1;
        match &mut self.expr {
            Expr::Paren(e) => clear(&mut e.expr),
            Expr::Unary(e) => clear(&mut e.expr),
            Expr::Binary(e) => {
                clear(&mut e.lhs);
                clear(&mut e.rhs);
            }
            Expr::Aggregate(e) => {
                clear(&mut e.expr);
                e.param = None;
            }
            Expr::Call(e) => e.args.clear(),
            Expr::Subquery(e) => clear(&mut e.expr),
            _ => {}
        }
    }
}

/// Puts a number in place of an expression.
fn clear(expr: &mut Expr) {
    *expr = Expr::Number(NumberLiteral { value: 0.0, duration: false, span: expr.span() });
}

/// Checks nodes of a query; the query is there for positions in error texts.
#[derive(Clone, Copy)]
pub(super) struct Checker<'q>(pub(super) &'q str);

impl Checker<'_> {
    fn fail(self, span: Span, message: impl Into<String>) -> Checked {
        Err(Box::new(Problem { span, message: message.into() }))
    }

    /// Checks that what stands in `context` is of type `want`; its own errors come first.
    fn expect(self, tree: &mut Tree, want: ValueType, context: &str) -> Checked {
        std::mem::replace(&mut tree.checked, Ok(()))?;
        if tree.value_type != want {
            let (want, got) = (want.documented(), tree.value_type.documented());
            let message = format!("expected type {want} in {context}, got {got}");
            return self.fail(tree.expr.span(), message);
        }
        Ok(())
    }

    pub(super) fn unary(self, e: &UnaryExpr, got: ValueType) -> Checked {
        if !matches!(got, ValueType::Scalar | ValueType::Vector) {
            let got = Quoted(got.documented());
            let message = format!(
                "unary expression only allowed on expressions of type scalar or instant vector, \
                 got {got}"
            );
            return self.fail(e.span, message);
        }
        Ok(())
    }

    pub(super) fn subquery(self, e: &SubqueryExpr, got: ValueType) -> Checked {
        if got != ValueType::Vector {
            let got = got.as_str();
            let message = format!("subquery is only allowed on instant vector, got {got} instead");
            return self.fail(e.span, message);
        }
        Ok(())
    }

    /// Checks what is aggregated, then the parameter.
    pub(super) fn aggregate(
        self,
        op: AggregateOp,
        tree: &mut Tree,
        param: Option<&mut Tree>,
    ) -> Checked {
        self.expect(tree, ValueType::Vector, "aggregation expression")?;
        let Some(param) = param else { return Ok(()) };
        let want = match op {
            AggregateOp::CountValues => ValueType::String,
            _ => ValueType::Scalar,
        };
        self.expect(param, want, "aggregation parameter")
    }

    /// Checks an operator and settles its matching: set operators are many-to-many, and there is
    /// none where a side is no vector.
    pub(super) fn binary(self, e: &mut BinaryExpr, left: ValueType, right: ValueType) -> Checked {
        if e.return_bool && !e.op.is_comparison() {
            let message = "bool modifier can only be used on comparison operators";
            return self.fail(self.operator_span(e), message);
        }
        let scalars = left == ValueType::Scalar && right == ValueType::Scalar;
        if e.op.is_comparison() && !e.return_bool && scalars {
            let message = "comparisons between scalars must use BOOL modifier";
            return self.fail(self.operator_span(e), message);
        }
        if let Some(matching) = &mut e.matching
            && e.op.is_set()
            && matching.card == Cardinality::OneToOne
        {
            matching.card = Cardinality::ManyToMany;
        }
        if let Some(label) = e.matching.as_ref().and_then(label_on_both) {
            let label = Quoted(label);
            let message = format!("label {label} must not occur in ON and GROUP clause at once");
            return self.fail(self.operator_span(e), message);
        }
        for (side, got) in [(&e.lhs, left), (&e.rhs, right)] {
            if !matches!(got, ValueType::Scalar | ValueType::Vector) {
                let message = "binary expression must contain only scalar and instant vector types";
                return self.fail(side.span(), message);
            }
        }
        self.matching(e, left == ValueType::Vector && right == ValueType::Vector)
    }

    fn matching(self, e: &mut BinaryExpr, vectors: bool) -> Checked {
        let op = Quoted(e.op.as_str());
        let fills = |m: &VectorMatching| m.fill_lhs.is_some() || m.fill_rhs.is_some();
        if let Some(m) = e.matching.as_ref().filter(|_| !vectors) {
            if !m.labels.is_empty() {
                let message = "vector matching only allowed between instant vectors";
                return self.fail(e.span, message);
            }
            if fills(m) {
                let message = "filling in missing series only allowed between instant vectors";
                return self.fail(e.span, message);
            }
            e.matching = None;
        }
        if let Some(m) = e.matching.as_ref().filter(|_| e.op.is_set()) {
            if matches!(m.card, Cardinality::OneToMany | Cardinality::ManyToOne) {
                return self.fail(e.span, format!("no grouping allowed for {op} operation"));
            }
            if fills(m) {
                let message = "filling in missing series not allowed for set operators";
                return self.fail(e.span, message);
            }
        }
        if e.op.is_set() && !vectors {
            let message = format!("set operator {op} not allowed in binary scalar expression");
            return self.fail(e.span, message);
        }
        Ok(())
    }

    /// Where the operator of a binary expression stands, its modifiers included.
    fn operator_span(self, e: &BinaryExpr) -> Span {
        let (from, to) = (e.lhs.span().end, e.rhs.span().start);
        let between = self.0.get(from as usize..to as usize).unwrap_or("");
        let space = [' ', '\t', '\n', '\r'];
        let front = between.len() - between.trim_start_matches(space).len();
        let back = between.len() - between.trim_end_matches(space).len();
        Span { start: from + front as u32, end: to.saturating_sub(1 + back as u32) }
    }

    /// Checks a call whose arguments are still apart.
    pub(super) fn call(self, e: &Call, args: &mut [Tree], count: usize) -> Checked {
        self.argument_count(e, count)?;
        let context = format_args!("call to function {}", Quoted(e.func.name)).to_string();
        if e.func.name == "info"
            && let Some(labels) = args.get_mut(1)
        {
            self.label_selector(e, labels, &context)?;
        }
        for (i, arg) in args.iter_mut().enumerate() {
            let Some(&want) = e.func.args.get(i).or(e.func.args.last()) else { break };
            if arg.value_type != want || arg.checked.is_err() {
                self.expect(arg, want, &context)?;
            }
        }
        Ok(())
    }

    /// The second argument of `info`: matchers without a name, which may match nothing.
    fn label_selector(self, e: &Call, labels: &mut Tree, context: &str) -> Checked {
        if labels.value_type != ValueType::Vector {
            let (want, got) = (ValueType::Vector.documented(), labels.value_type.documented());
            let message = format!("expected type {want} in {context}, got {got}");
            return self.fail(e.span, message);
        }
        let span = labels.expr.span();
        match &mut labels.expr {
            Expr::VectorSelector(s) if s.name.is_empty() => {
                s.bypass_empty_matcher_check = true;
                // Without a name it can hold no other error than the one passed over here.
                labels.checked = Ok(());
                Ok(())
            }
            Expr::VectorSelector(_) => {
                self.fail(span, "expected label selectors only, got vector selector instead")
            }
            _ => self.fail(span, "expected label selectors only"),
        }
    }

    fn argument_count(self, e: &Call, got: usize) -> Checked {
        let listed = e.func.args.len();
        let (bound, expected) = if e.func.variadic == 0 {
            if got == listed {
                return Ok(());
            }
            ("", listed)
        } else {
            let least = listed.saturating_sub(1);
            let most = usize::try_from(e.func.variadic).map_or(usize::MAX, |n| least + n);
            if got < least {
                ("at least ", least)
            } else if got > most {
                ("at most ", most)
            } else {
                return Ok(());
            }
        };
        let name = Quoted(e.func.name);
        let message =
            format!("expected {bound}{expected} argument(s) in call to {name}, got {got}");
        self.fail(e.span, message)
    }

    pub(super) fn selector(self, e: &VectorSelector) -> Checked {
        if !e.name.is_empty() {
            // The last matcher is the name before the braces.
            let inside = e.matchers.split_last().map_or(&[][..], |(_, inside)| inside);
            if let Some(other) = inside.iter().find(|m| m.name == METRIC_NAME) {
                let (name, other) = (Quoted(&e.name), Quoted(&other.value));
                let message = format!("metric name must not be set twice: {name} or {other}");
                return self.fail(e.span, message);
            }
        } else if e.matchers.iter().all(matches_empty) {
            let message = "vector selector must contain at least one non-empty matcher";
            return self.fail(e.span, message);
        }
        Ok(())
    }
}

/// A label named by both `on` and `group_left` or `group_right`.
fn label_on_both(m: &VectorMatching) -> Option<&String> {
    m.labels.iter().filter(|_| m.on).find(|l| m.include.contains(l))
}

/// Whether a series without the label passes.
fn matches_empty(m: &LabelMatcher) -> bool {
    let regex = || re2::check(&m.value).is_ok_and(|facts| facts.matches_empty);
    match m.op {
        MatchOp::Equal => m.value.is_empty(),
        MatchOp::NotEqual => !m.value.is_empty(),
        MatchOp::Regex => regex(),
        MatchOp::NotRegex => !regex(),
    }
}
