//! The part of LogQL that is answered: a stream selector with line and label filters, counted or not.
//!
//! ```text
//! {cluster="a", reason=~"Back.*"} |= "restarting" != "test" |~ "x+" !~ "y" | name="web-0"
//! count_over_time({…} … [5m])   rate({…} … [5m])
//! sum by (reason) (…)   sum(…)   topk(10, …)   vector(1)+vector(1)
//! ```
//!
//! `| json`, `| logfmt` and `| drop __error__` do nothing: fields are labels here already. Anything else is refused by name. Length
//! and depth are bounded before anything recurses.

use periplus_model::{MatchOp, Matcher};

use super::labels;
use crate::store::{Field, Filter, Text};

/// The longest query.
pub const QUERY_BYTES_MAX: usize = 16 << 10;
/// The deepest nesting.
const DEPTH_MAX: usize = 16;

/// A query.
#[derive(Clone, Debug)]
pub enum Query {
    /// Lines.
    Logs(Box<Filter>),
    /// Counts.
    Metric(Metric),
    /// A number, whatever is there: how Grafana asks whether somebody is there.
    Number(f64),
}

/// A count over a range, aggregated.
#[derive(Clone, Debug)]
pub struct Metric {
    /// What is counted.
    pub filter: Filter,
    /// Within this time before each step, microseconds.
    pub range_us: i64,
    /// Divided by the range in seconds.
    pub rate: bool,
    /// The labels of the result; `None`: those of the stream.
    pub by: Option<Vec<String>>,
    /// Only so many of the largest.
    pub top: Option<usize>,
}

type Result<T> = std::result::Result<T, String>;

/// Reads a query; what it selects is added to `base`.
///
/// # Errors
/// What can't be read or is not supported, for people.
pub fn parse(text: &str, base: &Filter) -> Result<Query> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(format!("the query has more than {QUERY_BYTES_MAX} bytes"));
    }
    let mut p = Parser { rest: text, base };
    let query = p.query(0)?;
    p.space();
    match p.rest {
        "" => Ok(query),
        rest => Err(p.unexpected(rest)),
    }
}

struct Parser<'a> {
    rest: &'a str,
    base: &'a Filter,
}

impl<'a> Parser<'a> {
    fn space(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            if !self.rest.starts_with('#') {
                return;
            }
            self.rest = self.rest.find('\n').and_then(|at| self.rest.get(at..)).unwrap_or("");
        }
    }

    fn unexpected(&self, rest: &str) -> String {
        let near: String = rest.chars().take(30).collect();
        if near.is_empty() {
            return "the query ends too early".to_owned();
        }
        format!(
            "{near:?} is not understood; this is a subset of LogQL: a selector, line filters, \
                 label filters, count_over_time, rate, sum and topk"
        )
    }

    fn eat(&mut self, token: &str) -> bool {
        self.space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn want(&mut self, token: &str) -> Result<()> {
        if self.eat(token) { Ok(()) } else { Err(self.unexpected(self.rest)) }
    }

    fn word(&mut self) -> &'a str {
        self.space();
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn string(&mut self) -> Result<String> {
        self.space();
        if let Some(rest) = self.rest.strip_prefix('`') {
            let (text, rest) = rest.split_once('`').ok_or("a text in ` does not end")?;
            self.rest = rest;
            return Ok(text.to_owned());
        }
        let mut chars =
            self.rest.strip_prefix('"').ok_or_else(|| self.unexpected(self.rest))?.char_indices();
        let mut out = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = self.rest.get(at + 2..).unwrap_or("");
                    return Ok(out);
                }
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => out.push('\n'),
                    Some('t') => out.push('\t'),
                    Some(c @ ('"' | '\\')) => out.push(c),
                    // As Go would not: but `\.` in a pattern is what people mean.
                    Some(c) => out.extend(['\\', c]),
                    None => break,
                },
                c => out.push(c),
            }
        }
        Err("a text in quotes does not end".to_owned())
    }

    fn number(&mut self) -> Result<f64> {
        self.space();
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let end = self.rest.find(|c| !is_number(c)).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        let number = number.parse().map_err(|_| self.unexpected(self.rest))?;
        self.rest = rest;
        Ok(number)
    }

    fn query(&mut self, depth: usize) -> Result<Query> {
        self.space();
        if self.rest.starts_with('{') {
            return Ok(Query::Logs(Box::new(self.logs()?)));
        }
        if self.rest.starts_with("vector") || self.rest.starts_with(|c: char| c.is_ascii_digit()) {
            let mut sum = self.constant()?;
            while self.eat("+") {
                sum += self.constant()?;
            }
            return Ok(Query::Number(sum));
        }
        Ok(Query::Metric(self.metric(depth)?))
    }

    fn constant(&mut self) -> Result<f64> {
        if self.eat("vector") {
            self.want("(")?;
            let number = self.number()?;
            self.want(")")?;
            return Ok(number);
        }
        self.number()
    }

    fn metric(&mut self, depth: usize) -> Result<Metric> {
        if depth > DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} aggregations within each other"));
        }
        if self.eat("(") {
            let inner = self.metric(depth + 1)?;
            self.want(")")?;
            return Ok(inner);
        }
        let before = self.rest;
        match self.word() {
            name @ ("count_over_time" | "rate") => {
                self.want("(")?;
                let filter = self.logs()?;
                self.want("[")?;
                let (range, rest) =
                    self.rest.split_once(']').ok_or("a range does not end: write [5m]")?;
                self.rest = rest;
                self.want(")")?;
                let range_us = super::time::duration_us(range.trim())?;
                if range_us <= 0 {
                    return Err("a range must be longer than nothing".to_owned());
                }
                Ok(Metric { filter, range_us, rate: name == "rate", by: None, top: None })
            }
            "sum" => {
                let mut by = self.by()?;
                self.want("(")?;
                let inner = self.metric(depth + 1)?;
                self.want(")")?;
                if by.is_none() {
                    by = self.by()?;
                }
                if inner.top.is_some() {
                    return Err("sum(topk(…)) is not supported".to_owned());
                }
                let mut by = by.unwrap_or_default();
                if let Some(inside) = &inner.by {
                    by.retain(|name| inside.contains(name));
                }
                Ok(Metric { by: Some(by), ..inner })
            }
            "topk" => {
                self.want("(")?;
                let k = self.number()?;
                self.want(",")?;
                let inner = self.metric(depth + 1)?;
                self.want(")")?;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "bounded before"
                )]
                let k = k.clamp(0.0, 10_000.0) as usize;
                Ok(Metric { top: Some(inner.top.map_or(k, |t| t.min(k))), ..inner })
            }
            _ => Err(self.unexpected(before)),
        }
    }

    fn by(&mut self) -> Result<Option<Vec<String>>> {
        self.space();
        if self.rest.starts_with("without") {
            return Err(
                "without (…) is not supported; name the labels to keep with by (…)".to_owned()
            );
        }
        if !self.rest.starts_with("by") {
            return Ok(None);
        }
        let _by = self.word();
        self.want("(")?;
        let mut names = Vec::new();
        while !self.eat(")") {
            let name = self.word();
            if name.is_empty() || names.len() > 32 {
                return Err(self.unexpected(self.rest));
            }
            names.push(name.to_owned());
            let _more = self.eat(",");
        }
        Ok(Some(names))
    }

    fn op(&mut self) -> Result<MatchOp> {
        for (token, op) in [
            ("=~", MatchOp::Regex),
            ("!~", MatchOp::NotRegex),
            ("!=", MatchOp::NotEqual),
            ("==", MatchOp::Equal),
            ("=", MatchOp::Equal),
        ] {
            if self.eat(token) {
                return Ok(op);
            }
        }
        Err(self.unexpected(self.rest))
    }

    /// A matcher on a label, added to a filter.
    fn matcher(&mut self, filter: &mut Filter) -> Result<()> {
        let name = self.word();
        if name.is_empty() {
            return Err(self.unexpected(self.rest));
        }
        let op = self.op()?;
        let value = self.string()?;
        let matcher = Matcher::new(name, op, value.as_str()).map_err(|e| e.to_string())?;
        if filter.fields.len() > 100 {
            return Err("more than 100 matchers".to_owned());
        }
        add(filter, name, matcher);
        Ok(())
    }

    fn logs(&mut self) -> Result<Filter> {
        let mut filter = self.base.clone();
        self.want("{")?;
        while !self.eat("}") {
            self.matcher(&mut filter)?;
            if !self.eat(",") {
                self.want("}")?;
                break;
            }
        }
        loop {
            if filter.texts.len() > 100 {
                return Err("more than 100 line filters".to_owned());
            }
            if self.eat("|=") {
                filter.texts.push(Text::holds(&self.string()?, false, false)?);
            } else if self.eat("|~") {
                filter.texts.push(Text::matches(&self.string()?, false)?);
            } else if self.eat("!=") {
                filter.texts.push(Text::holds(&self.string()?, false, true)?);
            } else if self.eat("!~") {
                filter.texts.push(Text::matches(&self.string()?, true)?);
            } else if self.eat("|") {
                self.stage(&mut filter)?;
            } else {
                return Ok(filter);
            }
        }
    }

    fn stage(&mut self, filter: &mut Filter) -> Result<()> {
        let before = self.rest;
        match self.word() {
            "json" | "logfmt" => Ok(()),
            "drop" => {
                while !self.word().is_empty() && self.eat(",") {}
                Ok(())
            }
            name @ ("line_format" | "label_format" | "regexp" | "pattern" | "unpack" | "unwrap"
            | "decolorize" | "keep") => Err(format!(
                "{name} is not supported: this is a subset of LogQL, in which lines have their labels already"
            )),
            _ => {
                self.rest = before;
                self.matcher(filter)
            }
        }
    }
}

/// Adds a matcher; on a label that no row has it decides for all rows at once.
fn add(filter: &mut Filter, name: &str, matcher: Matcher) {
    if let Some(field) = Field::parse(name) {
        filter.fields.push((field, matcher));
        return;
    }
    let fits = match name {
        // Put on each stream, so that events are told from other logs.
        "source" => matcher.matches(labels::SOURCE),
        "level" | "detected_level" => {
            // A word for a type: turned into the types it stands for.
            let types = [("Warning", "warn"), ("Normal", "info")];
            let taken = types
                .iter()
                .filter(|(_, level)| matcher.matches(level))
                .map(|(t, _)| (*t).to_owned());
            let taken: Vec<String> = taken.collect();
            if !taken.is_empty() {
                // Two short words always make a matcher.
                let _fits = filter.one_of(Field::Type, &taken);
            }
            !taken.is_empty()
        }
        _ => matcher.matches_empty(),
    };
    if !fits {
        // Nothing is before the beginning of time.
        filter.to_us = i64::MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    fn logs(text: &str) -> Filter {
        match parse(text, &Filter::default()) {
            Ok(Query::Logs(filter)) => *filter,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn event() -> Event {
        Event {
            cluster: "a".into(),
            namespace: "shop".into(),
            name: "web-0".into(),
            reason: "BackOff".into(),
            type_: "Warning".into(),
            message: "Back-off restarting \"app\"".into(),
            ..Event::default()
        }
    }

    #[test]
    fn selectors_and_filters() {
        for (text, want) in [
            (r#"{cluster="a"}"#, true),
            (r#"{cluster="b"}"#, false),
            (r#"{}"#, true),
            (r#"{source="kubernetes-events", reason=~"Back.*",}"#, true),
            (r#"{source="nginx"}"#, false),
            (r#"{unknown="x"}"#, false),
            (r#"{unknown!="x"}"#, true),
            (r#"{level="warn"}"#, true),
            (r#"{level="info"}"#, false),
            (r#"{cluster="a"} |= "restarting""#, true),
            (r#"{cluster="a"} |= "Restarting""#, false),
            (r#"{cluster="a"} |= `"app"` != "xyz" |~ "(?i)BACK" !~ "^x""#, true),
            (r#"{cluster="a"} |= "\"app\"" | json | name="web-0" | drop __error__"#, true),
            (r#"{cluster="a"} | logfmt | name="web-1""#, false),
            ("{cluster=\"a\"} # words\n|= \"Back\"", true),
        ] {
            assert_eq!(logs(text).selects(1, &event()), want, "{text}");
        }
    }

    #[test]
    fn metrics() {
        let metric = |text: &str| match parse(text, &Filter::default()) {
            Ok(Query::Metric(m)) => m,
            other => panic!("{text}: {other:?}"),
        };
        let m = metric(r#"topk(3, sum by (reason, level) (rate({cluster="a"} |= "x" [5m])))"#);
        assert_eq!((m.range_us, m.rate, m.top), (300_000_000, true, Some(3)));
        assert_eq!(m.by.unwrap(), ["reason", "level"]);
        let m = metric(r#"sum(count_over_time({cluster="a"}[1h])) by (namespace)"#);
        assert_eq!((m.by.unwrap(), m.rate), (vec!["namespace".to_owned()], false));
        assert_eq!(metric(r#"count_over_time({a!="b"}[1m])"#).by, None);
        assert!(matches!(parse("vector(1)+vector(1)", &Filter::default()), Ok(Query::Number(2.0))));
    }

    #[test]
    fn the_rest_is_refused_by_name_and_nothing_panics() {
        let deep = format!("{}{{}}", "sum(".repeat(5_000));
        let parens = "(".repeat(10_000);
        for text in [
            "",
            "{",
            "{a",
            "{a=",
            "{a=\"",
            "{a=\"x\"",
            "}",
            "x",
            "{} |",
            "{} |= x",
            "{} | line_format \"x\"",
            "rate({})",
            "rate({}[5x])",
            "rate({}[0s])",
            "rate({}[",
            "sum without (a) (rate({}[5m]))",
            "avg(rate({}[5m]))",
            "{a=~\"(\"}",
            "{} |~ \"(\"",
            "{} é",
            "sum by (é)",
            "quantile_over_time(1,{}[5m])",
            &deep,
            &parens,
        ] {
            assert!(parse(text, &Filter::default()).is_err(), "{text}");
        }
    }
}
