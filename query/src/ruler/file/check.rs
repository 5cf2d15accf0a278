//! From what a file says to rules that can be evaluated; everything that is wrong is noted.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use periplus_model::duration::parse_duration;
use periplus_model::{Labels, METRIC_NAME};
use periplus_promql::parse;
use serde_saphyr::Spanned;

use super::{FileDefaults, RULES_MAX, RawFile, RawGroup, RawRule, RuleError, Texts};
use crate::ruler::rule::{Group, Rule, Strategy};
use crate::ruler::template::Template;

pub(super) struct Reader<'a> {
    pub(super) path: &'a Path,
    pub(super) defaults: FileDefaults,
    pub(super) errors: Vec<RuleError>,
    pub(super) rules: usize,
}

type Place = (u64, u64);

fn place<T>(s: &Spanned<T>) -> Place {
    (s.referenced.line(), s.referenced.column())
}

/// A rule as messages name it.
struct Named<'a> {
    group: &'a str,
    number: usize,
    rule: &'a str,
}

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "group {:?}, rule {}, {:?}", self.group, self.number, self.rule)
    }
}

fn text(field: Option<&Spanned<String>>) -> &str {
    field.map_or("", |s| s.value.as_str())
}

impl Reader<'_> {
    fn fail(&mut self, (line, column): Place, problem: String, remedy: &str) {
        let remedy = remedy.to_owned();
        self.errors.push(RuleError { file: self.path.to_owned(), line, column, problem, remedy });
    }

    pub(super) fn file(&mut self, raw: RawFile) -> Vec<Group> {
        let mut names = BTreeSet::new();
        let mut out = Vec::new();
        for g in raw.groups.unwrap_or_default() {
            let at = g.value.name.as_ref().map_or(place(&g), place);
            let name = text(g.value.name.as_ref()).to_owned();
            if name.is_empty() {
                self.fail(at, "group without a name".to_owned(), "give it a field name");
            } else if !names.insert(name.clone()) {
                let problem = format!("group name {name:?} is used twice in this file");
                self.fail(at, problem, "give each group of a file its own name");
            }
            out.push(self.group(name, g.value));
        }
        out
    }

    fn group(&mut self, name: String, raw: RawGroup) -> Group {
        let what = format!("group {name:?}");
        let interval_ms = match self.duration(&what, "interval", raw.interval.as_ref()) {
            None | Some(0) => self.defaults.interval_ms,
            Some(ms) => ms,
        };
        let query_offset_ms = self.duration(&what, "query_offset", raw.query_offset.as_ref());
        // Prometheus takes a negative limit for none.
        let limit = raw.limit.as_ref().map_or(0, |l| usize::try_from(l.value).unwrap_or_default());
        let strategy = raw.partial_response_strategy.as_ref().and_then(|s| {
            match s.value.to_ascii_uppercase().as_str() {
                "ABORT" => Some(Strategy::Abort),
                "WARN" => Some(Strategy::Warn),
                "" => None,
                _ => {
                    let problem = format!("{what}, field partial_response_strategy: {:?}", s.value);
                    self.fail(place(s), problem, "write warn or abort");
                    None
                }
            }
        });
        self.label_names(&what, "label", &raw.labels);
        let shared = pairs(&raw.labels);
        let mut rules = Vec::new();
        for (i, r) in raw.rules.unwrap_or_default().into_iter().enumerate() {
            self.rules += 1;
            if self.rules > RULES_MAX {
                let problem = format!("more than {RULES_MAX} rules");
                self.fail(place(&r), problem, "divide the file");
                break;
            }
            if let Some(rule) = self.rule(&name, i + 1, &shared, &r) {
                rules.push(Arc::new(rule));
            }
        }
        let file = self.path.to_owned();
        Group { file, name, interval_ms, query_offset_ms, limit, strategy, rules }
    }

    fn duration(&mut self, what: &str, field: &str, s: Option<&Spanned<String>>) -> Option<i64> {
        let s = s?;
        match parse_duration(&s.value) {
            Ok(ms) => Some(ms),
            Err(e) => {
                let problem = format!("{what}, field {field}: {e}");
                self.fail(place(s), problem, "write it as 30s, 5m or 1h30m");
                None
            }
        }
    }

    /// Any text is a name but the empty one; a label can't be the metric's name.
    fn label_names(&mut self, what: &str, kind: &str, texts: &Texts) {
        for (name, value) in texts.iter().flatten() {
            if name.is_empty() || (kind == "label" && name == METRIC_NAME) {
                let problem = format!("{what}: invalid {kind} name: {name:?}");
                self.fail(place(value), problem, "choose another name");
            }
        }
    }

    fn rule(
        &mut self,
        group: &str,
        number: usize,
        shared: &[(String, String)],
        raw: &Spanned<RawRule>,
    ) -> Option<Rule> {
        let r = &raw.value;
        let (record, alert) = (text(r.record.as_ref()), text(r.alert.as_ref()));
        let what = Named { group, number, rule: if alert.is_empty() { record } else { alert } };
        let what = what.to_string();
        let at = r.alert.as_ref().or(r.record.as_ref()).map_or(place(raw), place);
        if record.is_empty() == alert.is_empty() {
            let (count, remedy) = match alert.is_empty() {
                true => ("neither record nor alert", "name one of the two"),
                false => ("both record and alert", "make two rules of it"),
            };
            self.fail(at, format!("{what}: {count}"), remedy);
        }
        let expr = self.expr(&what, at, r.expr.as_ref());
        let for_ms = self.duration(&what, "for", r.r#for.as_ref());
        let keep_ms = self.duration(&what, "keep_firing_for", r.keep_firing_for.as_ref());
        if !record.is_empty() {
            self.recording(&what, at, record, r, (for_ms, keep_ms));
        }
        self.label_names(&what, "label", &r.labels);
        self.label_names(&what, "annotation", &r.annotations);
        if !alert.is_empty() {
            self.templates(&what, alert, "label", &r.labels);
            self.templates(&what, alert, "annotation", &r.annotations);
        }
        let labels =
            Labels::from_pairs(shared.iter().cloned().chain(pairs(&r.labels)).collect::<Vec<_>>());
        let expr = (text(r.expr.as_ref()), expr?);
        Some(match alert.is_empty() {
            true => Rule::recording(record.to_owned(), expr, labels),
            false => {
                let times = (for_ms.unwrap_or(0), keep_ms.unwrap_or(0));
                Rule::alerting(alert.to_owned(), expr, labels, times, pairs(&r.annotations))
            }
        })
    }

    fn expr(
        &mut self,
        what: &str,
        at: Place,
        expr: Option<&Spanned<String>>,
    ) -> Option<parse::ast::Expr> {
        let Some(expr) = expr.filter(|e| !e.value.is_empty()) else {
            self.fail(at, format!("{what}: no field expr"), "write the expression to evaluate");
            return None;
        };
        match parse::parse(&expr.value) {
            Ok(parsed) => Some(parsed),
            Err(e) => {
                let problem = format!("{what}: could not parse expression: {e}");
                self.fail(place(expr), problem, "correct the expression");
                None
            }
        }
    }

    fn recording(
        &mut self,
        what: &str,
        at: Place,
        record: &str,
        r: &RawRule,
        (for_ms, keep_ms): (Option<i64>, Option<i64>),
    ) {
        let mut refuse = |field: &str| {
            let problem = format!("{what}: invalid field {field:?} in recording rule");
            self.fail(at, problem, "remove the field, or make it an alert");
        };
        if r.annotations.as_ref().is_some_and(|a| !a.is_empty()) {
            refuse("annotations");
        }
        if for_ms.is_some_and(|ms| ms != 0) {
            refuse("for");
        }
        if keep_ms.is_some_and(|ms| ms != 0) {
            refuse("keep_firing_for");
        }
        if record.contains(['{', '}']) {
            let problem = format!("{what}: braces present in the recording rule name");
            self.fail(at, problem, "should it be in expr?");
        }
    }

    fn templates(&mut self, what: &str, alert: &str, kind: &str, texts: &Texts) {
        for (name, value) in texts.iter().flatten() {
            if let Err(e) = Template::parse(alert, &value.value) {
                let problem = format!("{what}: {kind} {name:?}: {e}");
                self.fail(place(value), problem, "correct the template");
            }
        }
    }
}

fn pairs(texts: &Texts) -> Vec<(String, String)> {
    texts.iter().flatten().map(|(n, v)| (n.clone(), v.value.clone())).collect()
}
