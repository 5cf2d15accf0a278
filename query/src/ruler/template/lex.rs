//! From the text of a template to tokens, as Go's `text/template` cuts it.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Something is wrong; the value says what.
    Error,
    /// `true`, `false`.
    Bool,
    /// A character with no meaning of its own, such as a comma.
    Char,
    /// `'x'`.
    CharConstant,
    /// `=`.
    Assign,
    /// `:=`.
    Declare,
    Eof,
    /// `.name`.
    Field,
    Identifier,
    LeftDelim,
    LeftParen,
    Number,
    Pipe,
    RawString,
    RightDelim,
    RightParen,
    Space,
    String,
    Text,
    /// `$` or `$name`.
    Variable,
    /// `.` alone.
    Dot,
    Nil,
    /// `if`, `range`, `end` and their like; the value says which.
    Keyword,
}

/// A token.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Byte where it begins.
    pub(super) pos: usize,
    /// Line it begins on, from 1.
    pub(super) line: usize,
    pub(super) text: String,
}

impl Token {
    /// As error messages show it.
    pub(super) fn shown(&self) -> String {
        match self.kind {
            Kind::Eof => "EOF".to_owned(),
            Kind::Error => self.text.clone(),
            Kind::Keyword | Kind::Dot | Kind::Nil => format!("<{}>", self.text),
            _ if self.text.chars().count() > 10 => {
                let head: String = self.text.chars().take(10).collect();
                format!("{}...", super::quoted(&head))
            }
            _ => super::quoted(&self.text),
        }
    }

    pub(super) fn is_keyword(&self, word: &str) -> bool {
        self.kind == Kind::Keyword && self.text == word
    }
}

const KEYWORDS: [&str; 10] =
    ["block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"];

/// What white space is to a template.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

struct Lexer<'a> {
    input: &'a str,
    pos: usize,
    start: usize,
    line: usize,
    start_line: usize,
    parens: usize,
    out: Vec<Token>,
}

/// All tokens; the last one is `Eof` or an error.
pub(super) fn lex(input: &str) -> Vec<Token> {
    let mut l =
        Lexer { input, pos: 0, start: 0, line: 1, start_line: 1, parens: 0, out: Vec::new() };
    while l.text() {
        while l.inside() {}
        if l.failed() {
            break;
        }
    }
    if !l.failed() {
        l.emit(Kind::Eof);
    }
    l.out
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.input.get(self.pos..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    fn advance(&mut self, bytes: usize) {
        let part = self.rest().get(..bytes).unwrap_or("");
        self.line += part.bytes().filter(|b| *b == b'\n').count();
        self.pos += bytes;
    }

    fn emit(&mut self, kind: Kind) {
        let text = self.input.get(self.start..self.pos).unwrap_or("").to_owned();
        self.out.push(Token { kind, pos: self.start, line: self.start_line, text });
        self.ignore();
    }

    fn ignore(&mut self) {
        self.start = self.pos;
        self.start_line = self.line;
    }

    fn fail(&mut self, text: impl Into<String>) -> bool {
        let (pos, line) = (self.start, self.start_line);
        self.out.push(Token { kind: Kind::Error, pos, line, text: text.into() });
        false
    }

    fn failed(&self) -> bool {
        self.out.last().is_some_and(|t| t.kind == Kind::Error)
    }

    /// Text up to the next action; false at the end.
    fn text(&mut self) -> bool {
        let rest = self.rest();
        let Some(open) = rest.find("{{") else {
            self.advance(rest.len());
            if self.pos > self.start {
                self.emit(Kind::Text);
            }
            return false;
        };
        let before = rest.get(..open).unwrap_or("");
        let after = rest.get(open + 2..).unwrap_or("");
        let trims = after.starts_with('-') && after.chars().nth(1).is_some_and(is_space);
        let kept = if trims { before.trim_end_matches(is_space).len() } else { open };
        self.advance(kept);
        if self.pos > self.start {
            self.emit(Kind::Text);
        }
        self.advance(open - kept);
        self.ignore();
        let marker = if trims { 2 } else { 0 };
        if after.get(marker..).is_some_and(|a| a.starts_with("/*")) {
            self.advance(2 + marker);
            self.ignore();
            return self.comment();
        }
        self.advance(2);
        self.emit(Kind::LeftDelim);
        self.advance(marker);
        self.ignore();
        self.parens = 0;
        true
    }

    fn comment(&mut self) -> bool {
        let Some(end) = self.rest().find("*/") else { return self.fail("unclosed comment") };
        self.advance(end + 2);
        let Some((length, trims)) = self.right_delim() else {
            return self.fail("comment ends before closing delimiter");
        };
        self.advance(length);
        self.after_action(trims);
        self.text()
    }

    /// Whether an action ends here: how long the end is, and whether it trims what follows.
    fn right_delim(&self) -> Option<(usize, bool)> {
        let rest = self.rest();
        if rest.starts_with(is_space) && rest.get(1..).is_some_and(|r| r.starts_with("-}}")) {
            return Some((4, true));
        }
        rest.starts_with("}}").then_some((2, false))
    }

    fn after_action(&mut self, trims: bool) {
        if trims {
            let rest = self.rest();
            self.advance(rest.len() - rest.trim_start_matches(is_space).len());
        }
        self.ignore();
    }

    /// One token of an action; false at its end or at an error.
    fn inside(&mut self) -> bool {
        if let Some((length, trims)) = self.right_delim() {
            if self.parens > 0 {
                return self.fail("unclosed left paren");
            }
            if trims {
                self.advance(length - 2);
                self.ignore();
            }
            self.advance(2);
            self.emit(Kind::RightDelim);
            self.after_action(trims);
            return false;
        }
        let Some(c) = self.peek() else { return self.fail("unclosed action") };
        match c {
            c if is_space(c) => {
                while self.peek().is_some_and(is_space) && self.right_delim().is_none() {
                    self.next();
                }
                self.emit(Kind::Space);
            }
            '"' => return self.quote(),
            '`' => return self.raw_quote(),
            '\'' => return self.char_constant(),
            '$' => {
                self.next();
                return self.name(Kind::Variable);
            }
            '.' if !self
                .rest()
                .get(1..)
                .is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit())) =>
            {
                self.next();
                return self.name(Kind::Field);
            }
            '.' | '+' | '-' | '0'..='9' => return self.number(),
            c if is_name(c) => return self.identifier(),
            _ => return self.sign(),
        }
        true
    }

    fn sign(&mut self) -> bool {
        let Some(c) = self.next() else { return false };
        let kind = match c {
            '=' => Kind::Assign,
            ':' if self.peek() == Some('=') => {
                self.next();
                Kind::Declare
            }
            ':' => return self.fail("expected :="),
            '|' => Kind::Pipe,
            '(' => {
                self.parens += 1;
                Kind::LeftParen
            }
            ')' if self.parens == 0 => return self.fail("unexpected right paren"),
            ')' => {
                self.parens -= 1;
                Kind::RightParen
            }
            c if c.is_ascii() && !c.is_ascii_control() => Kind::Char,
            c => {
                let text = format!("unrecognized character in action: {}", unicode(c));
                return self.fail(text);
            }
        };
        self.emit(kind);
        true
    }

    fn at_terminator(&self) -> bool {
        self.peek().is_none_or(|c| is_space(c) || ".,|:()".contains(c))
            || self.rest().starts_with("}}")
    }

    fn bad_character(&mut self) -> bool {
        let c = self.peek().unwrap_or('\u{fffd}');
        self.fail(format!("bad character {}", unicode(c)))
    }

    fn name(&mut self, kind: Kind) -> bool {
        if self.at_terminator() {
            let kind = if kind == Kind::Field { Kind::Dot } else { kind };
            self.emit(kind);
            return true;
        }
        while self.peek().is_some_and(is_name) {
            self.next();
        }
        if !self.at_terminator() {
            return self.bad_character();
        }
        self.emit(kind);
        true
    }

    fn identifier(&mut self) -> bool {
        while self.peek().is_some_and(is_name) {
            self.next();
        }
        if !self.at_terminator() {
            return self.bad_character();
        }
        let kind = match self.input.get(self.start..self.pos).unwrap_or("") {
            "true" | "false" => Kind::Bool,
            "nil" => Kind::Nil,
            word if KEYWORDS.contains(&word) => Kind::Keyword,
            _ => Kind::Identifier,
        };
        self.emit(kind);
        true
    }

    fn number(&mut self) -> bool {
        if matches!(self.peek(), Some('+' | '-')) {
            self.next();
        }
        while self.peek().is_some_and(|c| {
            c.is_ascii_alphanumeric()
                || matches!(c, '_' | '.')
                || (matches!(c, '+' | '-')
                    && self
                        .input
                        .get(self.start..self.pos)
                        .is_some_and(|t| t.ends_with(['e', 'E', 'p', 'P']) && !is_hex_integer(t)))
        }) {
            self.next();
        }
        let text = self.input.get(self.start..self.pos).unwrap_or("");
        if !super::parse::is_number(text) {
            let text = format!("bad number syntax: {}", super::quoted(text));
            return self.fail(text);
        }
        self.emit(Kind::Number);
        true
    }

    fn quote(&mut self) -> bool {
        self.next();
        loop {
            match self.next() {
                Some('\\') if !matches!(self.peek(), None | Some('\n')) => {
                    self.next();
                }
                None | Some('\\' | '\n') => return self.fail("unterminated quoted string"),
                Some('"') => break,
                Some(_) => {}
            }
        }
        self.emit(Kind::String);
        true
    }

    fn raw_quote(&mut self) -> bool {
        self.next();
        loop {
            match self.next() {
                None => return self.fail("unterminated raw quoted string"),
                Some('`') => break,
                Some(_) => {}
            }
        }
        self.emit(Kind::RawString);
        true
    }

    fn char_constant(&mut self) -> bool {
        self.next();
        loop {
            match self.next() {
                Some('\\') if !matches!(self.peek(), None | Some('\n')) => {
                    self.next();
                }
                None | Some('\\' | '\n') => return self.fail("unterminated character constant"),
                Some('\'') => break,
                Some(_) => {}
            }
        }
        self.emit(Kind::CharConstant);
        true
    }
}

fn is_hex_integer(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    (digits.starts_with("0x") || digits.starts_with("0X")) && !digits.contains(['p', 'P'])
}

/// Go's `%#U`.
fn unicode(c: char) -> String {
    match c.is_control() {
        true => format!("U+{:04X}", c as u32),
        false => format!("U+{:04X} '{c}'", c as u32),
    }
}
