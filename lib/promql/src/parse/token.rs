//! The words of the language, and how error texts call them.

use periplus_model::float::Quoted;

use super::ast::{AggregateOp, BinaryOp};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The end of the query.
    Eof,
    /// A name without a colon.
    Identifier,
    /// A name with a colon, which only metrics may have.
    MetricIdentifier,
    Number,
    Duration,
    String,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// `=`, of label matchers.
    Equal,
    /// `=~`
    EqualRegex,
    /// `!~`
    NotEqualRegex,
    /// `@`
    At,
    /// An operator between expressions; `!=` also stands in label matchers.
    Op(BinaryOp),
    Aggregate(AggregateOp),
    Keyword(Keyword),
    Preprocessor(Preprocessor),
}

/// Words with a meaning, which may also name metrics or labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Anchored,
    Bool,
    By,
    Fill,
    FillLeft,
    FillRight,
    GroupLeft,
    GroupRight,
    Ignoring,
    Offset,
    On,
    Smoothed,
    Without,
}

/// Words that are values of time when a parenthesis follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preprocessor {
    Start,
    End,
    Step,
    Range,
    MaxOf,
    MinOf,
}

/// A token and the bytes of the query it was read from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: u32,
    pub(super) end: u32,
}

/// The longest word in [`Kind::of_word`].
const WORD_BYTES_MAX: usize = 12;

impl Kind {
    /// The meaning of a word outside braces, in whatever case; `None` for a plain name.
    pub(super) fn of_word(word: &str) -> Option<Self> {
        use AggregateOp as A;
        use BinaryOp as B;
        use Keyword as K;
        use Preprocessor as P;
        let mut buffer = [0u8; WORD_BYTES_MAX];
        let lower = buffer.get_mut(..word.len())?;
        lower.copy_from_slice(word.as_bytes());
        lower.make_ascii_lowercase();
        Some(match &*lower {
            b"and" => Self::Op(B::And),
            b"or" => Self::Op(B::Or),
            b"unless" => Self::Op(B::Unless),
            b"atan2" => Self::Op(B::Atan2),
            b"sum" => Self::Aggregate(A::Sum),
            b"avg" => Self::Aggregate(A::Avg),
            b"count" => Self::Aggregate(A::Count),
            b"min" => Self::Aggregate(A::Min),
            b"max" => Self::Aggregate(A::Max),
            b"group" => Self::Aggregate(A::Group),
            b"stddev" => Self::Aggregate(A::Stddev),
            b"stdvar" => Self::Aggregate(A::Stdvar),
            b"topk" => Self::Aggregate(A::Topk),
            b"bottomk" => Self::Aggregate(A::Bottomk),
            b"count_values" => Self::Aggregate(A::CountValues),
            b"quantile" => Self::Aggregate(A::Quantile),
            b"limitk" => Self::Aggregate(A::Limitk),
            b"limit_ratio" => Self::Aggregate(A::LimitRatio),
            b"offset" => Self::Keyword(K::Offset),
            b"smoothed" => Self::Keyword(K::Smoothed),
            b"anchored" => Self::Keyword(K::Anchored),
            b"by" => Self::Keyword(K::By),
            b"without" => Self::Keyword(K::Without),
            b"on" => Self::Keyword(K::On),
            b"ignoring" => Self::Keyword(K::Ignoring),
            b"group_left" => Self::Keyword(K::GroupLeft),
            b"group_right" => Self::Keyword(K::GroupRight),
            b"fill" => Self::Keyword(K::Fill),
            b"fill_left" => Self::Keyword(K::FillLeft),
            b"fill_right" => Self::Keyword(K::FillRight),
            b"bool" => Self::Keyword(K::Bool),
            b"start" => Self::Preprocessor(P::Start),
            b"end" => Self::Preprocessor(P::End),
            b"inf" | b"nan" => Self::Number,
            other => return Self::of_duration_word(other),
        })
    }

    /// The meaning of a lower-case word inside brackets.
    pub(super) fn of_duration_word(lower: &[u8]) -> Option<Self> {
        Some(Self::Preprocessor(match lower {
            b"step" => Preprocessor::Step,
            b"range" => Preprocessor::Range,
            b"max_of" => Preprocessor::MaxOf,
            b"min_of" => Preprocessor::MinOf,
            _ => return None,
        }))
    }

    /// Whether the token can name a metric before braces.
    pub(super) const fn names_metric(self) -> bool {
        use Keyword as K;
        match self {
            Self::Identifier
            | Self::MetricIdentifier
            | Self::Aggregate(_)
            | Self::Preprocessor(_)
            | Self::Op(BinaryOp::And | BinaryOp::Or | BinaryOp::Unless) => true,
            Self::Keyword(k) => {
                !matches!(k, K::Bool | K::GroupLeft | K::GroupRight | K::Ignoring | K::On)
            }
            _ => false,
        }
    }

    /// Whether the token can name a label in a list of labels.
    pub(super) const fn names_label(self) -> bool {
        match self {
            Self::Keyword(k) => !matches!(k, Keyword::Without),
            Self::Op(BinaryOp::Atan2) => true,
            other => other.names_metric(),
        }
    }

    /// Whether an expression can begin with the token.
    pub(super) const fn begins_expression(self) -> bool {
        match self {
            Self::Number | Self::Duration | Self::String | Self::LeftBrace | Self::LeftParen => {
                true
            }
            Self::Op(BinaryOp::Add | BinaryOp::Sub) => true,
            other => other.names_metric(),
        }
    }
}

impl Token {
    /// How an error text calls the token, `text` being what was read.
    pub(super) fn describe(self, text: &str) -> String {
        match self.kind {
            Kind::Eof => "end of input".to_owned(),
            Kind::Identifier => format!("identifier {}", Quoted(text)),
            Kind::MetricIdentifier => format!("metric identifier {}", Quoted(text)),
            Kind::String => format!("string {}", Shortened(text)),
            Kind::Number => format!("number {}", Shortened(text)),
            Kind::Duration => format!("duration {}", Shortened(text)),
            Kind::Keyword(_) => format!("<{text}>"),
            Kind::Op(_) | Kind::EqualRegex | Kind::NotEqualRegex | Kind::At => {
                format!("<op:{text}>")
            }
            Kind::Aggregate(_) => format!("<aggr:{text}>"),
            _ => Quoted(text).to_string(),
        }
    }
}

/// Prints a text in quotes; of one longer than ten bytes the first ten characters.
struct Shortened<'a>(&'a str);

impl std::fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.len() <= 10 {
            return Quoted(self.0).fmt(f);
        }
        let end = self.0.char_indices().nth(10).map_or(self.0.len(), |(i, _)| i);
        Quoted(self.0.get(..end).unwrap_or(self.0)).fmt(f)?;
        f.write_str("...")
    }
}

impl BinaryOp {
    /// The operator as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Eql => "==",
            Self::Neq => "!=",
            Self::Lte => "<=",
            Self::Lss => "<",
            Self::Gte => ">=",
            Self::Gtr => ">",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
        }
    }

    /// How tightly it binds, from 1; all but `^` associate to the left.
    pub(super) const fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Eql
            | Self::Neq
            | Self::Lte
            | Self::Lss
            | Self::Gte
            | Self::Gtr
            | Self::TrimUpper
            | Self::TrimLower => 3,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod | Self::Atan2 => 5,
            Self::Pow => 6,
        }
    }

    /// Whether it compares: `==`, `!=`, `<`, `<=`, `>`, `>=`.
    #[must_use]
    pub const fn is_comparison(self) -> bool {
        matches!(self, Self::Eql | Self::Neq | Self::Lte | Self::Lss | Self::Gte | Self::Gtr)
    }

    /// Whether it works on sets of series: `and`, `or`, `unless`.
    #[must_use]
    pub const fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

impl AggregateOp {
    /// The operator as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Count => "count",
            Self::Min => "min",
            Self::Max => "max",
            Self::Group => "group",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Topk => "topk",
            Self::Bottomk => "bottomk",
            Self::CountValues => "count_values",
            Self::Quantile => "quantile",
            Self::Limitk => "limitk",
            Self::LimitRatio => "limit_ratio",
        }
    }

    /// Whether it takes a parameter before what it aggregates.
    #[must_use]
    pub const fn has_param(self) -> bool {
        matches!(
            self,
            Self::Topk
                | Self::Bottomk
                | Self::CountValues
                | Self::Quantile
                | Self::Limitk
                | Self::LimitRatio
        )
    }
}
