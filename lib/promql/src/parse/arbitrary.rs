//! Random queries, for tests: of the parser, and of whatever answers queries.
//!
//! A [`Generator`] writes query texts by the grammar and its types, so that every one of them is
//! accepted. It draws from a seed only: the same seed, vocabulary and size give the same query.
//! There is no dependency on a property-testing crate; with one, let it choose seed and size, and
//! shrinking the size shrinks the query.

use periplus_model::float::Quoted;

use super::ast::ValueType;
use super::functions::{FUNCTIONS, Function};

/// The words a query is made of.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    /// Names of metrics.
    pub metrics: Vec<String>,
    /// Names of labels and values they have.
    pub labels: Vec<(String, Vec<String>)>,
    /// Durations for ranges and offsets, as PromQL writes them.
    pub durations: Vec<String>,
    /// Steps of subqueries.
    pub steps: Vec<String>,
    /// Times for `@`, in seconds.
    pub timestamps: Vec<i64>,
    /// Functions that may be called; names that do not exist are passed over.
    pub functions: Vec<String>,
    /// Whether to use what Prometheus guards with a flag besides functions: duration expressions,
    /// `anchored` and `smoothed`, `fill`, trimming operators, `limitk` and `limit_ratio`.
    pub experimental: bool,
    /// Whether to vary what means the same: spaces, comments, case of keywords, forms of numbers.
    pub disguise: bool,
}

impl Default for Vocabulary {
    /// All functions, everything experimental, some metrics and labels.
    fn default() -> Self {
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let labels = [
            ("job", &["api", "db"][..]),
            ("pod", &["a-0", "a-1", "\u{e9}\n\"\\"]),
            ("le", &["0.5", "+Inf"]),
            ("by", &[""]),
            ("dotted.name", &["x"]),
        ];
        Self {
            metrics: words(&["up", "http_requests_total", "rule:sum:rate5m", "sum", "offset"]),
            labels: labels.iter().map(|(name, v)| ((*name).to_owned(), words(v))).collect(),
            durations: words(&["30s", "5m", "1h30m", "2d", "90", "1w", "250ms"]),
            steps: words(&["30s", "1m", "7s"]),
            timestamps: vec![0, 1_700_000_000, -5],
            functions: FUNCTIONS.iter().map(|f| f.name.to_owned()).collect(),
            experimental: true,
            disguise: true,
        }
    }
}

/// Writes random queries.
#[derive(Debug, Clone)]
pub struct Generator<'v> {
    words: &'v Vocabulary,
    state: u64,
    out: String,
}

impl<'v> Generator<'v> {
    /// A generator whose queries depend on `seed` alone.
    #[must_use]
    pub const fn new(words: &'v Vocabulary, seed: u64) -> Self {
        Self { words, state: seed, out: String::new() }
    }

    /// A query of the given type with about `size` nodes.
    pub fn query(&mut self, value_type: ValueType, size: usize) -> String {
        self.out.clear();
        self.expr(value_type, size);
        std::mem::take(&mut self.out)
    }

    /// A number below `bound`; 0 when the bound is 0. SplitMix64.
    pub fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bound = bound as u64;
        (z ^ (z >> 31)).checked_rem(bound).unwrap_or(0) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = self.below(from.len());
        from.get(at)
    }

    fn word(&mut self, from: &[String], otherwise: &str) -> String {
        self.pick(from).map_or_else(|| otherwise.to_owned(), Clone::clone)
    }

    fn push(&mut self, text: &str) {
        self.out.push_str(text);
    }

    /// A space, or what means the same.
    fn space(&mut self) {
        let varied = [" ", "  ", "\n", "\t", " # why\n"];
        let vary = self.words.disguise && self.one_in(4);
        let space = if vary { self.pick(&varied).copied().unwrap_or(" ") } else { " " };
        self.push(space);
    }

    fn keyword(&mut self, word: &str) {
        if self.words.disguise && self.one_in(6) {
            self.out.push_str(&word.to_uppercase());
        } else {
            self.push(word);
        }
    }

    fn expr(&mut self, value_type: ValueType, size: usize) {
        match value_type {
            ValueType::Scalar => self.scalar(size),
            ValueType::Vector | ValueType::None => self.vector(size),
            ValueType::Matrix => self.matrix(size),
            ValueType::String => self.string(),
        }
    }

    fn string(&mut self) {
        let strings = ["\"a\"", "'it''s'", "`raw \\d`", "\"\\u00e9\\xff\\n\"", "'q=\"'", "\"$1\""];
        let quoted = self.pick(&strings).copied().unwrap_or("\"\"");
        // Two quotes in a row would end the string.
        let quoted = quoted.replace("''", "\\'");
        self.push(&quoted);
    }

    fn number(&mut self) {
        let plain = ["0", "1", "2", "0.5", "10", "100"];
        let disguised = ["1e3", "0x1F", "1_000", ".25", "NaN", "5m", "017", "1e-300"];
        let disguise = self.words.disguise && self.one_in(3);
        let number = if disguise { self.pick(&disguised) } else { self.pick(&plain) };
        let number = number.copied().unwrap_or("1");
        self.push(number);
    }

    fn scalar(&mut self, size: usize) {
        if size < 2 || self.one_in(5) {
            return self.number();
        }
        match self.below(5) {
            0 => self.parens(ValueType::Scalar, size),
            1 => {
                self.sign();
                self.operand(ValueType::Scalar, size - 1);
            }
            2 | 3 => {
                let op = self.pick(&["+", "-", "*", "/", "%", "^", "atan2", "== bool", ">= bool"]);
                let op = op.copied().unwrap_or("+");
                self.binary(ValueType::Scalar, op, ValueType::Scalar, size);
            }
            _ => self.call(ValueType::Scalar, size),
        }
    }

    fn sign(&mut self) {
        let sign = if self.one_in(3) { "+" } else { "-" };
        self.push(sign);
    }

    fn vector(&mut self, size: usize) {
        if size < 2 || self.one_in(8) {
            return self.selector(false);
        }
        match self.below(10) {
            0 => self.parens(ValueType::Vector, size),
            1 => {
                self.sign();
                self.operand(ValueType::Vector, size - 1);
            }
            2..=4 => self.aggregation(size),
            5 | 6 => self.call(ValueType::Vector, size),
            7 => {
                let ops = ["+", "*", "-", "/", "> ", "== bool", "<=", "!=", "^", "%"];
                let op = self.pick(&ops).copied().unwrap_or("+");
                if self.one_in(2) {
                    self.binary(ValueType::Vector, op, ValueType::Scalar, size);
                } else {
                    self.binary(ValueType::Scalar, op, ValueType::Vector, size);
                }
            }
            8 => self.chain(size),
            _ => self.joined(size),
        }
    }

    fn parens(&mut self, value_type: ValueType, size: usize) {
        self.push("(");
        self.expr(value_type, size - 1);
        self.push(")");
    }

    /// Something that an operator can stand beside, whatever its precedence.
    fn operand(&mut self, value_type: ValueType, size: usize) {
        match (value_type, self.below(3)) {
            (ValueType::Vector, 0) => self.selector(false),
            (ValueType::Vector, 1) if size > 1 => self.call(ValueType::Vector, size),
            (ValueType::Scalar, 0) => self.number(),
            _ => self.parens(value_type, size.max(1)),
        }
    }

    /// Selectors between operators of all precedences: vectors, however they associate.
    fn chain(&mut self, size: usize) {
        self.selector(false);
        for _ in 0..size / 2 {
            let ops =
                ["+", "-", "*", "/", "%", "^", "atan2", "and", "or", "unless", "==", "> bool"];
            let op = self.pick(&ops).copied().unwrap_or("+");
            self.space();
            self.keyword(op);
            self.space();
            self.selector(false);
        }
    }

    fn binary(&mut self, left: ValueType, op: &str, right: ValueType, size: usize) {
        self.operand(left, size / 2);
        self.space();
        self.keyword(op);
        self.space();
        self.operand(right, size / 2);
    }

    /// Two vectors, and how they match.
    fn joined(&mut self, size: usize) {
        self.operand(ValueType::Vector, size / 2);
        self.space();
        let set = self.one_in(3);
        let sets = ["and", "or", "unless"];
        let others = ["+", "-", "*", "/", "> bool", "==", "atan2", "</", ">/"];
        let usable = if self.words.experimental { others.len() } else { others.len() - 2 };
        let op = match set {
            true => self.pick(&sets),
            false => self.pick(others.get(..usable).unwrap_or(&[])),
        };
        let op = op.copied().unwrap_or("or");
        self.keyword(op);
        self.space();
        if self.one_in(2) {
            let on = if self.one_in(2) { "on" } else { "ignoring" };
            self.keyword(on);
            // Labels in `on` must not be asked for again.
            let (matched, included) = if self.one_in(2) { (0..2, 2..4) } else { (1..3, 3..5) };
            self.label_list(matched);
            if !set && self.one_in(2) {
                let group = if self.one_in(2) { "group_left" } else { "group_right" };
                self.keyword(group);
                self.label_list(included);
            }
        }
        if !set && self.words.experimental && self.one_in(4) {
            let fills = ["fill(0)", "fill_left (-1)", "fill_right(5) fill_left(2.5)", "fill (NaN)"];
            let fill = self.pick(&fills).copied().unwrap_or("");
            self.push(fill);
            self.space();
        }
        self.operand(ValueType::Vector, size / 2);
    }

    fn label_list(&mut self, among: std::ops::Range<usize>) {
        let words = self.words;
        self.push(" (");
        let some = words.labels.get(among.start..among.end.min(words.labels.len()));
        for (i, (name, _)) in some.unwrap_or(&[]).iter().enumerate() {
            self.push(if i > 0 { ", " } else { "" });
            self.label(name);
        }
        self.push(") ");
    }

    fn label(&mut self, name: &str) {
        let plain = name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric());
        if plain { self.push(name) } else { self.push(&format!("{name:?}")) }
    }

    fn aggregation(&mut self, size: usize) {
        let ops = [
            ("sum", ""),
            ("avg", ""),
            ("count", ""),
            ("min", ""),
            ("max", ""),
            ("group", ""),
            ("stddev", ""),
            ("stdvar", ""),
            ("topk", "2, "),
            ("bottomk", "1, "),
            ("quantile", "0.9, "),
            ("count_values", "\"v\", "),
            ("limitk", "2, "),
            ("limit_ratio", "-0.5, "),
        ];
        let usable = if self.words.experimental { ops.len() } else { ops.len() - 2 };
        let (op, param) =
            self.pick(ops.get(..usable).unwrap_or(&[])).copied().unwrap_or(("sum", ""));
        let modifier = self.pick(&["", " by", " without"]).copied().unwrap_or("");
        let among = if self.one_in(2) { 0..1 } else { 1..3 };
        let before = self.one_in(2);
        self.keyword(op);
        if before && !modifier.is_empty() {
            self.keyword(modifier);
            self.label_list(among.clone());
        }
        self.push("(");
        self.push(param);
        self.vector(size - 1);
        self.push(")");
        if !before && !modifier.is_empty() {
            self.keyword(modifier);
            self.label_list(among);
        }
    }

    fn call(&mut self, returns: ValueType, size: usize) {
        let names = &self.words.functions;
        let known = |name: &String| super::functions::lookup(name);
        let usable: Vec<&Function> =
            names.iter().filter_map(known).filter(|f| f.returns == returns).collect();
        let Some(func) = self.pick(&usable).copied() else {
            return self.expr(returns, 0);
        };
        let optional = usize::from(func.variadic != 0 && self.one_in(2));
        let count = func.args.len().saturating_sub(optional);
        self.push(func.name);
        self.push("(");
        for (i, arg) in func.args.iter().take(count).enumerate() {
            if i > 0 {
                self.push(",");
                self.space();
            }
            if func.name == "info" && i == 1 {
                self.push("{job=~\".+\"}");
            } else {
                self.expr(*arg, (size - 1) / count);
            }
        }
        self.push(")");
    }

    fn matrix(&mut self, size: usize) {
        if size < 3 || self.one_in(2) {
            return self.selector(true);
        }
        self.push("(");
        self.vector(size - 1);
        self.push(")[");
        self.range();
        self.push(":");
        if self.one_in(2) {
            let words = self.words;
            let step = self.word(&words.steps, "1m");
            self.push(&step);
        }
        self.push("]");
        self.shift(false);
    }

    /// A range or, rarely, an expression for one.
    fn range(&mut self) {
        let words = self.words;
        let duration = self.word(&words.durations, "5m");
        let computed = [" + step()", " * 2", " - -30s", " % (7 ^ 2)"];
        match words.experimental && self.one_in(8) {
            true if self.one_in(3) => self.push(&format!("max_of(step(), -({duration}))")),
            true => {
                let rest = self.pick(&computed).copied().unwrap_or("");
                self.push(&format!("{duration}{rest}"));
            }
            false => self.push(&duration),
        }
    }

    fn selector(&mut self, ranged: bool) {
        let words = self.words;
        let named = !self.one_in(8);
        if named {
            let name = self.word(&words.metrics, "up");
            self.push(&name);
        }
        if !named || self.one_in(2) {
            self.push("{");
            if !named {
                self.push("__name__=~\"h.+\",");
            }
            if let Some((name, values)) = self.pick(&words.labels) {
                let value = self.word(values, "x");
                let op = self.pick(&["=", "!=", "=~", "!~"]).copied().unwrap_or("=");
                self.label(name);
                self.push(op);
                let value = if op.ends_with('~') { value.replace(['\\', '+'], ".") } else { value };
                self.push(&Quoted(&value).to_string());
            }
            self.push("}");
        }
        if ranged {
            self.push("[");
            self.range();
            self.push("]");
        }
        self.shift(true);
    }

    /// `@` and `offset`, in any order; on selectors also the extended ranges.
    fn shift(&mut self, selector: bool) {
        let words = self.words;
        let offset_first = self.one_in(2);
        for part in [offset_first, !offset_first] {
            if part && self.one_in(6) {
                self.push(" offset ");
                let sign = if self.one_in(3) { "-" } else { "" };
                self.push(sign);
                let duration = self.word(&words.durations, "5m");
                self.push(&duration);
            } else if !part && self.one_in(8) {
                let at = match self.below(3) {
                    0 => "start()".to_owned(),
                    1 => "end()".to_owned(),
                    _ => self.pick(&words.timestamps).map_or("0".to_owned(), i64::to_string),
                };
                self.push(&format!(" @ {at}"));
            }
        }
        if selector && words.experimental && self.one_in(12) {
            let word = if self.one_in(2) { " anchored" } else { " smoothed" };
            self.push(word);
        }
    }
}
