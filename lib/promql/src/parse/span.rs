//! What every node of the tree can say of itself: where it stands and what it evaluates to.

use super::ast::{DurationExpr, Expr, Span, ValueType};

impl Expr {
    /// Where the expression stands in the query, as Prometheus counts it.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Self::Number(e) => e.span,
            Self::String(e) => e.span,
            Self::Paren(e) => e.span,
            Self::Unary(e) => e.span,
            Self::Binary(e) => e.span,
            Self::Aggregate(e) => e.span,
            Self::Call(e) => e.span,
            Self::VectorSelector(e) => e.span,
            Self::MatrixSelector(e) => e.span,
            Self::Subquery(e) => e.span,
            Self::Leaf(e) => e.original.span(),
        }
    }

    /// What the expression evaluates to. Looks down through parentheses, signs and operators.
    #[must_use]
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::Number(_) => ValueType::Scalar,
            Self::String(_) => ValueType::String,
            Self::Paren(e) => e.expr.value_type(),
            Self::Unary(e) => e.expr.value_type(),
            Self::Binary(e) => {
                let scalar = |e: &Self| e.value_type() == ValueType::Scalar;
                if scalar(&e.lhs) && scalar(&e.rhs) { ValueType::Scalar } else { ValueType::Vector }
            }
            Self::Aggregate(_) | Self::VectorSelector(_) => ValueType::Vector,
            Self::Call(e) => e.func.returns,
            Self::MatrixSelector(_) | Self::Subquery(_) => ValueType::Matrix,
            Self::Leaf(e) => e.value_type,
        }
    }
}

impl ValueType {
    /// The type's name in Prometheus's API: `scalar`, `vector`, `matrix`, `string`, `none`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Scalar => "scalar",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
            Self::String => "string",
        }
    }

    /// The type's name in documentation and error texts: `instant vector`, `range vector`.
    #[must_use]
    pub const fn documented(self) -> &'static str {
        match self {
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            _ => self.as_str(),
        }
    }
}

impl DurationExpr {
    /// Where the expression stands in the query.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Self::Number(n) => n.span,
            Self::Op { span, .. } => *span,
        }
    }
}
