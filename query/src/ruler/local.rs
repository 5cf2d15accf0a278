//! Evaluating in this process: through the planner, as every other question.

use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_model::Labels;
use periplus_promql::parse::ast::Expr;

use super::evaluate::{Answer, Answering, Evaluator, samples_of};
use super::rule::Strategy;
use crate::answer::{Answerer, Options, When};
use crate::api::Defaults;

/// Asks the query layer of this process.
#[derive(Clone, Debug)]
pub struct LocalEvaluator {
    /// Who answers.
    pub answerer: Answerer,
    /// What holds for people's questions too.
    pub defaults: Defaults,
    /// How long one evaluation may take.
    pub timeout: Duration,
}

impl LocalEvaluator {
    async fn ask(
        &self,
        query: &Arc<str>,
        expr: &Expr,
        t_ms: i64,
        strategy: Strategy,
    ) -> Result<Answer, String> {
        let options = Options {
            replica_labels: self.defaults.replica_labels.clone(),
            stores: Vec::new(),
            strict: strategy == Strategy::Abort,
            lookback_ms: self.defaults.lookback_ms,
            deadline: Instant::now() + self.timeout,
            limits: None,
            delayed_name_removal: self.defaults.delayed_name_removal,
            per_step_stats: false,
            pushdown: true,
            resolution: self.defaults.resolution,
        };
        // Positions in messages refer to the text the tree was read from, which is the rule's own.
        let answered = self.answerer.answer(expr, Arc::clone(query), When::instant(t_ms), &options);
        let answered = answered.await.map_err(|e| e.to_string())?;
        let replica = &self.defaults.replica_labels;
        let mut missing: Vec<Labels> = answered
            .missing
            .iter()
            .map(|m| m.labels.filter(|n| !replica.iter().any(|r| r == n)))
            .collect();
        missing.sort();
        missing.dedup();
        let (warnings, _) = answered.annotations.to_strings(query, 10);
        Ok(Answer { samples: samples_of(answered.value)?, missing, warnings })
    }
}

impl Evaluator for LocalEvaluator {
    fn instant<'a>(
        &'a self,
        query: &'a Arc<str>,
        expr: &'a Expr,
        t_ms: i64,
        strategy: Strategy,
    ) -> Answering<'a> {
        Box::pin(self.ask(query, expr, t_ms, strategy))
    }
}
