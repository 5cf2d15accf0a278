//! The tree as text, as Prometheus's `String()` gives it: parsing it again yields the same tree.

use std::fmt::{self, Display, Formatter, Write as _};

use periplus_model::duration::Milliseconds;
use periplus_model::float::{Quoted, format_float, format_g};
use periplus_model::{METRIC_NAME, MatchOp};

use super::ast::{
    AggregateExpr, AtModifier, BinaryExpr, Cardinality, DurationExpr, DurationOp, Expr,
    LabelMatcher, MatrixSelector, NumberLiteral, SubqueryExpr, TimeShift, VectorMatching,
    VectorSelector,
};

/// Go's conversion of a float to a 64-bit integer, on the machines Prometheus runs on: what does
/// not fit becomes the smallest integer.
#[expect(clippy::cast_possible_truncation, reason = "in range where it is done")]
pub(super) fn go_int(v: f64) -> i64 {
    const TOO_LARGE: f64 = 9_223_372_036_854_775_808.0;
    if (-TOO_LARGE..TOO_LARGE).contains(&v) { v as i64 } else { i64::MIN }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(e) => e.fmt(f),
            Self::String(e) => Quoted(&e.value).fmt(f),
            Self::Paren(e) => write!(f, "({})", e.expr),
            Self::Unary(e) => write!(f, "{}{}", e.op.as_str(), e.expr),
            Self::Binary(e) => write!(f, "{} {} {}", e.lhs, Operator(e), e.rhs),
            Self::Aggregate(e) => {
                write!(f, "{}(", AggregateHead(e))?;
                if let Some(param) = &e.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", e.expr)
            }
            Self::Call(e) => {
                write!(f, "{}(", e.func.name)?;
                separated(f, ", ", &e.args)?;
                f.write_char(')')
            }
            Self::VectorSelector(e) => e.fmt(f),
            Self::MatrixSelector(e) => e.fmt(f),
            Self::Subquery(e) => write!(f, "{}{}", e.expr, SubqueryTail(e)),
            Self::Leaf(e) => e.original.fmt(f),
        }
    }
}

fn separated<T: Display>(f: &mut Formatter<'_>, by: &str, items: &[T]) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(by)?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

impl Display for NumberLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.duration {
            return f.write_str(&format_float(self.value));
        }
        if self.value < 0.0 {
            f.write_char('-')?;
        }
        Milliseconds(go_int(self.value.abs() * 1e9) / 1_000_000).fmt(f)
    }
}

/// Names of labels, quoted where they are not plain words.
struct LabelNames<'a>(&'a [String]);

impl Display for LabelNames<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, name) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            LabelName(name).fmt(f)?;
        }
        Ok(())
    }
}

/// A label's name, quoted where it is not a plain word.
struct LabelName<'a>(&'a str);

impl Display for LabelName<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plain = self.0.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric())
            && self.0.starts_with(|c: char| !c.is_ascii_digit());
        if plain { f.write_str(self.0) } else { Quoted(self.0).fmt(f) }
    }
}

/// An aggregation up to its parenthesis: `sum by (a) `.
pub(super) struct AggregateHead<'a>(pub(super) &'a AggregateExpr);

impl Display for AggregateHead<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        let labels = LabelNames(&self.0.grouping);
        if self.0.without {
            write!(f, " without ({labels}) ")
        } else if !self.0.grouping.is_empty() {
            write!(f, " by ({labels}) ")
        } else {
            Ok(())
        }
    }
}

/// A binary operator with its modifiers.
pub(super) struct Operator<'a>(pub(super) &'a BinaryExpr);

impl Display for Operator<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        if self.0.return_bool {
            f.write_str(" bool")?;
        }
        self.0.matching.as_ref().map_or(Ok(()), |m| m.fmt(f))
    }
}

impl Display for VectorMatching {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let group = match self.card {
            Cardinality::ManyToOne => Some("left"),
            Cardinality::OneToMany => Some("right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        if !self.labels.is_empty() || self.on || group.is_some() {
            let word = if self.on { "on" } else { "ignoring" };
            write!(f, " {word} ({})", LabelNames(&self.labels))?;
        }
        if let Some(side) = group {
            write!(f, " group_{side} ({})", LabelNames(&self.include))?;
        }
        match (self.fill_lhs, self.fill_rhs) {
            (Some(l), Some(r)) if l == r => write!(f, " fill ({})", format_g(l)),
            (l, r) => {
                for (side, value) in [("left", l), ("right", r)] {
                    if let Some(value) = value {
                        write!(f, " fill_{side} ({})", format_g(value))?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl Display for LabelMatcher {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        LabelName(&self.name).fmt(f)?;
        f.write_str(self.op.as_str())?;
        Quoted(&self.value).fmt(f)
    }
}

impl VectorSelector {
    /// The name and the matchers: what is selected, without when.
    fn series(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let is_name = |m: &&LabelMatcher| {
            m.name == METRIC_NAME
                && m.op == MatchOp::Equal
                && m.value == self.name.as_bytes()
                && !m.value.is_empty()
        };
        f.write_str(&self.name)?;
        let mut shown: Vec<String> =
            self.matchers.iter().filter(|m| !is_name(m)).map(LabelMatcher::to_string).collect();
        if shown.is_empty() {
            return Ok(());
        }
        shown.sort_unstable();
        f.write_char('{')?;
        separated(f, ",", &shown)?;
        f.write_char('}')
    }

    const fn range_modifier(&self) -> &'static str {
        match (self.anchored, self.smoothed) {
            (true, _) => " anchored",
            (false, true) => " smoothed",
            (false, false) => "",
        }
    }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.series(f)?;
        write!(f, "{}{}{}", At(&self.shift), self.range_modifier(), Offset(&self.shift))
    }
}

impl Display for MatrixSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.selector.series(f)?;
        let shift = &self.selector.shift;
        let range = Length(self.range_ms, self.range_expr.as_deref());
        let modifier = self.selector.range_modifier();
        write!(f, "[{range}]{modifier}{}{}", At(shift), Offset(shift))
    }
}

/// A subquery's brackets and what follows them.
pub(super) struct SubqueryTail<'a>(pub(super) &'a SubqueryExpr);

impl Display for SubqueryTail<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let e = self.0;
        write!(f, "[{}:", Length(e.range_ms, e.range_expr.as_deref()))?;
        if e.step_ms != 0 || e.step_expr.is_some() {
            Length(e.step_ms, e.step_expr.as_deref()).fmt(f)?;
        }
        write!(f, "]{}{}", At(&e.shift), Offset(&e.shift))
    }
}

/// A length of time: the expression if there is one, else the milliseconds.
struct Length<'a>(i64, Option<&'a DurationExpr>);

impl Display for Length<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(expr) => expr.fmt(f),
            None => Milliseconds(self.0).fmt(f),
        }
    }
}

/// ` @ …`, or nothing.
struct At<'a>(&'a TimeShift);

impl Display for At<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.0.timestamp_ms, self.0.start_or_end) {
            #[expect(clippy::cast_precision_loss, reason = "as Prometheus prints it")]
            (Some(ms), _) => write!(f, " @ {:.3}", ms as f64 / 1000.0),
            (None, Some(AtModifier::Start)) => f.write_str(" @ start()"),
            (None, Some(AtModifier::End)) => f.write_str(" @ end()"),
            (None, None) => Ok(()),
        }
    }
}

/// ` offset …`, or nothing.
struct Offset<'a>(&'a TimeShift);

impl Display for Offset<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (&self.0.original_offset_expr, self.0.original_offset_ms) {
            (None, 0) => Ok(()),
            (expr, ms) => write!(f, " offset {}", Length(ms, expr.as_deref())),
        }
    }
}

impl DurationOp {
    /// The operator or function as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Step => "step",
            Self::Range => "range",
            Self::Start => "start",
            Self::End => "end",
            Self::Min => "min_of",
            Self::Max => "max_of",
        }
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (op, lhs, rhs, wrapped) = match self {
            Self::Number(n) => return n.fmt(f),
            Self::Op { op, lhs, rhs, wrapped, .. } => (*op, lhs, rhs, *wrapped),
        };
        if wrapped {
            f.write_char('(')?;
        }
        match (op, lhs, rhs) {
            (_, None, None) => write!(f, "{}()", op.as_str())?,
            (DurationOp::Min | DurationOp::Max, Some(l), Some(r)) => {
                write!(f, "{}({l}, {r})", op.as_str())?;
            }
            // A positive sign only carries parentheses.
            (DurationOp::Add, None, Some(r)) => r.fmt(f)?,
            (_, None, Some(r)) => write!(f, "{}{r}", op.as_str())?,
            (_, Some(l), Some(r)) => write!(f, "{l} {} {r}", op.as_str())?,
            (_, Some(l), None) => l.fmt(f)?,
        }
        if wrapped {
            f.write_char(')')?;
        }
        Ok(())
    }
}
