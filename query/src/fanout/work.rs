//! What each step of one question did: kept only where somebody asks for it (`query_analyze`).

use std::time::Duration;

use periplus_promql::explain::OperatorReport;

/// A request to an endpoint for a part of the query.
#[derive(Clone, Debug, Default)]
pub struct RequestWork {
    /// Who was asked.
    pub address: String,
    /// What it was asked to evaluate; of a request for series: the selector.
    pub query: String,
    /// Where that stands in the whole query, in bytes; `None` for series.
    pub position: Option<u32>,
    /// Rows or series that came.
    pub rows: u64,
    /// Samples looked at there; of series: 0, they are counted by the operators that read them.
    pub samples: u64,
    /// Series looked at there.
    pub series: u64,
    /// Bytes of the answer, as encoded and before transport compression.
    pub bytes: u64,
    /// From the first attempt to the end of the answer.
    pub time: Duration,
    /// Of that, spent at the endpoint, where it says so.
    pub time_there: Option<Duration>,
    /// How the endpoint went about it, where it says so: `hot`, `prometheus`, `engine`, `fanout`.
    pub path: String,
    /// Why there is no answer.
    pub error: Option<String>,
}

/// A part of the query that was evaluated in this process.
#[derive(Clone, Debug, Default)]
pub struct LocalWork {
    /// The part, in the query's words.
    pub query: String,
    /// Where its samples came from.
    pub from: From,
    /// What its operators did, parents before children.
    pub operators: Vec<OperatorReport>,
    /// How long it took.
    pub time: Duration,
}

/// Where samples came from that were evaluated here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum From {
    /// Answers of endpoints, and the series that had to be fetched beside them.
    #[default]
    Fleet,
    /// Series of endpoints.
    Series,
    /// The bucket.
    History,
}

impl From {
    /// As the API writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Series => "series",
            Self::History => "history",
        }
    }
}

/// A part of the query that was pushed: how long it took until all its answers were put together.
#[derive(Clone, Debug, Default)]
pub struct FragmentWork {
    /// The number of the leaf that stands in its place.
    pub leaf: u32,
    /// The part, in the query's words.
    pub query: String,
    /// Series after merging.
    pub series: u64,
    /// Values after merging.
    pub points: u64,
    /// From the first request to the merged answer.
    pub time: Duration,
}

/// What the steps of a question did, in the order in which they ended.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// Requests.
    pub requests: Vec<RequestWork>,
    /// Pushed parts, put together.
    pub fragments: Vec<FragmentWork>,
    /// Evaluations in this process.
    pub local: Vec<LocalWork>,
}

/// Entries of a kind that are kept; a fleet of thousands stays readable, and a loop bounded.
pub(super) const ENTRIES_MAX: usize = 10_000;
