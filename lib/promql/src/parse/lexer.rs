//! Text to tokens.
//!
//! What a character means depends on where it stands: inside braces every word is a label, right
//! after `[` only durations and their operators are expected, and after the first number in
//! brackets the general rules hold again. These modes, and the order in which things are noticed,
//! are Prometheus's: they decide which error a broken query gets.

mod number;
mod string;

use periplus_model::float::Quoted;

pub(super) use number::parse_number;
pub(super) use string::unquote;

use super::ast::{BinaryOp, Span};
use super::error::Problem;
use super::token::{Keyword, Kind, Token};

/// An error, boxed: it is rare, and results should stay small.
pub(super) type LexResult<T> = Result<T, Box<Problem>>;

/// Reads one token after the other; linear in the length of the query.
pub(super) struct Lexer<'q> {
    query: &'q str,
    /// Where the next character is read.
    pos: usize,
    /// Where the token being read begins.
    start: usize,
    /// Where the last token began.
    last_start: usize,
    paren_depth: u32,
    brace_open: bool,
    bracket_open: bool,
    /// Whether a duration expression is expected: after `[` and the operators in brackets.
    in_duration: bool,
    got_colon: bool,
    /// Whether brackets have held a number yet. Never reset, as in Prometheus.
    got_duration: bool,
}

impl<'q> Lexer<'q> {
    pub(super) const fn new(query: &'q str) -> Self {
        Self {
            query,
            pos: 0,
            start: 0,
            last_start: 0,
            paren_depth: 0,
            brace_open: false,
            bracket_open: false,
            in_duration: false,
            got_colon: false,
            got_duration: false,
        }
    }

    pub(super) const fn query(&self) -> &'q str {
        self.query
    }

    /// The text between two positions of the query.
    pub(super) fn text(&self, start: u32, end: u32) -> &'q str {
        self.query.get(start as usize..end as usize).unwrap_or("")
    }

    /// The next token; [`Kind::Eof`] at the end, again and again.
    pub(super) fn next_token(&mut self) -> LexResult<Token> {
        loop {
            self.start = self.pos;
            let kind = if self.brace_open {
                self.inside_braces()?
            } else if self.in_duration {
                self.inside_brackets()?
            } else {
                self.statement()?
            };
            if let Some(kind) = kind {
                self.last_start = self.start;
                return Ok(Token { kind, start: self.start as u32, end: self.pos as u32 });
            }
        }
    }

    /// Where an aggregation ends whose end was noticed only when the next token had been read:
    /// when that token is a parenthesis too, after the parenthesis before it; else `fallback`.
    pub(super) fn end_of_previous_paren(&self, fallback: u32) -> u32 {
        let bytes = self.query.as_bytes();
        let last = self.last_start;
        if fallback == 0 || last == 0 || bytes.get(last) != Some(&b')') {
            return fallback;
        }
        let before = bytes.get(1..last).unwrap_or_default();
        match before.iter().rposition(|b| !is_space(*b)) {
            Some(i) if before.get(i) == Some(&b')') => (i + 2) as u32,
            _ => fallback,
        }
    }

    fn byte(&self) -> Option<u8> {
        self.query.as_bytes().get(self.pos).copied()
    }

    fn byte_at(&self, ahead: usize) -> Option<u8> {
        self.query.as_bytes().get(self.pos + ahead).copied()
    }

    /// The character at the position, as Go's `%q` shows it; the end shows as U+FFFD.
    fn quoted_char(&self) -> String {
        quote_char(self.query.get(self.pos..).and_then(|s| s.chars().next()))
    }

    fn error<T>(&self, message: String) -> LexResult<T> {
        let span = Span { start: self.start as u32, end: self.query.len() as u32 };
        Err(Box::new(Problem { span, message }))
    }

    /// An error that is noticed when the token has already been read: it stands behind it.
    fn error_behind<T>(&mut self, message: String) -> LexResult<T> {
        self.start = self.pos;
        self.error(message)
    }

    /// Takes one byte and says what it is.
    fn take(&mut self, kind: Kind) -> LexResult<Option<Kind>> {
        self.pos += 1;
        Ok(Some(kind))
    }

    /// Takes an operator that may be longer by one byte.
    fn take_op(&mut self, longer: &[(u8, Kind)], short: Kind) -> LexResult<Option<Kind>> {
        self.pos += 1;
        let longer = longer.iter().find(|(b, _)| self.byte() == Some(*b));
        self.pos += usize::from(longer.is_some());
        Ok(Some(longer.map_or(short, |(_, kind)| *kind)))
    }

    fn skip_spaces(&mut self) -> LexResult<Option<Kind>> {
        while self.byte().is_some_and(is_space) {
            self.pos += 1;
        }
        Ok(None)
    }

    fn skip_comment(&mut self) -> LexResult<Option<Kind>> {
        let rest = self.query.as_bytes().get(self.pos..).unwrap_or_default();
        self.pos += rest.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(rest.len());
        Ok(None)
    }

    fn statement(&mut self) -> LexResult<Option<Kind>> {
        use BinaryOp as B;
        let Some(b) = self.byte() else { return self.end() };
        match b {
            b'#' => self.skip_comment(),
            b',' => self.take(Kind::Comma),
            _ if is_space(b) => self.skip_spaces(),
            b'*' => self.take(Kind::Op(B::Mul)),
            b'/' => self.take(Kind::Op(B::Div)),
            b'%' => self.take(Kind::Op(B::Mod)),
            b'+' => self.take(Kind::Op(B::Add)),
            b'-' => self.take(Kind::Op(B::Sub)),
            b'^' => self.take(Kind::Op(B::Pow)),
            b'=' if self.byte_at(1) == Some(b'~') => {
                self.error("unexpected character after '=': '~'".to_owned())
            }
            b'=' => self.take_op(&[(b'=', Kind::Op(B::Eql))], Kind::Equal),
            b'!' => {
                self.pos += 1;
                if self.byte() == Some(b'=') {
                    return self.take(Kind::Op(B::Neq));
                }
                self.error(format!("unexpected character after '!': {}", self.quoted_char()))
            }
            b'<' => self.take_op(
                &[(b'=', Kind::Op(B::Lte)), (b'/', Kind::Op(B::TrimUpper))],
                Kind::Op(B::Lss),
            ),
            b'>' => self.take_op(
                &[(b'=', Kind::Op(B::Gte)), (b'/', Kind::Op(B::TrimLower))],
                Kind::Op(B::Gtr),
            ),
            b'0'..=b'9' => self.number_or_duration(),
            b'.' if self.byte_at(1).is_some_and(|b| b.is_ascii_digit()) => {
                self.number_or_duration()
            }
            b'"' | b'\'' => self.string(b),
            b'`' => self.raw_string(),
            b':' | b'_' | b'a'..=b'z' | b'A'..=b'Z' => self.word(b),
            b'(' => self.left_paren(),
            b')' => self.right_paren(),
            b'{' => {
                self.brace_open = true;
                self.take(Kind::LeftBrace)
            }
            b'[' => self.left_bracket(),
            b']' if !self.bracket_open => self.error("unexpected right bracket ']'".to_owned()),
            b']' => {
                self.bracket_open = false;
                self.take(Kind::RightBracket)
            }
            b'@' => self.take(Kind::At),
            _ => self.error(format!("unexpected character: {}", self.quoted_char())),
        }
    }

    fn end(&self) -> LexResult<Option<Kind>> {
        if self.paren_depth != 0 {
            return self.error("unclosed left parenthesis".to_owned());
        }
        if self.bracket_open {
            return self.error("unclosed left bracket".to_owned());
        }
        Ok(Some(Kind::Eof))
    }

    fn left_paren(&mut self) -> LexResult<Option<Kind>> {
        self.paren_depth += 1;
        self.take(Kind::LeftParen)
    }

    fn right_paren(&mut self) -> LexResult<Option<Kind>> {
        self.pos += 1;
        let Some(depth) = self.paren_depth.checked_sub(1) else {
            return self.error_behind("unexpected right parenthesis ')'".to_owned());
        };
        self.paren_depth = depth;
        Ok(Some(Kind::RightParen))
    }

    fn left_bracket(&mut self) -> LexResult<Option<Kind>> {
        if self.bracket_open {
            return self.error("unexpected left bracket '['".to_owned());
        }
        self.got_colon = false;
        self.bracket_open = true;
        self.in_duration = true;
        self.take(Kind::LeftBracket)
    }

    /// A name, a keyword or, in brackets, one of the few words allowed there.
    fn word(&mut self, first: u8) -> LexResult<Option<Kind>> {
        if self.bracket_open {
            return self.word_in_brackets(first);
        }
        let mut colon = false;
        while let Some(b) = self.byte().filter(|b| is_alphanumeric(*b) || *b == b':') {
            colon |= b == b':';
            self.pos += 1;
        }
        if colon {
            return Ok(Some(Kind::MetricIdentifier));
        }
        let kind = Kind::of_word(self.text(self.start as u32, self.pos as u32));
        Ok(Some(match kind.unwrap_or(Kind::Identifier) {
            // These became keywords late; metrics of the name shall go on working.
            Kind::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight)
                if !self.paren_follows() =>
            {
                Kind::Identifier
            }
            kind => kind,
        }))
    }

    fn paren_follows(&self) -> bool {
        let rest = self.query.as_bytes().get(self.pos..).unwrap_or_default();
        rest.iter().find(|b| !is_space(**b)) == Some(&b'(')
    }

    fn word_in_brackets(&mut self, first: u8) -> LexResult<Option<Kind>> {
        if first == b':' {
            if self.got_colon {
                return self.error("unexpected colon ':'".to_owned());
            }
            self.got_colon = true;
            return self.take(Kind::Colon);
        }
        match self.duration_word() {
            Some(kind) => Ok(Some(kind)),
            None => self.error(format!(
                "unexpected character: {}, expected ':'",
                quote_char(Some(char::from(first)))
            )),
        }
    }

    /// `step`, `range`, `max_of`, `min_of` in any case.
    fn duration_word(&mut self) -> Option<Kind> {
        let rest = self.query.as_bytes().get(self.pos..)?;
        let end = rest.iter().position(|b| !is_alpha(*b)).unwrap_or(rest.len());
        let word = rest.get(..end).filter(|w| w.len() <= 6)?.to_ascii_lowercase();
        let kind = Kind::of_duration_word(&word)?;
        self.pos += end;
        Some(kind)
    }

    /// Right after `[` and operators in brackets.
    fn inside_brackets(&mut self) -> LexResult<Option<Kind>> {
        use BinaryOp as B;
        let Some(b) = self.byte() else {
            return self.error("unexpected end of input in duration expression".to_owned());
        };
        match b {
            b']' => {
                self.bracket_open = false;
                self.in_duration = false;
                self.got_colon = false;
                self.take(Kind::RightBracket)
            }
            b':' => {
                self.pos += 1;
                if !self.got_duration {
                    return self.error_behind(
                        "unexpected colon before duration in duration expression".to_owned(),
                    );
                }
                if self.got_colon {
                    return self.error_behind(
                        "unexpected repeated colon in duration expression".to_owned(),
                    );
                }
                self.got_colon = true;
                Ok(Some(Kind::Colon))
            }
            b'(' => self.left_paren(),
            b')' => self.right_paren(),
            _ if is_space(b) => self.skip_spaces(),
            b'+' => self.take(Kind::Op(B::Add)),
            b'-' => self.take(Kind::Op(B::Sub)),
            b'*' => self.take(Kind::Op(B::Mul)),
            b'/' => self.take(Kind::Op(B::Div)),
            b'%' => self.take(Kind::Op(B::Mod)),
            b'^' => self.take(Kind::Op(B::Pow)),
            b',' => self.take(Kind::Comma),
            _ if b.is_ascii_digit()
                || (b == b'.' && self.byte_at(1).is_some_and(|b| b.is_ascii_digit())) =>
            {
                self.got_duration = true;
                self.in_duration = false;
                self.number_or_duration()
            }
            _ => match self.duration_word() {
                Some(kind) => Ok(Some(kind)),
                None => self.error(format!(
                    "unexpected character in duration expression: {}",
                    self.quoted_char()
                )),
            },
        }
    }

    fn inside_braces(&mut self) -> LexResult<Option<Kind>> {
        let Some(b) = self.byte() else {
            return self.error("unexpected end of input inside braces".to_owned());
        };
        match b {
            b'#' => self.skip_comment(),
            _ if is_space(b) => self.skip_spaces(),
            _ if is_alpha(b) => {
                while self.byte().is_some_and(is_alphanumeric) {
                    self.pos += 1;
                }
                Ok(Some(Kind::Identifier))
            }
            b',' => self.take(Kind::Comma),
            b'"' | b'\'' => self.string(b),
            b'`' => self.raw_string(),
            b'=' => self.take_op(&[(b'~', Kind::EqualRegex)], Kind::Equal),
            b'!' => {
                self.pos += 1;
                match self.byte() {
                    Some(b'~') => self.take(Kind::NotEqualRegex),
                    Some(b'=') => self.take(Kind::Op(BinaryOp::Neq)),
                    _ => self.error(format!(
                        "unexpected character after '!' inside braces: {}",
                        self.quoted_char()
                    )),
                }
            }
            b'{' => self.error("unexpected left brace '{'".to_owned()),
            b'}' => {
                self.brace_open = false;
                self.take(Kind::RightBrace)
            }
            _ => self.error(format!("unexpected character inside braces: {}", self.quoted_char())),
        }
    }
}

/// A character as Go's `%q` shows it.
fn quote_char(c: Option<char>) -> String {
    match c.unwrap_or('\u{fffd}') {
        '\'' => "'\\''".to_owned(),
        '"' => "'\"'".to_owned(),
        c => {
            let quoted = Quoted(c.encode_utf8(&mut [0; 4]) as &str).to_string();
            format!("'{}'", quoted.trim_matches('"'))
        }
    }
}

const fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r')
}

const fn is_alpha(b: u8) -> bool {
    b == b'_' || b.is_ascii_alphabetic()
}

const fn is_alphanumeric(b: u8) -> bool {
    b == b'_' || b.is_ascii_alphanumeric()
}
