//! `eval`: a query, when to evaluate it, and what it must give.

use periplus_model::Labels;
use periplus_model::float::parse_go_float;
use regex::Regex;

use super::items::Item;
use super::series;
use super::syntax::{duration, split_word};
use crate::value::StepGrid;

/// An `eval` block.
#[derive(Clone, Debug)]
pub(super) struct Eval {
    /// Line of the command, from 1.
    pub(super) line: usize,
    /// The query's text.
    pub(super) query: String,
    /// When to evaluate it.
    pub(super) grid: StepGrid,
    /// Whether it is an instant query.
    pub(super) instant: bool,
    /// Whether the order of results matters.
    pub(super) ordered: bool,
    /// That it fails, and what the error must say.
    pub(super) fail: Option<TextMatch>,
    /// What warnings and infos there must be.
    pub(super) warnings: Expectation,
    /// See `warnings`.
    pub(super) infos: Expectation,
    /// The times of an expected range vector.
    pub(super) range_vector: Option<StepGrid>,
    /// What it must give.
    pub(super) expected: Expected,
}

/// What a query must give.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    /// A scalar.
    Scalar(f64),
    /// A string.
    String(String),
    /// Series; none is an empty result. Of series written twice the last counts.
    Series(Vec<ExpectedSeries>),
}

/// A series of an expected result.
#[derive(Clone, Debug)]
pub(super) struct ExpectedSeries {
    pub(super) labels: Labels,
    pub(super) items: Vec<Item>,
    /// Its place in the result, from 1, where the order matters.
    pub(super) position: usize,
}

/// What annotations of a kind there must be.
#[derive(Clone, Debug)]
pub(super) enum Expectation {
    /// Anything.
    Anything,
    /// None at all.
    Nothing,
    /// At least one, whatever it says.
    Something,
    /// Each of these must match one, and each must be matched by one of these.
    These(Vec<TextMatch>),
}

/// What a text must be.
#[derive(Clone, Debug)]
pub(super) enum TextMatch {
    /// Anything.
    Any,
    /// Exactly this.
    Exactly(String),
    /// Something this matches, anywhere.
    Pattern(Regex),
}

impl TextMatch {
    /// Whether the text is as expected.
    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(want) => want == text,
            Self::Pattern(re) => re.is_match(text),
        }
    }

    /// For a report.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Any => "anything".to_owned(),
            Self::Exactly(want) => want.clone(),
            Self::Pattern(re) => format!("something matching {re}"),
        }
    }
}

/// Reads an `eval`; `kind` is what is glued to the word (`_fail`), `block` what follows until the next
/// empty line. Gives also how many lines of the block were used: a scalar ends it early.
///
/// # Errors
/// The line and what is wrong with it.
pub(super) fn parse(
    line: usize,
    kind: &str,
    arguments: &str,
    block: &[(usize, &str)],
) -> Result<(Eval, usize), (usize, String)> {
    let (grid, instant, query) = head(arguments).map_err(|e| (line, e))?;
    let mut eval = Eval {
        line,
        query: query.to_owned(),
        grid,
        instant,
        ordered: kind == "_ordered",
        fail: (kind == "_fail").then_some(TextMatch::Any),
        warnings: Expectation::Anything,
        infos: Expectation::Anything,
        range_vector: None,
        expected: Expected::Series(Vec::new()),
    };
    match kind {
        "" | "_ordered" | "_fail" => {}
        "_warn" => eval.warnings = Expectation::Something,
        "_info" => eval.infos = Expectation::Something,
        _ => return Err((line, format!("unknown command eval{kind}"))),
    }
    let mut position = 0;
    for (used, (number, text)) in block.iter().enumerate() {
        if eval.line_behind(text, &mut position).map_err(|e| (*number, e))? {
            return Ok((eval, used + 1));
        }
    }
    Ok((eval, block.len()))
}

/// `instant at T QUERY` or `range from A to B step S QUERY`.
fn head(text: &str) -> Result<(StepGrid, bool, &str), String> {
    let (kind, rest) = split_word(text);
    let (grid, query) = match kind {
        "instant" => {
            let (t, query) = argument("at", rest)?;
            (StepGrid::instant(t), query)
        }
        "range" => grid(rest)?,
        _ => return Err(USAGE.to_owned()),
    };
    if query.is_empty() {
        return Err(USAGE.to_owned());
    }
    Ok((grid, kind == "instant", query))
}

const USAGE: &str = "expected eval instant at T QUERY or eval range from A to B step S QUERY";

/// `WORD DURATION`, and what follows.
fn argument<'a>(word: &str, rest: &'a str) -> Result<(i64, &'a str), String> {
    let (found, rest) = split_word(rest);
    let (value, rest) = split_word(rest);
    if found != word {
        return Err(format!("expected {word} DURATION instead of {found:?}"));
    }
    Ok((duration(value).map_err(|e| format!("{word} {e}"))?, rest))
}

/// `from A to B step S`, and what follows.
fn grid(rest: &str) -> Result<(StepGrid, &str), String> {
    let (start_ms, rest) = argument("from", rest)?;
    let (end_ms, rest) = argument("to", rest)?;
    let (step_ms, rest) = argument("step", rest)?;
    if end_ms < start_ms {
        return Err("the end lies before the start".to_owned());
    }
    Ok((StepGrid { start_ms, end_ms, step_ms }, rest))
}

impl Eval {
    /// Takes in a line of the block; true when it ends the block.
    fn line_behind(&mut self, text: &str, position: &mut usize) -> Result<bool, String> {
        if self.fail.is_some() {
            if let Some(message) = text.strip_prefix("expected_fail_message") {
                self.fail = Some(TextMatch::Exactly(message.trim().to_owned()));
                return Ok(true);
            }
            if let Some(pattern) = text.strip_prefix("expected_fail_regexp") {
                self.fail = Some(TextMatch::Pattern(regex(pattern)?));
                return Ok(true);
            }
        }
        if let ("expect", rest) = split_word(text) {
            self.expectation(rest)?;
            return Ok(false);
        }
        if let Some(v) = scalar(text) {
            self.expected = Expected::Scalar(v);
            return Ok(true);
        }
        let (labels, items) = series::parse(text)?;
        if items.is_empty() {
            return Err(format!("no value is expected for {labels:?}"));
        }
        if self.instant && items.len() > 1 && self.range_vector.is_none() {
            return Err("an instant evaluation has one value a series; for a range vector put \
                        \"expect range vector from A to B step S\" before"
                .to_owned());
        }
        *position += 1;
        let found = ExpectedSeries { labels, items, position: *position };
        match &mut self.expected {
            Expected::Series(list) => {
                list.retain(|s| s.labels != found.labels);
                list.push(found);
            }
            other => *other = Expected::Series(vec![found]),
        }
        Ok(false)
    }

    /// `expect …`.
    fn expectation(&mut self, text: &str) -> Result<(), String> {
        let (kind, rest) = split_word(text);
        match kind {
            "range" => {
                let (vector, rest) = split_word(rest);
                let (grid, rest) = grid(rest)?;
                if vector != "vector" || !rest.is_empty() {
                    return Err("expected expect range vector from A to B step S".to_owned());
                }
                self.range_vector = Some(grid);
                return Ok(());
            }
            "string" => {
                self.expected = Expected::String(unquote(rest)?);
                return Ok(());
            }
            _ => {}
        }
        let matcher = text_match(rest)?;
        match kind {
            "ordered" => self.ordered = true,
            "fail" => self.fail = Some(matcher),
            "warn" => add(&mut self.warnings, matcher, "warn")?,
            "info" => add(&mut self.infos, matcher, "info")?,
            "no_warn" => nothing(&mut self.warnings, "warn")?,
            "no_info" => nothing(&mut self.infos, "info")?,
            _ => {
                return Err(format!(
                    "unknown expectation {kind:?}, expected ordered, fail, warn, no_warn, info, \
                     no_info, range vector or string"
                ));
            }
        }
        Ok(())
    }
}

fn add(to: &mut Expectation, matcher: TextMatch, kind: &str) -> Result<(), String> {
    match to {
        Expectation::These(list) => list.push(matcher),
        Expectation::Nothing => {
            return Err(format!("{kind} and no_{kind} can't both be expected"));
        }
        Expectation::Anything | Expectation::Something => *to = Expectation::These(vec![matcher]),
    }
    Ok(())
}

fn nothing(to: &mut Expectation, kind: &str) -> Result<(), String> {
    if matches!(to, Expectation::These(_)) {
        return Err(format!("{kind} and no_{kind} can't both be expected"));
    }
    *to = Expectation::Nothing;
    Ok(())
}

/// `msg: text`, `regex: pattern` or nothing.
fn text_match(text: &str) -> Result<TextMatch, String> {
    if text.is_empty() {
        return Ok(TextMatch::Any);
    }
    match text.split_once(':') {
        Some(("msg", message)) => Ok(TextMatch::Exactly(message.trim().to_owned())),
        Some(("regex", pattern)) => Ok(TextMatch::Pattern(regex(pattern)?)),
        _ => Err(format!("expected msg: TEXT or regex: PATTERN at {text:?}")),
    }
}

fn regex(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern.trim()).map_err(|e| e.to_string())
}

/// A bare number, also in hexadecimal, octal or binary.
fn scalar(text: &str) -> Option<f64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let integer = |prefixes: [&str; 2], radix| {
        let rest = prefixes.iter().find_map(|p| digits.strip_prefix(p))?;
        i64::from_str_radix(rest, radix).ok().filter(|v| *v >= 0)
    };
    let whole = integer(["0x", "0X"], 16)
        .or_else(|| integer(["0b", "0B"], 2))
        .or_else(|| integer(["0o", "0O"], 8));
    if let Some(v) = whole {
        return Some(if negative { -(v as f64) } else { v as f64 });
    }
    parse_go_float(text).ok()
}

fn unquote(text: &str) -> Result<String, String> {
    let usage = || format!("expected a quoted string at {text:?}");
    if let Some(raw) = text.strip_prefix('`').and_then(|t| t.strip_suffix('`')) {
        return Ok(raw.to_owned());
    }
    match crate::parse::parse(text) {
        Ok(crate::parse::ast::Expr::String(s)) => String::from_utf8(s.value).map_err(|_| usage()),
        _ => Err(usage()),
    }
}
