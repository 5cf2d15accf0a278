//! The fleet's series, whole and in order, for endpoints that give samples rather than answers: remote read
//! and federation.

use std::sync::Arc;

use periplus_model::{Matcher, TimeRange};
use periplus_promql::engine::{ErrorKind, QueryError};
use periplus_promql::source::{SelectHints, SelectRequest, SourceError};
use tokio::sync::mpsc;

use super::Api;
use super::error::ApiError;
use super::params::Params;
use crate::answer::Asked;
use crate::fanout::fragment::strict_error;
use crate::fanout::{QueryTimes, Question};
use crate::series::{WholeSeries, pass_on};

/// Series that wait to be worked on.
const WAITING: usize = 64;

/// Begins a question about the samples of a time range.
pub(super) fn ask(api: &Api, p: &Params, range: TimeRange) -> Result<Asked, ApiError> {
    let times = QueryTimes { start_ms: range.min_t, end_ms: range.max_t, step_ms: 0 };
    Ok(api.answerer.ask("".into(), times, &p.options(&api.defaults)?))
}

/// Runs `work` over every series that matches, on a thread that may block; `work` says whether it wants more.
///
/// # Errors
/// A series is broken, `work` refuses it, or with a strict question somebody is missing.
pub(super) async fn each<T: Send + 'static>(
    asked: &Asked,
    matchers: Vec<Matcher>,
    range: TimeRange,
    mut state: T,
    mut work: impl FnMut(&mut T, WholeSeries) -> Result<bool, QueryError> + Send + 'static,
) -> Result<T, QueryError> {
    let question: &Arc<Question> = &asked.question;
    let select = SelectRequest { matchers, range, hints: SelectHints::default() };
    let (to, mut from) = mpsc::channel(WAITING);
    let worker = tokio::task::spawn_blocking(move || {
        while let Some(series) = from.blocking_recv() {
            let series = WholeSeries::new(series).map_err(broken)?;
            if !work(&mut state, series)? {
                break;
            }
        }
        Ok::<T, QueryError>(state)
    });
    let limit = {
        let to = to;
        pass_on(question, &select, false, &to).await
    };
    let joined = |e| QueryError::new(ErrorKind::Internal, format!("reading samples: {e}"));
    let state = worker.await.map_err(joined)??;
    if let Some(text) = limit {
        return Err(QueryError::new(ErrorKind::Limit, text));
    }
    if question.strict && question.notes.is_partial() {
        return Err(strict_error(question));
    }
    Ok(state)
}

/// What a source's error is to a client.
pub(super) fn broken(e: SourceError) -> QueryError {
    let kind = match e {
        SourceError::Limit(_) => ErrorKind::Limit,
        SourceError::Unavailable(_) => ErrorKind::Unavailable,
        SourceError::Cancelled => ErrorKind::Canceled,
        SourceError::Corrupt(_) => ErrorKind::Internal,
    };
    QueryError::new(kind, e.to_string())
}
