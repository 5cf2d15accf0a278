//! From tokens to the tree, by Go's grammar and with its error texts.

use std::collections::BTreeMap;

use periplus_model::float::parse_go_float;

use super::lex::{Kind, Token, lex};
use super::node::{Arg, Branch, Command, List, Node, Number, Operand, Pipe};
use super::{NESTING_MAX, functions, quoted};

/// The templates of one text: the outer one under `name`, defined ones under theirs.
pub(super) type Set = BTreeMap<String, List>;

/// Reads a template.
///
/// # Errors
/// Go's words for what is wrong.
pub(super) fn parse(name: &str, text: &str) -> Result<Set, String> {
    let mut p = Parser {
        name,
        tokens: lex(text),
        at: 0,
        line: 1,
        vars: vec!["$".to_owned()],
        set: Set::new(),
        ranges: 0,
        depth: 0,
    };
    let root = p.top()?;
    p.add(name, root)?;
    Ok(p.set)
}

struct Parser<'a> {
    name: &'a str,
    tokens: Vec<Token>,
    at: usize,
    line: usize,
    vars: Vec<String>,
    set: Set,
    ranges: usize,
    depth: usize,
}

/// What a list ended with.
enum Stop {
    End,
    /// `{{else`, where what follows is left to read.
    Else,
}

enum Step {
    Node(Node),
    Stop(Stop),
}

type Parsed<T> = Result<T, String>;

impl Parser<'_> {
    fn fail<T>(&self, what: impl AsRef<str>) -> Parsed<T> {
        Err(format!("template: {}:{}: {}", self.name, self.line, what.as_ref()))
    }

    fn peek(&self) -> Token {
        let end = || Token { kind: Kind::Eof, pos: 0, line: self.line, text: String::new() };
        self.tokens.get(self.at).or(self.tokens.last()).cloned().unwrap_or_else(end)
    }

    fn next(&mut self) -> Token {
        let t = self.peek();
        self.line = t.line;
        self.at = (self.at + 1).min(self.tokens.len());
        t
    }

    fn skip_space(&mut self) {
        while self.tokens.get(self.at).is_some_and(|t| t.kind == Kind::Space) {
            self.at += 1;
        }
    }

    fn next_solid(&mut self) -> Token {
        self.skip_space();
        self.next()
    }

    fn peek_solid(&mut self) -> Token {
        self.skip_space();
        let t = self.peek();
        self.line = t.line;
        t
    }

    fn unexpected<T>(&self, t: &Token, context: &str) -> Parsed<T> {
        match t.kind {
            Kind::Error => self.fail(&t.text),
            _ => self.fail(format!("unexpected {} in {context}", t.shown())),
        }
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Parsed<Token> {
        let t = self.next_solid();
        if t.kind == kind { Ok(t) } else { self.unexpected(&t, context) }
    }

    fn enter(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return self.fail("max expression depth exceeded");
        }
        Ok(())
    }

    fn add(&mut self, name: &str, list: List) -> Parsed<()> {
        let empty =
            |l: &List| l.nodes.iter().all(|n| matches!(n, Node::Text(t) if t.trim().is_empty()));
        match self.set.get(name) {
            Some(old) if !empty(old) => {
                if !empty(&list) {
                    let text =
                        format!("template: multiple definition of template {}", quoted(name));
                    return self.fail(text);
                }
            }
            _ => _ = self.set.insert(name.to_owned(), list),
        }
        Ok(())
    }

    fn top(&mut self) -> Parsed<List> {
        let mut list = List::default();
        loop {
            let t = self.peek();
            if t.kind == Kind::Eof {
                return Ok(list);
            }
            if t.kind == Kind::LeftDelim {
                let before = self.at;
                self.next();
                if self.next_solid().is_keyword("define") {
                    self.definition()?;
                    continue;
                }
                self.at = before;
            }
            match self.text_or_action()? {
                Step::Node(n) => list.nodes.push(n),
                Step::Stop(Stop::End) => return self.fail("unexpected {{end}}"),
                Step::Stop(Stop::Else) => return self.fail("unexpected {{else}}"),
            }
        }
    }

    fn template_name(&mut self, context: &str) -> Parsed<(usize, String)> {
        let t = self.next_solid();
        match t.kind {
            Kind::String | Kind::RawString => match unquote(&t.text) {
                Some(s) => Ok((t.pos, s)),
                None => self.fail("invalid syntax"),
            },
            _ => self.unexpected(&t, context),
        }
    }

    fn definition(&mut self) -> Parsed<()> {
        let (_, name) = self.template_name("define clause")?;
        self.expect(Kind::RightDelim, "define clause")?;
        let body = self.apart("define clause")?;
        self.add(&name, body)
    }

    /// The body of a template of its own: variables outside are not seen.
    fn apart(&mut self, context: &str) -> Parsed<List> {
        let vars = std::mem::replace(&mut self.vars, vec!["$".to_owned()]);
        let ranges = std::mem::take(&mut self.ranges);
        let (list, stop) = self.list()?;
        if matches!(stop, Stop::Else) {
            return self.fail(format!("unexpected {{{{else}}}} in {context}"));
        }
        (self.vars, self.ranges) = (vars, ranges);
        Ok(list)
    }

    fn list(&mut self) -> Parsed<(List, Stop)> {
        self.enter()?;
        let mut list = List::default();
        while self.peek_solid().kind != Kind::Eof {
            match self.text_or_action()? {
                Step::Node(n) => list.nodes.push(n),
                Step::Stop(stop) => {
                    self.depth -= 1;
                    return Ok((list, stop));
                }
            }
        }
        self.fail("unexpected EOF")
    }

    fn text_or_action(&mut self) -> Parsed<Step> {
        let t = self.next_solid();
        match t.kind {
            Kind::Text => Ok(Step::Node(Node::Text(t.text))),
            Kind::LeftDelim => self.action(),
            _ => self.unexpected(&t, "input"),
        }
    }

    fn action(&mut self) -> Parsed<Step> {
        let t = self.peek_solid();
        if t.kind != Kind::Keyword {
            let pipe = self.pipeline("command", Kind::RightDelim)?;
            return Ok(Step::Node(Node::Action { pos: t.pos, pipe }));
        }
        self.next();
        match t.text.as_str() {
            "block" => self.block(),
            word @ ("break" | "continue") => self.leave_range(word),
            "else" => {
                let p = self.peek_solid();
                if !p.is_keyword("if") && !p.is_keyword("with") {
                    self.expect(Kind::RightDelim, "else")?;
                }
                Ok(Step::Stop(Stop::Else))
            }
            "end" => {
                self.expect(Kind::RightDelim, "end")?;
                Ok(Step::Stop(Stop::End))
            }
            "if" => self.control("if").map(Step::Node),
            "range" => self.control("range").map(Step::Node),
            "with" => self.control("with").map(Step::Node),
            "template" => {
                let (pos, name) = self.template_name("template clause")?;
                let pipe = match self.peek_solid().kind {
                    Kind::RightDelim => {
                        self.next();
                        None
                    }
                    _ => Some(self.pipeline("template clause", Kind::RightDelim)?),
                };
                Ok(Step::Node(Node::Template { pos, name, pipe }))
            }
            _ => self.unexpected(&t, "command"),
        }
    }

    fn leave_range(&mut self, word: &str) -> Parsed<Step> {
        let t = self.next_solid();
        if t.kind != Kind::RightDelim {
            return self.unexpected(&t, &format!("{{{{{word}}}}}"));
        }
        if self.ranges == 0 {
            return self.fail(format!("{{{{{word}}}}} outside {{{{range}}}}"));
        }
        Ok(Step::Node(if word == "break" { Node::Break } else { Node::Continue }))
    }

    fn block(&mut self) -> Parsed<Step> {
        let (pos, name) = self.template_name("block clause")?;
        let pipe = self.pipeline("block clause", Kind::RightDelim)?;
        let body = self.apart("block clause")?;
        self.add(&name, body)?;
        Ok(Step::Node(Node::Template { pos, name, pipe: Some(pipe) }))
    }

    fn control(&mut self, word: &str) -> Parsed<Node> {
        self.enter()?;
        let vars = self.vars.len();
        let pipe = self.pipeline(word, Kind::RightDelim)?;
        let pos = pipe.pos;
        self.ranges += usize::from(word == "range");
        let (list, stop) = self.list()?;
        self.ranges -= usize::from(word == "range");
        let otherwise = match stop {
            Stop::End => None,
            // `else if` is an `if` within the `else` whose end both share.
            Stop::Else if word != "range" && self.peek().is_keyword(word) => {
                self.next();
                Some(List { nodes: vec![self.control(word)?] })
            }
            Stop::Else => {
                let (list, stop) = self.list()?;
                if matches!(stop, Stop::Else) {
                    return self.fail("expected end; found {{else}}");
                }
                Some(list)
            }
        };
        self.vars.truncate(vars);
        self.depth -= 1;
        let branch = Box::new(Branch { pipe, list, otherwise });
        Ok(match word {
            "if" => Node::If { pos, branch },
            "range" => Node::Range { pos, branch },
            _ => Node::With { pos, branch },
        })
    }

    /// Variables that a pipeline sets, if it does.
    fn declarations(&mut self, context: &str, pipe: &mut Pipe) -> Parsed<()> {
        loop {
            let v = self.peek_solid();
            if v.kind != Kind::Variable {
                return Ok(());
            }
            let before = self.at;
            self.next();
            let sign = self.peek_solid();
            match sign.kind {
                Kind::Assign | Kind::Declare => {
                    pipe.assigns = sign.kind == Kind::Assign;
                    self.next();
                    pipe.variables.push(v.text.clone());
                    self.vars.push(v.text);
                    return Ok(());
                }
                Kind::Char if sign.text == "," => {
                    self.next();
                    pipe.variables.push(v.text.clone());
                    self.vars.push(v.text);
                    if context != "range" || pipe.variables.len() >= 2 {
                        return self.fail(format!("too many declarations in {context}"));
                    }
                    let kind = self.peek_solid().kind;
                    if !matches!(kind, Kind::Variable | Kind::RightDelim | Kind::RightParen) {
                        return self.fail("range can only initialize variables");
                    }
                }
                _ => {
                    self.at = before;
                    return Ok(());
                }
            }
        }
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Parsed<Pipe> {
        let pos = self.peek_solid().pos;
        let mut pipe = Pipe { pos, assigns: false, variables: Vec::new(), commands: Vec::new() };
        self.declarations(context, &mut pipe)?;
        loop {
            let t = self.peek_solid();
            match t.kind {
                kind if kind == end => {
                    self.next();
                    break;
                }
                Kind::Bool
                | Kind::CharConstant
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => {
                    self.next();
                    return self.unexpected(&t, context);
                }
            }
        }
        if pipe.commands.is_empty() {
            return self.fail(format!("missing value for {context}"));
        }
        for (i, c) in pipe.commands.iter().enumerate().skip(1) {
            let fixed = c.args.first().is_some_and(|a| {
                matches!(
                    a.what,
                    Operand::Bool(_)
                        | Operand::Dot
                        | Operand::Nil
                        | Operand::Number(..)
                        | Operand::String(..)
                )
            });
            if fixed {
                return self.fail(format!("non executable command in pipeline stage {}", i + 1));
            }
        }
        Ok(pipe)
    }

    fn command(&mut self) -> Parsed<Command> {
        let pos = self.peek_solid().pos;
        let mut args = Vec::new();
        loop {
            self.skip_space();
            if let Some(operand) = self.operand()? {
                args.push(operand);
            }
            let t = self.peek();
            match t.kind {
                Kind::Space => {
                    self.next();
                }
                Kind::RightDelim | Kind::RightParen => break,
                Kind::Pipe => {
                    self.next();
                    break;
                }
                _ => {
                    self.next();
                    return self.unexpected(&t, "operand");
                }
            }
        }
        if args.is_empty() {
            return self.fail("empty command");
        }
        Ok(Command { pos, args })
    }

    fn operand(&mut self) -> Parsed<Option<Arg>> {
        let Some(term) = self.term()? else { return Ok(None) };
        let first = self.peek();
        if first.kind != Kind::Field {
            return Ok(Some(term));
        }
        let mut more = Vec::new();
        while self.peek().kind == Kind::Field {
            more.push(self.next().text.trim_start_matches('.').to_owned());
        }
        let pos = first.pos;
        Ok(Some(match term.what {
            Operand::Field(mut names) => {
                names.extend(more);
                Arg { pos, what: Operand::Field(names) }
            }
            Operand::Variable(mut names) => {
                names.extend(more);
                Arg { pos, what: Operand::Variable(names) }
            }
            Operand::Bool(_)
            | Operand::String(..)
            | Operand::Number(..)
            | Operand::Nil
            | Operand::Dot => {
                let text = format!("unexpected . after term {}", quoted(&term.to_string()));
                return self.fail(text);
            }
            _ => Arg { pos, what: Operand::Chain(Box::new(term), more) },
        }))
    }

    fn term(&mut self) -> Parsed<Option<Arg>> {
        let t = self.peek_solid();
        let pos = t.pos;
        let what = match t.kind {
            Kind::Identifier => {
                if !functions::exists(&t.text) {
                    self.next();
                    return self.fail(format!("function {} not defined", quoted(&t.text)));
                }
                Operand::Identifier(t.text)
            }
            Kind::Dot => Operand::Dot,
            Kind::Nil => Operand::Nil,
            Kind::Variable => {
                if !self.vars.contains(&t.text) {
                    self.next();
                    return self.fail(format!("undefined variable {}", quoted(&t.text)));
                }
                Operand::Variable(vec![t.text])
            }
            Kind::Field => Operand::Field(vec![t.text.trim_start_matches('.').to_owned()]),
            Kind::Bool => Operand::Bool(t.text == "true"),
            Kind::CharConstant | Kind::Number => match number(&t.text) {
                Ok(n) => Operand::Number(t.text, n),
                Err(e) => {
                    self.next();
                    return self.fail(e);
                }
            },
            Kind::String | Kind::RawString => match unquote(&t.text) {
                Some(s) => Operand::String(t.text, s),
                None => {
                    self.next();
                    return self.fail("invalid syntax");
                }
            },
            Kind::LeftParen => {
                self.enter()?;
                self.next();
                let pipe = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                self.depth -= 1;
                return Ok(Some(Arg { pos, what: Operand::Pipe(Box::new(pipe)) }));
            }
            _ => return Ok(None),
        };
        self.next();
        Ok(Some(Arg { pos, what }))
    }
}

/// Whether a word that begins like a number is one.
pub(super) fn is_number(text: &str) -> bool {
    integer(text).is_some() || parse_go_float(text).is_ok()
}

fn number(text: &str) -> Result<Number, String> {
    if text.starts_with('\'') {
        let c = unquote(text).and_then(|s| {
            let mut all = s.chars();
            all.next().filter(|_| all.next().is_none())
        });
        return c
            .map(|c| Number::Int(i64::from(c as u32)))
            .ok_or_else(|| format!("malformed character constant: {text}"));
    }
    match integer(text) {
        Some(Some(n)) => return Ok(Number::Int(n)),
        Some(None) => return Ok(Number::TooLarge),
        None => {}
    }
    match parse_go_float(text) {
        Ok(v) if text.contains(['.', 'e', 'E', 'p', 'P']) => Ok(Number::Float(v)),
        Ok(_) => Err(format!("integer overflow: {}", quoted(text))),
        Err(_) => Err(format!("illegal number syntax: {}", quoted(text))),
    }
}

/// An integer in any of Go's notations; `Some(None)` where it only fits without a sign.
fn integer(text: &str) -> Option<Option<i64>> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, lower.get(2..)?),
        Some("0b") => (2, lower.get(2..)?),
        Some("0o") => (8, lower.get(2..)?),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, lower.get(1..)?),
        _ => (10, lower.as_str()),
    };
    let digits = digits.replace('_', "");
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let n = u64::from_str_radix(&digits, radix).ok()?;
    match negative {
        true => i64::try_from(-i128::from(n)).ok().map(Some),
        false => Some(i64::try_from(n).ok()),
    }
}

/// Go's `strconv.Unquote`.
pub(super) fn unquote(text: &str) -> Option<String> {
    let quote = text.chars().next()?;
    let inner = text.get(1..)?.strip_suffix(quote)?;
    if quote == '`' {
        return Some(inner.replace('\r', ""));
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let e = rest.next()?;
        let mut digits = |n: usize, radix: u32, first: u32| {
            let mut v = first;
            for _ in 0..n {
                v = v.checked_mul(radix)?.checked_add(rest.next()?.to_digit(radix)?)?;
            }
            Some(v)
        };
        match e {
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            '\\' => out.push(b'\\'),
            q if q == quote => out.push(q as u8),
            'x' => out.push(u8::try_from(digits(2, 16, 0)?).ok()?),
            '0'..='7' => out.push(u8::try_from(digits(2, 8, e.to_digit(8)?)?).ok()?),
            'u' | 'U' => {
                let c = char::from_u32(digits(if e == 'u' { 4 } else { 8 }, 16, 0)?)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return None,
        }
    }
    Some(
        String::from_utf8(out)
            .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()),
    )
}
