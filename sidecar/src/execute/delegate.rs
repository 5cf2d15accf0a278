//! Asking Prometheus's own API.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use periplus_model::Labels;
use periplus_promql::parse::ast::{AggregateExpr, AggregateOp, Expr, NumberLiteral};
use periplus_promql::parse::parse;
use periplus_promql::partial::flags;
use periplus_promql::value::{Bitmap, StepGrid};
use periplus_proto::fleet::PartialKind;

use super::positions::Positions;
use super::rules::{Carried, Rules, grouped};
use super::{Job, Output, OutputRow};
use crate::external::merged;
use crate::prometheus::answer::{self, Answer, AnswerRow, Expect, Kind};
use crate::prometheus::watch::seconds;
use crate::prometheus::{Client, ClientError, Snapshot};

/// Why Prometheus did not answer.
#[derive(Debug)]
pub(super) enum NotHere {
    /// The engine is to answer.
    Because(&'static str),
    /// There is no answer at all.
    Failed(ClientError),
}

impl From<&'static str> for NotHere {
    fn from(reason: &'static str) -> Self {
        Self::Because(reason)
    }
}

impl From<ClientError> for NotHere {
    fn from(error: ClientError) -> Self {
        match &error {
            // Something this Prometheus does not know; the engine tells whether it makes sense.
            ClientError::Api { kind, .. } if kind == "bad_data" => Self::Because("not-understood"),
            _ => Self::Failed(error),
        }
    }
}

/// Prometheus refuses ranges of more points.
const POINTS_MAX: usize = 11_000;

/// The largest k of a delegated topk.
const K_MAX: f64 = 1_000.0;

/// Tells the two halves of an average apart.
const PART_LABEL: &str = "__periplus_part__";

/// Features of Prometheus that change what expressions evaluate to.
const CHANGING_FEATURES: &[&str] =
    &["use-start-timestamps", "type-and-unit-labels", "created-timestamp-zero-ingestion"];

/// Asks Prometheus for a job's answer where that is exact.
pub(super) async fn run(
    client: &Client,
    snapshot: &Snapshot,
    job: &Job,
) -> Result<Output, NotHere> {
    suitable(snapshot, job)?;
    let mut root = &job.expr;
    while let Expr::Paren(p) = root {
        root = &p.expr;
    }
    let rules = Rules {
        external: &job.external,
        own_grid: job.own_grid,
        subquery_step_ms: snapshot.evaluation_interval_ms,
    };
    let asker = Asker { client, job, rules };
    match (job.kind, root) {
        (PartialKind::Whole | PartialKind::Topk | PartialKind::Bottomk, Expr::Aggregate(a))
            if matches!(a.op, AggregateOp::Topk | AggregateOp::Bottomk) =>
        {
            asker.top(a).await
        }
        (PartialKind::Whole, _) => asker.whole(root).await,
        (PartialKind::Avg, Expr::Aggregate(a)) if a.op == AggregateOp::Avg => {
            asker.average(a).await
        }
        (kind, Expr::Aggregate(a)) if mergeable(kind, a.op) => asker.partial(root).await,
        _ => Err("partial-kind".into()),
    }
}

fn suitable(snapshot: &Snapshot, job: &Job) -> Result<(), NotHere> {
    if snapshot.version.major != 3 {
        return Err("version".into());
    }
    if !snapshot.shadowed.is_empty() {
        return Err("shadowed-label".into());
    }
    if snapshot.has_feature("promql-delayed-name-removal") != job.delayed_name_removal {
        return Err("delayed-name-removal".into());
    }
    if CHANGING_FEATURES.iter().any(|f| snapshot.has_feature(f)) {
        return Err("feature".into());
    }
    if job.grid.steps() > POINTS_MAX {
        return Err("too-many-points".into());
    }
    Ok(())
}

fn mergeable(kind: PartialKind, op: AggregateOp) -> bool {
    matches!(
        (kind, op),
        (PartialKind::Sum, AggregateOp::Sum)
            | (PartialKind::Count, AggregateOp::Count)
            | (PartialKind::Min, AggregateOp::Min)
            | (PartialKind::Max, AggregateOp::Max)
            | (PartialKind::Group, AggregateOp::Group)
            | (PartialKind::CountValues, AggregateOp::CountValues)
    )
}

/// One job's questions.
struct Asker<'a> {
    client: &'a Client,
    job: &'a Job,
    rules: Rules<'a>,
}

impl Asker<'_> {
    /// The query's own result.
    async fn whole(&self, root: &Expr) -> Result<Output, NotHere> {
        let (asked, carried) = self.rules.rewrite(root)?;
        let answer = self.ask(&asked.to_string(), &[(root, &[])]).await?;
        let scalar = answer.kind == Kind::Scalar;
        let mut output = self.output(answer, &carried, |values| vec![values])?;
        output.scalar = scalar;
        Ok(output)
    }

    /// An aggregation whose result is its partial state.
    async fn partial(&self, root: &Expr) -> Result<Output, NotHere> {
        let (asked, carried) = self.rules.rewrite(root)?;
        let answer = self.ask(&asked.to_string(), &[(root, &[])]).await?;
        let kind = self.job.kind;
        self.output(answer, &carried, |values| match kind {
            PartialKind::Group => Vec::new(),
            PartialKind::Sum => {
                let steps = values.len();
                vec![values, vec![0.0; steps], vec![f64::from(flags::FLOAT); steps]]
            }
            _ => vec![values],
        })
    }

    /// Sum and count in one question, so that both see the same samples.
    async fn average(&self, a: &AggregateExpr) -> Result<Output, NotHere> {
        let (asked, carried) = self.rules.rewrite(&Expr::Aggregate(Box::new(a.clone())))?;
        let Expr::Aggregate(asked) = asked else {
            return Err("partial-kind".into());
        };
        let part = |op, name: &str| {
            let mut half = asked.clone();
            half.op = op;
            let half = Expr::Aggregate(half);
            format!("label_replace({half}, \"{PART_LABEL}\", \"{name}\", \"\", \"\")")
        };
        let text = format!("{} or {}", part(AggregateOp::Sum, "s"), part(AggregateOp::Count, "c"));
        let inner = &a.expr;
        let answer = self.ask(&text, &[(inner, &[0, 0, 0]), (inner, &[1, 0, 0])]).await?;
        let steps = self.job.grid.steps();
        let mut pairs: HashMap<Labels, (Option<AnswerRow>, Option<AnswerRow>)> = HashMap::new();
        let Answer { rows, warnings, infos, histograms, kind } = answer;
        for row in rows {
            let group = row.labels.filter(|n| n != PART_LABEL);
            let pair = pairs.entry(group).or_default();
            match row.labels.get(PART_LABEL) {
                Some("s") => pair.0 = Some(row),
                _ => pair.1 = Some(row),
            }
        }
        let mut rows = Vec::with_capacity(pairs.len());
        let mut counts = HashMap::with_capacity(pairs.len());
        for (group, pair) in pairs {
            let (Some(sum), Some(count)) = pair else {
                return Err("mixed-samples".into());
            };
            // A sum that overflows is averaged another way; a group of both kinds of samples has no sum.
            let finite =
                sum.present.ones().all(|i| sum.values.get(i).is_some_and(|v| !v.is_infinite()));
            if sum.present != count.present || !finite {
                return Err("mixed-samples".into());
            }
            counts.insert(group.clone(), count.values);
            rows.push(AnswerRow { labels: group, ..sum });
        }
        let answer = Answer { rows, warnings, infos, histograms, kind };
        let mut output = self.output(answer, &Carried::new(), |values| vec![values])?;
        for row in &mut output.rows {
            let count = counts.remove(&row.labels).unwrap_or_default();
            row.columns.extend([vec![0.0; steps], count, vec![f64::from(flags::FLOAT); steps]]);
            row.labels = self.put_back(&row.labels, &carried);
        }
        Ok(output)
    }

    /// The best k, and some more, to cut them by our own order of ties.
    async fn top(&self, a: &AggregateExpr) -> Result<Output, NotHere> {
        let kind_fits = match self.job.kind {
            PartialKind::Topk => a.op == AggregateOp::Topk,
            PartialKind::Bottomk => a.op == AggregateOp::Bottomk,
            _ => true,
        };
        let Some(Expr::Number(k)) = &a.param else {
            return Err("topk-parameter".into());
        };
        if !kind_fits || !(1.0..=K_MAX).contains(&k.value) {
            return Err("topk-parameter".into());
        }
        let k_rows = k.value as usize;
        let more = k_rows + k_rows.clamp(8, 64);
        let (inner, carried) = self.rules.rewrite(&a.expr)?;
        let mut asked = a.clone();
        asked.grouping.retain(|n| self.rules.external.all.get(n).is_none());
        asked.expr = inner;
        let param = NumberLiteral { value: more as f64, duration: false, span: k.span };
        asked.param = Some(Expr::Number(param));
        let text = Expr::Aggregate(Box::new(asked)).to_string();
        let root = Expr::Aggregate(Box::new(a.clone()));
        let answer = self.ask(&text, &[(&root, &[])]).await?;
        let carried = grouped(a, carried);
        let mut output = self.output(answer, &carried, |values| vec![values])?;
        let cut = Cut { largest: a.op == AggregateOp::Topk, k: k_rows, asked: more };
        cut.apply(&mut output.rows, a, self.job.grid)?;
        Ok(output)
    }

    /// Asks, and translates the positions of annotations: `paths` tells, for subtrees of what is asked,
    /// which part of the original they are.
    async fn ask(&self, text: &str, paths: &[(&Expr, &[usize])]) -> Result<Answer, NotHere> {
        let job = self.job;
        let grid = job.grid;
        let lookback = format!("{}ms", job.lookback_ms);
        let timeout = format!("{}ms", job.timeout.as_millis().max(1));
        let mut form =
            vec![("query", text.to_owned()), ("lookback_delta", lookback), ("timeout", timeout)];
        let path = if job.instant {
            form.push(("time", seconds(grid.start_ms)));
            "api/v1/query"
        } else {
            form.push(("start", seconds(grid.start_ms)));
            form.push(("end", seconds(grid.end_ms)));
            form.push(("step", format!("{}ms", grid.step_ms)));
            "api/v1/query_range"
        };
        let response = self.client.query(path, &form, job.timeout).await?;
        let limits = &job.limits;
        let expect = Expect { grid, rows_max: limits.series_max, bytes_max: limits.memory_max };
        let mut answer = answer::read(response, expect).await?;
        if answer.histograms {
            return Err("native-histograms".into());
        }
        if !answer.warnings.is_empty() || !answer.infos.is_empty() {
            let asked = parse(text).map_err(|_| "not-understood")?;
            let mut positions = Positions::default();
            for (original, path) in paths {
                if let Some(part) = follow(&asked, path) {
                    positions.pair(part, original);
                }
            }
            let translate = |all: Vec<String>| -> Vec<String> {
                let all = all.into_iter().map(|w| positions.translate(w, &job.query));
                all.collect::<BTreeSet<String>>().into_iter().collect()
            };
            answer.warnings = translate(std::mem::take(&mut answer.warnings));
            answer.infos = translate(std::mem::take(&mut answer.infos));
        }
        Ok(answer)
    }

    fn put_back(&self, labels: &Labels, carried: &Carried) -> Labels {
        if carried.is_empty() {
            return labels.clone();
        }
        let shown = self.rules.external.shown.iter().filter(|(n, _)| carried.contains(*n));
        merged(labels, shown)
    }

    fn output(
        &self,
        answer: Answer,
        carried: &Carried,
        columns: impl Fn(Vec<f64>) -> Vec<Vec<f64>>,
    ) -> Result<Output, NotHere> {
        if answer.kind == Kind::String {
            return Err("string".into());
        }
        let series = answer.rows.len() as u64;
        let mut samples = 0;
        let rows = answer
            .rows
            .into_iter()
            .map(|row| {
                samples += row.present.count() as u64;
                OutputRow {
                    labels: self.put_back(&row.labels, carried),
                    present: row.present,
                    columns: columns(row.values),
                    histograms: Vec::new(),
                }
            })
            .collect();
        let (warnings, infos) = (answer.warnings, answer.infos);
        Ok(Output { rows, scalar: false, warnings, infos, samples, series, path: "prometheus" })
    }
}

/// The subtree at a path of child numbers.
fn follow<'e>(expr: &'e Expr, path: &[usize]) -> Option<&'e Expr> {
    let Some((first, rest)) = path.split_first() else {
        return Some(expr);
    };
    let child = match expr {
        Expr::Binary(b) => [&b.lhs, &b.rhs].get(*first).copied()?,
        Expr::Call(c) => c.args.get(*first)?,
        Expr::Aggregate(a) => &a.expr,
        Expr::Paren(p) => &p.expr,
        _ => return None,
    };
    follow(child, rest)
}

/// Cuts what Prometheus gave to the k best of each group, ties by labels.
struct Cut {
    largest: bool,
    k: usize,
    /// How many of a group were asked for.
    asked: usize,
}

impl Cut {
    fn apply(
        &self,
        rows: &mut Vec<OutputRow>,
        a: &AggregateExpr,
        grid: StepGrid,
    ) -> Result<(), NotHere> {
        // Ties fall by labels: in their order from here on.
        rows.sort_by(|x, y| x.labels.cmp(&y.labels));
        let mut numbers: HashMap<Labels, usize> = HashMap::new();
        let groups: Vec<usize> = rows
            .iter()
            .map(|r| {
                let next = numbers.len();
                *numbers.entry(group_of(&r.labels, a)).or_insert(next)
            })
            .collect();
        let mut kept: Vec<Bitmap> =
            rows.iter().map(|r| Bitmap::new(r.present.len(), false)).collect();
        let mut at_step: Vec<Vec<(f64, usize)>> = vec![Vec::new(); numbers.len()];
        for step in 0..grid.steps() {
            at_step.iter_mut().for_each(Vec::clear);
            for (i, (row, group)) in rows.iter().zip(&groups).enumerate() {
                if row.present.get(step)
                    && let Some(value) = row.columns.first().and_then(|c| c.get(step))
                    && let Some(members) = at_step.get_mut(*group)
                {
                    members.push((*value, i));
                }
            }
            for members in &mut at_step {
                members.sort_by(|x, y| self.order(x.0, y.0).then(x.1.cmp(&y.1)));
                self.check_tie(members)?;
                for (_, i) in members.iter().take(self.k) {
                    if let Some(bits) = kept.get_mut(*i) {
                        bits.set(step, true);
                    }
                }
            }
        }
        for (row, bits) in rows.iter_mut().zip(kept) {
            row.present = bits;
        }
        rows.retain(|r| r.present.count() > 0);
        if grid.steps() == 1 {
            let value = |r: &OutputRow| r.columns.first().and_then(|c| c.first()).copied();
            let order = |x: &OutputRow, y: &OutputRow| {
                self.order(value(x).unwrap_or(f64::NAN), value(y).unwrap_or(f64::NAN))
            };
            // Group by group, best first; rows of equal values stay in order of labels.
            rows.sort_by(|x, y| {
                let groups = group_of(&x.labels, a).cmp(&group_of(&y.labels, a));
                groups.then_with(|| order(x, y))
            });
        }
        Ok(())
    }

    /// Where the tie at the cut reaches to the last one that came, it may reach further.
    fn check_tie(&self, members: &[(f64, usize)]) -> Result<(), NotHere> {
        if members.len() < self.asked {
            return Ok(());
        }
        let (Some((at_cut, _)), Some((last, _))) = (members.get(self.k - 1), members.last()) else {
            return Ok(());
        };
        if self.order(*at_cut, *last) == Ordering::Equal {
            return Err("topk-tie".into());
        }
        Ok(())
    }

    /// Best first; NaN last.
    fn order(&self, x: f64, y: f64) -> Ordering {
        match (x.is_nan(), y.is_nan()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let ascending = x.partial_cmp(&y).unwrap_or(Ordering::Equal);
                if self.largest { ascending.reverse() } else { ascending }
            }
        }
    }
}

fn group_of(labels: &Labels, a: &AggregateExpr) -> Labels {
    let named = |n: &str| a.grouping.iter().any(|g| g == n);
    if a.without {
        labels.filter(|n| !named(n) && n != periplus_model::METRIC_NAME)
    } else {
        labels.filter(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[(&str, &str, f64)]) -> Vec<OutputRow> {
        values
            .iter()
            .map(|(group, name, v)| OutputRow {
                labels: Labels::from_pairs([("g", *group), ("n", *name)]),
                present: Bitmap::new(1, true),
                columns: vec![vec![*v]],
                histograms: Vec::new(),
            })
            .collect()
    }

    fn cut(
        query: &str,
        asked: usize,
        values: &[(&str, &str, f64)],
    ) -> Result<Vec<String>, NotHere> {
        let Expr::Aggregate(a) = parse(query).unwrap() else { panic!("an aggregation") };
        let Some(Expr::Number(k)) = &a.param else { panic!("a number") };
        let cut = Cut { largest: a.op == AggregateOp::Topk, k: k.value as usize, asked };
        let mut rows = rows(values);
        cut.apply(&mut rows, &a, StepGrid::instant(0))?;
        Ok(rows.iter().map(|r| r.labels.value("n").to_owned()).collect())
    }

    #[test]
    fn ties_fall_by_labels() {
        let values = [
            ("x", "d", 5.0),
            ("x", "c", 5.0),
            ("x", "a", 7.0),
            ("y", "b", 1.0),
            ("x", "e", f64::NAN),
        ];
        assert_eq!(cut("topk(2, v)", 9, &values).unwrap(), ["a", "c"]);
        assert_eq!(cut("bottomk by (g) (2, v)", 9, &values).unwrap(), ["c", "d", "b"]);
        assert_eq!(cut("topk without (n) (1, v)", 9, &values).unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_tie_beyond_what_came_is_for_the_engine() {
        let values = [("x", "a", 7.0), ("x", "b", 5.0), ("x", "c", 5.0)];
        assert!(matches!(cut("topk(2, v)", 3, &values), Err(NotHere::Because("topk-tie"))));
        assert_eq!(cut("topk(1, v)", 3, &values).unwrap(), ["a"]);
        assert_eq!(cut("topk(2, v)", 4, &values).unwrap(), ["a", "b"]);
    }
}
