//! Strings and what their escapes stand for.

use super::{Kind, LexResult, Lexer};

impl Lexer<'_> {
    /// A string in single or double quotes; escapes are checked here and read by [`unquote`].
    pub(super) fn string(&mut self, quote: u8) -> LexResult<Option<Kind>> {
        self.pos += 1;
        loop {
            match self.byte() {
                None | Some(b'\n') => {
                    return self.error("unterminated quoted string".to_owned());
                }
                Some(b'\\') => {
                    self.pos += 1;
                    self.escape(quote)?;
                }
                Some(b) if b == quote => {
                    self.pos += 1;
                    return Ok(Some(Kind::String));
                }
                Some(b) => self.plain_byte(b)?,
            }
        }
    }

    /// A string in backquotes, without escapes.
    pub(super) fn raw_string(&mut self) -> LexResult<Option<Kind>> {
        self.pos += 1;
        loop {
            match self.byte() {
                None => return self.error("unterminated raw string".to_owned()),
                Some(b'`') => {
                    self.pos += 1;
                    return Ok(Some(Kind::String));
                }
                Some(b) => self.plain_byte(b)?,
            }
        }
    }

    /// Takes a byte of a string. U+FFFD is refused, because Go's decoder gives it for bytes that
    /// are no UTF-8 and Prometheus does not look closer.
    fn plain_byte(&mut self, b: u8) -> LexResult<()> {
        let rest = self.query.as_bytes().get(self.pos..).unwrap_or_default();
        if b == 0xef && rest.starts_with("\u{fffd}".as_bytes()) {
            return self.error("invalid UTF-8 rune".to_owned());
        }
        self.pos += 1;
        Ok(())
    }

    fn next_char(&mut self) -> Option<char> {
        let c = self.query.get(self.pos..)?.chars().next()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    /// One escape, its backslash taken.
    fn escape(&mut self, quote: u8) -> LexResult<()> {
        let Some(c) = self.next_char() else { return self.not_terminated() };
        let (digits, radix, max) = match c {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
            c if c == char::from(quote) => return Ok(()),
            '0'..='7' => {
                self.pos -= 1;
                (3, 8, 255)
            }
            'x' => (2, 16, 255),
            'u' => (4, 16, 0x0010_ffff),
            'U' => (8, 16, 0x0010_ffff),
            c => return self.error(format!("unknown escape sequence {}", code_point(c))),
        };
        let mut value = 0u64;
        for _ in 0..digits {
            let Some(c) = self.next_char() else { return self.not_terminated() };
            let Some(digit) = c.to_digit(radix) else {
                return self
                    .error(format!("illegal character {} in escape sequence", code_point(c)));
            };
            value = value * u64::from(radix) + u64::from(digit);
        }
        if value > max || (0xd800..0xe000).contains(&value) {
            return self.error("escape sequence is an invalid Unicode code point".to_owned());
        }
        Ok(())
    }

    fn not_terminated<T>(&self) -> LexResult<T> {
        self.error("escape sequence not terminated".to_owned())
    }
}

/// A character as Go's `%#U` shows it: `U+0063 'c'`.
fn code_point(c: char) -> String {
    let quoted = super::quote_char(Some(c));
    let shown = quoted.trim_matches('\'');
    let code = u32::from(c);
    if shown.starts_with('\\') && c != '\\' && c != '\'' {
        format!("U+{code:04X}")
    } else {
        format!("U+{code:04X} '{c}'")
    }
}

/// The bytes of a string token, quotes removed and escapes resolved. The token must have come from
/// the lexer: what it would have refused is passed over.
pub(in crate::parse) fn unquote(token: &str) -> Vec<u8> {
    let inner = token.get(1..token.len().saturating_sub(1)).unwrap_or("").as_bytes();
    if token.starts_with('`') || !inner.contains(&b'\\') {
        return inner.to_vec();
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((&b, tail)) = rest.split_first() {
        rest = tail;
        if b != b'\\' {
            out.push(b);
            continue;
        }
        let Some((&kind, tail)) = rest.split_first() else { break };
        rest = tail;
        match kind {
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'x' => out.push(digits(&mut rest, 2, 16, 0) as u8),
            b'0'..=b'7' => out.push(digits(&mut rest, 2, 8, u32::from(kind - b'0')) as u8),
            b'u' | b'U' => {
                let code = digits(&mut rest, if kind == b'u' { 4 } else { 8 }, 16, 0);
                let c = char::from_u32(code).unwrap_or('\u{fffd}');
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => out.push(other),
        }
    }
    out
}

fn digits(rest: &mut &[u8], count: usize, radix: u32, first: u32) -> u32 {
    let (digits, tail) = rest.split_at_checked(count).unwrap_or((rest, &[]));
    *rest = tail;
    digits.iter().fold(first, |value, b| {
        value.wrapping_mul(radix).wrapping_add(char::from(*b).to_digit(radix).unwrap_or(0))
    })
}
