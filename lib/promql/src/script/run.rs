//! Carrying a script out.

use periplus_model::duration::format_duration;

use super::compare::{Difference, compare, compare_step};
use super::eval::{Eval, Expectation};
use super::report::{Failure, Report};
use super::rerun::{self, Variant};
use super::store::Store;
use super::syntax::{Command, Script};
use crate::engine::{Engine, Leaves, QueryError, QueryResult, QuerySpec};
use crate::limits::Cancel;
use crate::parse::parse;
use crate::value::StepGrid;

/// Samples a query of a script may hold at once.
const SAMPLES_MAX: u64 = 10_000;

/// The distance of the other steps in a range query that must agree with an instant query.
const STEP_MS: i64 = 60_000;

/// Runs scripts.
#[derive(Clone, Copy, Debug)]
pub struct Runner<'a> {
    /// What evaluates the queries.
    pub engine: &'a Engine,
    /// Whether every instant evaluation is repeated pinned to its time, at other times, and as a
    /// step of a range query, all of which must agree with it.
    pub reruns: bool,
    /// Whether metric names are dropped at the end of a query only, which Prometheus's own scripts
    /// take for granted (its flag `promql-delayed-name-removal`).
    pub delayed_name_removal: bool,
}

/// Runs a script, reruns included.
#[must_use]
pub fn run(script: &Script, engine: &Engine) -> Report {
    Runner { engine, reruns: true, delayed_name_removal: true }.run(script)
}

/// One way to run a query.
struct Run<'a> {
    eval: &'a Eval,
    query: &'a str,
    grid: StepGrid,
    instant: bool,
}

impl Run<'_> {
    fn text(&self) -> String {
        let StepGrid { start_ms, end_ms, step_ms } = self.grid;
        if self.instant {
            return format!("instant at {}", format_duration(start_ms));
        }
        let (start, end) = (format_duration(start_ms), format_duration(end_ms));
        format!("range from {start} to {end} step {}", format_duration(step_ms))
    }

    fn failure(&self, d: Difference) -> Failure {
        Failure {
            line: self.eval.line,
            query: self.query.to_owned(),
            run: self.text(),
            what: d.what,
            expected: d.expected,
            got: d.got,
        }
    }
}

impl Runner<'_> {
    /// Runs a script over an empty store.
    #[must_use]
    pub fn run(&self, script: &Script) -> Report {
        let mut report = Report::default();
        let mut store = Store::new();
        for (line, command) in &script.commands {
            match command {
                Command::Clear => store.clear(),
                Command::Load(load) => {
                    if let Err(e) = store.load(load) {
                        report.failures.push(Failure {
                            line: *line,
                            query: String::new(),
                            run: "load".to_owned(),
                            what: "storing samples".to_owned(),
                            expected: "samples in order".to_owned(),
                            got: e.to_string(),
                        });
                    }
                }
                Command::Eval(eval) => {
                    report.evals += 1;
                    self.eval(eval, &store, &mut report);
                }
            }
        }
        report
    }

    fn eval(&self, eval: &Eval, store: &Store, report: &mut Report) {
        let run = Run { eval, query: &eval.query, grid: eval.grid, instant: eval.instant };
        let expr = match parse(&eval.query) {
            Ok(expr) => expr,
            Err(e) => {
                let d = Difference::new("reading the query", "a valid query", e.to_string());
                report.failures.push(run.failure(d));
                return;
            }
        };
        let before = report.failures.len();
        self.check(&run, store, report);
        if !eval.instant || !self.reruns {
            return;
        }
        self.as_step(eval, &eval.query, eval.grid.start_ms, store, report);
        for Variant { query, t_ms } in rerun::pinned(&expr, eval.grid.start_ms) {
            if report.failures.len() > before {
                return;
            }
            let grid = StepGrid::instant(t_ms);
            self.check(&Run { eval, query: &query, grid, instant: true }, store, report);
            self.as_step(eval, &query, t_ms, store, report);
        }
    }

    /// Runs a query and compares result, error and annotations.
    fn check(&self, run: &Run<'_>, store: &Store, report: &mut Report) {
        report.queries += 1;
        let differences = match (self.execute(run, store), &run.eval.fail) {
            (Err(e), None) => {
                vec![Difference::new("error", "none", e.to_string())]
            }
            (Err(e), Some(want)) if want.matches(&e.to_string()) => Vec::new(),
            (Err(e), Some(want)) => {
                vec![Difference::new("error", want.describe(), e.to_string())]
            }
            (Ok(_), Some(want)) => {
                vec![Difference::new("error", want.describe(), "none")]
            }
            (Ok(result), None) => {
                let mut out = annotations(run, &result);
                out.extend(compare(run.eval, &result.value));
                out
            }
        };
        report.failures.extend(differences.into_iter().map(|d| run.failure(d)));
    }

    /// Runs an instant query as the middle step of a range query.
    fn as_step(&self, eval: &Eval, query: &str, t_ms: i64, store: &Store, report: &mut Report) {
        let fixed = eval.range_vector.is_some() || rerun::knows_its_range(query);
        let is_string = matches!(eval.expected, super::eval::Expected::String(_));
        if fixed || is_string || eval.fail.is_some() {
            return;
        }
        report.queries += 1;
        let grid = StepGrid {
            start_ms: t_ms.saturating_sub(STEP_MS),
            end_ms: t_ms.saturating_add(STEP_MS),
            step_ms: STEP_MS,
        };
        let run = Run { eval, query, grid, instant: false };
        let differences = match self.execute(&run, store) {
            Err(e) => vec![Difference::new("error", "none", e.to_string())],
            // A range query's series are in order of their labels.
            Ok(_) if eval.ordered => Vec::new(),
            Ok(result) => compare_step(eval, &result.value, 1),
        };
        report.failures.extend(differences.into_iter().map(|d| run.failure(d)));
    }

    fn execute(&self, run: &Run<'_>, store: &Store) -> Result<QueryResult, QueryError> {
        let expr = parse(run.query)
            .map_err(|e| QueryError::new(crate::engine::ErrorKind::BadData, e.to_string()))?;
        let mut spec = if run.instant {
            QuerySpec::instant(expr, run.query, run.grid.start_ms)
        } else {
            QuerySpec::range(expr, run.query, run.grid)
        };
        spec.limits.samples = SAMPLES_MAX;
        spec.delayed_name_removal = self.delayed_name_removal;
        spec.start_timestamps = true;
        self.engine.execute(&spec, store, &Leaves::new(), &Cancel::new())
    }
}

fn annotations(run: &Run<'_>, result: &QueryResult) -> Vec<Difference> {
    let (warnings, infos) = result.annotations.to_strings(run.query, 0);
    let mut out = annotations_of_kind("warnings", &run.eval.warnings, &warnings);
    out.extend(annotations_of_kind("infos", &run.eval.infos, &infos));
    out
}

fn annotations_of_kind(kind: &str, expected: &Expectation, got: &[String]) -> Vec<Difference> {
    let list = || if got.is_empty() { "none".to_owned() } else { got.join("; ") };
    match expected {
        Expectation::Anything => Vec::new(),
        Expectation::Nothing if got.is_empty() => Vec::new(),
        Expectation::Nothing => vec![Difference::new(kind, "none", list())],
        Expectation::Something if got.is_empty() => {
            vec![Difference::new(kind, "at least one", "none")]
        }
        Expectation::Something => Vec::new(),
        Expectation::These(wanted) => {
            let missing = wanted
                .iter()
                .filter(|w| !got.iter().any(|g| w.matches(g)))
                .map(|w| Difference::new(kind, w.describe(), list()));
            let unexpected = got
                .iter()
                .filter(|g| !wanted.iter().any(|w| w.matches(g)))
                .map(|g| Difference::new(kind, "only the expected ones", g.clone()));
            missing.chain(unexpected).collect()
        }
    }
}
