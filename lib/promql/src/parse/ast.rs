//! The syntax tree, node for node as Prometheus's parser builds it, so that printing, positions and
//! error texts can be compared line by line.

use periplus_model::MatchOp;

/// Where a node stands in the query text: byte offsets, `start..end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// What an expression evaluates to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// Nothing (Prometheus's "none").
    None,
    /// One number a step.
    Scalar,
    /// A series of one sample a step.
    Vector,
    /// A range of samples a step.
    Matrix,
    /// A string.
    String,
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A number, `duration` when it was written as one (`5m`).
    Number(NumberLiteral),
    /// A string.
    String(StringLiteral),
    /// A parenthesised expression.
    Paren(Box<ParenExpr>),
    /// `+x` or `-x`.
    Unary(Box<UnaryExpr>),
    /// `l op r`.
    Binary(Box<BinaryExpr>),
    /// `sum by (a) (x)` and its like.
    Aggregate(Box<AggregateExpr>),
    /// A function call.
    Call(Box<Call>),
    /// `name{matchers}` with offset and `@`.
    VectorSelector(Box<VectorSelector>),
    /// `name{matchers}[range]`.
    MatrixSelector(Box<MatrixSelector>),
    /// `expr[range:step]`.
    Subquery(Box<SubqueryExpr>),
    /// A result that is already known: the answer of another process to the subtree that stood
    /// here. Never made by the parser; see `plan`.
    Leaf(Box<Leaf>),
}

/// A number.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberLiteral {
    /// Its value; a duration in seconds.
    pub value: f64,
    /// Whether it was written as a duration.
    pub duration: bool,
    /// Where.
    pub span: Span,
}

/// A string, byte-exact: escapes such as `\xff` may make it invalid UTF-8.
#[derive(Clone, Debug, PartialEq)]
pub struct StringLiteral {
    /// Its bytes, unquoted.
    pub value: Vec<u8>,
    /// Where.
    pub span: Span,
}

/// `(expr)`.
#[derive(Clone, Debug, PartialEq)]
pub struct ParenExpr {
    /// What is inside.
    pub expr: Expr,
    /// Where, parentheses included.
    pub span: Span,
}

/// `+expr`, `-expr`.
#[derive(Clone, Debug, PartialEq)]
pub struct UnaryExpr {
    /// [`BinaryOp::Add`] or [`BinaryOp::Sub`].
    pub op: BinaryOp,
    /// The operand.
    pub expr: Expr,
    /// Where.
    pub span: Span,
}

/// A binary operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the operators'")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eql,
    Neq,
    Lte,
    Lss,
    Gte,
    Gtr,
    And,
    Or,
    Unless,
    /// `</`: keep what lies below, of histograms.
    TrimUpper,
    /// `>/`: keep what lies above, of histograms.
    TrimLower,
}

/// `lhs op rhs`.
#[derive(Clone, Debug, PartialEq)]
pub struct BinaryExpr {
    /// The operator.
    pub op: BinaryOp,
    /// Left operand.
    pub lhs: Expr,
    /// Right operand.
    pub rhs: Expr,
    /// How vectors are matched; `None` unless both sides are vectors.
    pub matching: Option<VectorMatching>,
    /// `bool` after a comparison.
    pub return_bool: bool,
    /// Where.
    pub span: Span,
}

/// Which side of a match may have many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the cardinalities'")]
pub enum Cardinality {
    OneToOne,
    ManyToOne,
    OneToMany,
    ManyToMany,
}

/// How the series of two vectors find each other.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorMatching {
    /// Which side may have many.
    pub card: Cardinality,
    /// Labels named by `on` or `ignoring`.
    pub labels: Vec<String>,
    /// `on` (true) or `ignoring` (false).
    pub on: bool,
    /// Labels named by `group_left`/`group_right`.
    pub include: Vec<String>,
    /// `fill_left(v)`/`fill(v)`: value for a missing left side.
    pub fill_lhs: Option<f64>,
    /// `fill_right(v)`/`fill(v)`: value for a missing right side.
    pub fill_rhs: Option<f64>,
}

/// An aggregation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the operators'")]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

/// `op by|without (grouping) (param, expr)`.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateExpr {
    /// The operator.
    pub op: AggregateOp,
    /// What is aggregated.
    pub expr: Expr,
    /// `k`, `φ`, the label name, the ratio.
    pub param: Option<Expr>,
    /// The labels of `by` or `without`.
    pub grouping: Vec<String>,
    /// `without` (true) or `by` (false).
    pub without: bool,
    /// Where.
    pub span: Span,
}

/// `func(args)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The function's entry in the table of functions.
    pub func: &'static super::functions::Function,
    /// Its arguments.
    pub args: Vec<Expr>,
    /// Where.
    pub span: Span,
}

/// `@ start()` and `@ end()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the modifiers'")]
pub enum AtModifier {
    Start,
    End,
}

/// The `offset` and `@` of a selector or subquery.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimeShift {
    /// `offset` as written, in milliseconds; 0 when absent or when it is an expression.
    pub original_offset_ms: i64,
    /// `offset` as a duration expression.
    pub original_offset_expr: Option<Box<DurationExpr>>,
    /// `@ <timestamp>`, in milliseconds.
    pub timestamp_ms: Option<i64>,
    /// `@ start()` or `@ end()`.
    pub start_or_end: Option<AtModifier>,
}

/// A label matcher as written, before its regex is compiled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LabelMatcher {
    /// The label's name.
    pub name: String,
    /// How to compare.
    pub op: MatchOp,
    /// The value, byte-exact.
    pub value: Vec<u8>,
}

/// `name{matchers}`.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The metric name before the braces; empty when there is none. It is also among `matchers`
    /// (last, as Prometheus has it).
    pub name: String,
    /// All matchers, in Prometheus's order.
    pub matchers: Vec<LabelMatcher>,
    /// `offset` and `@`.
    pub shift: TimeShift,
    /// `anchored`.
    pub anchored: bool,
    /// `smoothed`.
    pub smoothed: bool,
    /// The second argument of `info`, which may match the empty set.
    pub bypass_empty_matcher_check: bool,
    /// Where.
    pub span: Span,
}

/// `selector[range]`.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    /// The selector, which carries offset and `@`.
    pub selector: VectorSelector,
    /// The range in milliseconds; 0 when it is an expression.
    pub range_ms: i64,
    /// The range as a duration expression.
    pub range_expr: Option<Box<DurationExpr>>,
    /// Where, offset and `@` included as Prometheus counts them.
    pub span: Span,
}

/// `expr[range:step]`.
#[derive(Clone, Debug, PartialEq)]
pub struct SubqueryExpr {
    /// What is evaluated over the range.
    pub expr: Expr,
    /// The range in milliseconds; 0 when it is an expression.
    pub range_ms: i64,
    /// The range as a duration expression.
    pub range_expr: Option<Box<DurationExpr>>,
    /// The step in milliseconds; 0 for the default.
    pub step_ms: i64,
    /// The step as a duration expression.
    pub step_expr: Option<Box<DurationExpr>>,
    /// `offset` and `@`.
    pub shift: TimeShift,
    /// Where.
    pub span: Span,
}

/// Operators of duration expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the operators'")]
pub enum DurationOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Step,
    Range,
    Start,
    End,
    Min,
    Max,
}

/// A duration computed at evaluation time: `[5m + step()]`.
#[derive(Clone, Debug, PartialEq)]
pub enum DurationExpr {
    /// A number of seconds or a duration.
    Number(NumberLiteral),
    /// An operator with none, one or two operands.
    Op {
        /// The operator.
        op: DurationOp,
        /// Left operand.
        lhs: Option<Box<DurationExpr>>,
        /// Right operand.
        rhs: Option<Box<DurationExpr>>,
        /// Whether it stands in parentheses.
        wrapped: bool,
        /// Where.
        span: Span,
    },
}

/// A subtree whose answer arrives from elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf {
    /// Which of the query's leaves.
    pub id: u32,
    /// What the subtree that stood here evaluates to.
    pub value_type: ValueType,
    /// The subtree itself, for printing, explaining and annotations.
    pub original: Expr,
}
