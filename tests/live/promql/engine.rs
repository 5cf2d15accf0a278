//! The engine as a thing that is asked and answers as the HTTP API does.

use std::sync::Arc;

use periplus_promql::engine::{Engine, EngineConfig, Leaves, QuerySpec};
use periplus_promql::limits::Cancel;
use periplus_promql::parse::parse;
use periplus_promql::source::{SelectRequest, SeriesEntry, SeriesStream, Source, SourceError};
use periplus_promql::value::StepGrid;
use periplus_query::api::json;
use serde_json::{Value, json};

use super::super::ask::When;

/// Series in memory, as decoded from what the block holds.
pub(crate) struct Store(pub(crate) Vec<SeriesEntry>);

struct Blocks(std::vec::IntoIter<SeriesEntry>);

impl SeriesStream for Blocks {
    fn next_block(&mut self) -> Result<Option<Vec<SeriesEntry>>, SourceError> {
        let block: Vec<SeriesEntry> = self.0.by_ref().take(7).collect();
        Ok((!block.is_empty()).then_some(block))
    }
}

impl Source for Store {
    fn select(&self, request: &SelectRequest) -> Result<Box<dyn SeriesStream>, SourceError> {
        let fits =
            |e: &&SeriesEntry| request.matchers.iter().all(|m| m.matches(e.labels.value(&m.name)));
        let found: Vec<SeriesEntry> = self.0.iter().filter(fits).cloned().collect();
        Ok(Box::new(Blocks(found.into_iter())))
    }
}

/// The engine over a store.
pub(crate) struct Reference {
    engine: Engine,
    store: Arc<Store>,
}

impl Reference {
    pub(crate) fn new(store: Store) -> Self {
        let engine = Engine::new(&EngineConfig { workers: 2, ..EngineConfig::default() });
        Self { engine: engine.expect("an engine"), store: Arc::new(store) }
    }

    /// The answer in the form of the API.
    pub(crate) fn ask(&self, query: &str, when: When) -> Value {
        let refused =
            |e: &dyn std::fmt::Display| json!({"status": "error", "error": e.to_string()});
        let expr = match parse(query) {
            Ok(expr) => expr,
            Err(e) => return refused(&e),
        };
        let spec = match when {
            When::Instant(t) => QuerySpec::instant(expr, query, t),
            When::Range { from, to, step } => QuerySpec::range(
                expr,
                query,
                StepGrid { start_ms: from, end_ms: to, step_ms: step },
            ),
        };
        match self.engine.execute(&spec, &*self.store, &Leaves::new(), &Cancel::new()) {
            Ok(result) => {
                let mut w = json::Writer::new();
                w.raw(b"{\"status\":\"success\",\"data\":{");
                let instant = match when {
                    When::Instant(t) => Some(t),
                    When::Range { .. } => None,
                };
                json::result(&mut w, &result.value, instant);
                w.raw(b"}}");
                serde_json::from_slice(&w.finish()).expect("the writer writes JSON")
            }
            Err(e) => refused(&e),
        }
    }
}
